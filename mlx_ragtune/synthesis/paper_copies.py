"""Which papers are copies of others: the same paper under another name, in another format or version, or inside a book.

Two papers are compared by their letters and digits alone, so that format, page breaks, hyphenation, accents,
ligatures, punctuation and capitals do not matter. The overlap is the share of a paper's letters that stand in runs of
``RUN`` which the other paper has too: changed words, page numbers and line numbers cost only themselves, and common
phrases are too short to count. A copy shares half of one of the two papers or more; papers of one group, with the
same methods and acknowledgments, share far less.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RUN = 24
"""Letters and digits; an ideograph or a kana counts as two."""
COPY = 0.5
"""Least overlap of a copy."""
LEAST_LETTERS = 60
"""A shorter text has too little to tell."""
_LOOKED_UP = 2**22
"""About how many runs are looked up to find the papers that are worth comparing: all runs of a small corpus."""
_CANDIDATE = 0.1
"""Least share of sampled runs that two papers have in common to be compared."""
_NOT_LETTERS = re.compile(r"[\W_]+")
_MULTIPLIER = 0x9E3779B97F4A7C15

Hashes = NDArray[np.uint64]


def _codes(text: str) -> NDArray[np.uint64]:
    """The letters and digits of a text, without accents and case, as numbers; ideographs and kana twice."""
    letters = _NOT_LETTERS.sub("", unicodedata.normalize("NFKD", text).casefold())
    codes = np.frombuffer(letters.encode("utf-32-le", "replace"), dtype=np.uint32).astype(np.uint64)
    doubled = ((codes >= 0x3041) & (codes <= 0x30FF)) | ((codes >= 0x3400) & (codes <= 0x9FFF)) | (codes >= 0x20000)
    return np.repeat(codes, np.where(doubled, 2, 1))


def _runs(text: str) -> Hashes:
    """``(N - 23,)`` uint64: the hash of each run of 24 among N letters; empty for a short text.

    A polynomial hash (Karp and Rabin 1987) by doubling, then mixed so that any bits of it are uniform.
    """
    codes = _codes(text)
    if len(codes) < LEAST_LETTERS:
        return np.zeros(0, dtype=np.uint64)
    hashes, power, width = codes * np.uint64(0xD6E8FEB86659FD93) + np.uint64(1), np.uint64(_MULTIPLIER), 1
    with np.errstate(over="ignore"):
        while width < 8:
            hashes = hashes[:-width] * power + hashes[width:]
            power, width = power * power, 2 * width
        eighth = len(hashes) - 16
        hashes = (hashes[:eighth] * power + hashes[8 : 8 + eighth]) * power + hashes[16:]
        hashes ^= hashes >> np.uint64(32)
        hashes *= np.uint64(0xD6E8FEB86659FD93)
        hashes ^= hashes >> np.uint64(32)
    return hashes


def _share(own: Hashes, other: Hashes) -> float:
    """The share of a paper's letters and digits in runs that the other paper has; ``other`` is sorted."""
    if not len(own) or not len(other):
        return 0.0
    places = np.minimum(other.searchsorted(own), len(other) - 1)
    shared = np.flatnonzero(other[places] == own)
    steps = np.zeros(len(own) + RUN, dtype=np.int64)
    steps[shared] += 1
    steps[shared + RUN] -= 1
    return float(np.count_nonzero(np.cumsum(steps[:-1])) / (len(own) + RUN - 1))


@dataclass(frozen=True)
class Overlap:
    """Two papers of which one is a copy. Shares are between 0 and 1.

    ``of_paper``: how much of ``paper`` stands in ``original``; ``of_original``: how much of ``original`` in ``paper``.
    """

    paper: str
    original: str
    of_paper: float
    of_original: float

    @property
    def is_copy(self) -> bool:
        """Whether the two share enough."""
        return max(self.of_paper, self.of_original) >= COPY

    def __str__(self) -> str:
        shares = (
            f"{self.of_original:.0%} of '{self.original}' stands in it, {self.of_paper:.0%} of it in '{self.original}'"
        )
        return f"'{self.paper}' is a copy of '{self.original}': {shares}"


class _Papers:
    """The runs of each paper's letters, and which papers share some of them."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._runs = {paper: runs for paper, text in sorted(texts.items()) if len(runs := _runs(text))}
        self._sorted: dict[str, Hashes] = {}
        every = np.uint64(1 + sum(map(len, self._runs.values())) // _LOOKED_UP)
        self._sampled = {paper: np.unique(runs[runs % every == 0]) for paper, runs in self._runs.items()}

    def overlap(self, paper: str, original: str) -> Overlap:
        """How much the two share."""
        for name in (paper, original):
            if name not in self._sorted:
                self._sorted[name] = np.unique(self._runs[name])
        return Overlap(
            paper,
            original,
            _share(self._runs[paper], self._sorted[original]),
            _share(self._runs[original], self._sorted[paper]),
        )

    def candidates(self, originals: Collection[str]) -> Iterable[tuple[str, str]]:
        """(paper, original) of those that may be copies, sorted; two originals once, in the order of their ids."""
        known = sorted(set(originals) & self._runs.keys())
        if not known:
            return
        hashes = np.concatenate([self._sampled[name] for name in known])
        owners = np.concatenate([np.full(len(self._sampled[name]), at) for at, name in enumerate(known)])
        order = np.argsort(hashes, kind="stable")
        hashes, owners = hashes[order], owners[order]
        for paper, own in self._sampled.items():
            first = hashes.searchsorted(own, "left")
            counts = hashes.searchsorted(own, "right") - first
            places = np.arange(counts.sum()) + np.repeat(first - np.cumsum(counts) + counts, counts)
            shared = np.bincount(owners[places], minlength=len(known))
            for at in np.flatnonzero(shared).tolist():
                other = known[at]
                least = _CANDIDATE * min(len(own), len(self._sampled[other]))
                if shared[at] >= least and (paper > other if paper in known else True):
                    yield paper, other


def benchmark_copies(texts: Mapping[str, str], benchmark: Collection[str]) -> tuple[Overlap, ...]:
    """The papers that are copies of benchmark papers, or hold one, with each paper that they are a copy of; sorted.

    ``texts``: the text of every paper by its id. The benchmark's own papers are not among the copies.
    """
    papers = _Papers(texts)
    overlaps = [papers.overlap(*pair) for pair in papers.candidates(benchmark) if pair[0] not in benchmark]
    return tuple(overlap for overlap in overlaps if overlap.is_copy)


def copies_by_paper(texts: Mapping[str, str]) -> dict[str, str]:
    """Each paper id → the smallest id among its copies, and theirs (itself if it has none)."""
    papers = _Papers(texts)
    groups = {paper: {paper} for paper in texts}
    for paper, other in papers.candidates(texts):
        if groups[paper] is not groups[other] and papers.overlap(paper, other).is_copy:
            joined = groups[paper] | groups[other]
            for member in joined:
                groups[member] = joined
    return {paper: min(group) for paper, group in groups.items()}
