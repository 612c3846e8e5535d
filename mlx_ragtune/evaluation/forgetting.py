"""M8: what the fine-tuning cost on general probes, from both models' answers to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlx_ragtune.errors import InputError
from mlx_ragtune.records import Answer
from mlx_ragtune.scoring.answers.probes import Probe, passes

PREFIX = "probe:"
"""Question ids of probes begin with it, so that they cannot collide with a benchmark's."""


@dataclass(frozen=True)
class ProbeRow:
    """One probe and whether each model passed it."""

    id: str
    category: str
    base: bool
    tuned: bool


def probe_rows(probes: Sequence[Probe], answers: Mapping[str, Sequence[Answer]]) -> list[ProbeRow]:
    """A row for each probe that both models answered, in order; ``answers`` holds those of base and tuned.

    A probe that one model could not be asked is left out for both: counting it would favor the other one.
    Raises InputError when none is left.
    """
    texts = {
        model: {answer.question_id: answer.text for answer in given if not answer.error}
        for model, given in answers.items()
    }
    rows = []
    for probe in probes:
        name = f"{PREFIX}{probe.id}"
        if name in texts["base"] and name in texts["tuned"]:
            passed = {model: passes(probe, texts[model][name]) for model in ("base", "tuned")}
            rows.append(ProbeRow(probe.id, probe.category, passed["base"], passed["tuned"]))
    if not rows:
        raise InputError(
            "no probe was answered by both models: their prompts do not fit in the context",
            where="evaluate.probes",
            fix="raise evaluate.sampling.context_tokens",
        )
    return rows
