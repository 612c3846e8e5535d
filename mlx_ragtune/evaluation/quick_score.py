"""The task score of a model in memory on development questions: what a search ranks its trials by."""

from collections.abc import Sequence

from mlx_ragtune.records import Example
from mlx_ragtune.scoring.answers.early_stop import repeats
from mlx_ragtune.tuning.load import Base
from mlx_ragtune.tuning.select import ROWS, development_slice, task_score


def quick_score(loaded: Base, rows: Sequence[Example], *, thinking: bool, seed: int, most: int = ROWS) -> float:
    """Mean score in [0, 1] of the greedy answers to at most ``most`` of the validation rows, every kind among them.

    The rows are the same for a seed. The model answers as it is, with the adapters that it has; an answer that
    repeats itself is ended and gets 0. Raises ValueError without rows.
    """
    chosen = development_slice(rows, seed=seed, most=most)
    return task_score(loaded.model, loaded.tokenizer, chosen, thinking=thinking, stop=repeats)
