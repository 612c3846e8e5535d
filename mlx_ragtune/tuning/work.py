"""The work of a training step, counted instead of measured.

FLOPs are 2 × the multiply-adds of the matrix products, forward and backward. The backward pass of a frozen
weight costs as much as its forward pass, because only the gradient of the activations is computed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_ragtune.tuning.groups import Group, shape_of
from mlx_ragtune.tuning.token_rows import TokenRow


@dataclass(frozen=True)
class Work:
    """Tokens through the layers, computed query-key pairs in attention (masked ones included), rows of logits."""

    layer_tokens: int
    attention_pairs: int
    logit_rows: int

    def __add__(self, other: "Work") -> "Work":
        return Work(
            self.layer_tokens + other.layer_tokens,
            self.attention_pairs + other.attention_pairs,
            self.logit_rows + other.logit_rows,
        )

    def flops(self, config: Mapping[str, Any]) -> float:
        """Forward and backward FLOPs for a model with this ``config.json`` (llama, qwen2, qwen3)."""
        layers, width = self._layers(config)
        backward = layers + 2 * config["num_hidden_layers"] * self.attention_pairs * 2 * width
        return layers + backward + 2 * self._head(config)

    def forward_flops(self, config: Mapping[str, Any]) -> float:
        """FLOPs of the forward pass alone."""
        return self._layers(config)[0] + self._head(config)

    def _head(self, config: Mapping[str, Any]) -> float:
        return 2.0 * self.logit_rows * config["hidden_size"] * config["vocab_size"]

    def _layers(self, config: Mapping[str, Any]) -> tuple[float, int]:
        """(FLOPs of the layers' forward pass, width of all query heads)."""
        hidden, inner = config["hidden_size"], config["intermediate_size"]
        heads = config["num_attention_heads"]
        width = config.get("head_dim") or hidden // heads
        keys = (config.get("num_key_value_heads") or heads) * width
        linear = hidden * (2 * heads * width + 2 * keys) + 3 * hidden * inner
        pairs = self.attention_pairs * 2 * heads * width
        return 2.0 * config["num_hidden_layers"] * (self.layer_tokens * linear + pairs), heads * width


NOTHING = Work(0, 0, 0)


def work_of_batch(groups: Sequence[Group]) -> Work:
    """The work of a shared-prefix micro-batch, including padding."""
    shape = shape_of(groups)
    branches = shape.branches * shape.length * (shape.prefix + shape.length)
    return Work(
        layer_tokens=shape.tokens,
        attention_pairs=shape.prefixes * shape.prefix**2 + branches,
        logit_rows=sum(group.answer_tokens for group in groups),
    )


def work_of_whole_rows(rows: Sequence[TokenRow], padded_to: int) -> Work:
    """The work of a micro-batch in the stock trainer: whole padded rows, logits at every position."""
    longest = max(len(row.tokens) for row in rows)
    length = -(-longest // padded_to) * padded_to
    return Work(len(rows) * length, len(rows) * length**2, len(rows) * length)


def total(parts: Iterable[Work]) -> Work:
    """The sum of the parts."""
    return sum(parts, NOTHING)
