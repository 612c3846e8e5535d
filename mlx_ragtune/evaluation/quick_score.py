"""The task score of a model in memory on development questions: what a search ranks its trials by."""

from collections.abc import Sequence
from typing import Any

from mlx_ragtune.records import Example
from mlx_ragtune.scoring.answers.early_stop import repeats
from mlx_ragtune.tuning.load import Base
from mlx_ragtune.tuning.select import ROWS, development_slice, task_score

SCORE = 2
"""Raised when the same answers would get another score, or the same model other answers."""


def quick_score(loaded: Base, rows: Sequence[Example], *, thinking: bool, seed: int, most: int = ROWS) -> float:
    """Mean score in [0, 1] of the greedy answers to at most ``most`` of the validation rows, every kind among them.

    The rows are the same for a seed. The model answers as it is, with the adapters that it has; an answer that
    repeats itself is ended and gets 0. One that is half as long again as the longest reference is cut off: it cannot
    match its own any more, and every further token is a pass through the weights. Raises ValueError without rows.
    """
    chosen = development_slice(rows, seed=seed, most=most)
    limit = None if thinking else answer_limit(loaded.tokenizer, chosen)
    return task_score(loaded.model, loaded.tokenizer, chosen, thinking=thinking, stop=repeats, max_tokens=limit)


def answer_limit(tokenizer: Any, rows: Sequence[Example]) -> int:
    """Tokens of the longest reference of the rows and half as many, for the end of an answer."""
    longest = max((len(tokenizer.encode(row.messages[-1].content)) for row in rows), default=0)
    return longest * 3 // 2 + 8
