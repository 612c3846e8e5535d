"""Successive halving: unfinished trials are compared at rungs, and only the best share of them continues.

Where the number of trials is known, so is how many of them continue from each rung (Jamieson and Talwalkar 2016, arXiv
1502.07943): a trial ends as soon as so many others are better, and until then it can be paused, so that no updates are
spent on one that ends later. Where only time or updates are limited, each trial is compared with those that were there
before it (ASHA, Li et al. 2020, arXiv 1810.05934). Trials are ordered by the development score, never by the training
loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass

Standing = tuple[float, int]
"""What orders a trial at a rung, larger is better, and its number."""


@dataclass(frozen=True)
class Halving:
    """The rule: ``planned`` trials in all (None when that is not known), of which at least ``least`` finish."""

    reduction: int
    planned: int | None
    least: int = 1

    def places(self, rung: int, reached: int) -> int:
        """How many trials may continue from a rung (counted from 0) that ``reached`` trials have come to so far."""
        if self.planned is None:
            return max(1, reached // self.reduction)
        return max(1, self.least, self.planned // int(self.reduction ** (rung + 1)))

    def ends(self, own: Standing, others: Sequence[Standing], rung: int) -> bool:
        """Whether a trial ends at the rung, given the others that came there; of equal ones the earlier is better."""
        better = sum((-value, number) < (-own[0], own[1]) for value, number in others)
        return better >= self.places(rung, len(others) + 1)


def rung_shares(reduction: int, rungs: int) -> tuple[float, ...]:
    """The share of the whole at each rung, the smallest first: 1/9 and 1/3 for 3 and 2."""
    return tuple(reduction ** -(rungs - rung) for rung in range(rungs))


def rung_of(update: int, updates: int, shares: tuple[float, ...]) -> int | None:
    """The highest rung that a look after ``update`` of ``updates`` has reached; None before the first one.

    A trial is compared at the first look at or after each share of its updates, and not at its end.
    """
    reached = [rung for rung, share in enumerate(shares) if update >= share * updates]
    return reached[-1] if reached and update < updates else None
