"""Stores the outputs of the frozen lower layers on disk, so that they are computed once and not in every epoch.

With adapters on the last N of L layers, the first L - N layers are a constant function of the tokens. The
upper layers read the stored outputs as ``input_embeddings``, and the lower ones are skipped.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mlx_ragtune.clients.machine import disk_writes
from mlx_ragtune.clients.runtime_mlx import mx, nn
from mlx_ragtune.errors import RecipeError
from mlx_ragtune.tuning.groups import CUT, Group, shape_of
from mlx_ragtune.tuning.head import hidden_states
from mlx_ragtune.tuning.loss import (
    Batch,
    Embedded,
    answer_states,
    batch_loss,
    branches_of,
    make_batch,
    run_prefixes,
    summed_loss,
)
from mlx_ragtune.tuning.schedule import micro_batches
from mlx_ragtune.tuning.token_rows import TokenRow, Tokens

AGREEMENT = {"float32": 1e-5, "bfloat16": 1e-2, "float16": 1e-2}
"""Largest relative difference between the loss with and without the store, by the type of the activations."""


class _Skipped(nn.Module):
    """A layer that returns its input. Attributes (``use_sliding``) are those of the real layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        object.__setattr__(self, "layer", layer)  # not a child: its parameters must not count as the model's

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "layer"), name)

    def __call__(self, x: mx.array, *_args: Any, **_options: Any) -> mx.array:
        return x


@contextmanager
def only_layers(model: Any, start: int, stop: int, *, normed: bool) -> Iterator[None]:
    """Inside the block only layers ``start`` to ``stop - 1`` compute, then the final norm if ``normed``."""
    inner = model.model
    layers, norm = list(inner.layers), inner.norm
    inner.layers = [layer if start <= place < stop else _Skipped(layer) for place, layer in enumerate(layers)]
    inner.norm = norm if normed else _Skipped(norm)
    try:
        yield
    finally:
        inner.layers, inner.norm = layers, norm


@contextmanager
def every_layer(model: Any) -> Iterator[None]:
    """Inside the block all layers compute, also those that ``only_layers`` skips."""
    inner = model.model
    layers, norm = inner.layers, inner.norm
    inner.layers = [layer.layer if isinstance(layer, _Skipped) else layer for layer in layers]
    inner.norm = norm.layer if isinstance(norm, _Skipped) else norm
    try:
        yield
    finally:
        inner.layers, inner.norm = layers, norm


def _key(tokens: Tokens) -> str:
    return hashlib.sha256(tokens.tobytes()).hexdigest()


def _lower(model: Any, groups: Sequence[Group]) -> tuple[Batch, mx.array | None, mx.array]:
    """(batch, outputs of the active layers for prefixes [G, P, D], and for branches [B, L, D])."""
    batch = make_batch(groups)
    caches, prefix = run_prefixes(model, batch)
    return batch, prefix, hidden_states(model, mx.array(batch.branches), caches)


class FrozenStore:
    """Outputs of the first ``first`` layers for every row, in one memory-mapped file of shape [tokens, D]."""

    def __init__(self, folder: Path, first: int) -> None:
        self.folder, self.first = folder, first
        self._places: dict[str, int] = {}
        self._dtype = "float32"
        self._states: Any = None

    def build(self, model: Any, rows: Sequence[TokenRow], *, tokens_per_step: int, work: str) -> None:
        """Compute the outputs unless the file already has them; ``work`` identifies base and layers.

        Raises RecipeError when the upper layers do not give the same loss from the stored outputs, and ToolError
        when the file cannot be written.
        """
        if not self._open(rows, work):
            self._fill(model, rows, tokens_per_step, work)
            self._open(rows, work)
        model.eval()
        groups = micro_batches(rows[:8], tokens_per_step)[0]
        whole = batch_loss(model, make_batch(groups)).item()
        try:
            with only_layers(model, self.first, len(model.layers), normed=True):
                stored = self.objective(model, groups).item()
        except TypeError:
            stored = float("nan")
        model.train()
        if not abs(stored - whole) <= AGREEMENT[self._dtype] * abs(whole):
            raise RecipeError(
                f"the loss from stored outputs is {stored:.6g} instead of {whole:.6g}: this architecture changes its "
                "embeddings before the first layer",
                where="train.frozen_store",
                fix="set train.frozen_store: false",
            )

    def _open(self, rows: Sequence[TokenRow], work: str) -> bool:
        try:
            index = json.loads((self.folder / "index.json").read_text(encoding="utf-8"))
            if index["work"] != work or any(
                _key(tokens) not in index["places"] for row in rows for tokens in row.branches
            ):
                return False
            kind = np.float32 if index["dtype"] == "float32" else np.uint16
            self._states = np.memmap(self.folder / "states.bin", kind, "r", shape=tuple(index["shape"]))
        except (OSError, ValueError, KeyError, TypeError):
            return False
        self._places, self._dtype = index["places"], index["dtype"]
        return True

    def _fill(self, model: Any, rows: Sequence[TokenRow], tokens_per_step: int, work: str) -> None:
        """Write states and index, each aside and then renamed: another process may have the old file in memory."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file, part = self.folder / "states.bin", self.folder / f".states-{os.getpid()}.part"
        tokens = sum(len(tokens) for row in rows for tokens in row.branches)
        needed = 4 * tokens * int(model.model.norm.weight.shape[0])
        with disk_writes(file, needed, partial=part):
            with part.open("wb") as stream, only_layers(model, 0, self.first, normed=False):
                index = {"work": work, **_write_states(stream, model, micro_batches(rows, tokens_per_step))}
            part.replace(file)
            part.write_text(json.dumps(index), encoding="utf-8")
            part.replace(self.folder / "index.json")

    def _read(self, tokens: Tokens, start: int, stop: int) -> mx.array:
        place = self._places[_key(tokens)]
        states = mx.array(self._states[place + start : place + stop])
        return states if self._dtype == "float32" else states.view(getattr(mx, self._dtype))

    def objective(self, model: Any, groups: Sequence[Group]) -> mx.array:
        """``batch_loss`` from stored outputs, to be called inside ``only_layers`` of the upper layers."""
        return summed_loss(model, make_batch(groups), self.answer_states(model, groups))

    def answer_states(self, model: Any, groups: Sequence[Group]) -> mx.array:
        """``loss.answer_states`` of the groups from stored outputs, inside ``only_layers`` of the upper layers."""
        return answer_states(model, make_batch(groups), self.embedded(groups))

    def embedded(self, groups: Sequence[Group], cut: int = CUT) -> Embedded:
        """The stored outputs of the groups in the places of ``make_batch``."""
        shape, prefix = shape_of(groups, cut), None
        if shape.prefix:
            prefix = mx.stack([self._read(group.rows[0].tokens, 0, shape.prefix) for group in groups])
        branches = []
        for branch in branches_of(groups):
            stop = len(branch.tokens) - 1
            states = self._read(branch.tokens, shape.prefix, stop)
            branches.append(mx.pad(states, [(0, shape.prefix + shape.length - stop), (0, 0)]))
        return prefix, mx.stack(branches)


def _write_states(stream: BinaryIO, model: Any, batches: Iterable[Sequence[Group]]) -> dict[str, Any]:
    """Write the outputs of the active layers for every row; returns their type, shape, and place by row."""
    places: dict[str, int] = {}
    done, dtype, width = 0, "float32", 0
    for groups in batches:
        _, prefix, branches = _lower(model, groups)
        dtype, width = str(branches.dtype).removeprefix("mlx.core."), int(branches.shape[-1])
        for place, one in enumerate(branches_of(groups)):
            parts = [branches[place, : len(one.tokens) - 1 - shape_of(groups).prefix]]
            if prefix is not None:
                parts.insert(0, prefix[one.parent])
            states = mx.concatenate(parts)
            raw = np.array(states if dtype == "float32" else states.view(mx.uint16))
            stream.write(raw.tobytes())
            places[_key(one.tokens)] = done
            done += len(raw)
    return {"dtype": dtype, "shape": [done, width], "places": places}
