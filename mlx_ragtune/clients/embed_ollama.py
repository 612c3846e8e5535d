"""Text embeddings from Ollama: whole texts or an error, never the first part of one."""

from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from mlx_ragtune.clients.ollama_http import Ollama
from mlx_ragtune.clients.protocol import PromptOverflowError
from mlx_ragtune.errors import InputError, ToolError

Kind = Literal["document", "query"]
PREFIXES: dict[str, dict[Kind, str]] = {
    "nomic-embed-text": {"document": "search_document: ", "query": "search_query: "},
}
"""What a model was trained to see before a text, by the beginning of its name."""
BATCH = 32


class OllamaEmbed:
    """One embedding model at one Ollama."""

    def __init__(self, host: str, model: str, *, server: Ollama | None = None) -> None:
        self._server, self._model = server or Ollama(host), model
        name = model.rsplit("/", 1)[-1]
        self._prefixes = next((pair for start, pair in PREFIXES.items() if name.startswith(start)), {})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.close()

    def embed(self, texts: Sequence[str], *, kind: Kind) -> NDArray[np.float32]:
        """``(N, D)`` float32 rows of length 1, one for each text.

        Raises InputError for a text longer than the model's context, ToolError for a model that cannot embed.
        """
        if not texts:
            raise ValueError("no texts to embed")
        prefix = self._prefixes.get(kind, "")
        rows = [self._batch([prefix + text for text in texts[at : at + BATCH]]) for at in range(0, len(texts), BATCH)]
        vectors = np.concatenate(rows)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.all(np.isfinite(lengths)) or np.any(lengths == 0):
            raise ToolError(f"'{self._model}' gave a vector without a direction", where=self._server.host)
        unit: NDArray[np.float32] = vectors / lengths
        return unit

    def _batch(self, texts: list[str]) -> NDArray[np.float32]:
        body = {"model": self._model, "input": texts, "truncate": False}
        try:
            answer = self._server.request("POST", "/api/embed", body)
        except PromptOverflowError:
            longest = max(texts, key=len)
            raise InputError(
                f"a text of {len(longest)} characters is too long for '{self._model}': {longest[:60]!r}…",
                where=self._server.host,
                fix="lower 'corpus.chunk_words'",
            ) from None
        vectors = np.asarray(answer["embeddings"], dtype=np.float32)
        if vectors.ndim != 2 or len(vectors) != len(texts):
            raise ToolError(f"{len(texts)} texts gave {vectors.shape} vectors", where=self._server.host)
        return vectors
