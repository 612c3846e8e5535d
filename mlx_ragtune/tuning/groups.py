"""Groups rows that start with the same tokens into one prefix with K branches, so the prefix is computed once.

Only the tokens matter, not the origin of the rows: chat rows that share only a system prompt are grouped too
where that saves work.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mlx_ragtune.tuning.token_rows import TokenRow

CUT = 8
"""Prefixes end at a multiple of this and branches are padded to one; the remaining shared tokens are repeated."""
MOST_BRANCHES = 8


@dataclass(frozen=True)
class Group:
    """Rows whose first ``prefix_length`` tokens are the same; 0 where sharing saves nothing."""

    rows: tuple[TokenRow, ...]
    prefix_length: int

    @property
    def branches(self) -> int:
        """Number K of branches: the rows, and one more for each rejected answer."""
        return sum(len(row.branches) for row in self.rows)

    @property
    def longest(self) -> int:
        """Length of the longest row without its last token, which is only a target."""
        return max(len(tokens) for row in self.rows for tokens in row.branches) - 1

    @property
    def branch_length(self) -> int:
        """Length L of the padded branches: what the longest row has after the prefix."""
        return padded(self.longest - self.prefix_length)

    @property
    def tokens(self) -> int:
        """Tokens that go through the layers: the prefix once and K padded branches."""
        return self.prefix_length + self.branches * self.branch_length

    @property
    def answer_tokens(self) -> int:
        """Tokens whose logits are computed: those of all answers, rejected ones too."""
        return sum(len(tokens) - row.prompt_length for row in self.rows for tokens in row.branches)


@dataclass(frozen=True, order=True)
class Shape:
    """What a micro-batch computes: ``prefixes`` of ``prefix`` tokens, and ``branches`` of ``length`` tokens."""

    prefixes: int
    prefix: int
    branches: int
    length: int

    @property
    def tokens(self) -> int:
        """Tokens that go through the layers, padding included."""
        return self.prefixes * self.prefix + self.branches * self.length


def shape_of(groups: Sequence[Group], cut: int = CUT) -> Shape:
    """The shape of groups that are computed together.

    Every prefix is cut to the shortest of them, and the branches repeat the rest: left padding would need a mask for
    each row. Branches are padded on the right to the longest. Lengths are multiples of ``cut``.
    """
    prefix = min(group.prefix_length for group in groups) // cut * cut
    length = padded(max(group.longest for group in groups) - prefix, cut)
    return Shape(len(groups), prefix, sum(group.branches for group in groups), length)


def answer_tokens(rows: Iterable[TokenRow]) -> int:
    """Tokens that count in the cross-entropy: answers and their end-of-turn tokens, without rejected answers."""
    return sum(len(row.tokens) - row.prompt_length for row in rows)


def padded(length: int, cut: int = CUT) -> int:
    """The length rounded up to a multiple of ``cut``."""
    return -(-length // cut) * cut


def _common(first: TokenRow, second: TokenRow, limit: int) -> int:
    """How many of the first ``limit`` tokens are the same in both."""
    limit = min(limit, len(first.tokens), len(second.tokens))
    same = first.tokens[:limit] == second.tokens[:limit]
    return limit if same.all() else int(np.argmin(same))


def shared_length(rows: Sequence[TokenRow]) -> int:
    """Length of the longest common prefix, a multiple of CUT that ends at least one token before every answer."""
    limit = min(row.prompt_length for row in rows) - 1
    for row in rows[1:]:
        limit = _common(rows[0], row, limit)
    return max(0, limit // CUT * CUT)


def _with(group: Group, row: TokenRow) -> Group:
    rows = (*group.rows, row)
    shared = min(row.prompt_length - 1, _common(group.rows[0], row, group.prefix_length))
    return Group(rows, max(0, shared // CUT * CUT))


def make_groups(rows: Iterable[TokenRow], *, most: int = MOST_BRANCHES) -> list[Group]:
    """All rows, each once, in groups of at most ``most`` branches; a row joins a group where that saves tokens.

    Rows are visited in the order of their tokens, so rows with the same start are neighbors. A row and its rejected
    answer are always in one group.
    """
    groups: list[Group] = []
    for row in sorted(rows, key=lambda row: (row.tokens.astype(">i4").tobytes(), row.id)):
        alone = Group((row,), shared_length([row]))
        if groups and groups[-1].branches + alone.branches <= most:
            joined = _with(groups[-1], row)
            if joined.prefix_length and joined.tokens < groups[-1].tokens + alone.tokens:
                groups[-1] = joined
                continue
        groups.append(alone)
    return groups
