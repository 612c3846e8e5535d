"""Two caches with which an unpatched mlx-lm model runs a prefix once and then K branches that continue it.

They implement mlx-lm's cache protocol: ``offset``, ``update_and_fetch``, ``make_mask``. Shapes: G prefixes of
P tokens, B branches of L tokens, H key-value heads of width D.
"""

from typing import Any

from mlx_ragtune.clients.runtime_mlx import mx


def causal_mask(count: int, before: int, window: int | None) -> mx.array:
    """Which of ``before + count`` columns each of ``count`` queries sees: bool, [count, before + count]."""
    columns = mx.arange(before + count)[None]
    queries = mx.arange(before, before + count)[:, None]
    seen = queries >= columns
    return seen if window is None else seen & (queries < columns + window)


def _mask(count: int, before: int, window: int | None, return_array: bool) -> Any:
    """The string ``"causal"`` where no query is further than the window from a column, else an array.

    Metal's fused attention has a backward pass for the string only: an array keeps all scores in memory. The string
    aligns the last query with the last column, so it is right for fewer queries than columns too.
    """
    window = window if window is not None and window < before + count else None
    return "causal" if window is None and not return_array else causal_mask(count, before, window)


class Prefix:
    """Stores one layer's keys and values of the prefixes, [G, H, P, D], all of one length."""

    def __init__(self) -> None:
        self.offset = 0
        self.keys: Any = None
        self.values: Any = None

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Store and return keys and values."""
        self.keys, self.values = keys, values
        return keys, values

    def make_mask(self, count: int, return_array: bool = False, window_size: int | None = None) -> Any:
        """A causal mask, within the window if the layer has one."""
        return _mask(count, 0, window_size, return_array)


class Branches:
    """Puts each branch's prefix in front of its own keys. ``parents`` [B] are prefix numbers; None: one prefix."""

    def __init__(self, prefix: Prefix, length: int, parents: mx.array | None) -> None:
        self.prefix, self._length, self._parents = prefix, length, parents
        self.offset = length

    def on(self, keys: mx.array, values: mx.array) -> "Branches":
        """The same branches on other keys and values of the prefix."""
        prefix = Prefix()
        prefix.keys, prefix.values = keys, values
        return Branches(prefix, self._length, self._parents)

    def _joined(self, before: mx.array, own: mx.array) -> mx.array:
        if self._parents is None:
            before = mx.broadcast_to(before, (own.shape[0], *before.shape[1:]))
        else:
            before = before[self._parents]
        return mx.concatenate([before, own], axis=2)

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Keys and values of prefix and branch, [B, H, P + L, D]. Gradients of branches are summed in the prefix."""
        return self._joined(self.prefix.keys, keys), self._joined(self.prefix.values, values)

    def make_mask(self, count: int, return_array: bool = False, window_size: int | None = None) -> Any:
        """A mask over the branch's own prefix (all of it) and the branch (causal), within the layer's window."""
        return _mask(count, self._length, window_size, return_array)
