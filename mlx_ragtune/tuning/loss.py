"""The loss: cross-entropy of the answer tokens, summed. Two ways to the same number.

``plain_loss`` runs whole rows; ``group_loss`` runs a shared prefix once and its K branches on top of it,
through mlx-lm's cache protocol, so that no model is patched. Logits exist for answer positions only.
"""

from typing import Any

import numpy as np

from mlx_ragtune.backends.runtime_mlx import mx, nn
from mlx_ragtune.tuning.groups import Group, padded


class _Recorder:
    """A cache that keeps one layer's keys and values of the prefix: shape [1, heads, P, head]."""

    offset = 0

    def __init__(self) -> None:
        self.keys: Any = None
        self.values: Any = None

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        self.keys, self.values = keys, values
        return keys, values

    def make_mask(self, *_args: Any, **_options: Any) -> str:
        return "causal"


class _Branch:
    """A cache that puts the recorded prefix before each of K branches."""

    def __init__(self, prefix: _Recorder, length: int) -> None:
        self._prefix, self.offset = prefix, length

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        branches = keys.shape[0]

        def joined(before: mx.array, own: mx.array) -> mx.array:
            return mx.concatenate([mx.broadcast_to(before, (branches, *before.shape[1:])), own], axis=2)

        return joined(self._prefix.keys, keys), joined(self._prefix.values, values)

    def make_mask(self, count: int, *_args: Any, **_options: Any) -> mx.array:
        columns = mx.arange(self.offset + count)
        return columns[self.offset :][:, None] >= columns[None]


def hidden_states(model: Any, tokens: mx.array, cache: list[Any] | None = None) -> mx.array:
    """Last hidden states, shape [B, T, D]; the head is left out."""
    states: mx.array = model.model(tokens, cache=cache)
    return states


def head(model: Any, states: mx.array) -> mx.array:
    """Logits of hidden states: [..., D] → [..., V], by the tied embedding or the model's own head."""
    if hasattr(model, "lm_head"):
        logits: mx.array = model.lm_head(states)
    else:
        logits = model.model.embed_tokens.as_linear(states)
    return logits


def _branches(group: Group) -> tuple[mx.array, mx.array, mx.array]:
    """Right-padded branch tokens [K, L], flat positions that predict an answer token [N], and targets [N]."""
    start = group.prefix_length
    length = padded(max(len(row.tokens) for row in group.rows) - start - 1)
    tokens = np.zeros((len(group.rows), length), np.int32)
    positions: list[int] = []
    targets: list[int] = []
    for k, row in enumerate(group.rows):
        rest = row.tokens[start:-1]
        tokens[k, : len(rest)] = rest
        first = row.prompt_length - 1 - start
        positions += [k * length + at for at in range(first, len(rest))]
        targets += row.tokens[row.prompt_length :].tolist()
    return mx.array(tokens), mx.array(positions), mx.array(targets)


def group_loss(model: Any, group: Group) -> mx.array:
    """Summed cross-entropy of the group's answer tokens, in nats, float32. Differentiable."""
    tokens, positions, targets = _branches(group)
    cache: list[Any] | None = None
    if group.prefix_length:
        recorders = [_Recorder() for _ in model.layers]
        prefix = mx.array(group.rows[0].tokens[: group.prefix_length])[None]
        hidden_states(model, prefix, recorders)
        cache = [_Branch(recorder, group.prefix_length) for recorder in recorders]
    states = hidden_states(model, tokens, cache)
    chosen = states.reshape(-1, states.shape[-1])[positions]
    logits = head(model, chosen).astype(mx.float32)
    return nn.losses.cross_entropy(logits, targets, reduction="sum")


def plain_loss(model: Any, tokens: mx.array, spans: mx.array) -> tuple[mx.array, mx.array]:
    """(summed cross-entropy, answer tokens) of whole rows; ``spans`` [B, 2] holds prompt and row lengths.

    mlx-lm's own loss with its mask mended: position t predicts token t + 1, so the last trained step is
    ``length − 1`` and no padding token is ever a target (mlx-lm#1697).
    """
    logits = model(tokens[:, :-1])
    targets = tokens[:, 1:]
    steps = mx.arange(1, targets.shape[1] + 1)
    mask = mx.logical_and(steps >= spans[:, 0:1], steps < spans[:, 1:])
    losses = nn.losses.cross_entropy(logits.astype(mx.float32), targets) * mask
    return losses.sum(), mask.sum()
