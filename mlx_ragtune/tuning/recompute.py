"""Gradient checkpointing: a layer's inner activations are discarded and computed again in the backward pass.

The stock trainer patches the layer class permanently, so a second run in one process is wrapped twice; here
the patch ends with the ``with`` block. Keys and values of the prefix caches are passed as arguments and
results, so that gradients flow through them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.tuning.prefix import Branches, Prefix
from mlx_ragtune.tuning.recurrent_state import StateBranches, StatePrefix


def _prefix_layer(plain: Callable[..., Any], layer: Any, x: mx.array, mask: Any, cache: Prefix) -> mx.array:
    def inner(parameters: Any, x: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        layer.update(parameters)
        own = Prefix()
        return plain(layer, x, mask, own), own.keys, own.values

    out, cache.keys, cache.values = mx.checkpoint(inner)(layer.trainable_parameters(), x)
    return out


def _state_prefix_layer(plain: Callable[..., Any], layer: Any, x: mx.array, mask: Any, cache: StatePrefix) -> mx.array:
    def inner(parameters: Any, x: mx.array) -> tuple[mx.array, dict[int, mx.array]]:
        layer.update(parameters)
        own = StatePrefix()
        return plain(layer, x, mask, own), own.states

    out, cache.states = mx.checkpoint(inner)(layer.trainable_parameters(), x)
    return out


def _state_branch_layer(
    plain: Callable[..., Any], layer: Any, x: mx.array, mask: Any, cache: StateBranches
) -> mx.array:
    def inner(parameters: Any, x: mx.array, states: dict[int, mx.array]) -> mx.array:
        layer.update(parameters)
        return plain(layer, x, mask, cache.on(states))

    out: mx.array = mx.checkpoint(inner)(layer.trainable_parameters(), x, cache.prefix.states)
    return out


def _branch_layer(plain: Callable[..., Any], layer: Any, x: mx.array, mask: Any, cache: Branches) -> mx.array:
    def inner(parameters: Any, x: mx.array, keys: mx.array, values: mx.array) -> mx.array:
        layer.update(parameters)
        return plain(layer, x, mask, cache.on(keys, values))

    keys, values = cache.prefix.keys, cache.prefix.values
    out: mx.array = mx.checkpoint(inner)(layer.trainable_parameters(), x, keys, values)
    return out


def _plain_layer(plain: Callable[..., Any], layer: Any, x: mx.array, mask: Any) -> mx.array:
    def inner(parameters: Any, x: mx.array) -> mx.array:
        layer.update(parameters)
        return plain(layer, x, mask, None)

    out: mx.array = mx.checkpoint(inner)(layer.trainable_parameters(), x)
    return out


def _sharing_layer(
    plain: Callable[..., Any], layer: Any, x: mx.array, mask: Any, cache: Any, *, given: dict[str, Any]
) -> tuple[mx.array, Any, Any]:
    """A layer of Gemma 4, which gets and returns keys, values and their offset (see mlx-lm's ``gemma4_text``)."""
    arrays: dict[str, Any] = {"x": x}
    for name in ("per_layer_input", "shared_kv"):
        if given.get(name) is not None:
            arrays[name] = given[name]
    if isinstance(cache, Branches):
        arrays["before"] = cache.prefix.keys, cache.prefix.values
    offset = given["offset"]
    if given["shared_kv"] is None:
        offset = 0 if cache is None else mx.array(cache.offset)

    def inner(parameters: Any, arrays: dict[str, Any]) -> tuple[mx.array, tuple[mx.array, mx.array]]:
        layer.update(parameters)
        own = cache.on(*arrays["before"]) if "before" in arrays else None if cache is None else Prefix()
        options = {name: arrays.get(name) for name in ("per_layer_input", "shared_kv")}
        out, kept, _ = plain(layer, arrays["x"], mask, own, offset=offset, **options)
        return out, kept

    out, kept = mx.checkpoint(inner)(layer.trainable_parameters(), arrays)
    if isinstance(cache, Prefix):
        cache.keys, cache.values = kept
    return out, kept, offset


def _recomputed(plain: Callable[..., Any]) -> Callable[..., Any]:
    def call(layer: Any, x: mx.array, mask: Any = None, cache: Any = None, **given: Any) -> Any:
        if not layer.training:
            return plain(layer, x, mask, cache, **given)
        before = layer.trainable_parameters()
        try:
            if "shared_kv" in given:
                return _sharing_layer(plain, layer, x, mask, cache, given=given)
            if isinstance(cache, Prefix):
                return _prefix_layer(plain, layer, x, mask, cache)
            if isinstance(cache, Branches):
                return _branch_layer(plain, layer, x, mask, cache)
            if isinstance(cache, StatePrefix):
                return _state_prefix_layer(plain, layer, x, mask, cache)
            if isinstance(cache, StateBranches):
                return _state_branch_layer(plain, layer, x, mask, cache)
            return _plain_layer(plain, layer, x, mask)
        finally:
            layer.update(before)  # the inner call left its tracers in the layer

    return call


@contextmanager
def recomputing(model: Any, on: bool = True) -> Iterator[None]:
    """Inside the block, training passes of the model's layers keep no inner activations."""
    kinds = {type(layer) for layer in model.layers} if on else set()
    plain = {kind: kind.__call__ for kind in kinds}
    try:
        for kind in kinds:
            kind.__call__ = _recomputed(plain[kind])
        yield
    finally:
        for kind in kinds:
            kind.__call__ = plain[kind]
