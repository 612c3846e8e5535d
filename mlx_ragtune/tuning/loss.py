"""The loss: summed cross-entropy of the answer tokens, computed in two equivalent ways.

``plain_loss`` runs whole rows, as the reference does. ``batch_loss`` runs shared prefixes once and then their
branches; logits are computed for answer positions only.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlx_ragtune.clients.runtime_mlx import mx, nn
from mlx_ragtune.tuning.groups import CUT, Group, padded, shape_of
from mlx_ragtune.tuning.head import answer_loss, hidden_states
from mlx_ragtune.tuning.prefix import Branches, Prefix
from mlx_ragtune.tuning.recurrent_state import StateBranches, StatePrefix, has_state
from mlx_ragtune.tuning.token_rows import TokenRow, Tokens


@dataclass(frozen=True)
class Batch:
    """A micro-batch of G groups with B branches in total and N answer tokens, all int32.

    ``prefix`` [G, P] is None where P is 0; ``branches`` [B, L] are right-padded; ``parents`` [B] is each branch's
    group; ``positions`` [N] index the flattened branches where an answer token is predicted, ``targets`` [N] are those
    tokens. ``lengths`` holds the answer tokens of each branch, in the order of ``targets``; ``pairs`` (row id, branch
    of its answer, branch of its rejected answer). ``weights`` [N] are factors of the answer tokens, float32; None
    where all are 1.
    """

    prefix: Tokens | None
    branches: Tokens
    parents: Tokens
    positions: Tokens
    targets: Tokens
    lengths: tuple[int, ...] = ()
    pairs: tuple[tuple[str, int, int], ...] = ()
    weights: Any = None

    def filled(self, cut: int) -> "Batch":
        """The same batch with N rounded up to a multiple of ``cut`` by tokens of weight 0. It has no pairs."""
        count = len(self.targets)
        more = (0, padded(count, cut) - count)
        weights = np.pad(np.ones(count, np.float32), more)
        positions, targets = np.pad(self.positions, more), np.pad(self.targets, more)
        return replace(self, positions=positions, targets=targets, weights=weights)

    def places(self, branches: Iterable[int]) -> Tokens:
        """Places among ``targets`` of the answers of some branches, int32, in the order of the branches."""
        ends = np.cumsum(self.lengths)
        parts = [np.arange(ends[branch] - self.lengths[branch], ends[branch]) for branch in branches]
        return np.concatenate([np.zeros(0), *parts]).astype(np.int32)

    @property
    def counted(self) -> Tokens | None:
        """Places among ``targets`` that count in the cross-entropy: not rejected answers. None for all places."""
        if not self.pairs:
            return None
        rejected = {branch for _, _, branch in self.pairs}
        return self.places(branch for branch in range(len(self.lengths)) if branch not in rejected)


@dataclass(frozen=True)
class BranchOf:
    """One branch of a micro-batch: its whole tokens, its row, and the index of its group."""

    tokens: Tokens
    row: TokenRow
    parent: int


def branches_of(groups: Sequence[Group]) -> list[BranchOf]:
    """Every branch in the order of ``make_batch``: a rejected answer follows the answer of its row."""
    return [
        BranchOf(tokens, row, parent)
        for parent, group in enumerate(groups)
        for row in group.rows
        for tokens in row.branches
    ]


def make_batch(groups: Sequence[Group], cut: int = CUT) -> Batch:
    """The groups as padded arrays with the lengths of ``shape_of``."""
    shape, members = shape_of(groups, cut), branches_of(groups)
    start, length = shape.prefix, shape.length
    tokens = np.zeros((len(members), length), np.int32)
    positions, targets = [], []
    pairs: list[tuple[str, int, int]] = []
    for place, member in enumerate(members):
        prompt = member.row.prompt_length
        rest = member.tokens[start:-1]
        tokens[place, : len(rest)] = rest
        positions.append(np.arange(prompt - 1 - start, len(rest)) + place * length)
        targets.append(member.tokens[prompt:])
        if member.tokens is member.row.rejected:
            pairs.append((member.row.id, place - 1, place))
    return Batch(
        prefix=np.stack([group.rows[0].tokens[:start] for group in groups]) if start else None,
        branches=tokens,
        parents=np.array([member.parent for member in members], np.int32),
        positions=np.concatenate(positions).astype(np.int32),
        targets=np.concatenate(targets),
        lengths=tuple(len(part) for part in targets),
        pairs=tuple(pairs),
    )


def run_prefixes(
    model: Any, batch: Batch, **options: Any
) -> tuple[list[Branches | StateBranches] | None, mx.array | None]:
    """(a cache per layer that continues the prefixes, last hidden states of the prefixes [G, P, D]).

    Both are None where there is no prefix.
    """
    if batch.prefix is None:
        return None, None
    parents = None if len(batch.prefix) == 1 else mx.array(batch.parents)
    recorders = [StatePrefix() if kept else Prefix() for kept in has_state(model)]
    states = hidden_states(model, mx.array(batch.prefix), recorders, **options)
    return [
        StateBranches(recorder, len(batch.branches), parents)
        if isinstance(recorder, StatePrefix)
        else Branches(recorder, batch.prefix.shape[1], parents)
        for recorder in recorders
    ], states


def at_answers(batch: Batch, states: mx.array) -> mx.array:
    """The states [N, D] that predict an answer token, of all states of the branches [B, L, D]."""
    return states.reshape(-1, states.shape[-1])[mx.array(batch.positions)]


Embedded = tuple[mx.array | None, mx.array | None]
"""What enters the first layer instead of the tokens of prefixes [G, P, D] and branches [B, L, D]."""


def answer_states(model: Any, batch: Batch, embedded: Embedded = (None, None)) -> mx.array:
    """Last hidden states [N, D] that predict the batch's answer tokens. Differentiable.

    MLX is lazy, so what no answer depends on (the prefix's last MLP, its head) is never computed.
    """
    prefix, branches = ({} if states is None else {"input_embeddings": states} for states in embedded)
    caches, _ = run_prefixes(model, batch, **prefix)
    return at_answers(batch, hidden_states(model, mx.array(batch.branches), caches, **branches))


def summed_loss(model: Any, batch: Batch, states: mx.array) -> mx.array:
    """Summed cross-entropy in nats, float32, of the batch's answers from ``answer_states``; rejected ones do not count.

    Differentiable in the states.
    """
    targets, counted = mx.array(batch.targets), batch.counted
    if counted is None:
        weights = None if batch.weights is None else mx.array(batch.weights)
        return answer_loss(model, states, targets, weights)
    places = mx.array(counted)
    return answer_loss(model, states[places], targets[places])


def batch_loss(model: Any, batch: Batch, embedded: Embedded = (None, None)) -> mx.array:
    """Summed cross-entropy of the batch's answer tokens, in nats, float32. Differentiable."""
    return summed_loss(model, batch, answer_states(model, batch, embedded))


def plain_loss(model: Any, tokens: mx.array, spans: mx.array) -> tuple[mx.array, mx.array]:
    """(summed cross-entropy in nats, number of answer tokens) of whole rows ``tokens`` [B, 1 + L].

    ``spans`` [B, 2] holds prompt and row lengths. This is mlx-lm's loss with a corrected mask: position t
    predicts token t + 1, so the last trained step is ``length - 1`` and padding is never a target (mlx-lm#1697).
    """
    logits = model(tokens[:, :-1])
    targets = tokens[:, 1:]
    steps = mx.arange(1, targets.shape[1] + 1)
    mask = mx.logical_and(steps >= spans[:, 0:1], steps < spans[:, 1:])
    losses = nn.losses.cross_entropy(logits.astype(mx.float32), targets) * mask
    return losses.sum(), mask.sum()
