"""Two caches with which an unpatched mlx-lm model runs a prefix once and then K branches that continue it.

They implement mlx-lm's cache protocol: ``offset``, ``update_and_fetch``, ``make_mask``. Shapes: G prefixes of
P tokens, B branches of L tokens, H key-value heads of width D.
"""

from typing import Any

from mlx_ragtune.clients.runtime_mlx import mx


def causal_mask(count: int, before: int, pads: mx.array | None, window: int | None) -> mx.array:
    """Which of ``before + count`` columns each of ``count`` queries sees: bool, [count, columns] or [B, 1, …].

    ``pads`` [B] is left padding. Each padded query sees only itself, because one that sees nothing gives NaN.
    """
    columns = mx.arange(before + count)[None]
    queries = mx.arange(before, before + count)[:, None]
    seen = queries >= columns
    if window is not None:
        seen = seen & (queries < columns + window)
    if pads is None:
        return seen
    inside = columns >= pads.reshape(-1, 1, 1, 1)
    return (seen & inside) | (queries == columns)


class Prefix:
    """Stores one layer's keys and values of the prefixes, [G, H, P, D]. ``pads`` [G] is their left padding."""

    def __init__(self, pads: mx.array | None = None) -> None:
        self.pads = pads
        self.offset: Any = 0 if pads is None else -pads
        self.keys: Any = None
        self.values: Any = None

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Store and return keys and values."""
        self.keys, self.values = keys, values
        return keys, values

    def make_mask(self, count: int, return_array: bool = False, window_size: int | None = None) -> Any:
        """A causal mask, within the window if the layer has one."""
        window = window_size if window_size is not None and window_size < count else None
        if self.pads is None and window is None and not return_array:
            return "causal"
        return causal_mask(count, 0, self.pads, window)


class Branches:
    """Puts each branch's prefix in front of its own keys. ``parents`` [B] are prefix numbers; None: one prefix."""

    def __init__(self, prefix: Prefix, length: int, parents: mx.array | None) -> None:
        self.prefix, self._length, self._parents = prefix, length, parents
        self._pads = None if prefix.pads is None else prefix.pads[parents]
        self.offset: Any = length if self._pads is None else length - self._pads

    def on(self, keys: mx.array, values: mx.array) -> "Branches":
        """The same branches on other keys and values of the prefix."""
        prefix = Prefix(self.prefix.pads)
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

    def make_mask(self, count: int, window_size: int | None = None, **_options: Any) -> mx.array:
        """A mask over the branch's own prefix (all of it) and the branch (causal), within the layer's window."""
        window = window_size if window_size is not None and window_size < self._length + count else None
        return causal_mask(count, self._length, self._pads, window)
