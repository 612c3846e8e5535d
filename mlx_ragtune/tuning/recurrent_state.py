"""The states that layers of hybrid models keep instead of keys and values, for prefixes and their branches.

Qwen3.5's gated delta rule keeps the last inputs of its convolution and a matrix for each head, LFM2's short convolution
its last inputs. Both take them from ``cache[0]``, ``cache[1]`` and put the new ones back, as with mlx-lm's
``ArraysCache``. Here a branch begins with the states in which its prefix ended, and gradients flow back into them.
"""

from typing import Any

from mlx_ragtune.clients.runtime_mlx import mx


class StatePrefix:
    """Stores one layer's states at the end of the prefixes, [G, …], all of one length."""

    lengths = None
    """Right padding, which a prefix does not have."""

    def __init__(self) -> None:
        self.states: dict[int, mx.array] = {}

    def __getitem__(self, place: int) -> mx.array | None:
        return self.states.get(place)

    def __setitem__(self, place: int, state: mx.array) -> None:
        self.states[place] = state

    def advance(self, count: int) -> None:
        """Nothing: a state does not depend on how many tokens it stands for."""

    def make_mask(self, _count: int) -> None:
        """None: all inputs count."""


class StateBranches:
    """Begins each branch with its prefix's states. ``parents`` [B] are prefix numbers; None: one prefix.

    ``count`` is the number of branches. What a branch puts back is not kept.
    """

    lengths = None

    def __init__(self, prefix: StatePrefix, count: int, parents: mx.array | None) -> None:
        self.prefix, self._count, self._parents = prefix, count, parents

    def on(self, states: dict[int, mx.array]) -> "StateBranches":
        """The same branches on other states of the prefix."""
        prefix = StatePrefix()
        prefix.states = states
        return StateBranches(prefix, self._count, self._parents)

    def __getitem__(self, place: int) -> mx.array | None:
        state = self.prefix[place]
        if state is None:
            return None
        if self._parents is not None:
            return state[self._parents]
        return mx.broadcast_to(state, (self._count, *state.shape[1:]))

    def __setitem__(self, place: int, state: mx.array) -> None:
        """Nothing is kept."""

    def advance(self, count: int) -> None:
        """Nothing: a state does not depend on how many tokens it stands for."""

    def make_mask(self, _count: int) -> None:
        """None: branches are padded on the right, where nothing depends on them."""


def has_state(model: Any) -> list[bool]:
    """For each layer, whether it keeps a state instead of keys and values."""
    from mlx_lm.models.cache import ArraysCache

    if not hasattr(model, "make_cache"):
        return [False] * len(model.layers)
    return [isinstance(cache, ArraysCache) for cache in model.make_cache()]
