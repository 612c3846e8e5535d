"""Counts and lengths of the rows by kind, and the rows that are too long."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlx_ragtune.records import Example

HEADER = ("kind", "rows", "share", "tokens min", "tokens mean", "tokens max", "too long")


@dataclass(frozen=True)
class KindStatistics:
    """Rows of one kind and their lengths in tokens."""

    kind: str
    rows: int
    share: float
    tokens_min: int
    tokens_mean: float
    tokens_max: int
    too_long: int


@dataclass(frozen=True)
class DatasetStatistics:
    """Statistics by kind and over all, groups, and the ids of rows longer than ``max_tokens``."""

    kinds: tuple[KindStatistics, ...]
    total: KindStatistics
    groups: int
    max_tokens: int
    too_long: tuple[str, ...]

    def table(self) -> list[tuple[str, ...]]:
        """A header, a line for each kind, and the total: all cells as text."""
        lines = [
            (
                row.kind,
                str(row.rows),
                f"{row.share:.0%}",
                str(row.tokens_min),
                f"{row.tokens_mean:.0f}",
                str(row.tokens_max),
                str(row.too_long),
            )
            for row in (*self.kinds, self.total)
        ]
        return [HEADER, *lines]


def _of(kind: str, tokens: Sequence[int], total: int, max_tokens: int) -> KindStatistics:
    return KindStatistics(
        kind,
        len(tokens),
        len(tokens) / total,
        min(tokens),
        sum(tokens) / len(tokens),
        max(tokens),
        sum(count > max_tokens for count in tokens),
    )


def describe(rows: Sequence[Example], tokens: Mapping[str, int], *, max_tokens: int) -> DatasetStatistics:
    """Statistics of the rows. ``tokens`` maps row id to length of the whole row; kinds without rows are absent.

    Raises ValueError without rows and KeyError for a row without a length; both are errors of the caller.
    """
    if not rows:
        raise ValueError("no rows to describe")
    kinds: dict[str, list[int]] = {}
    for row in rows:
        kinds.setdefault(row.kind, []).append(tokens[row.id])
    order = [kind for kind in ("grounded", "synthesis", "refusal") if kind in kinds]
    return DatasetStatistics(
        kinds=tuple(_of(kind, kinds[kind], len(rows), max_tokens) for kind in order),
        total=_of("all", [tokens[row.id] for row in rows], len(rows), max_tokens),
        groups=len({row.group for row in rows}),
        max_tokens=max_tokens,
        too_long=tuple(row.id for row in rows if tokens[row.id] > max_tokens),
    )
