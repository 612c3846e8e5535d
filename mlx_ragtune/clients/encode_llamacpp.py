"""Embedding and reranking models in the embedded server: one vector for each text, one score for each pair."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import xllamacpp
from numpy.typing import NDArray

from mlx_ragtune.clients.gguf_header import read_header, require_gguf
from mlx_ragtune.clients.protocol import PromptOverflowError, require_unicode
from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer, default_threads
from mlx_ragtune.errors import InputError, ToolError

_LONGEST_WINDOW = 2048
"""More tokens than a passage has; a larger window only takes memory."""
_SPARE_TOKENS = 8
_RANK = 4
"""``LLAMA_POOLING_TYPE_RANK`` of llama.h: the score of a classification head."""


def encoder_window(gguf: Path, *, rank: bool) -> int:
    """Tokens that an embedding model, or with ``rank`` a reranker, reads at once.

    Raises InputError for a file that is not a model of that kind.
    """
    require_gguf(gguf)
    header = read_header(gguf)
    architecture = header.get("general.architecture")
    pooling = header.get(f"{architecture}.pooling_type", 0)
    if rank != (pooling == _RANK) or not pooling:
        kind = {0: "a chat model or one without pooling", _RANK: "a reranker"}.get(int(pooling), "an embedding model")
        raise InputError(
            f"this is {kind}, not {'a reranker' if rank else 'an embedding model'}",
            where=str(gguf),
            fix=f"name a GGUF of {'a reranker' if rank else 'an embedding model'} in "
            f"'retrieval.{'rerank' if rank else 'embedding'}.model'",
        )
    length = header.get(f"{architecture}.context_length", 512)
    return min(int(length), _LONGEST_WINDOW)


class LlamaCppEncoder(LlamaCppServer):
    """A GGUF that was made to embed or to rank. Texts are computed one by one, so that none depends on the others."""

    def __init__(self, gguf: Path, *, rank: bool = False) -> None:
        self._rank = rank
        # small matrices: threads that wait for each other cost more than half of them can save
        threads = max(1, default_threads(gguf) // 2)
        super().__init__(gguf, context_tokens=encoder_window(gguf, rank=rank), threads=threads)

    def _adjust(self, parameters: Any) -> None:
        pooling = xllamacpp.llama_pooling_type
        parameters.embedding = True
        parameters.pooling_type = (
            pooling.LLAMA_POOLING_TYPE_RANK if self._rank else pooling.LLAMA_POOLING_TYPE_UNSPECIFIED
        )
        parameters.n_batch = parameters.n_ubatch = self._context_tokens  # a text is one batch, or refused

    def __enter__(self) -> Self:
        """Load the model."""
        super().__enter__()
        return self

    def _require_window(self, *texts: str) -> None:
        """Raise PromptOverflowError unless a text, or a pair of them with the separators between, fits."""
        if sum(len(text.encode()) for text in texts) + _SPARE_TOKENS <= self._context_tokens:
            return  # a token has at least a byte
        bodies = ({"content": text, "add_special": True} for text in texts)
        needed = sum(len(self.post("/tokenize", body)["tokens"]) for body in bodies)
        if needed > self._context_tokens:
            raise PromptOverflowError(needed, self._context_tokens, where=self._where())

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row of length 1 for each text, ``[N, D]``, by the model's own pooling.

        Raises PromptOverflowError for a text longer than the window, ToolError for vectors that are not numbers.
        """
        require_unicode(texts, where="text to embed")
        for text in texts:
            self._require_window(text)
        reply = self.post("/v1/embeddings", {"input": list(texts)})
        rows = np.asarray([item["embedding"] for item in sorted(reply["data"], key=lambda item: item["index"])])
        if rows.shape[0] != len(texts) or rows.ndim != 2 or not np.isfinite(rows).all():
            raise ToolError(f"llama.cpp returned {rows.shape} vectors for {len(texts)} texts", where=self._where())
        return rows.astype(np.float32)

    def score(self, query: str, document: str) -> float:
        """The model's score of a document for a query. Raises PromptOverflowError for a pair longer than the window."""
        require_unicode((query, document), where="text to rank")
        self._require_window(query, document)
        reply = self.post("/v1/rerank", {"query": query, "documents": [document]})
        score = float(reply["results"][0]["relevance_score"])
        if not np.isfinite(score):
            raise ToolError("llama.cpp returned a score that is not a number", where=self._where())
        return score
