"""One sentence that claims no more than the numbers, and the reasons below it."""

from typing import Literal

import pytest

from mlx_ragtune.records import Score
from mlx_ragtune.scoring.answers.metrics import METRICS
from mlx_ragtune.scoring.verdict.comparison import Comparison, Guard
from mlx_ragtune.scoring.verdict.decision import compare
from mlx_ragtune.scoring.verdict.headline import signed, within_sentence
from tests.scoring.made import question, score

N = 60
CORRECT = within_sentence(METRICS["correctness"].label)
SAME = [0.5] * N
LOW, HIGH = [0.0] * 40 + [1.0] * 20, [1.0] * N
NOISY = ([0.0, 1.0] * 30, [1.0, 0.0] * 30)


def compared(*guards: Guard, margin: float = 0.05, **table: tuple[list[float], list[float]]) -> Comparison:
    questions = [question(id=f"q{i:02}", papers=(f"p{i:02}",)) for i in range(N)]

    def side(model: Literal["base", "tuned"]) -> list[Score]:
        return [
            score(one.id, model, {name: values[model == "tuned"][i] for name, values in table.items()})
            for i, one in enumerate(questions)
        ]

    return compare(side("base"), side("tuned"), questions, guards=guards, margin=margin)


def test_a_gain_in_the_primary_is_told_in_points() -> None:
    found = compared(correctness=(LOW, HIGH))
    assert found.headline == f"IMPROVED: the tuned model is better on {CORRECT} +66.7 points."
    assert found.gained.startswith(f"{METRICS['correctness'].label} +66.7 points (95% interval")
    assert (found.paid, found.advice) == ("", ())


def test_a_gain_elsewhere_is_told_with_what_is_known_of_the_primary() -> None:
    found = compared(correctness=(SAME, SAME), prose_style=(LOW, HIGH))
    assert found.headline.startswith("IMPROVED: the tuned model is better on plain prose +66.7 points; " + CORRECT)
    assert "95% interval" in found.headline


def test_several_gains_are_joined_by_and() -> None:
    found = compared(correctness=(LOW, HIGH), prose_style=(LOW, HIGH), citation_recall=(LOW, HIGH))
    assert f"{CORRECT} +66.7 points, " in found.headline
    assert " +66.7 points and plain prose +66.7 points." in found.headline


def test_gain_and_loss_are_both_told() -> None:
    found = compared(correctness=(LOW, HIGH), prose_style=(HIGH, LOW))
    assert found.headline.startswith(
        f"MIXED: the tuned model is better on {CORRECT} +66.7 points, but worse on plain prose −66.7 points"
    )
    assert found.paid == "Plain prose −66.7 points."


def test_minus_is_a_minus_sign() -> None:
    found = compared(correctness=(HIGH, LOW))
    assert "−66.7" in found.headline
    assert "-66.7" not in found.headline


def test_equivalence_is_told_with_its_margin() -> None:
    assert "differ by less than 7.5 points" in compared(correctness=(SAME, SAME), margin=0.075).headline


def test_what_cannot_be_told_says_how_many_questions_there_were() -> None:
    found = compared(correctness=NOISY)
    assert found.headline.startswith(f"INCONCLUSIVE: {CORRECT} 0.0 points")
    assert "; 60 questions are too few to decide; next: ask about more papers" in found.headline
    assert any("questions detect a difference of" in reason for reason in found.reasons)


def test_no_primary_at_all_is_said() -> None:
    found = compared(prose_style=(SAME, SAME))
    assert found.headline == f"INCONCLUSIVE: {CORRECT} is undefined for every question."
    assert any(reason.startswith("not measured, undefined for every question") for reason in found.reasons)


@pytest.mark.parametrize(
    ("state", "verdict", "said"),
    [
        ("PASS", "IMPROVED", None),
        ("WARN", "IMPROVED", "guard warning: general probes, 60 probes: 4 lost, 0 gained"),
        ("FAIL", "MIXED", "guard failed: general probes, 60 probes: 4 lost, 0 gained"),
    ],
)
def test_a_guard_is_named_unless_it_passed(
    state: Literal["PASS", "WARN", "FAIL"], verdict: str, said: str | None
) -> None:
    guard = Guard("forgetting", "General probes", state, 0.9, 0.84, "60 probes: 4 lost, 0 gained")
    found = compared(guard, correctness=(LOW, HIGH))
    assert found.verdict == verdict
    assert [reason for reason in found.reasons if reason.startswith("guard")] == ([said] if said else [])


def test_a_failed_guard_is_in_the_headline() -> None:
    guard = Guard("forgetting", "General probes", "FAIL", 0.9, 0.6, "60 probes: 18 lost, 0 gained")
    found = compared(guard, correctness=(LOW, HIGH))
    assert "but worse on general probes (60 probes: 18 lost, 0 gained)" in found.headline
    assert "next: add general questions to the training pairs" in found.headline


def test_one_question_that_carries_the_difference_is_named() -> None:
    base, tuned = [0.5] * N, [0.5] * (N - 1) + [1.0]
    found = compared(correctness=(base, tuned))
    assert any("question q59 accounts for 100% of the difference" in reason for reason in found.reasons)


def test_what_was_not_measured_is_named_by_its_label() -> None:
    found = compared(correctness=NOISY)
    label = within_sentence(METRICS["citation_recall"].label)
    assert any(label in reason for reason in found.reasons)
    assert not any("citation_recall" in reason for reason in found.reasons)


def test_acronyms_keep_their_letters_inside_a_sentence() -> None:
    labels = ("Plain prose", "BERTScore F1 to the reference", "GGUF size", "F1", "x", "")
    assert [within_sentence(label) for label in labels] == [
        "plain prose", "BERTScore F1 to the reference", "GGUF size", "F1", "x", "",
    ]  # fmt: skip


def test_signs_are_typographic_and_zero_has_none() -> None:
    assert [signed(2.25, 1), signed(-3.14, 1), signed(-0.01, 1), signed(0)] == ["+2.2", "−3.1", "0.0", "0"]
