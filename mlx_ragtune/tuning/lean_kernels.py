"""SwiGLU and attention that keep less for the backward pass, and fast exponentials on a CPU.

MLX's CPU backend computes an exponential in 12 ns, one by one and on one core, and its attention keeps all scores.
Here float32 exponentials are a polynomial that the C++ compiler vectorizes (``mx.compile``; without a compiler MLX
runs the same operations one after the other), and scores are computed again in the backward pass, as in
FlashAttention (arXiv 2205.14135, algorithm 4). Metal has fused attention of its own: there SwiGLU and the inputs of
LoRA layers (``lean_inputs``) change.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.tuning.lean_inputs import lean_inputs

_LOWEST, _HIGHEST = -87.0, 88.0
"""Others count as these: a larger exponential than the second is no float32, and up to the first it is 0 here."""
_LOG2E = 1.44269504
_SHIFT = 12582912.0
"""1.5 · 2^23: adding it rounds a float32 to an integer, which then stands in the lowest bits."""
_SHIFT_BITS, _LEAST_EXPONENT = 0x4B400000, -126
"""The bits of _SHIFT, and n for arguments up to -87."""
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
_POLYNOMIAL = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
"""Of Cephes' expf (Moshier, 1992): (eʳ − 1 − r) / r² for |r| ≤ ln 2 / 2."""
_HIDDEN = -1e30
"""Score of a column that a query does not see; its weight is 0."""


def on_cpu() -> bool:
    """Whether MLX computes on a CPU."""
    return bool(mx.default_device() == mx.Device(mx.cpu))


@mx.compile
def _reduced(x: mx.array) -> tuple[mx.array, mx.array]:
    """(n + shift, eʳ) with x = n · ln 2 + r."""
    x = mx.minimum(mx.maximum(x, _LOWEST), _HIGHEST)
    shifted = x * _LOG2E + _SHIFT
    whole = shifted - _SHIFT
    r = x - whole * _LN2_HIGH - whole * _LN2_LOW
    y: Any = _POLYNOMIAL[0]
    for coefficient in _POLYNOMIAL[1:]:
        y = y * r + coefficient
    return shifted, y * r * r + r + 1.0


@mx.compile
def _scaled(shifted: mx.array, bits: mx.array) -> mx.array:
    """The bits of a float32 times 2^n: n is added to the exponent. 0 for the least n.

    The hidden columns of attention get an exact 0: a tiny number instead becomes a subnormal one in the next product,
    which Intel processors multiply some ten times slower.
    """
    return mx.where(shifted <= _SHIFT_BITS + _LEAST_EXPONENT, 0, bits + mx.left_shift(shifted, 23))


def exp(x: mx.array) -> mx.array:
    """eˣ. NaN stays NaN. In float32 on a CPU the relative error is below 2e-7, and it is 0 up to -87.

    Arguments above 88 count as 88.
    """
    if x.dtype != mx.float32 or not on_cpu():
        return mx.exp(x)
    shifted, y = _reduced(x)
    return _scaled(shifted.view(mx.int32), y.view(mx.int32)).view(mx.float32)


def softmax(scores: mx.array) -> tuple[mx.array, mx.array]:
    """(shares, log Σ eˢ) over the last axis of float32 scores [..., V]: [..., V], [...]."""
    highest = scores.max(axis=-1, keepdims=True)
    if on_cpu():
        powers = exp(scores - highest)
        summed = powers.sum(axis=-1, keepdims=True)
        return powers / summed, (highest + mx.log(summed)).squeeze(-1)
    # from the most likely value, whose share cannot underflow: saves a second pass of exponentials
    shares = mx.softmax(scores, axis=-1, precise=True)
    return shares, highest.squeeze(-1) - mx.log(shares.max(axis=-1))


def _sigmoid(x: mx.array) -> mx.array:
    return 1 / (1 + exp(-x)) if x.dtype == mx.float32 and on_cpu() else mx.sigmoid(x)


@mx.compile
def _swiglu(gate: mx.array, x: mx.array) -> mx.array:
    return gate * _sigmoid(gate) * x


@mx.compile
def _swiglu_gradients(gate: mx.array, x: mx.array, cotangent: mx.array) -> tuple[mx.array, mx.array]:
    share = _sigmoid(gate)
    silu = gate * share
    return cotangent * x * (share + silu * (1 - share)), cotangent * silu


@mx.custom_function
def swiglu(gate: mx.array, x: mx.array) -> mx.array:
    """SiLU(gate) · x. Only its inputs are kept for the backward pass."""
    return _swiglu(gate, x)


@swiglu.vjp
def _swiglu_backward(primals: Any, cotangent: mx.array, _output: Any) -> tuple[mx.array, mx.array]:
    gate, x = mx.depends(list(primals), [cotangent])  # the shares are not made before the gradient arrives
    return _swiglu_gradients(gate, x, cotangent)


def _scores(queries: mx.array, keys: mx.array, mask: mx.array | None) -> mx.array:
    """Scores [B, H, R·L, S] of R query heads to a key head; ``mask`` [L, S] or [B, 1, L, S]."""
    scores = queries @ keys.swapaxes(-1, -2)
    if mask is None:
        return scores
    length = mask.shape[-2]
    split = scores.reshape(*scores.shape[:2], -1, length, scores.shape[-1])
    return mx.where(mask if mask.ndim == 2 else mask[:, :, None], split, _HIDDEN).reshape(scores.shape)


def _swapped(x: mx.array) -> mx.array:
    """[B, H, L, D] ⇄ [B, L, H, D]."""
    return x.swapaxes(1, 2)


def attention(queries: mx.array, keys: mx.array, values: mx.array, *, scale: float, mask: Any = None) -> mx.array:
    """softmax(scale · Q Kᵀ) V in float32: Q [B, H, L, D], K and V [B, H / R, S, D] → [B, H, L, D].

    ``mask`` is None, ``"causal"`` or bool. Kept for the backward pass: inputs, output, and log Σ eˢ of each query.
    """
    batch, heads, length, width = queries.shape
    groups, columns = keys.shape[1], keys.shape[2]
    folded = (batch, groups, heads // groups * length, width)
    if isinstance(mask, str):
        mask = mx.arange(columns - length, columns)[:, None] >= mx.arange(columns)

    @mx.custom_function
    def attend(queries: mx.array, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        scores = _scores((queries * scale).reshape(folded), keys, mask)
        highest = scores.max(axis=-1, keepdims=True)
        powers = exp(scores - highest)
        summed = powers.sum(axis=-1, keepdims=True)
        output = (powers @ values / summed).reshape(batch, heads, length, -1)
        # laid out as [B, L, H, D]: the model puts the heads of a token side by side, which then needs no second copy
        return _swapped(mx.contiguous(_swapped(output))), highest + mx.log(summed)

    @attend.vjp
    def _backward(primals: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, ...]:
        # computed when the gradient arrives: MLX would otherwise make the shares of all layers first
        queries, keys, values = mx.depends(list(primals), [cotangents[0]])
        scaled = (queries * scale).reshape(folded)
        given = cotangents[0].reshape(*folded[:3], -1)
        shares = exp(_scores(scaled, keys, mask) - outputs[1])
        spread = (given * outputs[0].reshape(given.shape)).sum(axis=-1, keepdims=True)
        by_scores = shares * (given @ values.swapaxes(-1, -2) - spread)
        by_queries = (by_scores @ keys * scale).reshape(queries.shape)
        return by_queries, by_scores.swapaxes(-1, -2) @ scaled, shares.swapaxes(-1, -2) @ given

    outputs: Any = attend(queries, keys, values)
    output: mx.array = outputs[0]
    return output


def _attention_or(built_in: Callable[..., mx.array]) -> Callable[..., mx.array]:
    """``attention`` where it can replace MLX's own, which computes everything else."""

    def call(queries: mx.array, keys: mx.array, values: mx.array, *, scale: float, **options: Any) -> mx.array:
        mask, sinks = options.get("mask"), options.get("sinks")
        known = mask is None or isinstance(mask, str) or (mask.dtype == mx.bool_ and mask.ndim in (2, 4))
        if not known or sinks is not None or queries.dtype != mx.float32 or not on_cpu():
            return built_in(queries, keys, values, scale=scale, **options)
        return attention(queries, keys, values, scale=scale, mask=mask)

    return call


@contextmanager
def lean_kernels(model: Any) -> Iterator[None]:
    """Inside the block the model uses these functions where its modules call mlx-lm's, and ``lean_inputs``."""
    kinds = {type(part) for layer in model.layers for part in layer.modules()}
    modules = {sys.modules[kind.__module__] for kind in kinds}
    functions = [(module, "swiglu") for module in modules if hasattr(module, "swiglu")]
    places: list[tuple[Any, str, Any]] = [(*place, swiglu) for place in functions]
    if on_cpu():
        name = "scaled_dot_product_attention"
        places.append((mx.fast, name, _attention_or(getattr(mx.fast, name))))
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in places]
    for owner, name, function in places:
        setattr(owner, name, function)
    try:
        with lean_inputs(model, functions):
            yield
    finally:
        for owner, name, function in before:
            setattr(owner, name, function)
