"""Whether a server generated several answers at a time, from when each of them was being generated."""

from collections.abc import Sequence

SERIAL = 1.15
"""An overlap below this is that of a server that answers one request at a time."""
_FEWEST = 3
Interval = tuple[float, float]
"""Seconds on one clock: first token and end of an answer."""


def overlap(intervals: Sequence[Interval]) -> float | None:
    """Mean number of answers in generation while any is: 1 for one after the other, at most the number of slots.

    That is the sum of the lengths divided by the length of the union. None for fewer than 3 answers that took time.
    """
    lasting = sorted((start, end) for start, end in intervals if end > start)
    if len(lasting) < _FEWEST:
        return None
    union, reached = 0.0, lasting[0][0]
    for start, end in lasting:
        union += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return sum(end - start for start, end in lasting) / union
