"""Which single question or paper a row depends on most, and whether the verdict holds without it."""

import numpy as np

from mlx_ragtune.scoring.answers.metrics import METRICS, Metric
from mlx_ragtune.scoring.verdict.comparison import Influence, MetricRow, Verdict
from mlx_ragtune.scoring.verdict.metric_rows import Rules, decide_row, tested_p
from mlx_ragtune.scoring.verdict.pairing import Pairs
from mlx_ragtune.scoring.verdict.statistics import Floats, Mask, holm


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
    identifiers = np.array(pairs.question_ids)
    sizes = np.bincount(pairs.clusters)
    masks = [("question", str(name), identifiers == name) for name in identifiers]
    masks += [
        ("cluster", pairs.cluster_ids[int(np.flatnonzero(pairs.clusters == code)[0])], pairs.clusters == code)
        for code in np.flatnonzero(sizes > 1)
    ]
    for kind, identifier, mask in masks:
        if mask.all():
            continue
        rest = pairs.only(~mask)
        listed.append(
            Influence(
                metric=row.name,
                kind="question" if kind == "question" else "cluster",
                id=identifier,
                share=_share(pairs.differences, mask),
                difference_without=float(rest.differences.mean()),
                verdict=row.verdict,
                verdict_without=row.verdict
                if row.rests_on_invalid
                else _verdict_without(rest, metric, p_values, rules),
            )
        )
    listed.sort(key=lambda item: (-abs(item.difference_without - row.all.difference), item.kind, item.id))
    largest = next((item for item in listed if item.kind == "question"), None)
    return tuple(item for item in listed if item.flips or item is largest)
