"""``train.tokens_per_step`` where the recipe leaves it open: from the base, the settings and the longest row."""

from collections.abc import Iterable, Mapping
from typing import Any

from mlx_ragtune.recipe import TrainSettings
from mlx_ragtune.tuning.groups import padded
from mlx_ragtune.tuning.resources import step_for_budget
from mlx_ragtune.tuning.token_rows import TokenRow


def with_step(settings: TrainSettings, config: Mapping[str, Any], rows: Iterable[TokenRow]) -> TrainSettings:
    """The settings with ``tokens_per_step`` set, so that every row fits; those that have it are unchanged.

    It depends on nothing else, not on the machine: a run that resumes elsewhere computes the same micro-batches.
    """
    if settings.tokens_per_step is not None:
        return settings
    needs = (len(row.branches) * max(padded(len(tokens)) for tokens in row.branches) for row in rows)
    step = max(step_for_budget(config, settings), *needs, 0)
    return settings.model_copy(update={"tokens_per_step": step})
