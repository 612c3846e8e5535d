"""The space of a sweep: recipe settings by dotted key, as Optuna's parameters and back."""

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from mlx_ragtune.recipe import PROJECTIONS, Recipe
from mlx_ragtune.recipe_sweep import Choices, Dimension, Range, read_dimension

REHEARSAL_SHARE = "dataset.rehearsal.share"
Settings = dict[str, Any]
"""Values by dotted recipe key, as plain JSON."""
Parameters = dict[str, Any]
"""The same as Optuna keeps them: a value of a list as its JSON text, a number of a range as it is."""


def _plain(value: Any) -> Any:
    return list(map(_plain, value)) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Space:
    """The values of each varied key, in the order of the recipe."""

    dimensions: Mapping[str, Dimension]

    def distributions(self) -> dict[str, BaseDistribution]:
        """Optuna's distributions, by key."""
        return {key: _distribution(dimension) for key, dimension in self.dimensions.items()}

    def settings(self, parameters: Mapping[str, Any]) -> Settings:
        """The settings that Optuna's parameters stand for."""
        return {
            key: json.loads(parameters[key]) if isinstance(dimension, Choices) else parameters[key]
            for key, dimension in self.dimensions.items()
        }

    def combinations(self) -> list[Parameters] | None:
        """Every combination, the last key varying fastest; None where they have no end."""
        grids = [dimension.grid for dimension in self.dimensions.values()]
        if any(grid is None for grid in grids):
            return None
        texts = [
            [json.dumps(_plain(value)) if isinstance(dimension, Choices) else value for value in grid or ()]
            for dimension, grid in zip(self.dimensions.values(), grids, strict=True)
        ]
        return [dict(zip(self.dimensions, values, strict=True)) for values in itertools.product(*texts)]

    @property
    def varies_dataset(self) -> bool:
        """Whether trials have different rows about papers: their validation losses cannot be compared then."""
        return any(key.startswith("dataset.") and key != REHEARSAL_SHARE for key in self.dimensions)

    def describe(self) -> dict[str, Any]:
        """The space as plain JSON: two studies with the same description sample alike."""
        return {
            key: _plain(dimension.values)
            if isinstance(dimension, Choices)
            else {"low": dimension.low, "high": dimension.high, "step": dimension.step, "log": dimension.log}
            for key, dimension in self.dimensions.items()
        }


def _distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Choices):
        return CategoricalDistribution([json.dumps(_plain(value)) for value in dimension.values])
    if dimension.is_integer:
        step = int(dimension.step or 1)
        high = int(dimension.low) + (int(dimension.high) - int(dimension.low)) // step * step
        return IntDistribution(int(dimension.low), high, log=dimension.log, step=step)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)


def written_space(recipe: Recipe) -> Space | None:
    """The space of ``sweep.space``, which the loader has checked; None without one."""
    space = recipe.sweep.space if recipe.sweep else None
    return Space({key: read_dimension(value) for key, value in space.items()}) if space else None


def default_dimensions(recipe: Recipe) -> Iterator[tuple[str, Dimension]]:
    """What a sweep varies when its recipe names no space, most important first.

    The learning rate comes first: with a rate of its own, plain LoRA is as good as its variants, and other
    initializations do not matter (arXiv 2602.04998), so neither is varied. It is sampled over a factor of 10 either
    way. Then the adapted projections (attention's query and value, against all), the rank, and the epochs. ``alpha``
    stays as it is, so a smaller rank also has a larger scale α/r; the learning rate can balance that. The shortened
    trials of halving are enough to rank settings: a tenth of the data ranks them as all of it does (arXiv 2602.11171).
    """
    train = recipe.train
    yield "train.learning_rate", Range(train.learning_rate / 10, train.learning_rate * 10, log=True)
    if train.from_adapter is None:  # which fixes both
        modules = [("q_proj", "v_proj"), PROJECTIONS]
        if set(train.target_modules) not in map(set, modules):
            modules.append(train.target_modules)
        yield "train.target_modules", Choices(tuple(modules))
        ranks = sorted({max(1, train.rank // 2), train.rank, min(1024, train.rank * 2)})
        yield "train.rank", Choices(tuple(ranks))
    yield "train.epochs", Choices(tuple(sorted({train.epochs / 2, train.epochs, min(1000, train.epochs * 2)})))
    if recipe.dataset.rehearsal is not None:
        share = recipe.dataset.rehearsal.share or 0.1
        yield REHEARSAL_SHARE, Choices((share / 2, share, min(0.5, share * 2)))
