"""Vectors of titled texts and of questions: with the prefixes of the model, and long texts in parts, never cut."""

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mlx_ragtune.clients.protocol import PromptOverflowError
from mlx_ragtune.errors import InputError
from mlx_ragtune.retrieval.prefixes import Prefixes

Vectors = Callable[[list[str]], NDArray[np.float32]]
"""One row for each text, ``[N, D]``; raises PromptOverflowError when a text is longer than the model's window."""
_SHORTEST = 16
"""A part of so few characters is not divided again."""


class TextEmbedder:
    """An embedding model as retrieval uses it (``retrieval.vectors.Embedder``).

    ``digest`` identifies the model's weights.
    """

    def __init__(self, vectors: Vectors, prefixes: Prefixes, *, digest: str) -> None:
        self._vectors, self._prefixes = vectors, prefixes
        self.name = f"{digest} {prefixes.document!r}"
        self.parted = 0
        """How many documents were longer than the model's window."""

    def embed_documents(self, documents: Sequence[tuple[str, str]]) -> list[NDArray[np.float32]]:
        """For each (title, text) the vectors of its parts, ``[parts, D]``. Every part is read under the title."""
        heads = [f"{self._prefixes.document}{title}\n" if title else self._prefixes.document for title, _ in documents]
        try:
            rows = self._vectors([head + text for head, (_, text) in zip(heads, documents, strict=True)])
            return list(rows[:, None, :])
        except PromptOverflowError:
            parts = [self._parts(head, text) for head, (_, text) in zip(heads, documents, strict=True)]
            self.parted += sum(len(part) > 1 for part in parts)
            return parts

    def embed_query(self, query: str) -> NDArray[np.float32]:
        """The vectors of the query's parts, ``[parts, D]``; mostly one."""
        return self._parts(self._prefixes.query, query)

    def _parts(self, head: str, text: str) -> NDArray[np.float32]:
        try:
            return self._vectors([head + text])
        except PromptOverflowError:
            if len(text) < _SHORTEST:
                raise InputError(
                    f"a title of {len(head)} characters is longer than the embedding model's window: {head[:60]!r}…",
                    where="retrieval.embedding",
                    fix="shorten the title in the paper, or choose a model with a longer window",
                ) from None
        middle = _break_near_middle(text)
        return np.concatenate([self._parts(head, text[:middle]), self._parts(head, text[middle:])])


def _break_near_middle(text: str) -> int:
    """Where the sentence ends that is nearest to the middle; else a space, else the middle itself."""
    middle = len(text) // 2
    for pattern in (r"[.!?。！？]\s*(?=\S)|\n+(?=\S)", r"\s+(?=\S)"):
        ends = [match.end() for match in re.finditer(pattern, text)]
        near = min(ends, key=lambda end: abs(end - middle), default=0)
        if len(text) // 4 <= near <= 3 * len(text) // 4:
            return near
    return middle


class TextReranker:
    """A cross-encoder as retrieval uses it (``retrieval.retriever.Reranker``)."""

    def __init__(self, score: Callable[[str, str], float], *, depth: int) -> None:
        self._score, self.depth = score, depth

    def score(self, query: str, document: tuple[str, str]) -> float:
        """The best score of the document's parts, each read under the title; it has one if it fits into the window."""
        title, text = document
        head = f"{title}\n" if title else ""
        try:
            return self._score(query, head + text)
        except PromptOverflowError:
            if len(text) < _SHORTEST:
                raise InputError(
                    f"question and title are longer than the reranker's window: {query[:60]!r}…",
                    where="retrieval.rerank",
                    fix="shorten the question, or choose a model with a longer window",
                ) from None
        middle = _break_near_middle(text)
        return max(self.score(query, (title, part)) for part in (text[:middle], text[middle:]))
