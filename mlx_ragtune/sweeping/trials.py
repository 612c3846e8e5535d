"""One trial as a record: its settings, how it ended, and its place among the others."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from optuna.trial import FrozenTrial, TrialState

from mlx_ragtune.sweeping.space import Settings, Space

State = Literal["waiting", "running", "paused", "finished", "pruned", "interrupted"]
SCORE_DIGITS = 4
"""Scores that are equal to so many digits are a tie, which the validation loss breaks."""
LOSS_WEIGHT = 1e-6
MAX_LOSS = 40.0
RETAKEN, ENDED = "retaken", "ended"
"""User attributes of a trial: the numbers of the trials that it continues, and why it ended early."""
PAUSED = "paused"
"""User attribute of a running trial that its worker has paused at a rung."""
SET_ASIDE = "set_aside"
"""User attribute of a trial that does not count: two workers drew the same settings, the budget was spent, or the
worker was stopped before the trial had settings."""


def finite(loss: float | None) -> float | None:
    """A loss as it is written to JSON: None where it is not finite, which orders a trial last."""
    return loss if loss is not None and math.isfinite(loss) else None


def objective(score: float, valid_loss: float | None) -> float:
    """One number that orders trials by score and, where scores are equal to 4 digits, by lower validation loss.

    The loss (nats per answer token, None where losses are not comparable) weighs 1e-6 and is cut off at 40, so it
    never outweighs a step of the rounded score.
    """
    tie_break = 0.0 if valid_loss is None else LOSS_WEIGHT * min(valid_loss, MAX_LOSS)
    return round(score, SCORE_DIGITS) - tie_break


@dataclass(frozen=True)
class Look:
    """A trial at a rung: after ``share`` of its updates, or trained on that share of the rows.

    ``valid_loss`` is known where it was needed to order it.
    """

    rung: int
    share: float
    score: float
    valid_loss: float | None
    updates: int


@dataclass(frozen=True)
class TrialRow:
    """A trial for people and scripts. Losses are in nats per answer token; ``number`` counts from 0.

    ``probe_loss`` is the share of general probes that the base passes and the trial fails, less those that only the
    trial passes; None where it was not measured. ``run`` is the name of its run folder, ``key`` that of its adapter.
    """

    number: int
    settings: Settings
    state: State
    why: str = ""
    score: float | None = None
    valid_loss: float | None = None
    probe_loss: float | None = None
    feasible: bool = True
    updates: int = 0
    seconds: float = 0.0
    tokens_per_second: float | None = None
    worker: str = ""
    run: str = ""
    key: str = ""
    looks: tuple[Look, ...] = field(default_factory=tuple)


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial counts as one of the sweep: it was started, and no other trial continues it."""
    attributes = trial.user_attrs
    interrupted = trial.state == TrialState.FAIL
    return trial.state != TrialState.WAITING and not interrupted and SET_ASIDE not in attributes


def trial_numbers(trials: Iterable[FrozenTrial]) -> dict[int, int]:
    """The number of each trial for people, counted from 0, by Optuna's number.

    A trial that continues another one has its number; trials that were set aside have none.
    """
    numbers: dict[int, int] = {}
    count = 0
    for trial in trials:
        if SET_ASIDE in trial.user_attrs:
            continue
        first = next(iter(trial.user_attrs.get(RETAKEN, ())), None)
        if first in numbers:
            numbers[trial.number] = numbers[first]
        else:
            numbers[trial.number] = count
            count += 1
    return numbers


def row_of(trial: FrozenTrial, space: Space, *, number: int) -> TrialRow:
    """The record of an Optuna trial under a number of ``trial_numbers``."""
    kept: Mapping[str, Any] = trial.user_attrs
    states: dict[TrialState, State] = {
        TrialState.WAITING: "waiting",
        TrialState.RUNNING: "running",
        TrialState.COMPLETE: "finished",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "interrupted",
    }
    state = states[trial.state]
    if state == "running" and kept.get(PAUSED):
        state = "paused"
    known = trial.params.keys() >= space.dimensions.keys()
    return TrialRow(
        number=number,
        settings=space.settings(trial.params) if known else {},
        state=state,
        why=str(kept.get(ENDED, "")),
        score=kept.get("score"),
        valid_loss=kept.get("valid_loss"),
        probe_loss=kept.get("probe_loss"),
        feasible=all(value <= 0 for value in trial.constraints.values()),
        updates=int(kept.get("updates", 0)),
        seconds=float(kept.get("seconds", 0.0)),
        tokens_per_second=kept.get("tokens_per_second"),
        worker=str(kept.get("worker", "")).partition(":")[0],
        run=str(kept.get("run", "")),
        key=str(kept.get("key", "")),
        looks=tuple(Look(**look) for look in kept.get("looks", ())),
    )


def ranked(rows: Iterable[TrialRow], *, by_loss: bool) -> list[TrialRow]:
    """The finished trials within the constraint, best first; of equal ones the earlier. ``by_loss`` breaks ties."""
    able = [row for row in rows if row.state == "finished" and row.feasible and row.score is not None]
    return sorted(able, key=lambda row: (-objective(row.score or 0.0, row.valid_loss if by_loss else None), row.number))
