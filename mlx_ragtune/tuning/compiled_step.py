"""Loss and gradient of a micro-batch as one compiled function, for the shapes that a run has most often.

``mx.compile`` traces the function once for each shape, which takes about as long as a step, and holds the trace. So
lengths are rounded up to a bucket, and only shapes that come back often are compiled, up to a ceiling; all others run
step by step. Which ones is decided from the rows and the plan before the first update, so that a resumed run and an
uninterrupted one compute the same bits. Random numbers go in and out of the function: dropout draws what it draws
without it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from mlx_ragtune.clients.runtime_mlx import mx, nn
from mlx_ragtune.tuning.groups import Group, Shape, padded, shape_of
from mlx_ragtune.tuning.lean_kernels import on_cpu
from mlx_ragtune.tuning.loss import Batch, Embedded, batch_loss, make_batch


@dataclass(frozen=True)
class Policy:
    """What is compiled: at most ``ceiling`` shapes that have at least ``least`` micro-batches of the run each.

    Lengths are multiples of ``bucket`` tokens. A ``ceiling`` of 0 compiles nothing.
    """

    bucket: int
    ceiling: int
    least: int


ON_CPU = Policy(bucket=16, ceiling=32, least=8)
"""A trace takes seconds, the first one also calls the C++ compiler, and every padded token costs time."""
ON_GPU = Policy(bucket=32, ceiling=64, least=3)


def policy_here() -> Policy:
    """The policy for MLX's default device."""
    return ON_CPU if on_cpu() else ON_GPU


Key = tuple[Shape, int]
"""A shape that is compiled, and its number of answer positions."""
Sources = Callable[[Sequence[Group], int], Embedded]
"""What enters the first layer instead of tokens, for groups and a bucket."""


def from_tokens(_groups: Sequence[Group], _cut: int) -> Embedded:
    """The first layer gets the embeddings of the tokens."""
    return None, None


def key_of(groups: Sequence[Group], bucket: int) -> Key:
    """The shape of a micro-batch in buckets."""
    return shape_of(groups, bucket), padded(sum(group.answer_tokens for group in groups), bucket)


@dataclass(frozen=True)
class Choice:
    """The shapes that a run compiles, all of its ``shapes``, and the micro-batches of both."""

    keys: frozenset[Key] = frozenset()
    shapes: int = 0
    compiled: int = 0
    micro_batches: int = 0

    def describe(self) -> str:
        """One line that is printed before training starts."""
        share = self.compiled / max(1, self.micro_batches)
        return f"compiled steps: {len(self.keys)} of {self.shapes} shapes, {share:.0%} of {self.micro_batches} steps"


def choose_shapes(batches: Iterable[Sequence[Group]], policy: Policy) -> Choice:
    """The most frequent shapes among all micro-batches of a run, within the policy; ties by shape."""
    counts = Counter(key_of(groups, policy.bucket) for groups in batches)
    often = [(count, key) for key, count in counts.items() if count >= policy.least]
    often.sort(key=lambda item: (-item[0], item[1]))
    kept = often[: policy.ceiling]
    return Choice(frozenset(key for _, key in kept), len(counts), sum(count for count, _ in kept), counts.total())


class CompiledStep:
    """A function of model and micro-batch that returns (summed cross-entropy, its gradient), compiled for ``keys``.

    ``traces`` is the number of shapes that have been compiled so far.
    """

    def __init__(self, model: Any, keys: frozenset[Key], bucket: int, sources: Sources = from_tokens) -> None:
        self._keys, self._bucket, self._sources = keys, bucket, sources
        self.traces = 0
        value_and_grad = nn.value_and_grad(model, batch_loss)

        def traced(parameters: Any, batch: Batch, arrays: dict[str, Any], embedded: Embedded) -> Any:
            self.traces += 1
            model.update(parameters)
            return value_and_grad(model, replace(batch, **arrays), embedded)

        self._traced = traced
        self._functions: dict[Key, Callable[..., Any]] = {}

    def handles(self, groups: Sequence[Group]) -> bool:
        """Whether the micro-batch has a shape that is compiled."""
        return bool(self._keys) and key_of(groups, self._bucket) in self._keys

    def __call__(self, model: Any, groups: Sequence[Group]) -> tuple[mx.array, Any]:
        """(loss, gradient) of a micro-batch that it ``handles``."""
        batch = self.batch(groups)
        names = ("prefix", "branches", "parents", "positions", "targets", "weights")
        arrays = {name: mx.array(value) for name in names if (value := getattr(batch, name)) is not None}
        embedded = self._sources(groups, self._bucket)
        function = self._function(key_of(groups, self._bucket), batch)
        parameters = model.trainable_parameters()
        try:
            loss, gradient = function(parameters, arrays, embedded)
        finally:
            model.update(parameters)  # the trace left its placeholders in the model
        return loss, gradient

    def batch(self, groups: Sequence[Group]) -> Batch:
        """The micro-batch in its bucket."""
        return make_batch(groups, self._bucket).filled(self._bucket)

    def _function(self, key: Key, batch: Batch) -> Callable[..., Any]:
        if key not in self._functions:
            like = replace(batch, lengths=())  # only the shapes of its arrays count
            state = mx.random.state

            @partial(mx.compile, inputs=state, outputs=state)
            def compiled(parameters: Any, arrays: dict[str, Any], embedded: Embedded) -> Any:
                return self._traced(parameters, like, arrays, embedded)

            self._functions[key] = compiled
        return self._functions[key]
