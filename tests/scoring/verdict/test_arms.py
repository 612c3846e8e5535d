"""Three arms: does the tuned model beat the base, and does it beat the base with examples in its prompt?"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlx_ragtune.errors import InputError
from mlx_ragtune.records import Arm, Score
from mlx_ragtune.scoring.verdict.comparison import Guard, Outcome, read_outcome
from mlx_ragtune.scoring.verdict.decision import compare, compare_arms
from tests.scoring.made import question

N = 60
QUESTIONS = [question(id=f"q{i:02}", papers=(f"p{i:02}",)) for i in range(N)]
BAD, GOOD = 15, 50
TOKENS = {"base": 300.0, "prompted": 650.0, "tuned": 300.0}


def arm(name: Arm, right: int, *, words: float = 40.0, wrong_first: bool = False) -> list[Score]:
    """An arm that answers ``right`` of the questions correctly."""
    correct: Callable[[int], bool] = (lambda i: i >= N - right) if wrong_first else (lambda i: i < right)
    return [
        Score(f"q{i:02}", name, 0, "ok",
              {"correctness": float(correct(i)), "prompt_tokens": TOKENS[name], "answer_words": words})
        for i in range(N)
    ]  # fmt: skip


def outcome(base: int, prompted: int, tuned: int, **changes: object) -> Outcome:
    return compare_arms(
        arm("base", base),
        arm("tuned", tuned),
        QUESTIONS,
        prompted=arm("prompted", prompted),
        **changes,  # type: ignore[arg-type]
    )


def test_a_tuned_model_that_beats_both_says_so() -> None:
    found = outcome(BAD, BAD, GOOD)
    assert found.verdict == found.against_base.verdict == "IMPROVED"
    assert found.against_prompted is not None
    assert found.against_prompted.verdict == "IMPROVED"
    assert "the tuned model beats the base and the prompt" in found.headline
    assert found.gained


def test_a_prompt_that_does_as_well_is_named_with_its_cost() -> None:
    found = outcome(BAD, GOOD, GOOD)
    assert found.verdict == "IMPROVED"
    assert found.against_prompted is not None
    assert found.against_prompted.verdict == "EQUIVALENT"
    assert "IMPROVED: the tuned model beats the base, not the prompt" in found.headline
    assert found.advice[0] == "use the base with examples in its prompt instead of the tuned model"


def test_a_prompt_that_beats_the_tuned_model_is_recommended() -> None:
    found = outcome(10, 55, 35)
    assert found.against_prompted is not None
    assert found.against_prompted.verdict == "REGRESSED"
    assert found.advice[0].startswith("use the base with examples in its prompt")
    assert "beats the base, not the prompt" in found.headline


def test_a_prompt_that_may_be_as_good_is_to_be_tried_first() -> None:
    found = compare_arms(arm("base", 5), arm("tuned", 45), QUESTIONS, prompted=arm("prompted", 45, wrong_first=True))
    assert found.against_prompted is not None
    assert found.against_prompted.verdict == "INCONCLUSIVE"
    assert found.advice[0].startswith("try the base with examples in its prompt first")


def test_a_gain_at_a_price_is_not_called_a_win() -> None:
    guard = Guard("forgetting", "General probes", "FAIL", 0.9, 0.6, "60 probes: 18 lost, 0 gained")
    found = outcome(BAD, GOOD, GOOD, guards=[guard])
    assert found.headline.startswith("MIXED: the tuned model beats the base at a price, not the prompt: ")
    assert "but worse on general probes (60 probes: 18 lost, 0 gained)" in found.headline


def test_where_most_answers_are_unusable_their_cause_comes_first_and_no_gain_is_claimed() -> None:
    base = [replace(one, validity="truncated") if i < 50 else one for i, one in enumerate(arm("base", 0))]
    found = compare_arms(base, arm("tuned", GOOD), QUESTIONS, prompted=arm("prompted", GOOD))
    assert found.verdict == "INCONCLUSIVE"
    assert found.gained == ""
    assert found.advice[0].startswith("raise evaluate.sampling.max_tokens")
    assert "50 of 60 answers of the base are cut off, so there is too little to compare" in found.headline


def test_a_prompt_that_could_not_be_asked_is_not_beaten() -> None:
    for validity in ("transport_error", "prompt_overflow"):
        prompted = [replace(one, validity=validity) for one in arm("prompted", 0)]
        found = compare_arms(arm("base", BAD), arm("tuned", GOOD), QUESTIONS, prompted=prompted)
        assert found.verdict == "IMPROVED"
        assert "the tuned model beats the base and cannot be compared with the prompt" in found.headline
        assert not [step for step in found.advice if "instead of" in step or "first" in step]


def test_the_headline_has_at_most_three_sentences_and_names_no_arm_by_its_code() -> None:
    for counts in ((BAD, BAD, GOOD), (BAD, GOOD, GOOD), (GOOD, GOOD, BAD), (30, 30, 30)):
        text = outcome(*counts).headline
        assert text.count(". ") <= 2
        assert "against_base" not in text
        assert "prompted" not in text


def test_one_holm_covers_both_comparisons() -> None:
    alone = compare_arms(arm("base", 0), arm("tuned", 8), QUESTIONS)
    row = alone.against_base.row("correctness")
    assert row is not None
    both = outcome(0, 8, 8).against_base.row("correctness")
    assert both is not None
    assert both.all.p == row.all.p
    assert row.holm_p == pytest.approx(2 * row.all.p)  # correctness and unusable answers
    assert both.holm_p == pytest.approx(4 * row.all.p)


def test_without_the_prompted_arm_it_is_the_comparison_itself() -> None:
    found = compare_arms(arm("base", BAD), arm("tuned", GOOD), QUESTIONS)
    assert found.against_prompted is None
    assert found.against_base == compare(arm("base", BAD), arm("tuned", GOOD), QUESTIONS)
    assert found.headline == found.against_base.headline


def test_guards_count_in_both_comparisons() -> None:
    guard = Guard("forgetting", "General probes", "FAIL", 0.9, 0.6, "60 probes: 18 lost, 0 gained")
    found = outcome(BAD, BAD, GOOD, guards=[guard])
    assert found.against_prompted is not None
    assert (found.verdict, found.against_prompted.verdict) == ("MIXED", "MIXED")
    assert "General probes (60 probes: 18 lost, 0 gained)" in found.paid


def test_arms_that_were_asked_different_questions_are_refused() -> None:
    with pytest.raises(InputError, match="exist for one model only"):
        compare_arms(arm("base", 1), arm("tuned", 1), QUESTIONS, prompted=arm("prompted", 1)[1:])


def test_a_written_outcome_is_read_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "verdict.json"
    for found in (outcome(BAD, GOOD, GOOD), compare_arms(arm("base", BAD), arm("tuned", GOOD), QUESTIONS)):
        path.write_text(found.to_json(), encoding="utf-8")
        assert read_outcome(path) == found


def test_a_difference_inside_the_noise_is_never_decided() -> None:
    args = (arm("base", 20), arm("tuned", 32), QUESTIONS)
    assert compare_arms(*args).verdict == "IMPROVED"
    noisy = compare_arms(*args, noise={"correctness": 0.21})
    row = noisy.against_base.row("correctness")
    assert row is not None
    assert (row.verdict, row.noise) == ("INCONCLUSIVE", 0.21)
    assert any("is inside the numerical noise of 21.0 points" in reason for reason in noisy.against_base.reasons)
    back = compare_arms(arm("base", 32), arm("tuned", 20), QUESTIONS, noise={"correctness": 0.21})
    assert back.verdict == "INCONCLUSIVE"


def test_noise_just_below_a_difference_leaves_it_undecided_too() -> None:
    noisy = compare_arms(arm("base", 20), arm("tuned", 32), QUESTIONS, noise={"correctness": 0.15})
    assert noisy.verdict == "INCONCLUSIVE"
    sure = compare_arms(arm("base", 5), arm("tuned", 55), QUESTIONS, noise={"correctness": 0.15})
    assert sure.verdict == "IMPROVED"


def test_a_noise_floor_that_is_not_a_number_is_refused() -> None:
    for floor in (float("nan"), -0.1, float("inf")):
        with pytest.raises(InputError, match="noise floor of correctness"):
            compare_arms(arm("base", 1), arm("tuned", 1), QUESTIONS, noise={"correctness": floor})
