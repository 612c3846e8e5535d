"""Epochs and ratios of the recipe, resolved into updates before the first one."""

import math
from dataclasses import dataclass

import numpy as np

from mlx_ragtune.recipe import TrainSettings
from mlx_ragtune.tuning.groups import Group


@dataclass(frozen=True)
class Plan:
    """What the run will do. ``evals`` are the updates after which it validates; the last is always one."""

    rows: int
    updates: int
    updates_per_epoch: int
    warmup_updates: int
    evals: tuple[int, ...]
    peak_learning_rate: float
    schedule: str

    def learning_rate(self, update: int) -> float:
        """Of the update numbered from 1: linear warm-up, then cosine or linear to 0, or constant."""
        if update <= self.warmup_updates:
            return self.peak_learning_rate * update / self.warmup_updates
        if self.schedule == "constant":
            return self.peak_learning_rate
        done = (update - self.warmup_updates - 1) / max(1, self.updates - self.warmup_updates)
        factor = 0.5 * (1 + math.cos(math.pi * done)) if self.schedule == "cosine" else 1 - done
        return self.peak_learning_rate * factor


def updates_of_epoch(groups: list[Group], rows_per_update: int, *, seed: int, epoch: int) -> list[list[Group]]:
    """The epoch's updates: every group once, in an order that the seed and the epoch decide.

    An update takes whole groups until it has ``rows_per_update`` rows.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(groups))
    updates: list[list[Group]] = []
    count = rows_per_update
    for index in order:
        if count >= rows_per_update:
            updates.append([])
            count = 0
        updates[-1].append(groups[int(index)])
        count += len(groups[int(index)].rows)
    return updates


def make_plan(groups: list[Group], settings: TrainSettings, *, seed: int) -> Plan:
    """Updates, warm-up and validations of the run; part of an epoch counts as part of its updates."""
    per_update = settings.batch_size * settings.accumulation
    whole, part = divmod(settings.epochs, 1)
    sizes = [
        len(updates_of_epoch(groups, per_update, seed=seed, epoch=epoch)) for epoch in range(int(whole) + (part > 0))
    ]
    total = sum(sizes[: int(whole)]) + (max(1, round(part * sizes[-1])) if part else 0)
    every = max(1, round(sizes[0] / settings.evals_per_epoch))
    evals = sorted({*range(every, total + 1, every), total})
    if len(evals) > 1 and evals[-1] - evals[-2] < every / 2:
        evals.pop(-2)
    return Plan(
        rows=sum(len(group.rows) for group in groups),
        updates=total,
        updates_per_epoch=sizes[0],
        warmup_updates=math.ceil(settings.warmup_ratio * total),
        evals=tuple(evals),
        peak_learning_rate=settings.learning_rate,
        schedule=settings.schedule,
    )
