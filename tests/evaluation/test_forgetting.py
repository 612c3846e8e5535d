"""Probes: one that either model could not be asked counts for neither."""

import pytest

from mlx_ragtune.errors import InputError
from mlx_ragtune.evaluation.forgetting import probe_rows
from mlx_ragtune.records import Answer
from mlx_ragtune.scoring.answers.probes import ExactCheck, Probe

PROBES = [Probe(name, "fact", "Capital?", ExactCheck("exact", ("Paris",)), "Paris", "Rome") for name in ("a", "b", "c")]


def answered(model: str, name: str, text: str, error: str = "") -> Answer:
    return Answer("k", f"probe:{name}", model, 0, text, "stop", 5, 5, 1.0, error=error)  # type: ignore[arg-type]


def given(base: dict[str, str], tuned: dict[str, str], failed: tuple[str, str]) -> dict[str, list[Answer]]:
    return {
        model: [
            answered(model, name, text, "prompt_overflow: too long" if (model, name) == failed else "")
            for name, text in texts.items()
        ]
        for model, texts in (("base", base), ("tuned", tuned))
    }


@pytest.mark.parametrize("model", ["base", "tuned"])
def test_a_probe_that_one_model_could_not_be_asked_counts_for_neither(model: str) -> None:
    texts = {"a": "Paris", "b": "Paris", "c": "Rome"}
    rows = probe_rows(PROBES, given(texts, {**texts, "c": "Paris"}, (model, "b")))
    assert [(row.id, row.base, row.tuned) for row in rows] == [("a", True, True), ("c", False, True)]


def test_probes_that_nobody_could_be_asked_are_an_error() -> None:
    answers = given({"a": ""}, {"a": ""}, ("base", "a"))
    with pytest.raises(InputError, match="no probe was answered by both models"):
        probe_rows(PROBES[:1], answers)
