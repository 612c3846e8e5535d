"""Successive halving: unfinished trials are compared at rungs, and only the best share of them goes on.

It is asynchronous (ASHA, Li et al. 2020, arXiv 1810.05934): a trial that comes to a rung is compared with those that
were there before it, and nobody waits. Trials are ordered by the development score, never by the training loss.
"""

from collections.abc import Callable

from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial


class Halving(BasePruner):
    """Optuna's rule of promotion, without counting an interrupted trial beside the one that continues it.

    At a rung that ``n`` trials have reached, the trial goes on when it is among the best ``n // reduction`` of them,
    and at least when it is the best.
    """

    def __init__(self, reduction: int, counts: Callable[[FrozenTrial], bool]) -> None:
        self._reduction, self._counts = reduction, counts

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether the trial ends at the rung that it reported last."""
        rung = trial.last_step
        if rung is None:
            return False
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        better = [
            other.intermediate_values[rung] > trial.intermediate_values[rung]
            for other in others
            if self._counts(other) and rung in other.intermediate_values
        ]
        return sum(better) >= max(1, (len(better) + 1) // self._reduction)


def rung_shares(reduction: int, rungs: int) -> tuple[float, ...]:
    """The share of the whole at each rung, the smallest first: 1/9 and 1/3 for 3 and 2."""
    return tuple(reduction ** -(rungs - rung) for rung in range(rungs))


def rung_of(update: int, updates: int, shares: tuple[float, ...]) -> int | None:
    """The highest rung that a validation after ``update`` of ``updates`` has reached; None before the first one.

    A trial is compared at the first validation at or after each share of its updates, and not at its end.
    """
    reached = [rung for rung, share in enumerate(shares) if update >= share * updates]
    return reached[-1] if reached and update < updates else None
