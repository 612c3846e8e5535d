"""Substantive rate, the second metric of the source experiment; secondary.

The source does not define it. Here an answer is substantive when it has at least ten words and is not a
refusal; the source's only failing answer ("Ragas evaluates R") fails here too.
"""

from mlx_ragtune.scoring.answers.normalize import words
from mlx_ragtune.scoring.answers.refusal import is_refusal

MIN_WORDS = 10


def is_substantive(text: str) -> bool:
    """Whether the answer has at least ``MIN_WORDS`` words and does not refuse."""
    return len(words(text)) >= MIN_WORDS and not is_refusal(text)
