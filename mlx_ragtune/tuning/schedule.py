"""Turns epochs and ratios of the recipe into updates, before training starts.

rows ─► contexts ─► updates (rows that share an optimizer step, chosen by the seed)
                        └─► micro-batches (rows that are computed together, chosen by their lengths)
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mlx_ragtune.errors import RecipeError
from mlx_ragtune.recipe import TrainSettings
from mlx_ragtune.tuning.groups import Group, make_groups, shape_of
from mlx_ragtune.tuning.seeds import seed64
from mlx_ragtune.tuning.token_rows import TokenRow

Rows = list[TokenRow]
NO_VALIDATION = "no validation: the last checkpoint is kept"
MOST_PADDING = 0.03
"""Largest share of a micro-batch that may be padding; beyond it a new micro-batch starts."""


@dataclass(frozen=True)
class Plan:
    """The updates of a run. ``evals`` are the updates after which it validates; the last update is one of them.

    Without ``validates`` it only keeps its adapter there.
    """

    rows: int
    updates: int
    updates_per_epoch: int
    warmup_updates: int
    evals: tuple[int, ...]
    peak_learning_rate: float
    schedule: str
    validates: bool = True

    def learning_rate(self, update: int) -> float:
        """The learning rate of an update, counted from 1: linear warm-up, then cosine, linear or constant."""
        if update <= self.warmup_updates:
            return self.peak_learning_rate * update / self.warmup_updates
        if self.schedule == "constant":
            return self.peak_learning_rate
        done = (update - self.warmup_updates - 1) / max(1, self.updates - self.warmup_updates)
        factor = 0.5 * (1 + math.cos(math.pi * done)) if self.schedule == "cosine" else 1 - done
        return self.peak_learning_rate * factor

    def describe(self) -> str:
        """One line that is printed before training starts."""
        return (
            f"{self.updates} updates ({self.updates_per_epoch} per epoch of {self.rows} rows), "
            f"warm-up {self.warmup_updates}, learning rate {self.peak_learning_rate:g} {self.schedule}, "
            + (f"validation after {', '.join(map(str, self.evals))}" if self.validates else NO_VALIDATION)
        )


def rows_per_update(settings: TrainSettings) -> int:
    """The effective batch size: rows per optimizer step."""
    return settings.batch_size * settings.accumulation


def contexts(rows: Sequence[TokenRow], most: int) -> list[Rows]:
    """Rows by their ``group``, in order of first appearance; groups of more than ``most`` rows are split evenly."""
    named: dict[str, Rows] = {}
    for row in rows:
        named.setdefault(row.group, []).append(row)
    return [
        [members[int(index)] for index in part]
        for members in named.values()
        for part in np.array_split(np.arange(len(members)), -(-len(members) // most))
    ]


def updates_of_epoch(rows: Sequence[TokenRow], per_update: int, *, seed: int, epoch: int) -> list[Rows]:
    """The rows of each update of an epoch: every row once, in an order that depends on seed and epoch only.

    Rows of one context stay together, so an update has about ``per_update`` rows.
    """
    units = contexts(rows, per_update)
    updates: list[Rows] = [[]]
    for index in np.random.default_rng([seed64(seed), epoch]).permutation(len(units)):
        unit = units[int(index)]
        if updates[-1] and len(updates[-1]) + len(unit) / 2 > per_update:
            updates.append([])
        updates[-1] += unit
    return updates


def updates_of_run(
    rows: Sequence[TokenRow], plan: Plan, settings: TrainSettings, *, seed: int
) -> Iterator[tuple[int, float, Rows]]:
    """(number from 1, epochs done after it, rows) of every update of the plan."""
    update = epoch = 0
    while update < plan.updates:
        updates = updates_of_epoch(rows, rows_per_update(settings), seed=seed, epoch=epoch)
        for place, members in enumerate(updates[: plan.updates - update], start=1):
            update += 1
            yield update, epoch + place / len(updates), members
        epoch += 1


def make_plan(rows: Sequence[TokenRow], settings: TrainSettings, *, seed: int, validates: bool = True) -> Plan:
    """Updates, warm-up and validations of the run; a part of an epoch is the same part of its updates.

    Without validation rows (``validates`` is False) ``evals`` holds only the last update.
    """
    per_update = rows_per_update(settings)
    whole, part = divmod(settings.epochs, 1)
    sizes = [
        len(updates_of_epoch(rows, per_update, seed=seed, epoch=epoch)) for epoch in range(int(whole) + (part > 0))
    ]
    total = sum(sizes[: int(whole)]) + (max(1, round(part * sizes[-1])) if part else 0)
    every = max(1, round(sizes[0] / settings.evals_per_epoch))
    evals = sorted({*range(every, total + 1, every), total})
    if len(evals) > 1 and evals[-1] - evals[-2] < every / 2:
        evals.pop(-2)
    if not validates:
        evals = [total]
    return Plan(
        rows=len(rows),
        updates=total,
        updates_per_epoch=sizes[0],
        warmup_updates=math.ceil(settings.warmup_ratio * total),
        evals=tuple(evals),
        peak_learning_rate=settings.learning_rate,
        schedule=settings.schedule,
        validates=validates,
    )


def _fitting(group: Group, tokens_per_step: int) -> list[Group]:
    """The group in as few pieces as fit. Raises RecipeError when a single row does not fit."""
    for pieces in range(1, len(group.rows) + 1):
        parts = [
            Group(tuple(group.rows[int(index)] for index in part), group.prefix_length)
            for part in np.array_split(np.arange(len(group.rows)), pieces)
        ]
        if all(part.tokens <= tokens_per_step for part in parts):
            return parts
    longest = max(group.rows, key=lambda row: Group((row,), group.prefix_length).tokens)
    raise RecipeError(
        f"row '{longest.id}' needs {Group((longest,), group.prefix_length).tokens} tokens, "
        f"more than tokens_per_step {tokens_per_step}",
        where="train.tokens_per_step",
        fix="raise train.tokens_per_step, or lower dataset.max_tokens",
    )


def micro_batches(rows: Sequence[TokenRow], tokens_per_step: int) -> list[list[Group]]:
    """The rows in shared-prefix groups of similar length, each micro-batch of at most ``tokens_per_step`` tokens."""
    groups = [part for group in make_groups(rows) for part in _fitting(group, tokens_per_step)]
    batches: list[list[Group]] = []
    for group in sorted(groups, key=lambda group: (group.prefix_length, group.branch_length, group.rows[0].id)):
        together = [*batches[-1], group] if batches else [group]
        size = shape_of(together).tokens
        if (
            batches
            and size <= tokens_per_step
            and size * (1 - MOST_PADDING) <= sum(member.tokens for member in together)
        ):
            batches[-1] = together
        else:
            batches.append([group])
    return batches
