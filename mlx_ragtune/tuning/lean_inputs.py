"""LoRA layers that do not keep their input for the backward pass, where a norm or SwiGLU has just made it.

The gradient of A needs the layer's input. In a transformer layer two inputs are the output of a norm and one is that
of SwiGLU: together a third of what is kept, and quickly computed again from arrays that are kept in any case. All
layers that read an input share what is computed again.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mlx_ragtune.clients.runtime_mlx import mx


class _Made:
    """An array, and the function and arrays that it was made of."""

    def __init__(self, array: mx.array, function: Callable[..., mx.array], arrays: Sequence[mx.array]) -> None:
        self.array, self._function, self._arrays = array, function, arrays
        self._again: mx.array | None = None

    def again(self, after: mx.array) -> mx.array:
        """The array, computed again when ``after`` is there."""
        if self._again is None:
            self._again = self._function(*mx.depends(list(self._arrays), [after]))
        return self._again


class _Latest:
    """What a training pass made last. One array is held at a time, and none after the model's last norm."""

    def __init__(self, model: Any) -> None:
        self._made: _Made | None = None
        self._inner = {id(module) for layer in model.layers for module in layer.modules()}

    def norm(self, plain: Callable[..., mx.array]) -> Callable[..., mx.array]:
        """A norm's ``__call__`` that notes what it makes."""

        def call(norm: Any, x: mx.array) -> mx.array:
            made = plain(norm, x)
            noted = norm.training and id(norm) in self._inner
            self._made = _Made(made, lambda x: plain(norm, x), [x]) if noted else None
            return made

        return call

    def function(self, plain: Callable[..., mx.array]) -> Callable[..., mx.array]:
        """A function of arrays that notes what it makes."""

        def call(*arrays: mx.array) -> mx.array:
            made = plain(*arrays)
            self._made = _Made(made, plain, arrays)
            return made

        return call

    def lora(self, plain: Callable[..., mx.array]) -> Callable[..., mx.array]:
        """``LoRALinear.__call__``: an input that was noted is not kept."""

        def call(layer: Any, x: mx.array) -> mx.array:
            made = self._made
            if made is None or made.array is not x or not layer.training or layer.dropout._p_1 != 1:
                return plain(layer, x)
            return _lora(layer, plain, made)

        return call


def _lora(layer: Any, plain: Callable[..., mx.array], made: _Made) -> mx.array:
    """The layer's output, whose gradient is computed from ``made.again``."""

    def project(x: mx.array, a: mx.array, b: mx.array) -> mx.array:
        own = layer.lora_a, layer.lora_b
        layer.lora_a, layer.lora_b = a, b
        try:
            return plain(layer, x)
        finally:
            layer.lora_a, layer.lora_b = own

    @mx.custom_function
    def lean(x: mx.array, a: mx.array, b: mx.array) -> mx.array:
        return project(x, a, b)

    @lean.vjp
    def _backward(primals: Any, cotangent: mx.array, _output: Any) -> tuple[mx.array, ...]:
        _, gradients = mx.vjp(project, [made.again(cotangent), *primals[1:]], [cotangent])
        by_input, by_a, by_b = gradients
        # A and B first: MLX would otherwise hold the input until the end of the pass
        return mx.depends([by_input], [by_a, by_b])[0], by_a, by_b

    output: Any = lean(made.array, layer.lora_a, layer.lora_b)
    array: mx.array = output
    return array


@contextmanager
def lean_inputs(model: Any, functions: Sequence[tuple[Any, str]]) -> Iterator[None]:
    """Inside the block, training passes of the model's LoRA layers keep no input that can be computed again.

    ``functions`` are (module, name) of what makes such inputs beside the norms of the model's layers. DoRA layers,
    dropout, and inputs of another origin stay as they are.
    """
    from mlx_lm.tuner.lora import LoRALinear

    latest = _Latest(model)
    parts = {type(part) for layer in model.layers for part in layer.modules()}
    places = [(kind, "__call__", latest.norm) for kind in parts if kind.__name__.endswith("RMSNorm")]
    places += [(owner, name, latest.function) for owner, name in functions]
    places.append((LoRALinear, "__call__", latest.lora))
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in places]
    for (owner, name, wrapped), (_, _, plain) in zip(places, before, strict=True):
        setattr(owner, name, wrapped(plain))
    try:
        yield
    finally:
        for owner, name, function in before:
            setattr(owner, name, function)
