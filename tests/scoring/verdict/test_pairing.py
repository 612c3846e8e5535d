import pytest

from mlx_ragtune.errors import InputError
from mlx_ragtune.records import Question, Score
from mlx_ragtune.scoring.verdict.pairing import cluster_of, match, pair_metric, question_deltas
from tests.scoring.made import question, score, unanswerable

QUESTIONS = [
    question(id="a", papers=("lora",)),
    question(id="b", papers=("lora", "qlora")),
    question(id="c", papers=("qlora",)),
    unanswerable(id="d"),
]


def _one(model: str, values: dict[str, float], **changes: object) -> list[Score]:
    return [score(name, model, {"correctness": value}, **changes) for name, value in values.items()]  # type: ignore[arg-type]


BASE = {"a": 0.5, "b": 1.0, "c": 0.0, "d": 0.25}
TUNED = {"a": 1.0, "b": 0.5, "c": 0.0, "d": 0.25}


def test_a_cluster_is_the_first_gold_paper_or_the_question_itself() -> None:
    assert [cluster_of(one) for one in QUESTIONS] == ["paper:lora", "paper:lora", "paper:qlora", "question:d"]


def test_values_are_paired_by_question_in_benchmark_order() -> None:
    scored = match(_one("base", BASE), _one("tuned", TUNED)[::-1], QUESTIONS)
    pairs = pair_metric(scored, "correctness")
    assert pairs is not None
    assert pairs.question_ids == ("a", "b", "c", "d")
    assert pairs.differences.tolist() == [0.5, -0.5, 0.0, 0.0]
    assert pairs.clusters.tolist() == [0, 0, 1, 2]
    assert not pairs.binary


def test_seeds_are_averaged_within_the_question_before_the_difference() -> None:
    base = _one("base", {"a": 0.0}) + _one("base", {"a": 1.0}, seed=1)
    tuned = _one("tuned", {"a": 1.0}) + _one("tuned", {"a": 1.0}, seed=1)
    pairs = pair_metric(match(base, tuned, QUESTIONS), "correctness")
    assert pairs is not None
    assert pairs.differences.tolist() == [0.5]
    assert pairs.binary


def test_a_transport_error_drops_the_item_for_both_and_is_listed() -> None:
    base = _one("base", {"a": 1.0, "b": 1.0})
    tuned = [*_one("tuned", {"a": 1.0}), *_one("tuned", {"b": 0.0}, validity="transport_error")]
    scored = match(base, tuned, QUESTIONS)
    pairs = pair_metric(scored, "correctness")
    assert pairs is not None
    assert pairs.question_ids == ("a",)
    assert scored.dropped == ("b (seed 0)",)


def test_both_valid_leaves_the_item_out_for_both() -> None:
    base = _one("base", {"a": 1.0, "b": 1.0})
    tuned = [*_one("tuned", {"a": 1.0}), *_one("tuned", {"b": 0.0}, validity="empty")]
    scored = match(base, tuned, QUESTIONS)
    whole, valid = pair_metric(scored, "correctness"), pair_metric(scored, "correctness", both_valid=True)
    assert whole is not None
    assert valid is not None
    assert whole.differences.tolist() == [0.0, -1.0]
    assert valid.differences.tolist() == [0.0]


def test_the_invalid_rate_comes_from_validity() -> None:
    scored = match(_one("base", {"a": 1.0}), _one("tuned", {"a": 0.0}, validity="empty"), QUESTIONS)
    pairs = pair_metric(scored, "invalid")
    assert pairs is not None
    assert (pairs.base.tolist(), pairs.tuned.tolist()) == ([0.0], [1.0])


def test_a_metric_undefined_on_one_side_is_left_out_and_counted() -> None:
    base = [score("a", "base", {"x": 1.0}), score("b", "base", {})]
    tuned = [score("a", "tuned", {"x": 0.0}), score("b", "tuned", {"x": 1.0})]
    pairs = pair_metric(match(base, tuned, QUESTIONS), "x")
    assert pairs is not None
    assert (pairs.question_ids, pairs.n_undefined) == (("a",), 1)
    assert pair_metric(match(base, tuned, QUESTIONS), "y") is None


@pytest.mark.parametrize(
    ("base", "tuned", "questions", "said"),
    [
        ({"a": 1.0, "b": 1.0}, {"a": 1.0}, QUESTIONS, "exist for one model only: b (seed 0)"),
        ({"z": 1.0}, {"z": 1.0}, QUESTIONS, "not in the benchmark: z"),
        ({}, {}, QUESTIONS, "no scores"),
    ],
)
def test_scores_that_do_not_match_are_refused(
    base: dict[str, float], tuned: dict[str, float], questions: list[Question], said: str
) -> None:
    with pytest.raises(InputError) as caught:
        match(_one("base", base), _one("tuned", tuned), questions)
    assert said in str(caught.value)
    assert caught.value.fix


def test_two_scores_for_one_question_and_seed_are_refused() -> None:
    with pytest.raises(InputError, match="two scores for question 'a'"):
        match(_one("base", {"a": 1.0}) * 2, _one("tuned", {"a": 1.0}), QUESTIONS)


def test_deltas_hold_every_question_with_what_is_defined_for_both() -> None:
    scored = match(_one("base", BASE), _one("tuned", TUNED), QUESTIONS)
    deltas = question_deltas(scored, ["correctness", "prose_style"])
    assert [delta.question_id for delta in deltas] == ["a", "b", "c", "d"]
    assert deltas[0].metrics == {"correctness": (0.5, 1.0)}
    assert deltas[0].cluster == "paper:lora"
