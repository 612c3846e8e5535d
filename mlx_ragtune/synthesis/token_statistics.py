"""How many rows of each kind there are, how long they are, and which do not fit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlx_ragtune.records import Example

HEADER = ("kind", "rows", "share", "tokens min", "tokens mean", "tokens max", "do not fit")


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
        """The header, a line for each kind, and the sum: all cells as text."""
        lines = [
            (
                one.kind,
                str(one.rows),
                f"{one.share:.0%}",
                str(one.tokens_min),
                f"{one.tokens_mean:.0f}",
                str(one.tokens_max),
                str(one.too_long),
            )
            for one in (*self.kinds, self.total)
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
    """Statistics of the rows; ``tokens`` is row id → length of the whole row. Kinds without rows are absent.

    Raises ValueError without rows and KeyError for a row without a length: both are mistakes of the caller.
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
