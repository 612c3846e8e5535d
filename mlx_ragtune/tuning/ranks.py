"""Data-parallel training over several machines with ``mlx.launch``: each rank computes a share of every update.

All ranks hold the same weights and make the same update, because gradients are summed over all of them; only
rank 0 writes files. Without ``mlx.launch`` there is one rank and nothing is sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from mlx_ragtune.clients.runtime_mlx import mx, tree_map

Item = TypeVar("Item")


@dataclass(frozen=True)
class Ranks:
    """The rank of this process and the number of ranks."""

    rank: int
    size: int

    @property
    def first(self) -> bool:
        """Whether this rank writes files."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> list[Item]:
        """This rank's items: every ``size``-th one."""
        return list(items[self.rank :: self.size])

    def total(self, tree: Any) -> Any:
        """The tree's arrays summed over all ranks. Every rank must call it."""
        if self.size == 1:
            return tree
        return tree_map(lambda array: mx.distributed.all_sum(array, stream=mx.cpu), tree)

    def from_first(self, tree: Any) -> Any:
        """Rank 0's arrays, on every rank; the other ranks pass arrays of the same shapes."""
        if self.size == 1:
            return tree
        return self.total(tree if self.first else tree_map(mx.zeros_like, tree))


def find_ranks() -> Ranks:
    """The ranks as set by ``mlx.launch``; (0, 1) without it."""
    world = mx.distributed.init()
    return Ranks(world.rank(), world.size())
