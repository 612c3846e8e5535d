"""Several machines on one run, by MLX's own ``mlx.launch``: each takes its share of every update.

All ranks hold the same weights and make the same update, since gradients are summed over all of them;
only rank 0 writes files. Without ``mlx.launch`` there is one rank and nothing is sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from mlx_ragtune.clients.runtime_mlx import mx, tree_map

Item = TypeVar("Item")


@dataclass(frozen=True)
class Ranks:
    """This process among its peers."""

    rank: int
    size: int

    @property
    def first(self) -> bool:
        """Whether this one writes."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> list[Item]:
        """This rank's items: every ``size``-th."""
        return list(items[self.rank :: self.size])

    def total(self, tree: Any) -> Any:
        """The tree's arrays, each summed over all ranks. Every rank must call it."""
        if self.size == 1:
            return tree
        return tree_map(lambda one: mx.distributed.all_sum(one, stream=mx.cpu), tree)

    def from_first(self, tree: Any) -> Any:
        """Rank 0's arrays on every rank; the others give arrays of the same shapes."""
        if self.size == 1:
            return tree
        return self.total(tree if self.first else tree_map(mx.zeros_like, tree))


def find_ranks() -> Ranks:
    """This process's place, as ``mlx.launch`` told it; (0, 1) when started alone."""
    world = mx.distributed.init()
    return Ranks(world.rank(), world.size())
