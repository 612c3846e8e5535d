"""In which order questions are asked, which of them one by one, and when a budget ends the asking.

Questions are taken in a seeded order, in blocks; all arms answer a block before the next one begins. From block to
block the order of the arms is turned around, so that no arm always comes first on a cool machine, and the file
that is loaded stays loaded.
"""

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlx_ragtune.evaluation.items import Item
from mlx_ragtune.records import ARMS, Arm

SERIAL_QUESTIONS = 12
"""So many questions are asked one by one where others are asked in parallel: their answers have a latency."""
BUDGET_BLOCKS = 8
"""With a budget. Each block loads one more model, and the clock is read before each."""


class Budget:
    """The minutes of ``evaluate.budget``, from now on; None is no limit."""

    def __init__(self, minutes: float | None) -> None:
        self._end = None if minutes is None else time.monotonic() + 60 * minutes
        self._began: float | None = None
        self._longest = 0.0

    def begins(self) -> bool:
        """Called before each block: whether one that takes as long as the longest so far ends in time."""
        now = time.monotonic()
        if self._began is not None:
            self._longest = max(self._longest, now - self._began)
        self._began = now
        return self._end is None or now + self._longest < self._end


@dataclass(frozen=True)
class Block:
    """Items that all arms answer before the next block; ``arms`` is the order in which they do."""

    items: tuple[Item, ...]
    arms: tuple[Arm, ...]


@dataclass(frozen=True)
class Schedule:
    """The blocks, and the ids of the questions that are asked one by one."""

    blocks: tuple[Block, ...]
    serial: frozenset[str]


def make_schedule(items: Sequence[Item], *, seed: int, slots: int, budget: bool) -> Schedule:
    """The schedule of the items. What is not part of the verdict (``once``) is spread evenly over the blocks."""
    questions = _shuffled([item for item in items if not item.once], seed)
    others = _shuffled([item for item in items if item.once], seed)
    count = min(BUDGET_BLOCKS if budget else 2, max(1, len(questions) or len(others)))
    arms = tuple(arm for arm in ARMS if arm != "prompted" or any(item.prompted for item in questions))
    blocks = []
    for number, (part, rest) in enumerate(zip(_parts(questions, count), _parts(others, count), strict=True)):
        blocks.append(Block((*part, *rest), arms if number % 2 == 0 else arms[::-1]))
    serial = spread(questions, SERIAL_QUESTIONS) if slots > 1 else questions
    return Schedule(tuple(blocks), frozenset(item.question.id for item in serial))


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """At most ``count`` of the items, at equal distances."""
    if len(items) <= count:
        return list(items)
    return [items[number * len(items) // count] for number in range(count)]


def _shuffled(items: Sequence[Item], seed: int) -> list[Item]:
    """The items in an order that depends on the seed and on their ids alone."""
    ordered = sorted(items, key=lambda item: item.question.id)
    random.Random(seed).shuffle(ordered)  # noqa: S311 (an order, not a secret)
    return ordered


def _parts(items: Sequence[Item], count: int) -> Iterator[Sequence[Item]]:
    """The items in ``count`` consecutive parts of nearly equal size, larger ones first."""
    size, more = divmod(len(items), count)
    start = 0
    for number in range(count):
        end = start + size + (number < more)
        yield items[start:end]
        start = end
