"""Which of the base model's own answers are trained on, and which are held out to measure what is forgotten."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlx_ragtune.errors import RecipeError
from mlx_ragtune.recipe import DatasetSettings
from mlx_ragtune.tuning.seeds import seed64
from mlx_ragtune.tuning.token_rows import TokenRow

HELD_SHARE, FEWEST_HELD = 0.1, 8
"""Share of the usable answers that is never trained on, and its least number."""


@dataclass(frozen=True)
class Rehearsal:
    """``train``: rows that are in every epoch. ``held``: rows whose loss is measured only."""

    train: tuple[TokenRow, ...] = ()
    held: tuple[TokenRow, ...] = ()


def share_in(dataset: DatasetSettings) -> float | None:
    """``dataset.rehearsal.share``; None without rehearsal."""
    return None if dataset.rehearsal is None else dataset.rehearsal.share


def rows_for_share(task_rows: int, share: float) -> int:
    """How many rehearsal rows are ``share`` of all training rows beside ``task_rows`` others."""
    return round(share / (1 - share) * task_rows)


def choose_rehearsal(usable: Sequence[TokenRow], *, task_rows: int, share: float, seed: int) -> Rehearsal:
    """A seeded choice among the usable rows; a smaller share is part of a larger one, and ``held`` is the same.

    Raises RecipeError, with both numbers, when there are fewer usable rows than the share needs.
    """
    order = np.random.default_rng([seed64(seed), 0x4E0A]).permutation(len(usable))
    rows = [usable[int(index)] for index in order]
    held = max(FEWEST_HELD, round(HELD_SHARE * len(rows)))
    wanted = rows_for_share(task_rows, share)
    if len(rows) < held + wanted:
        most = max(0, len(rows) - held)
        raise RecipeError(
            f"{wanted} rehearsal rows are {share:.0%} of the training rows beside {task_rows} others, but only "
            f"{most} usable answers are left after {held} that are held out",
            where="dataset.rehearsal.share",
            fix=f"set dataset.rehearsal.share to at most {_largest_share(most, task_rows)}, or raise "
            "dataset.rehearsal.count, or name more prompts in dataset.rehearsal.prompts"
            if most
            else "raise dataset.rehearsal.count or dataset.rehearsal.max_tokens, or name more prompts in "
            "dataset.rehearsal.prompts",
        )
    return Rehearsal(tuple(rows[held : held + wanted]), tuple(rows[:held]))


def _largest_share(rows: int, task_rows: int) -> str:
    """The largest share in whole percent that so many rows allow."""
    percent = int(100 * rows / (rows + task_rows))
    return f"{percent / 100:g}"
