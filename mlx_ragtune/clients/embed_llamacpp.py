"""Token vectors from a GGUF in the embedded server: what BERTScore is made of, and text vectors as their mean."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xllamacpp
from numpy.typing import NDArray

from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer
from mlx_ragtune.errors import ToolError


class LlamaCppEmbed(LlamaCppServer):
    """A GGUF that embeds and does not chat; any architecture, a chat model too."""

    def _adjust(self, parameters: Any) -> None:
        parameters.embedding = True
        parameters.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_NONE
        parameters.n_batch = parameters.n_ubatch = self._context_tokens  # a text is one batch, or refused

    def __init__(self, gguf: Path, *, context_tokens: int) -> None:
        super().__init__(gguf, context_tokens=context_tokens)
        self._known: dict[str, NDArray[np.float32]] = {}  # every answer meets its reference, and twice

    def token_vectors(self, text: str) -> NDArray[np.float32]:
        """The last layer's vectors, float32 [T, D], special tokens that the model puts around a text left out.

        Raises PromptOverflowError for a text longer than the context, ToolError for what the engine did not do.
        """
        if text not in self._known:
            self._known[text] = self._embed(text)
        return self._known[text]

    def _embed(self, text: str) -> NDArray[np.float32]:
        given = self.post("/embedding", {"content": text})
        vectors = np.asarray(given[0]["embedding"], dtype=np.float32)
        plain = self.tokenize(text)
        whole = self.post("/tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"]
        if vectors.ndim != 2 or len(vectors) != len(whole):
            raise ToolError(f"{len(whole)} tokens gave {vectors.shape} vectors", where=self._where())
        front = next((at for at in range(len(whole)) if whole[at : at + len(plain)] == plain), 0)
        return vectors[front : front + len(plain)]

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 [N, D]: the mean of each text's token vectors, each first scaled to length 1; 0 for an empty text.

        The scaling keeps a causal model's first token, many times longer than the others, from being the mean.
        """
        rows = [self.token_vectors(text) for text in texts]
        width = next((row.shape[1] for row in rows if len(row)), 0)
        means = []
        for row in rows:
            lengths = np.linalg.norm(row, axis=1, keepdims=True)
            means.append((row / lengths).mean(axis=0) if len(row) else np.zeros(width, np.float32))
        return np.stack(means)
