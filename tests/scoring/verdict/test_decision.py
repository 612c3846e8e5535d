import json
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from scipy import stats

from mlx_ragtune.errors import InputError
from mlx_ragtune.records import Score, Validity
from mlx_ragtune.scoring.verdict.comparison import Comparison, Guard, Verdict, read_outcome
from mlx_ragtune.scoring.verdict.decision import compare, compare_all, compare_arms
from mlx_ragtune.scoring.verdict.guards import forgetting_guard
from mlx_ragtune.scoring.verdict.headline import join_arms
from tests.scoring.made import question, score, unanswerable

Table = Mapping[str, tuple[list[float], list[float]]]

N = 60
SAME = [0.5] * N
LOW, HIGH = [0.0] * 40 + [1.0] * 20, [1.0] * N
BETTER, WORSE = (LOW, HIGH), (HIGH, LOW)
NOISY = ([0.0, 1.0] * 30, [1.0, 0.0] * 30)


def _compare(table: Table, **changes: Any) -> Comparison:
    n = len(next(iter(table.values()))[0])
    questions = [question(id=f"q{i:02}", papers=(f"p{i:02}",)) for i in range(n)]

    def side(model: Literal["base", "tuned"]) -> list[Score]:
        return [
            score(questions[i].id, model, {name: values[model == "tuned"][i] for name, values in table.items()})
            for i in range(n)
        ]

    return compare(side("base"), side("tuned"), questions, **changes)


def _verdicts(comparison: Comparison) -> dict[str, Verdict | None]:
    return {row.name: row.verdict for row in comparison.rows}


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"correctness": BETTER}, "IMPROVED"),
        ({"correctness": WORSE}, "REGRESSED"),
        ({"correctness": (SAME, SAME)}, "EQUIVALENT"),
        ({"correctness": NOISY}, "INCONCLUSIVE"),
        ({"correctness": (SAME, SAME), "prose_style": BETTER}, "IMPROVED"),
        ({"correctness": NOISY, "prose_style": BETTER}, "INCONCLUSIVE"),
        ({"correctness": (SAME, SAME), "prose_style": WORSE}, "REGRESSED"),
        ({"correctness": BETTER, "prose_style": WORSE}, "MIXED"),
        ({"correctness": WORSE, "prose_style": BETTER}, "MIXED"),
        ({"correctness": BETTER, "false_refusal": (LOW, HIGH)}, "MIXED"),
        ({"correctness": (SAME, SAME), "false_refusal": (LOW, HIGH)}, "REGRESSED"),
        ({"correctness": NOISY, "false_refusal": (LOW, HIGH)}, "REGRESSED"),
        ({"correctness": BETTER, "false_refusal": (HIGH, LOW)}, "IMPROVED"),
        ({"correctness": (SAME, SAME), "prose_style": NOISY}, "EQUIVALENT"),
        (
            {"correctness": (SAME, SAME), "keyword_coverage": WORSE, "latency_seconds": (LOW, HIGH)},
            "EQUIVALENT",
        ),
        ({"correctness": NOISY, "keyword_coverage": BETTER}, "INCONCLUSIVE"),
        ({"prose_style": BETTER}, "INCONCLUSIVE"),
    ],
)
def test_the_whole_verdict_follows_the_written_rules(table: Table, expected: str) -> None:
    comparison = _compare(table)
    assert comparison.verdict == expected
    assert comparison.headline.startswith(f"{expected}: ")


def test_a_gain_that_may_hide_a_loss_says_so() -> None:
    comparison = _compare({"correctness": NOISY, "prose_style": BETTER})
    assert "better on plain prose +66.7 points, but a loss elsewhere cannot be ruled out" in comparison.headline
    assert any(reason.startswith("a loss of more than 5 points in") for reason in comparison.reasons)


def test_a_guard_warning_is_said_and_changes_no_word() -> None:
    warning = Guard("forgetting", "General probes", "WARN", 0.9, 0.84, "60 probes: 4 lost, 0 gained")
    comparison = _compare({"correctness": BETTER}, guards=[warning])
    assert comparison.verdict == "IMPROVED"
    assert "guard warning: general probes, 60 probes: 4 lost, 0 gained" in comparison.reasons
    assert "perhaps worse, but not surely: general probes (60 probes: 4 lost, 0 gained)" in comparison.headline
    assert "60 probes: 4 lost" in comparison.paid
    assert _compare({"correctness": (SAME, SAME)}, guards=[warning]).verdict == "EQUIVALENT"
    failed = replace(warning, state="FAIL")
    assert _compare({"correctness": BETTER}, guards=[failed]).verdict == "MIXED"
    assert _compare({"correctness": (SAME, SAME)}, guards=[failed]).verdict == "REGRESSED"


def test_lost_probes_are_tested_on_their_own_and_never_excused_by_the_number_of_metrics() -> None:
    """17 of 77 lost and 4 gained is p = .007: sure by itself, unsure if Holm counted it with fifteen other tests."""
    base = {f"p{i}": i < 28 for i in range(77)}
    tuned = {f"p{i}": 17 <= i < 32 for i in range(77)}
    guard = forgetting_guard(base, tuned, margin=0.05, alpha=0.05)
    assert guard.detail == "77 probes: 17 lost, 4 gained"
    assert guard.state == "FAIL"
    assert _compare({"correctness": BETTER}, guards=[guard]).verdict == "MIXED"


def test_lower_is_better_where_it_is() -> None:
    comparison = _compare({"correctness": (SAME, SAME), "false_refusal": (HIGH, LOW)})
    assert _verdicts(comparison)["false_refusal"] == "IMPROVED"
    row = comparison.row("false_refusal")
    assert row is not None
    assert row.gain == -row.all.difference == pytest.approx(2 / 3)


def test_a_difference_surely_inside_the_margin_is_equivalent_even_if_sure() -> None:
    rng = random.Random(1)
    base = [0.5 + rng.uniform(-0.1, 0.1) for _ in range(N)]
    tuned = [value + 0.01 + rng.uniform(-0.005, 0.005) for value in base]
    comparison = _compare({"correctness": (base, tuned)})
    row = comparison.row("correctness")
    assert row is not None
    assert row.all.p < 0.001
    assert row.verdict == "EQUIVALENT"


@pytest.mark.parametrize("n", [1, 2, 5, 15, 30])
def test_a_handful_without_any_change_is_not_equivalent(n: int) -> None:
    assert _compare({"correctness": ([1.0] * n, [1.0] * n)}).verdict == "INCONCLUSIVE"


def test_one_question_says_nothing_and_breaks_nothing() -> None:
    comparison = _compare({"correctness": ([0.0], [1.0])})
    row = comparison.row("correctness")
    assert row is not None
    assert row.verdict == "INCONCLUSIVE"
    assert json.loads(join_arms(comparison, None).to_json())["against_base"]["rows"]


def test_holm_covers_the_family_and_the_guards_and_nothing_else() -> None:
    weak = ([0.0] * 8 + [1.0] * 52, [1.0] * 7 + [0.0] + [1.0] * 52)
    table = {"correctness": weak, "prose_style": NOISY, "false_refusal": (LOW, LOW), "keyword_coverage": weak}
    comparison = _compare(table)
    rows = {row.name: row for row in comparison.rows}
    p = rows["correctness"].all.p
    assert 0.01 < p < 0.025
    assert rows["correctness"].holm_p == pytest.approx(4 * p)  # of four: two rows, two guards
    assert rows["correctness"].verdict == "INCONCLUSIVE"
    assert rows["keyword_coverage"].holm_p is None
    assert rows["keyword_coverage"].role == "secondary"
    assert comparison.untested == ("citation_recall", "refusal_off_corpus", "refusal_near_miss")


def test_near_miss_and_off_corpus_refusals_are_rows_of_their_own() -> None:
    questions = [unanswerable("off_corpus", id=f"o{i}") for i in range(10)]
    questions += [unanswerable("near_miss", id=f"n{i}", papers=("lora",)) for i in range(10)]

    def side(model: Literal["base", "tuned"], off: float) -> list[Score]:
        return [
            score(one.id, model, {f"refusal_{one.refusal_kind}": off if one.id[0] == "o" else 0.0}) for one in questions
        ]

    comparison = compare(side("base", 0.0), side("tuned", 1.0), questions)
    assert _verdicts(comparison)["refusal_off_corpus"] == "IMPROVED"
    assert _verdicts(comparison)["refusal_near_miss"] == "INCONCLUSIVE"
    row = comparison.row("refusal_off_corpus")
    assert row is not None
    assert row.all.n_questions == 10
    assert row.mcnemar_p == pytest.approx(2 / 2**10)


def test_the_interval_of_yes_and_no_is_never_zero_wide() -> None:
    comparison = _compare({"prose_style": ([0.0] * 10, [1.0] * 10)})
    row = comparison.row("prose_style")
    assert row is not None
    assert row.all.low is not None
    assert row.all.high is not None
    assert 0.3 < row.all.low < row.all.high == 1.0


def test_both_valid_and_the_gap_due_to_invalid_outputs() -> None:
    questions = [question(id=f"q{i:02}", papers=(f"p{i}",)) for i in range(20)]
    base = [score(one.id, "base", {"correctness": 1.0}) for one in questions]
    tuned = [score(one.id, "tuned", {"correctness": 1.0}) for one in questions[5:]]
    tuned += [score(one.id, "tuned", {"correctness": 0.0}, validity="empty") for one in questions[:5]]
    comparison = compare(base, tuned, questions)
    row, invalid = comparison.row("correctness"), comparison.row("invalid")
    assert row is not None
    assert row.both_valid is not None
    assert invalid is not None
    assert row.all.difference == -0.25
    assert (row.both_valid.difference, row.both_valid.n_questions) == (0.0, 15)
    assert row.due_to_invalid == -0.25
    assert invalid.all.difference == 0.25
    assert comparison.guards[0].state == "WARN"


def test_where_nothing_was_valid_on_both_sides_that_view_is_absent() -> None:
    questions = [question(id="q1"), question(id="q2", papers=("lora",))]
    base = [score(one.id, "base", {"correctness": 1.0}) for one in questions]
    tuned = [score(one.id, "tuned", {"correctness": 0.0}, validity="empty") for one in questions]
    row = compare(base, tuned, questions).row("correctness")
    assert row is not None
    assert row.both_valid is None
    assert row.due_to_invalid is None


def test_questions_of_one_paper_count_as_one_cluster() -> None:
    questions = [question(id=f"q{i:02}", papers=(f"p{i // 20}",)) for i in range(60)]
    base = [score(one.id, "base", {"correctness": 0.0}) for one in questions]
    tuned = [score(one.id, "tuned", {"correctness": 1.0}) for one in questions]
    comparison = compare(base, tuned, questions)
    row = comparison.row("correctness")
    assert row is not None
    assert (row.all.n_questions, row.all.n_clusters, comparison.n_clusters) == (60, 3, 3)
    assert comparison.verdict == "INCONCLUSIVE"
    assert "60 questions on 3 papers are too few to decide: a verdict needs at least 4 papers" in comparison.headline


def test_the_question_that_decides_is_named() -> None:
    base = [0.0] * N
    tuned = [1.0] * 9 + [0.0] * (N - 9)
    comparison = _compare({"correctness": (base, tuned)}, family=("correctness",))
    assert comparison.verdict == "IMPROVED"
    assert not any(one.flips for one in comparison.influence)
    fewer = _compare({"correctness": (base, [1.0] * 7 + [0.0] * (N - 7))}, family=("correctness",))
    assert fewer.verdict == "IMPROVED"
    flips = [one for one in fewer.influence if one.flips]
    assert [one.id for one in flips] == [f"q{i:02}" for i in range(7)]
    assert flips[0].verdict_without == "INCONCLUSIVE"
    assert any("question q00 decides" in reason for reason in fewer.reasons)


def test_the_worst_regressions_are_those_of_the_primary_first() -> None:
    table = {
        "correctness": ([1.0, 1.0, 0.5, 0.0], [0.0, 0.5, 0.5, 1.0]),
        "prose_style": ([1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 0.0, 1.0]),
    }
    assert _compare(table).worst_regressions == ("q00", "q01", "q02")


def test_dropped_answers_are_listed() -> None:
    questions = [question(id=f"q{i}", papers=(f"p{i}",)) for i in range(3)]
    base = [score(one.id, "base", {"correctness": 1.0}) for one in questions]
    tuned = [
        *(replace(one, model="tuned") for one in base[1:]),
        replace(base[0], model="tuned", validity="transport_error"),
    ]
    comparison = compare(base, tuned, questions)
    assert comparison.dropped == ("q0 (seed 0)",)
    assert comparison.n_questions == 2
    assert any("left out for both models because a request failed" in reason for reason in comparison.reasons)


def test_an_unknown_metric_in_the_family_is_refused() -> None:
    with pytest.raises(InputError, match="not a metric that can decide: accuracy"):
        _compare({"correctness": (SAME, SAME)}, family=("accuracy",))
    with pytest.raises(InputError, match="none given"):
        _compare({"correctness": (SAME, SAME)}, family=())


def test_exchanging_the_models_mirrors_the_verdict() -> None:
    for table in (
        {"correctness": BETTER},
        {"correctness": NOISY},
        {"correctness": BETTER, "false_refusal": NOISY},
    ):
        there = _compare(table)
        back = _compare({name: (after, before) for name, (before, after) in table.items()})
        mirror: dict[Verdict | None, Verdict] = {"IMPROVED": "REGRESSED", "REGRESSED": "IMPROVED"}
        for row in there.rows:
            other = back.row(row.name)
            assert other is not None
            assert other.verdict == mirror.get(row.verdict, row.verdict)
            assert other.all.difference == -row.all.difference


def test_comparing_twice_gives_the_same_bytes_whatever_the_order_of_the_scores() -> None:
    rng = random.Random(5)
    questions = [question(id=f"q{i:02}", papers=(f"p{i // 2}",)) for i in range(40)]

    def side(model: Literal["base", "tuned"]) -> list[Score]:
        values = [rng.choice([0.0, 0.5, 1.0]) for _ in questions]
        return [score(one.id, model, {"correctness": value}) for one, value in zip(questions, values, strict=True)]

    base, tuned = side("base"), side("tuned")
    first = compare_arms(base, tuned, questions).to_json()
    assert first == compare_arms(base[::-1], tuned[::-1], questions).to_json()
    assert json.loads(first)["verdict"]


@pytest.mark.parametrize("n", [8, 30])
def test_one_small_change_among_few_questions_is_not_equivalent_either(n: int) -> None:
    comparison = _compare({"correctness": ([0.5] * n, [0.55] + [0.5] * (n - 1))})
    row = comparison.row("correctness")
    assert row is not None
    assert row.all.high is not None
    assert row.all.high < 0.05  # the plain interval alone would have said so
    assert row.verdict == "INCONCLUSIVE"


def test_the_interval_of_yes_and_no_is_the_widened_one() -> None:
    n, gains, losses = 20, 6, 1
    tuned = [1.0] * gains + [0.0] * (n - gains)
    base = [0.0] * (n - losses) + [1.0] * losses
    row = _compare({"prose_style": (base, tuned)}).row("prose_style")
    assert row is not None
    up, down = (gains + 1) / (n + 2), (losses + 1) / (n + 2)
    error = ((up + down - (up - down) ** 2) / (n + 1)) ** 0.5
    half = float(stats.t.ppf(0.975, n + 1)) * error
    assert row.all.low == pytest.approx(up - down - half)
    assert row.all.high == pytest.approx(up - down + half)


def test_length_is_reported_and_never_judged() -> None:
    comparison = _compare({"correctness": (SAME, SAME), "answer_tokens": ([90.0] * N, [30.0] * N)})
    row = comparison.row("answer_tokens")
    assert row is not None
    assert row.verdict is None
    assert row.all.difference == -60.0
    with pytest.raises(InputError, match="answer_tokens"):
        _compare({"answer_tokens": (SAME, SAME)}, family=("answer_tokens",))


def test_the_more_models_are_tried_the_surer_each_has_to_be() -> None:
    questions = [question(id=f"q{i:02}", papers=(f"p{i:02}",)) for i in range(N)]
    base = [score(one.id, "base", {"correctness": 0.0}) for one in questions]

    def better_in(count: int) -> list[Score]:
        return [score(one.id, "tuned", {"correctness": float(i < count)}) for i, one in enumerate(questions)]

    alone = compare(base, better_in(8), questions, family=("correctness",))
    assert alone.verdict == "IMPROVED"
    (same,) = compare_all(base, {"a": better_in(8)}, questions, family=("correctness",)).values()
    assert same == alone
    both = compare_all(base, {"a": better_in(8), "b": better_in(0)}, questions, family=("correctness",))
    row = both["a"].row("correctness")
    assert row is not None
    assert row.holm_p == pytest.approx(4 * row.all.p)
    assert both["a"].verdict == "IMPROVED"
    many = {f"m{i}": better_in(0) for i in range(4)}
    assert compare_all(base, {"a": better_in(8), **many}, questions, family=("correctness",))["a"].verdict == (
        "INCONCLUSIVE"
    )


def _answers(
    validity: Callable[[int], Validity], value: Callable[[int], float], model: Literal["base", "tuned"], n: int = N
) -> list[Score]:
    """Answers to questions on papers of their own; an unusable one counts as wrong."""
    return [
        score(
            f"q{i:02}",
            model,
            {"correctness": value(i) if validity(i) == "ok" else 0.0, "false_refusal": 0.0},
            validity=validity(i),
        )
        for i in range(n)
    ]


QUESTIONS = [question(id=f"q{i:02}", papers=(f"p{i:02}",)) for i in range(N)]


def _cut(share: float) -> Callable[[int], Validity]:
    return lambda i: "truncated" if i < share * N else "ok"


@pytest.mark.parametrize("broken", [0.82, 0.9, 1.0])
@pytest.mark.parametrize("side", ["base", "tuned", "both"])
def test_mostly_unusable_answers_of_either_side_decide_nothing(broken: float, side: str) -> None:
    base = _answers(_cut(broken if side != "tuned" else 0), lambda i: 1.0, "base")
    tuned = _answers(_cut(broken if side != "base" else 0), lambda i: 1.0, "tuned")
    comparison = compare(base, tuned, QUESTIONS)
    assert comparison.verdict == "INCONCLUSIVE"
    who = "the tuned model" if side == "tuned" else "the base"
    count = math.ceil(broken * N)
    assert f"{count} of 60 answers of {who} are cut off" in comparison.headline
    assert "raise evaluate.sampling.max_tokens" in comparison.headline


@pytest.mark.parametrize("broken", [0.52, 0.66, 0.8, 0.95, 1.0])
def test_models_with_mostly_unusable_answers_are_never_equivalent(broken: float) -> None:
    n = 600
    questions = [question(id=f"q{i:02}", papers=(f"p{i:02}",)) for i in range(n)]
    cut: Callable[[int], Validity] = lambda i: "truncated" if i < broken * n else "ok"  # noqa: E731
    comparison = compare(_answers(cut, lambda i: 1.0, "base", n), _answers(cut, lambda i: 1.0, "tuned", n), questions)
    assert comparison.verdict == "INCONCLUSIVE"
    assert "answers of the base are cut off" in comparison.headline


def test_a_base_that_mostly_fails_and_is_wrong_where_it_does_not_is_beaten_and_probes_are_the_price() -> None:
    """Two answers in three of the base are unusable, the others say less than the tuned model's; 16 probes are lost."""
    base = _answers(_cut(0.66), lambda i: 0.0, "base")
    probes = {f"p{i}": i < 28 for i in range(77)}
    lost = forgetting_guard(probes, {name: i < 12 for i, name in enumerate(probes)}, margin=0.05, alpha=0.05)
    comparison = compare(base, _answers(_cut(0), lambda i: float(i % 3 == 0), "tuned"), QUESTIONS, guards=[lost])
    assert comparison.verdict == "MIXED"


def test_an_improvement_that_rests_on_broken_answers_of_the_base_is_inconclusive() -> None:
    base, tuned = _answers(_cut(0.4), lambda i: 1.0, "base"), _answers(_cut(0), lambda i: 1.0, "tuned")
    comparison = compare(base, tuned, QUESTIONS)
    row = comparison.row("correctness")
    assert row is not None
    assert row.all.difference == 0.4
    assert row.rests_on_invalid
    assert comparison.verdict == "INCONCLUSIVE"
    assert "rests on unusable answers (40% → 0% unusable)" in comparison.headline
    back = compare(
        [replace(one, model="base") for one in tuned], [replace(one, model="tuned") for one in base], QUESTIONS
    )
    assert back.verdict == "INCONCLUSIVE"


def test_an_improvement_of_the_usable_answers_counts_beside_broken_ones() -> None:
    base = _answers(_cut(0.2), lambda i: float(i % 4 == 0), "base")
    comparison = compare(base, _answers(_cut(0), lambda i: 1.0, "tuned"), QUESTIONS)
    assert comparison.verdict == "IMPROVED"


def test_a_loss_that_more_usable_answers_hide_is_not_equivalent() -> None:
    base = _answers(_cut(0.3), lambda i: 1.0, "base")
    tuned = _answers(_cut(0), lambda i: float(i < 42), "tuned")
    comparison = compare(base, tuned, QUESTIONS)
    row = comparison.row("correctness")
    assert row is not None
    assert row.all.difference == pytest.approx(0.0)
    assert comparison.verdict == "INCONCLUSIVE"


def test_what_looks_equivalent_only_because_of_broken_answers_is_not() -> None:
    n = 600
    questions = [question(id=f"q{i:02}", papers=(f"p{i:02}",)) for i in range(n)]
    broken: Callable[[int], Validity] = lambda i: "truncated" if i < 60 else "ok"  # noqa: E731
    base = _answers(broken, lambda i: 1.0, "base", n)
    tuned = _answers(_cut(0), lambda i: float(i < n - 60), "tuned", n)
    row = compare(base, tuned, questions).row("correctness")
    assert row is not None
    assert (row.verdict, row.rests_on_invalid) == ("INCONCLUSIVE", True)
    assert row.both_valid is not None
    assert row.both_valid.difference < -0.1


def test_equal_correctness_is_not_equivalence_while_another_metric_rests_on_broken_answers() -> None:
    def side(model: Literal["base", "tuned"], broken: int) -> list[Score]:
        return [
            score(one.id, model, {"correctness": 0.0, "prose_style": float(i >= broken)},
                  validity="truncated" if i < broken else "ok")
            for i, one in enumerate(QUESTIONS)
        ]  # fmt: skip

    comparison = compare(side("base", 25), side("tuned", 0), QUESTIONS)
    assert _verdicts(comparison)["correctness"] == "EQUIVALENT"
    assert comparison.verdict == "INCONCLUSIVE"
    assert "plain prose +41.7 points" in comparison.headline


def test_more_broken_answers_and_nothing_else_decide_nothing() -> None:
    tuned = _answers(_cut(0.25), lambda i: 0.0, "tuned")
    comparison = compare(_answers(_cut(0), lambda i: 0.0, "base"), tuned, QUESTIONS)
    assert [guard.state for guard in comparison.guards if guard.name == "invalid"] == ["FAIL"]
    assert comparison.verdict == "INCONCLUSIVE"
    assert "gives more unusable answers (0% → 25% unusable)" in comparison.headline


def test_a_gain_with_more_broken_answers_is_mixed() -> None:
    tuned = _answers(_cut(0.25), lambda i: 1.0, "tuned")
    comparison = compare(_answers(_cut(0), lambda i: 0.0, "base"), tuned, QUESTIONS)
    assert comparison.verdict == "MIXED"


def test_where_every_request_failed_nothing_is_decided() -> None:
    base = _answers(lambda i: "transport_error", lambda i: 1.0, "base")
    comparison = compare(base, _answers(_cut(0), lambda i: 1.0, "tuned"), QUESTIONS)
    assert comparison.verdict == "INCONCLUSIVE"
    assert comparison.headline == "INCONCLUSIVE: no question was answered by both models."


def test_a_written_comparison_is_read_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "verdict.json"
    questions = [question(id=f"q{i}", papers=(f"p{i}",)) for i in range(12)]
    base = [score(one.id, "base", {"correctness": 1.0, "latency_seconds": 2.0}) for one in questions]
    tuned = [
        score(one.id, "tuned", {"correctness": float(i < 7)}, validity="ok" if i else "empty")
        for i, one in enumerate(questions)
    ]
    comparison = compare(base, tuned, questions)
    path.write_text(join_arms(comparison, None).to_json(), encoding="utf-8")
    assert read_outcome(path).against_base == comparison


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"verdict": "IMPROVED"}', "NaN", "\xff"])
def test_anything_but_an_outcome_is_refused_with_its_path(text: str, tmp_path: Path) -> None:
    path = tmp_path / "verdict.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"verdict\.json"):
        read_outcome(path)


@pytest.mark.parametrize(
    "changes", [{"margin": float("nan")}, {"margin": 0.0}, {"alpha": float("nan")}, {"alpha": 0.5}]
)
def test_a_margin_or_alpha_that_decides_nothing_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(InputError, match="choose a number between"):
        _compare({"correctness": (SAME, SAME)}, **changes)
