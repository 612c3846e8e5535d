"""Token vectors from a GGUF in the embedded server, for BERTScore, and text vectors as their mean."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xllamacpp
from numpy.typing import NDArray

from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer
from mlx_ragtune.errors import ToolError

_REMEMBERED_TEXTS = 128
"""At 256 tokens of 4096 dimensions each, about 0.5 GiB."""


class LlamaCppEmbed(LlamaCppServer):
    """A GGUF that embeds and does not chat: any architecture, also a chat model."""

    def _adjust(self, parameters: Any) -> None:
        parameters.embedding = True
        parameters.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_NONE
        parameters.n_batch = parameters.n_ubatch = self._context_tokens  # a text is one batch, or refused

    def __init__(self, gguf: Path, *, context_tokens: int) -> None:
        super().__init__(gguf, context_tokens=context_tokens)
        # each reference is compared with several answers, each text twice
        self.token_vectors = lru_cache(maxsize=_REMEMBERED_TEXTS)(self._token_vectors)

    def _token_vectors(self, text: str) -> NDArray[np.float32]:
        """The last layer's vectors, float32 [T, D], without the special tokens that the model puts around a text.

        Raises PromptOverflowError for a text longer than the context, ToolError when the engine fails.
        """
        self._require_fit(len(text))
        reply = self.post("/embedding", {"content": text})
        vectors = np.asarray(reply[0]["embedding"], dtype=np.float32)
        tokens = self.tokenize(text)
        whole = self.post("/tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"]
        if vectors.ndim != 2 or len(vectors) != len(whole):
            raise ToolError(f"llama.cpp returned {vectors.shape} vectors for {len(whole)} tokens", where=self._where())
        front = next((at for at in range(len(whole)) if whole[at : at + len(tokens)] == tokens), 0)
        return vectors[front : front + len(tokens)]

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 [N, D]: the mean of each text's token vectors, first scaled to length 1; 0 for an empty text.

        Without the scaling, a causal model's first token, many times longer than the others, would dominate.
        """
        rows = [self.token_vectors(text) for text in texts]
        width = next((row.shape[1] for row in rows if len(row)), 0)
        means = []
        for row in rows:
            lengths = np.linalg.norm(row, axis=1, keepdims=True)
            means.append((row / lengths).mean(axis=0) if len(row) else np.zeros(width, np.float32))
        return np.stack(means)
