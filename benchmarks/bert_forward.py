"""A BERT encoder in float32 numpy, straight from the safetensors: what a converted model is compared with.

Devlin et al. 2019 (arXiv:1810.04805), with the parameter names of transformers. One text at a time, nothing shared with
the converter but the reader of the weights.
"""

import json
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mlx_ragtune.models.weights import Weights

Floats = NDArray[np.float32]
_erf = np.vectorize(math.erf, otypes=[np.float32])


class BertForward:
    """The model of a folder. ``prefix`` is the part of its parameter names before ``embeddings``."""

    def __init__(self, folder: Path) -> None:
        self.config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        weights = Weights(folder, ignored="position_ids")
        self.weights = {name.removeprefix("bert."): weights.float32(name) for name in weights}
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()

    def _dense(self, x: Floats, name: str) -> Floats:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def _norm(self, x: Floats, name: str) -> Floats:
        centered = x - x.mean(-1, keepdims=True)
        scaled = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + self.config["layer_norm_eps"])
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def hidden(self, text: str, pair: str | None = None) -> Floats:
        """The last layer's states of a text, or of two as a pair, ``[T, D]``."""
        encoded = self.tokenizer.encode(text, pair)
        table = {name: self.weights[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position")}
        x = table["word"][encoded.ids] + table["position"][: len(encoded.ids)]
        # llama.cpp gives every token the first type, also those of a second text
        x = self._norm(x + self.weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for number in range(self.config["num_hidden_layers"]):
            x = self._layer(x, f"encoder.layer.{number}")
        return x

    def _layer(self, x: Floats, name: str) -> Floats:
        heads = self.config["num_attention_heads"]
        query, key, value = (
            self._dense(x, f"{name}.attention.self.{part}").reshape(len(x), heads, -1).swapaxes(0, 1)
            for part in ("query", "key", "value")
        )
        scores = query @ key.swapaxes(1, 2) / np.sqrt(query.shape[-1])
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (shares / shares.sum(-1, keepdims=True) @ value).swapaxes(0, 1).reshape(x.shape)
        x = self._norm(x + self._dense(mixed, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm")
        inner = self._dense(x, f"{name}.intermediate.dense")
        inner = inner * (1 + _erf(inner / np.sqrt(2))) / 2
        return self._norm(x + self._dense(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def embedding(self, text: str) -> Floats:
        """The mean of the text's states, at length 1, ``[D]``."""
        mean = self.hidden(text).mean(0)
        unit: Floats = mean / np.linalg.norm(mean)
        return unit

    def score(self, query: str, document: str) -> float:
        """The classifier's output for a pair: pooler and classifier on the first token's state."""
        pooled = np.tanh(self._dense(self.hidden(query, document)[0], "pooler.dense"))
        return float((pooled @ self.weights["classifier.weight"].T + self.weights["classifier.bias"])[0])
