"""Data-parallel training over several machines with ``mlx.launch``: each rank computes a share of every update.

All ranks hold the same weights and make the same update, because gradients are summed over all of them; only
rank 0 writes files. Without ``mlx.launch`` there is one rank and nothing is sent.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mlx_ragtune.clients.runtime_mlx import mx, tree_map
from mlx_ragtune.errors import ToolError

Item = TypeVar("Item")


class MachinesLostError(ToolError):
    """The ranks are no longer in step, so this process cannot train any more."""


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
        """This rank's items: every ``size``-th one. There may be none."""
        return list(items[self.rank :: self.size])

    def total(self, tree: Any) -> Any:
        """The tree's arrays summed over all ranks, evaluated. Every rank must call it.

        Arrays of one type are sent as one. Raises MachinesLostError when a rank is gone.
        """
        if self.size == 1:
            return tree
        values: list[mx.array] = []
        tree_map(values.append, tree)
        summed = list(values)
        for dtype in dict.fromkeys(value.dtype for value in values):
            places = [place for place, value in enumerate(values) if value.dtype == dtype]
            whole = self._all_sum(mx.concatenate([values[place].reshape(-1) for place in places]))
            parts = mx.split(whole, np.cumsum([values[place].size for place in places])[:-1].tolist())
            for place, part in zip(places, parts, strict=True):
                summed[place] = part.reshape(values[place].shape)
        left_to_right = iter(summed)
        return tree_map(lambda _value: next(left_to_right), tree)

    def from_first(self, tree: Any) -> Any:
        """Rank 0's arrays, on every rank; the other ranks pass arrays of the same shapes."""
        if self.size == 1:
            return tree
        return self.total(tree if self.first else tree_map(mx.zeros_like, tree))

    def told(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Rank 0's message (plain JSON), on every rank; what the others pass is ignored."""
        text = json.dumps(message).encode() if self.first else b""
        length = int(self.from_first(mx.array([len(text)], mx.int32)).item())
        own = np.frombuffer(text, np.uint8) if self.first else np.zeros(length, np.uint8)
        sent = self.from_first(mx.array(own).astype(mx.int32))
        told: dict[str, Any] = json.loads(np.array(sent).astype(np.uint8).tobytes())
        return told

    def _all_sum(self, array: mx.array) -> mx.array:
        if _left:
            raise self._lost("the other machines were left behind by an error")
        try:
            total = mx.distributed.all_sum(array, stream=mx.cpu)
            mx.eval(total)  # at once: a rank that has nothing to compute must take part too
        except RuntimeError as error:
            leave()
            raise self._lost(f"the connection to another machine was lost: {error}") from None
        return total

    def _lost(self, what: str) -> MachinesLostError:
        return MachinesLostError(
            what,
            where=f"rank {self.rank} of {self.size}",
            fix="run the same command again: it resumes from the last checkpoint",
        )


_left: list[bool] = []


def leave() -> None:
    """Send nothing from now on: this rank failed alone, and the others wait for what will not come."""
    _left.append(True)


def left() -> bool:
    """Whether this rank failed alone."""
    return bool(_left)


def find_ranks() -> Ranks:
    """The ranks as set by ``mlx.launch``; (0, 1) without it. Raises ToolError when they do not find each other."""
    hosts = os.environ.get("MLX_HOSTFILE")
    if hosts and Path(hosts).is_file() and not Path(hosts).read_text(encoding="utf-8").strip():
        return Ranks(0, 1)  # of ``mlx.launch -n 1``, which MLX cannot read
    try:
        world = mx.distributed.init()
    except RuntimeError as error:
        raise ToolError(
            f"the machines do not find each other: {error}",
            where="mlx.launch",
            fix="check the host file, and that its ports are free and not blocked",
        ) from None
    return Ranks(world.rank(), world.size())
