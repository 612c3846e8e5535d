"""The asides of a report in words: counts add up, undefined is not 0, right answers stand before wrong ones."""

from mlx_ragtune.pages.report_data import (
    distractors_of,
    fooled_of,
    forgetting_of,
    judge_of,
    refusals_of,
    stamps_of,
)


def test_probes_are_counted_by_category_and_together() -> None:
    probes = [
        {"id": "a", "category": "fact", "base": True, "tuned": False},
        {"id": "b", "category": "fact", "base": True, "tuned": True},
        {"id": "c", "category": "code", "base": False, "tuned": True},
    ]
    assert [(row["label"], row["value"]) for row in forgetting_of(probes)] == [
        ("code", "base 0 of 1, tuned 1"),
        ("fact", "base 2 of 2, tuned 1"),
        ("together", "base 2 of 3, tuned 2"),
    ]


def test_a_stamp_names_both_values() -> None:
    [stamp] = stamps_of([{"name": "quantization", "base": "Q8_0", "tuned": "Q4_K_M", "fix": "", "allowed": True}])
    assert stamp == "Not the same quantization, allowed by name: base Q8_0, tuned Q4_K_M"


def test_a_judge_is_shown_with_what_it_caught_and_peoples_correction() -> None:
    judge = {
        "model": "granite3.3:8b",
        "summary": "judge trusted (TPR 0.95, TNR 0.90, 0 verdicts missing)",
        "caught": {"number_changed": (9, 10)},
        "corrected": {"difference": 0.05, "low": -0.01, "high": 0.11, "labels": 60},
    }
    assert [(row["label"], row["value"]) for row in judge_of(judge)] == [
        ("granite3.3:8b", "judge trusted (TPR 0.95, TNR 0.90, 0 verdicts missing)"),
        ("number changed", "9 of 10 planted errors caught"),
        ("correctness, corrected by people's labels", "+5.0 points (-1.0 to +11.0), 60 labels"),
    ]


def test_right_planted_answers_come_first_and_undefined_says_so() -> None:
    planted = [
        {"name": "negated", "right": False, "similarity": 0.93, "bertscore_f1": 0.91},
        {"name": "concise", "right": True, "similarity": None, "bertscore_f1": None},
    ]
    assert [(row["label"], row["value"]) for row in fooled_of(planted)] == [
        ("concise (right)", "cosine undefined"),
        ("negated (wrong)", "cosine 0.93, BERTScore F1 0.91"),
    ]


def test_nothing_refused_is_undefined_precision_and_not_zero() -> None:
    names = ("refusal_precision", "refusal_recall", "refusal_f1", "answer_f1", "macro_f1")
    base = {name: None if name == "refusal_precision" else 0.5 for name in names}
    rows = refusals_of({"base": base, "tuned": dict.fromkeys(names, 1.0)})
    assert rows[0] == {"label": "refusals that were right", "value": "base undefined, tuned 100.0 %"}
    assert rows[-1] == {"label": "macro-F1", "value": "base 50.0 %, tuned 100.0 %"}


def test_conditions_are_labelled_and_minus_signs_are_minus_signs() -> None:
    row = {
        "condition": "gold", "metric": "correctness", "base": 0.5, "tuned": 0.25, "difference": -0.25,
        "low": -0.4, "high": -0.1, "n_questions": 12,
    }  # fmt: skip
    labels = {"gold": "gold passages only", "correctness": "Correctness"}
    [found] = distractors_of([row], labels)
    assert found["label"] == "gold passages only: correctness"
    assert found["value"] == "base 50.0 %, tuned 25.0 %, −25.0 points (−40.0 to −10.0), 12 questions"
    [alone] = distractors_of([{**row, "low": None, "high": None}], labels)
    assert alone["value"].endswith("−25.0 points, 12 questions")
