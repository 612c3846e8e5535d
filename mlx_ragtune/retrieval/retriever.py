"""The passages that the model is shown for a question: the same in training and in serving.

    full text ─► places ──┐
                          ├─► fused by rank ─► the first ones reranked ─► best k
    vectors ───► places ──┘

A place is what at most one chunk is shown of: the chunk itself, or with ``dedup: section`` the section of a paper.
Places are fused, not chunks: both indexes vote for a section even if each likes another chunk of it best. A longer
result begins with the shorter one: every ranking is read to a fixed depth, and deeper only when too many chunks may
not be shown.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, Protocol

from mlx_ragtune.records import Chunk, Passage
from mlx_ragtune.retrieval.fusion import Hit, fuse

DEPTH = 200
"""How many hits of each ranking are read before they are fused: more than a prompt has passages."""
NEAREST = "No passage shares a word with the question; these are the nearest by meaning, however far that is."
"""What is said when only vectors found anything: every passage has some distance."""
_REMEMBERED_PAIRS = 65_536
Dedup = Literal["none", "section"]
Place = tuple[str, ...]
Source = Literal["full text", "vectors", "reranker"]


class Searcher(Protocol):
    """Ranks chunks for a query: the full-text index, or the vectors."""

    def search(self, query: str, k: int) -> list[Hit]:
        """At most ``k`` chunks, best first."""
        ...


class Reranker(Protocol):
    """Reads a question and a passage together (a cross-encoder)."""

    @property
    def depth(self) -> int:
        """How many of the best chunks are reranked."""
        ...

    def score(self, query: str, document: tuple[str, str]) -> float:
        """How well a (title, text) answers the query; only the order of scores of one query counts."""
        ...


@dataclass(frozen=True)
class Found:
    """A chunk that matched, and the rank (from 1) and score that each source gave to its place."""

    chunk: Chunk
    score: float
    by: Mapping[Source, tuple[int, float]] = field(default_factory=dict)

    @property
    def passage(self) -> Passage:
        """The chunk as the model sees it."""
        return Passage(self.chunk.id, self.chunk.document_id, self.chunk.title, self.chunk.text)


class Retriever:
    """The best passages for a question: by full text, or by full text and vectors fused, and reranked."""

    def __init__(
        self,
        index: Searcher,
        chunks: Iterable[Chunk],
        *,
        vectors: Searcher | None = None,
        reranker: Reranker | None = None,
        dedup: Dedup = "none",
    ) -> None:
        self._searchers: dict[Source, Searcher] = {"full text": index}
        if vectors is not None:
            self._searchers["vectors"] = vectors
        self._reranker, self._dedup = reranker, dedup
        self._chunks: Mapping[str, Chunk] = {chunk.id: chunk for chunk in chunks}
        self._judged = lru_cache(maxsize=_REMEMBERED_PAIRS)(self._judge)

    def search(self, question: str, k: int, *, without_papers: Collection[str] = ()) -> list[Passage]:
        """At most ``k`` passages, best first, none from a paper in ``without_papers``.

        When fewer chunks match the question, the first chunks of the corpus follow, so that the model is always
        shown ``k`` passages; ``shown`` tells them apart.
        """
        return [found.passage for found in self.shown(question, k, without_papers=without_papers)]

    def shown(self, question: str, k: int, *, without_papers: Collection[str] = ()) -> list[Found]:
        """The chunks of ``search``; ``by`` is empty for a chunk that does not match and only fills up."""
        barred = frozenset(without_papers)
        chosen = self.matches(question, k, without_papers=barred)
        places = {self._place(found.chunk.id) for found in chosen}
        for chunk in self._chunks.values():
            if len(chosen) >= k:
                break
            if chunk.document_id not in barred and self._place(chunk.id) not in places:
                chosen.append(Found(chunk, 0.0))
                places.add(self._place(chunk.id))
        return chosen

    def matches(self, question: str, k: int, *, without_papers: Collection[str] = ()) -> list[Found]:
        """At most ``k`` chunks that match the question, best first; empty when no index finds any."""
        barred, depth = frozenset(without_papers), DEPTH
        while True:
            rankings = {name: searcher.search(question, depth) for name, searcher in self._searchers.items()}
            found = self._reranked(question, self._fused(rankings, barred))
            exhausted = all(len(hits) < depth for hits in rankings.values()) or depth >= len(self._chunks)
            if len(found) >= k or exhausted:
                return found[: max(k, 0)]
            depth *= 4

    def _fused(self, rankings: Mapping[Source, Sequence[Hit]], barred: frozenset[str]) -> list[Found]:
        """One chunk of every place, best first, with the place's rank and best score in each ranking that has it."""
        allowed = {
            name: [hit for hit in hits if self._chunks[hit.chunk_id].document_id not in barred]
            for name, hits in rankings.items()
        }
        shown: dict[Place, str] = {}
        for hit in fuse(allowed.values()):
            shown.setdefault(self._place(hit.chunk_id), hit.chunk_id)
        places = {name: self._first_of_places(hits, shown) for name, hits in allowed.items()}
        by: dict[str, dict[Source, tuple[int, float]]] = defaultdict(dict)
        for name, hits in places.items():
            for rank, hit in enumerate(hits, start=1):
                by[hit.chunk_id][name] = (rank, hit.score)
        fused = fuse(places.values()) if len(places) > 1 else places["full text"]
        return [Found(self._chunks[hit.chunk_id], hit.score, by[hit.chunk_id]) for hit in fused]

    def _first_of_places(self, hits: Iterable[Hit], shown: Mapping[Place, str]) -> list[Hit]:
        """The first hit of each place, as the chunk that is shown of it."""
        best: dict[str, Hit] = {}
        for hit in hits:
            name = shown[self._place(hit.chunk_id)]
            best.setdefault(name, Hit(name, hit.score))
        return list(best.values())

    def _reranked(self, question: str, found: list[Found]) -> list[Found]:
        """The first ``depth`` in the order of the reranker, then the others as they were."""
        if self._reranker is None:
            return found
        first, rest = found[: self._reranker.depth], found[self._reranker.depth :]
        scores = {item.chunk.id: self._judged(question, item.chunk.id) for item in first}
        order = sorted(first, key=lambda item: (-scores[item.chunk.id], item.chunk.id))
        judged = [
            Found(item.chunk, item.score, {**item.by, "reranker": (rank, scores[item.chunk.id])})
            for rank, item in enumerate(order, start=1)
        ]
        return [*judged, *rest]

    def _judge(self, question: str, chunk_id: str) -> float:
        assert self._reranker is not None  # noqa: S101 (only called with one)
        chunk = self._chunks[chunk_id]
        return self._reranker.score(question, (chunk.title, chunk.text))

    def _place(self, chunk_id: str) -> Place:
        chunk = self._chunks[chunk_id]
        return (chunk.document_id, chunk.section) if self._dedup == "section" else (chunk.id,)
