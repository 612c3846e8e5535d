"""Reciprocal rank fusion: several rankings become one, using ranks only, so that scores need no common scale."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

OFFSET = 60
"""Cormack, Clarke & Büttcher 2009 (doi:10.1145/1571941.1572114)."""


@dataclass(frozen=True)
class Hit:
    """A chunk in a search result; a higher ``score`` is better."""

    chunk_id: str
    score: float


def fuse(rankings: Iterable[Sequence[Hit]], *, offset: int = OFFSET) -> list[Hit]:
    """All chunks of the rankings, best first: Σ 1 / (offset + rank), ranks from 1; ties by chunk id."""
    scores: dict[str, float] = defaultdict(float)
    for ranking in rankings:
        for rank, hit in enumerate(ranking, start=1):
            scores[hit.chunk_id] += 1 / (offset + rank)
    return [Hit(name, score) for name, score in sorted(scores.items(), key=lambda item: (-item[1], item[0]))]
