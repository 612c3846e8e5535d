"""The passages that the model is shown for a question: the same in training and in serving."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.records import Chunk, Passage
from mlx_ragtune.retrieval.fusion import Hit, fuse
from mlx_ragtune.retrieval.index import Index

DEPTH = 50
"""How many hits of each ranking are read before two are fused."""


class Searcher(Protocol):
    """Ranks chunks for a query: the full-text index, or the vectors."""

    def search(self, query: str, k: int) -> list[Hit]:
        """At most ``k`` chunks, best first."""
        ...


class Retriever:
    """The best passages for a question: by full text, or by full text and vectors fused."""

    def __init__(self, index: Searcher, chunks: Iterable[Chunk], vectors: Searcher | None = None) -> None:
        self._index, self._vectors = index, vectors
        self._chunks: Mapping[str, Chunk] = {chunk.id: chunk for chunk in chunks}

    def search(self, question: str, k: int, *, without_papers: Collection[str] = ()) -> list[Passage]:
        """At most ``k`` passages, best first, none from a paper in ``without_papers``.

        When fewer chunks share a word with the question, the first chunks of the corpus follow, so that the
        model is always shown ``k`` passages.
        """
        barred = frozenset(without_papers)
        chosen = self._best(question, k, barred)
        taken = {chunk.id for chunk in chosen}
        for chunk in self._chunks.values():
            if len(chosen) >= k:
                break
            if chunk.id not in taken and chunk.document_id not in barred:
                chosen.append(chunk)
        return [Passage(chunk.id, chunk.document_id, chunk.title, chunk.text) for chunk in chosen]

    def _best(self, question: str, k: int, barred: frozenset[str]) -> list[Chunk]:
        """The ``k`` best chunks that are not barred; searches deeper while too many are barred."""
        depth = max(k, DEPTH) if barred or self._vectors else k
        while True:
            hits = self._ranking(question, depth)
            chunks = [self._chunks[hit.chunk_id] for hit in hits]
            allowed = [chunk for chunk in chunks if chunk.document_id not in barred][: max(k, 0)]
            if len(allowed) >= k or len(hits) < depth or depth >= len(self._chunks):
                return allowed
            depth *= 2

    def _ranking(self, question: str, depth: int) -> list[Hit]:
        lexical = self._index.search(question, depth)
        return lexical if self._vectors is None else fuse([lexical, self._vectors.search(question, depth)])


def open_retriever(index: Path, chunks: Path, *, vectors: Searcher | None = None) -> Retriever:
    """The retriever over a finished corpus: its index file, its chunk rows and vectors if there are any."""
    return Retriever(Index(index), read_rows(chunks, Chunk), vectors)
