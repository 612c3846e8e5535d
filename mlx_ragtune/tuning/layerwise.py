"""Next-token logits in float32 with one layer in memory at a time, so that a model of any size can be compared.

All prompts go through a layer before the next one is read from disk. Which arguments a layer gets (masks, caches, in
Gemma 4 the keys and values of another layer) is the model's own decision: it is run once with layers that only record
how they are called.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mlx_ragtune.clients.runtime_mlx import mx, nn, tree_map
from mlx_ragtune.tuning.head import capped, hidden_states, logits_of, text_model

HEAD_VALUES = 2**25
"""Values of the output head that are in float32 at a time: 128 MiB."""
_EMBEDDINGS = ("embed_tokens", "embed_tokens_per_layer")


@dataclass(frozen=True)
class _Kept:
    """Stands for what a layer returns beside the states: Gemma 4's keys and values (place 0) and offset (place 1)."""

    layer: int
    place: int


class _Recorder:
    """Stands in for a layer: notes the arguments of each call and passes the states on.

    ``number`` is that of a layer that returns keys, values and an offset too; None for layers of other families.
    """

    def __init__(self, layer: Any, number: int | None = None) -> None:
        self.layer, self.number = layer, number
        self.calls: list[tuple[mx.array, tuple[Any, ...], dict[str, Any]]] = []

    def __call__(self, states: mx.array, *arguments: Any, **options: Any) -> Any:
        self.calls.append((states, arguments, options))
        for value in (*arguments, *options.values()):
            if hasattr(value, "update_and_fetch"):  # the cache counts the tokens; masks of later chunks depend on it
                nothing = mx.zeros((1, 1, states.shape[1], 1))
                value.update_and_fetch(nothing, nothing)
        return states if self.number is None else (states, _Kept(self.number, 0), _Kept(self.number, 1))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.layer, name)


class _Final(_Recorder):
    """Stands in for a layer whose output is known."""

    def __init__(self, layer: Any, states: mx.array | None, number: int | None) -> None:
        super().__init__(layer, number)
        self.states = states

    def __call__(self, states: mx.array, *_arguments: Any, **_options: Any) -> Any:
        result = states if self.states is None else self.states
        return result if self.number is None else (result, None, None)


@dataclass
class _Prompt:
    """A prompt on its way through the layers, in chunks: states, and how every layer is called for each chunk."""

    states: list[mx.array]
    calls: list[list[tuple[tuple[Any, ...], dict[str, Any]]]]
    caches: list[Any] = field(default_factory=list)
    recorded: list[Any] = field(default_factory=list)
    kept: dict[tuple[_Kept, int], Any] = field(default_factory=dict)

    def advance(self, number: int, layer: Any) -> None:
        """Replace the states with the layer's output."""
        wanted = self._wanted(number)
        for place, (arguments, options) in enumerate(self.calls[number]):
            real = [self._real(value, number, place) for value in arguments]
            named = {name: self._real(value, number, place) for name, value in options.items()}
            output = layer(self.states[place], *real, **named)
            if isinstance(output, tuple):
                output, *beside = output
                self.kept |= {(kept, place): beside[kept.place] for kept in wanted}
            self.states[place] = output
            mx.eval(self.states[place], [value for (kept, _), value in self.kept.items() if kept in wanted])
        self.calls[number] = []
        if number < len(self.caches):
            self.caches[number] = self.recorded[number] = None

    def _wanted(self, number: int) -> set[_Kept]:
        """What later layers get of what this one returns beside the states."""
        later = (value for calls in self.calls[number + 1 :] for _, options in calls for value in options.values())
        return {value for value in later if isinstance(value, _Kept) and value.layer == number}

    def _real(self, value: Any, number: int, place: int) -> Any:
        if isinstance(value, _Kept):
            return self.kept[value, place]
        cached = number < len(self.caches) and value is self.recorded[number]
        return self.caches[number] if cached else value


class Layerwise:
    """A lazily loaded model, computed in float32 a layer at a time. It can be used once: its layers are let go."""

    def __init__(self, model: Any) -> None:
        inner = model.model
        self._model, self._rows = model, inner.embed_tokens.weight
        self._embeddings = {name: inner[name].weight for name in _EMBEDDINGS if isinstance(inner.get(name), nn.Module)}
        self._shares = hasattr(inner, "previous_kvs")
        self._head = self._head_weight()
        model.update(tree_map(lambda weight: weight.astype(mx.float32), model.parameters()))
        model.eval()
        self._layers = list(inner.layers)

    def _head_weight(self) -> mx.array | None:
        """The stored matrix of the output head, or None for a head that is more than a matrix."""
        head = getattr(text_model(self._model), "lm_head", None)
        if head is None:
            return self._rows if type(self._model.model.embed_tokens) is nn.Embedding else None
        return head.weight if type(head) is nn.Linear and "bias" not in head else None

    def logits(self, prompts: Sequence[Sequence[int]], *, chunk_tokens: int) -> npt.NDArray[np.float32]:
        """Logits of the token after each prompt: shape [prompts, V]; at most ``chunk_tokens`` are computed at once."""
        waiting = [self._prompt(prompt, chunk_tokens) for prompt in prompts]
        for number, layer in enumerate(self._layers):
            mx.eval(layer.parameters())
            for prompt in waiting:
                prompt.advance(number, layer)
            layer.update(tree_map(lambda _weight: mx.zeros(1), layer.parameters()))
            mx.clear_cache()
        states = [self._final(prompt.states[-1][:, -1:]) for prompt in waiting]
        return np.concatenate([np.array(row) for row in self._logits(states)])

    def _prompt(self, prompt: Sequence[int], chunk_tokens: int) -> _Prompt:
        """The embedded prompt, and how the model would call its layers."""
        from mlx_lm.models.cache import make_prompt_cache

        tokens = mx.array(list(prompt))[None]
        recorders = [_Recorder(layer, self._number(place)) for place, layer in enumerate(self._layers)]
        long = len(prompt) > chunk_tokens
        recorded, caches = (make_prompt_cache(self._model) if long else [] for _ in range(2))
        with self._standing_in(recorders):
            for start in range(0, len(prompt), chunk_tokens):
                hidden_states(self._model, tokens[:, start : start + chunk_tokens], recorded or None)
        states = [states for states, _, _ in recorders[0].calls]
        mx.eval(states)
        calls = [[call[1:] for call in recorder.calls] for recorder in recorders]
        return _Prompt(states, calls, caches, recorded)

    def _final(self, states: mx.array) -> mx.array:
        """What the model makes of the last layer's output: shape [1, D]."""
        known = [
            _Final(layer, None if place else states, self._number(place)) for place, layer in enumerate(self._layers)
        ]
        with self._standing_in(known):
            final = hidden_states(self._model, mx.zeros((1, 1), mx.int32))[:, -1]
        mx.eval(final)
        return final

    def _number(self, place: int) -> int | None:
        return place if self._shares else None

    @contextmanager
    def _standing_in(self, layers: Sequence[_Recorder]) -> Iterator[None]:
        """Inside the block the model has these layers, and embeddings that widen only the rows that are looked up."""
        inner = self._model.model
        before = {name: inner[name] for name in self._embeddings}
        inner.layers = list(layers)
        for name, rows in self._embeddings.items():
            setattr(inner, name, _Rows(rows, before[name]))
        try:
            yield
        finally:
            inner.layers = self._layers
            for name, embedding in before.items():
                setattr(inner, name, embedding)

    def _logits(self, states: Sequence[mx.array]) -> list[mx.array]:
        if self._head is None:
            return [logits_of(self._model, row).astype(mx.float32) for row in states]
        rows, width = self._head.shape
        step, parts = max(1, HEAD_VALUES // width), list[list[mx.array]]()
        for first in range(0, rows, step):
            matrix = self._head[first : first + step].astype(mx.float32)
            parts.append([capped(self._model, row @ matrix.T) for row in states])
            mx.eval(parts[-1])
            mx.clear_cache()
        return [mx.concatenate(list(row), axis=-1) for row in zip(*parts, strict=True)]


class _Rows:
    """An embedding that widens only the rows that are looked up."""

    def __init__(self, weight: mx.array, module: Any) -> None:
        self._weight, self._module = weight, module

    def __call__(self, tokens: mx.array) -> mx.array:
        return self._weight[tokens].astype(mx.float32)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)
