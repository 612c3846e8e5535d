"""Which settings a trial gets: they depend on the seed, the number of the trial, and the trials before it."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from mlx_ragtune.sweeping.space import Parameters, Space

RANDOM_TRIALS = 5
"""Trials that are drawn at random before TPE models the space; sweeps of language models have few trials."""
DRAWS = 64
"""Draws until the first untried combination is taken instead."""
Kind = Literal["tpe", "random", "grid"]


class SettingSampler(BaseSampler):
    """Optuna's TPE or random sampler, seeded for each trial, or every combination in turn; nothing is tried twice.

    Optuna's samplers draw from one stream of random numbers. A sweep that is continued, or another worker, would begin
    that stream again and repeat the first trials. ``counts`` says whether a trial has settings of its own, in contrast
    to one that continues another.
    """

    def __init__(self, kind: Kind, space: Space, *, seed: int, counts: Callable[[FrozenTrial], bool]) -> None:
        self._kind, self._space, self._seed, self._counts = kind, space, seed, counts
        self._combinations = space.combinations()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002
        """The whole space: all keys of a trial are sampled together."""
        return self._space.distributions()

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The parameters of the trial. One that continues another has them already."""
        if "fixed_params" in trial.system_attrs:
            return {}
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        others = [other for other in others if self._counts(other)]
        taken = [other.params for other in others]
        if self._kind == "grid":
            return self._next_combination(sum(other.number < trial.number for other in others), taken)
        inner = self._inner(trial.number)
        for _ in range(DRAWS):
            drawn = self._draw(inner, study, trial, search_space)
            if drawn not in taken:
                return drawn
        return self._first_untried(taken) or drawn

    def _inner(self, number: int) -> BaseSampler:
        seed = (self._seed * 1_000_003 + number) % 2**32
        return RandomSampler(seed) if self._kind == "random" else TPESampler(n_startup_trials=RANDOM_TRIALS, seed=seed)

    def _draw(
        self, inner: BaseSampler, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> Parameters:
        relative = inner.infer_relative_search_space(study, trial)
        drawn = inner.sample_relative(study, trial, relative)
        return {
            key: drawn[key] if key in drawn else inner.sample_independent(study, trial, key, distribution)
            for key, distribution in search_space.items()
        }

    def _next_combination(self, start: int, taken: Sequence[Parameters]) -> Parameters:
        """The first untried combination from ``start`` on: each of the workers that ask together has another start."""
        assert self._combinations is not None  # noqa: S101 (the loader refuses any other space)
        ordered = [*self._combinations[start:], *self._combinations[:start]]
        return next((combination for combination in ordered if combination not in taken), ordered[0])

    def _first_untried(self, taken: Sequence[Parameters]) -> Parameters | None:
        return next((combination for combination in self._combinations or () if combination not in taken), None)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,  # noqa: ARG002
    ) -> Any:
        """A value of a key that was not sampled together with the others: there is none."""
        raise AssertionError(f"{param_name} is not part of the space of study {study.study_name}, trial {trial.number}")
