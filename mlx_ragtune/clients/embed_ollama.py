"""Text embeddings from Ollama: whole texts or an error, never a truncated text."""

from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from mlx_ragtune.clients.ollama_http import Ollama
from mlx_ragtune.clients.protocol import PromptOverflowError, require_unicode
from mlx_ragtune.errors import InputError, ToolError

Kind = Literal["document", "query"]
PREFIXES: dict[str, dict[Kind, str]] = {
    "nomic-embed-text": {"document": "search_document: ", "query": "search_query: "},
}
"""What a model was trained to read before a text, by the beginning of its name."""
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
        require_unicode(texts, where="text to embed")
        prefix = self._prefixes.get(kind, "")
        rows = [self._batch([prefix + text for text in texts[at : at + BATCH]]) for at in range(0, len(texts), BATCH)]
        if len({row.shape[1] for row in rows}) > 1:
            raise self._unusable("of different lengths")
        vectors = np.concatenate(rows)
        with np.errstate(over="ignore"):
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.all(np.isfinite(lengths)) or np.any(lengths == 0):
            raise self._unusable("of zero or infinite length")
        unit: NDArray[np.float32] = (vectors / lengths).astype(np.float32)
        return unit

    def _unusable(self, what: str) -> ToolError:
        return ToolError(
            f"'{self._model}' returned vectors {what}", where=self._server.host, fix="choose another embedding model"
        )

    def _batch(self, texts: list[str]) -> NDArray[np.float64]:
        try:
            rows = self._server.call(lambda client: client.embed(self._model, texts, truncate=False)).embeddings
        except PromptOverflowError:
            longest = max(texts, key=len)
            raise InputError(
                f"a text of {len(longest)} characters is too long for '{self._model}': {longest[:60]!r}…",
                where=self._server.host,
                fix="lower 'corpus.chunk_tokens'",
            ) from None
        if len(rows) != len(texts):
            raise ToolError(f"Ollama returned {len(rows)} vectors for {len(texts)} texts", where=self._server.host)
        if len({len(row) for row in rows}) != 1 or not rows[0]:
            raise self._unusable("of different lengths")
        return np.asarray(rows, dtype=np.float64)
