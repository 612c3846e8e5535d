"""Which items are reviewed, and what the reviewed ones say about all of them.

The sample is stratified by kind and task with proportional sizes; within a stratum the items come in the order of a
hash of the seed and their id, so that a larger sample begins with the smaller one and nothing else decides.

The share of defective items is post-stratified: the mean of the strata's shares, weighted by their sizes (Cochran,
Sampling Techniques, 1977, section 5A.9). Its interval is that of Clopper and Pearson (1934) for a finite population:
all numbers of defective items under which what was seen is not in a tail of 2.5%, by the hypergeometric distribution
(Buonaccorsi 1987). Unequal weights enter as the effective sample size of Kish (1965), 1 / Σ(W²/n), as Korn and
Graubard (1998) do.
"""

import hashlib
import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

DEFAULT_SAMPLE = 30
EVERYTHING = 10**9
"""The size of a sample that takes in what is added later."""
TOLERABLE = 0.125
"""Largest share of defective items with which the rest is accepted unread. 30 without a defect show it."""
TAIL = 0.025


@dataclass(frozen=True)
class Unit:
    """An item of the whole: its id, its stratum, and what the review said (True is defective, None not reviewed)."""

    id: str
    kind: str
    task: str = ""
    defective: bool | None = None

    @property
    def stratum(self) -> tuple[str, str]:
        """Items of one stratum are drawn together."""
        return self.kind, self.task


@dataclass(frozen=True)
class Rate:
    """A share of defective items among ``total``, from ``reviewed`` ones with ``defective``; 95% interval."""

    total: int
    reviewed: int
    defective: int
    share: float
    low: float
    high: float


def _rank(seed: int, identifier: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{identifier}".encode(errors="replace")).digest()


def draw(units: Iterable[Unit], n: int, *, seed: int) -> list[str]:
    """The ids of at most ``n`` units in the order in which they are shown: by the hash, strata mixed.

    Every stratum gets one, as far as ``n`` reaches (largest first), and the rest in proportion to its size.
    """
    strata: dict[tuple[str, str], list[str]] = defaultdict(list)
    for unit in units:
        strata[unit.stratum].append(unit.id)
    sizes = allocate({name: len(members) for name, members in strata.items()}, n)
    chosen = [
        identifier
        for name, members in strata.items()
        for identifier in sorted(members, key=lambda member: _rank(seed, member))[: sizes[name]]
    ]
    return sorted(chosen, key=lambda identifier: _rank(seed, identifier))


def allocate(sizes: Mapping[tuple[str, str], int], n: int) -> dict[tuple[str, str], int]:
    """How many are drawn of each stratum: Σ is min(n, all). The largest remainders get what rounding leaves."""
    total = sum(sizes.values())
    if n >= total:
        return dict(sizes)
    order = sorted(sizes, key=lambda name: (-sizes[name], name))
    drawn = {name: int(place < n) for place, name in enumerate(order)}
    while (left := n - sum(drawn.values())) > 0:
        wanted = {name: n * sizes[name] / total - drawn[name] for name in order if drawn[name] < sizes[name]}
        best = max(wanted, key=lambda name: wanted[name])
        drawn[best] += max(1, min(left, math.floor(wanted[best]), sizes[best] - drawn[best]))
    return drawn


def interval(total: int, drawn: int, seen: float) -> tuple[float, float]:
    """The 95% interval of the share of defective items, of which ``seen`` are among ``drawn`` of ``total`` items.

    Between whole numbers of ``seen`` the ends are interpolated.
    """
    low, high = math.floor(seen), math.ceil(seen)
    part = seen - low
    below, above = _exact(total, drawn, low), _exact(total, drawn, high)
    return (1 - part) * below[0] + part * above[0], (1 - part) * below[1] + part * above[1]


def _exact(total: int, drawn: int, seen: int) -> tuple[float, float]:
    def at_most(most: int, count: int) -> float:
        """The probability of at most so many defective ones among those drawn; it falls as ``count`` grows."""
        return sum(
            math.exp(_log_hypergeometric(k, total, count, drawn))
            for k in range(max(0, drawn - total + count), most + 1)
        )

    highest = total - drawn + seen
    least = _first(seen, highest, lambda count: 1 - at_most(seen - 1, count) > TAIL)
    beyond = _first(least, highest, lambda count: at_most(seen, count) <= TAIL)
    return least / total, (beyond if at_most(seen, beyond) > TAIL else beyond - 1) / total


def _log_hypergeometric(k: int, total: int, count: int, drawn: int) -> float:
    """The logarithm of the probability of ``k`` of ``count`` defective items among ``drawn`` of ``total``."""
    if not max(0, drawn - total + count) <= k <= min(count, drawn):
        return -math.inf
    return _log_choose(count, k) + _log_choose(total - count, drawn - k) - _log_choose(total, drawn)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The first number of ``low`` to ``high`` for which a monotone condition holds; ``high`` if none before it does."""
    return low + bisect_left(range(low, high), True, key=lambda count: bool(holds(count)))


def rate(units: Sequence[Unit]) -> Rate | None:
    """The share of defective items among all units; None when none is reviewed.

    A stratum without a review counts as the others do.
    """
    sizes = Counter(unit.stratum for unit in units)
    reviewed = Counter(unit.stratum for unit in units if unit.defective is not None)
    defective = Counter(unit.stratum for unit in units if unit.defective)
    n, total = sum(reviewed.values()), len(units)
    if not n:
        return None
    seen = sum(sizes[name] for name in reviewed)
    weights = {name: sizes[name] / seen for name in reviewed}
    share = sum(weight * defective[name] / reviewed[name] for name, weight in weights.items())
    spread = sum(weight**2 / reviewed[name] for name, weight in weights.items())
    effective = n if n == total else max(1, math.floor(1e-9 + 1 / spread))
    return Rate(total, n, sum(defective.values()), share, *interval(total, effective, share * effective))


def rates(units: Sequence[Unit]) -> dict[str, Rate]:
    """The rate of each kind that has a reviewed item, in the order of the kinds' names."""
    kinds = sorted({unit.kind for unit in units})
    found = {kind: rate([unit for unit in units if unit.kind == kind]) for kind in kinds}
    return {kind: value for kind, value in found.items() if value is not None}


def more_needed(found: Rate) -> int | None:
    """How many items in all, at the same share, would show that at most TOLERABLE are defective; None if none do."""

    def enough(n: int) -> bool:
        return interval(found.total, n, found.share * n)[1] <= TOLERABLE

    n = _first(found.reviewed + 1, found.total, enough)
    return n if n < found.total and enough(n) else None
