"""Which items are reviewed, and what the reviewed ones say about all of them.

The sample is stratified by kind and task with proportional sizes; within a stratum the items come in the order of a
hash of the seed and their id, so that a larger sample begins with the smaller one and nothing else decides.

The share of defective items is post-stratified: the mean of the strata's shares, weighted by their sizes (Cochran,
Sampling Techniques, 1977, section 5A.9). Its interval is that of Wilson (1927), at the effective sample size of Kish
(1965), 1 / Σ(W²/n), with the correction for a finite population, (N − 1) / (N − n).
"""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

DEFAULT_SAMPLE = 30
EVERYTHING = 10**9
"""The size of a sample that takes in what is added later."""
TOLERABLE = 0.125
"""Largest share of defective items with which the rest is accepted unread. 30 without a defect show it."""
_Z = 1.959963984540054
"""The 97.5% quantile of the normal distribution."""


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


def wilson(share: float, n: float) -> tuple[float, float]:
    """The 95% interval of a share that was seen in ``n`` draws (Wilson 1927); ``n`` need not be whole."""
    if math.isinf(n):
        return share, share
    center = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return max(0.0, center - half), min(1.0, center + half)


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
    effective = 1 / sum(weight**2 / reviewed[name] for name, weight in weights.items())
    effective = math.inf if n == total else effective * (total - 1) / (total - n)
    return Rate(total, n, sum(defective.values()), share, *wilson(share, effective))


def rates(units: Sequence[Unit]) -> dict[str, Rate]:
    """The rate of each kind that has a reviewed item, in the order of the kinds' names."""
    kinds = sorted({unit.kind for unit in units})
    found = {kind: rate([unit for unit in units if unit.kind == kind]) for kind in kinds}
    return {kind: value for kind, value in found.items() if value is not None}


def more_needed(found: Rate) -> int | None:
    """How many items in all, at the same share, would show that at most TOLERABLE are defective; None if none do."""
    for n in range(found.reviewed + 1, found.total):
        if wilson(found.share, n * (found.total - 1) / (found.total - n))[1] <= TOLERABLE:
            return n
    return None
