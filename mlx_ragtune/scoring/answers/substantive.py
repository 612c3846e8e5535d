"""Substantive rate, the source experiment's second metric; secondary.

The source does not print its definition; ours: an answer is substantive when it has at least ten words
and is not a refusal. Its one failure ("Ragas evaluates R") fails here too.
"""

from mlx_ragtune.scoring.answers.normalize import words
from mlx_ragtune.scoring.answers.refusal import is_refusal

MIN_WORDS = 10


def is_substantive(text: str) -> bool:
    """Whether the answer has at least ``MIN_WORDS`` words and does not refuse."""
    return len(words(text)) >= MIN_WORDS and not is_refusal(text)
