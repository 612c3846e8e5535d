"""Whether a server generated several answers at a time, from when each was asked for and was being generated."""

from collections.abc import Sequence
from typing import NamedTuple

SERIAL = 1.04
"""An overlap below this is that of a server that answers one request at a time."""
_FEWEST = 3
_WAITING = 1.5
"""With fewer requests at the server at a time it has nothing to do in parallel, so that nothing is known."""


class Timed(NamedTuple):
    """One answer on one clock, in seconds: when it was asked for, its first token, its end."""

    sent: float
    first: float
    end: float


def overlap(answers: Sequence[Timed]) -> float | None:
    """Mean number of answers in generation while any is: 1 for one after the other, at most the number of slots.

    None for fewer than 3 answers that took time, and where the server seldom had several requests.
    """
    lasting = [answer for answer in answers if answer.end > answer.first]
    if len(lasting) < _FEWEST or _mean_number([(answer.sent, answer.end) for answer in lasting]) < _WAITING:
        return None
    return _mean_number([(answer.first, answer.end) for answer in lasting])


def _mean_number(intervals: Sequence[tuple[float, float]]) -> float:
    """The sum of the lengths divided by the length of the union."""
    union, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        union += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return sum(end - start for start, end in intervals) / union
