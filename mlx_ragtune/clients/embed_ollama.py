"""Text embeddings from Ollama: whole texts or an error, never a truncated text."""

from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from mlx_ragtune.clients.ollama_http import Ollama
from mlx_ragtune.clients.protocol import PromptOverflowError, require_unicode
from mlx_ragtune.clients.registered import find_named
from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.retrieval.prefixes import Prefixes, family_prefixes

Kind = Literal["document", "query"]
BATCH = 32


class OllamaEmbed:
    """One embedding model at one Ollama."""

    def __init__(self, host: str, model: str, *, server: Ollama | None = None) -> None:
        self._server, self._model = server or Ollama(host), model
        self._prefixes = family_prefixes(model) or Prefixes()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.close()

    def digest(self) -> str:
        """Ollama's digest of the model. Raises ToolError when the server does not have it."""
        digest = find_named(self._server.digests(), self._model)
        if digest is None:
            raise ToolError(f"Ollama does not have the model '{self._model}'", where=self._server.host)
        return digest

    def embed(self, texts: Sequence[str], *, kind: Kind) -> NDArray[np.float32]:
        """As ``vectors``, of texts with the prefix that the model's family was trained with.

        Raises InputError for a text longer than the model's context.
        """
        if not texts:
            raise ValueError("no texts to embed")
        prefix = self._prefixes.query if kind == "query" else self._prefixes.document
        try:
            return self.vectors([prefix + text for text in texts])
        except PromptOverflowError:
            longest = max(texts, key=len)
            raise InputError(
                f"a text of {len(longest)} characters is too long for '{self._model}': {longest[:60]!r}…",
                where=self._server.host,
                fix="lower 'corpus.chunk_tokens'",
            ) from None

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """``(N, D)`` float32 rows of length 1, one for each text as it is.

        Raises PromptOverflowError for a text longer than the model's context, ToolError for a model that cannot embed.
        """
        require_unicode(texts, where="text to embed")
        rows = [self._batch(list(texts[at : at + BATCH])) for at in range(0, len(texts), BATCH)]
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
        rows = self._server.call(lambda client: client.embed(self._model, texts, truncate=False)).embeddings
        if len(rows) != len(texts):
            raise ToolError(f"Ollama returned {len(rows)} vectors for {len(texts)} texts", where=self._server.host)
        if len({len(row) for row in rows}) != 1 or not rows[0]:
            raise self._unusable("of different lengths")
        return np.asarray(rows, dtype=np.float64)
