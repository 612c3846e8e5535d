"""Rows that begin alike become one prefix with K branches, so that what they share is computed once."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mlx_ragtune.tuning.rows import TokenRow

CUT = 32
"""Prefixes end at a multiple of this, so that they need no padding; the rest is repeated in the branches."""


@dataclass(frozen=True)
class Group:
    """Rows whose first ``prefix_length`` tokens are the same; 0 where they share nothing worth while."""

    rows: tuple[TokenRow, ...]
    prefix_length: int

    @property
    def tokens(self) -> int:
        """Tokens that go through the layers: the prefix once, the branches padded."""
        longest = max(len(row.tokens) for row in self.rows) - self.prefix_length - 1
        return self.prefix_length + len(self.rows) * padded(longest)

    @property
    def answer_tokens(self) -> int:
        """Tokens that the loss is taken over."""
        return sum(len(row.tokens) - row.prompt_length for row in self.rows)


def padded(length: int) -> int:
    """The length as a multiple of CUT."""
    return -(-length // CUT) * CUT


def shared_length(rows: Sequence[TokenRow]) -> int:
    """The longest common prefix, cut to a multiple of CUT and short of every answer by at least one token."""
    limit = min(row.prompt_length for row in rows) - 1
    first = rows[0].tokens[:limit]
    for row in rows[1:]:
        same = first[:limit] == row.tokens[:limit]
        limit = int(np.argmin(same)) if not same.all() else limit
        first = first[:limit]
    return max(0, limit // CUT * CUT)


def make_groups(rows: Iterable[TokenRow], *, most: int = 8) -> list[Group]:
    """Groups by the rows' ``group``, at most ``most`` branches each, rows and groups in their first order."""
    by_name: dict[str, list[TokenRow]] = defaultdict(list)
    for row in rows:
        by_name[row.group].append(row)
    groups = []
    for members in by_name.values():
        for start in range(0, len(members), most):
            part = members[start : start + most]
            groups.append(Group(tuple(part), shared_length(part)))
    return groups
