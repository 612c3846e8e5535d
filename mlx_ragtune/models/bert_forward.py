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
    """The model of a folder: an encoder, or with ``ranks`` a cross-encoder."""

    def __init__(self, folder: Path) -> None:
        self.config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        weights = Weights(folder, ignored="position_ids")
        self.weights = {name.removeprefix("bert."): weights.float32(name) for name in weights}
        pooling = folder / "1_Pooling" / "config.json"
        modes = json.loads(pooling.read_text(encoding="utf-8")) if pooling.is_file() else {}
        self.first_token = bool(modes.get("pooling_mode_cls_token"))
        self.ranks = "classifier.weight" in self.weights
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
        word, position, kind = (
            self.weights[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type")
        )
        x = word[encoded.ids] + position[: len(encoded.ids)] + kind[encoded.type_ids]
        x = self._norm(x, "embeddings.LayerNorm")
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
        """The text's vector at length 1, ``[D]``: the mean of its states, or the first one where the model says so."""
        states = self.hidden(text)
        pooled = states[0] if self.first_token else states.mean(0)
        unit: Floats = pooled / np.linalg.norm(pooled)
        return unit

    def score(self, query: str, document: str) -> float:
        """The classifier's output for a pair: pooler and classifier on the first token's state."""
        pooled = np.tanh(self._dense(self.hidden(query, document)[0], "pooler.dense"))
        return float((pooled @ self.weights["classifier.weight"].T + self.weights["classifier.bias"])[0])
