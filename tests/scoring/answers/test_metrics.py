"""The table of metrics: what decides, what may veto, what an invalid answer gets."""

import pytest

from mlx_ragtune.scoring.answers.metrics import FAMILY, GUARDS, METRICS


def test_the_family_decides_and_its_first_is_correctness() -> None:
    assert FAMILY[0] == "correctness"
    assert all(METRICS[name].role == "decides" for name in FAMILY)


def test_guards_are_invalid_answers_and_false_refusals_as_measured() -> None:
    assert GUARDS == ("invalid", "false_refusal")
    assert all(METRICS[name].worst is None and not METRICS[name].higher_is_better for name in GUARDS)


@pytest.mark.parametrize("name", METRICS)
def test_an_invalid_answer_never_gains(name: str) -> None:
    metric = METRICS[name]
    if metric.worst is not None and metric.unit == "share":
        assert metric.worst == (0.0 if metric.higher_is_better else 1.0)


def test_metrics_that_can_be_fooled_decide_nothing() -> None:
    for name in ("keyword_coverage", "substantive", "similarity", "bertscore_f1"):
        assert METRICS[name].role == "secondary"
        assert name not in FAMILY


def test_answer_length_is_reported_without_a_verdict() -> None:
    assert not any(METRICS[name].judged for name in ("answer_words", "answer_tokens", "prompt_tokens"))
    assert METRICS["answer_words"].unit == "words"


def test_labels_are_told_apart() -> None:
    labels = [metric.label for metric in METRICS.values()]
    assert len(set(labels)) == len(labels)
    assert all(label[0].isupper() or label.startswith("BERT") for label in labels)
