"""Which single question or paper a row depends on most, and whether the verdict holds without it."""

from collections.abc import Iterator
from typing import Literal

import numpy as np

from mlx_ragtune.scoring.answers.metrics import METRICS, Metric
from mlx_ragtune.scoring.verdict.comparison import Influence, MetricRow, Verdict
from mlx_ragtune.scoring.verdict.metric_rows import Rules, decide_row, tested_p
from mlx_ragtune.scoring.verdict.pairing import Pairs
from mlx_ragtune.scoring.verdict.statistics import Codes, Floats, Mask, holm


def _verdict_without(pairs: Pairs, metric: Metric, p_values: dict[str, float], rules: Rules) -> Verdict | None:
    """The row's verdict on fewer questions, with the other rows' p values unchanged."""
    p = tested_p(pairs, metric, rules)
    if p <= rules.alpha:  # otherwise adjusting it changes nothing
        p = holm(p_values | {metric.name: p})[metric.name]
    return decide_row(pairs, metric, p, rules)


def _share(differences: Floats, left_out: Mask) -> float | None:
    """The share of the whole difference that the left-out questions make; None when the difference is 0."""
    total = float(differences.sum())
    return float(differences[left_out].sum()) / total if abs(total) > 1e-12 else None


def influences(pairs: Pairs, row: MetricRow, p_values: dict[str, float], rules: Rules) -> tuple[Influence, ...]:
    """The question that changes the row most, and every question or cluster that flips its verdict.

    Clusters of one question are listed as that question. Sorted by how much the difference changes.
    """
    metric = METRICS[row.name]
    listed: list[Influence] = []
    sizes = np.bincount(pairs.clusters)
    sums = np.bincount(pairs.clusters, weights=pairs.differences)
    squares = np.bincount(pairs.clusters, weights=pairs.differences**2)
    verdicts: dict[tuple[float, ...], Verdict | None] = {}
    for kind, identifier, mask in _masks(pairs, sizes):
        if mask.all():
            continue
        rest = pairs.differences[~mask]
        code, left_out = int(pairs.clusters[mask][0]), pairs.differences[mask]
        # Questions that are equal in these leave the same estimate behind.
        key = (sizes[code], sums[code], squares[code], left_out.size, float(left_out.sum()))
        same = tuple(round(float(value), 9) for value in key)
        if same not in verdicts:
            without = _verdict_without(pairs.only(~mask), metric, p_values, rules)
            verdicts[same] = row.verdict if row.rests_on_invalid else without
        listed.append(
            Influence(
                metric=row.name,
                kind=kind,
                id=identifier,
                share=_share(pairs.differences, mask),
                difference_without=float(rest.mean()),
                verdict=row.verdict,
                verdict_without=verdicts[same],
            )
        )
    listed.sort(key=lambda item: (-abs(item.difference_without - row.all.difference), item.kind, item.id))
    largest = next((item for item in listed if item.kind == "question"), None)
    return tuple(item for item in listed if item.flips or item is largest)


def _masks(pairs: Pairs, sizes: Codes) -> Iterator[tuple[Literal["question", "cluster"], str, Mask]]:
    """What is left out: every question, then every cluster of several questions."""
    identifiers = np.array(pairs.question_ids)
    for name in pairs.question_ids:
        yield "question", name, identifiers == name
    for code in np.flatnonzero(sizes > 1):
        mask = pairs.clusters == code
        yield "cluster", pairs.cluster_ids[int(np.flatnonzero(mask)[0])], mask
