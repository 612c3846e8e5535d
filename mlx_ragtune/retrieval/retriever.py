"""What is shown to the model for a question: the same in training and in serving."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from mlx_ragtune.records import Chunk, Passage, read_rows
from mlx_ragtune.retrieval.index import Index


class Retriever:
    """The best passages for a question, by full-text search."""

    def __init__(self, index: Index, chunks: Iterable[Chunk]) -> None:
        self._index = index
        self._chunks: Mapping[str, Chunk] = {chunk.id: chunk for chunk in chunks}

    def search(self, question: str, k: int, *, without_papers: Collection[str] = ()) -> list[Passage]:
        """At most ``k`` passages, best first, none of a paper in ``without_papers``.

        A question that shares no word with the corpus gets the first chunks: a served model is always
        shown something.
        """
        found: list[Passage] = []
        for hit in self._index.search(question, len(self._chunks) if without_papers else k):
            chunk = self._chunks[hit.chunk_id]
            if chunk.document_id not in without_papers:
                found.append(_passage(chunk))
            if len(found) == k:
                break
        taken = {one.chunk_id for one in found}
        for chunk in self._chunks.values():
            if len(found) >= k:
                break
            if chunk.id not in taken and chunk.document_id not in without_papers:
                found.append(_passage(chunk))
        return found


def _passage(chunk: Chunk) -> Passage:
    return Passage(chunk.id, chunk.document_id, chunk.title, chunk.text)


def open_retriever(index: Path, chunks: Path) -> Retriever:
    """The retriever over a finished corpus: its index file and its chunk rows."""
    return Retriever(Index(index), read_rows(chunks, Chunk))
