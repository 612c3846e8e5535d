"""Counts and lengths of the rows by kind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlx_ragtune.records import Example


@dataclass(frozen=True)
class KindStatistics:
    """Rows of one kind and their lengths in tokens."""

    kind: str
    rows: int
    share: float
    tokens_min: int
    tokens_mean: float
    tokens_max: int


@dataclass(frozen=True)
class DatasetStatistics:
    """Statistics by kind and over all rows, and the number of groups."""

    kinds: tuple[KindStatistics, ...]
    total: KindStatistics
    groups: int


def _of(kind: str, tokens: Sequence[int], total: int) -> KindStatistics:
    return KindStatistics(kind, len(tokens), len(tokens) / total, min(tokens), sum(tokens) / len(tokens), max(tokens))


def describe(rows: Sequence[Example], tokens: Mapping[str, int]) -> DatasetStatistics:
    """Statistics of the rows. ``tokens`` maps row id to length of the whole row; kinds without rows are absent.

    Raises ValueError without rows and KeyError for a row without a length; both are errors of the caller.
    """
    if not rows:
        raise ValueError("no rows to describe")
    kinds: dict[str, list[int]] = {}
    for row in rows:
        kinds.setdefault(row.kind, []).append(tokens[row.id])
    order = [kind for kind in ("grounded", "synthesis", "refusal", "rehearsal") if kind in kinds]
    return DatasetStatistics(
        kinds=tuple(_of(kind, kinds[kind], len(rows)) for kind in order),
        total=_of("all", [tokens[row.id] for row in rows], len(rows)),
        groups=len({row.group for row in rows}),
    )
