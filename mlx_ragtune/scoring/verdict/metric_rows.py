"""The row of one metric from its paired values, by the rules in ``decision``."""

import math
from dataclasses import dataclass

import numpy as np

from mlx_ragtune.scoring.answers.metrics import Metric
from mlx_ragtune.scoring.verdict.comparison import MetricRow, Verdict, View
from mlx_ragtune.scoring.verdict.pairing import Pairs
from mlx_ragtune.scoring.verdict.statistics import (
    Estimate,
    cluster_estimate,
    detectable,
    is_equivalent,
    is_noninferior,
    mcnemar_p,
    needed_clusters,
    sign_flip_p,
    widened_estimate,
)

MIN_CHANGED = 10


@dataclass(frozen=True)
class Rules:
    """Differences inside ``margin`` are equivalent; ``alpha`` is the family-wise error rate."""

    margin: float
    alpha: float
    family: tuple[str, ...]


def estimate(pairs: Pairs, metric: Metric) -> Estimate:
    """The estimate behind the interval.

    Widened (``widened_estimate``) for yes/no metrics, and for any share whose values do not vary, where the
    unwidened interval has no width.
    """
    plain = cluster_estimate(pairs.differences, pairs.clusters)
    if metric.unit == "share" and (pairs.binary or plain.standard_error < 1e-9):
        return widened_estimate(pairs.differences, pairs.clusters)
    return plain


def decide_row(pairs: Pairs, metric: Metric, p: float, rules: Rules) -> Verdict | None:
    """The verdict of one metric; ``p`` is already adjusted. None for a metric that is not judged.

    Where fewer than ``MIN_CHANGED`` clusters differ, their variance is unknown, and equivalence is claimed
    only on the widened estimate: a few unchanged questions prove nothing. A metric that is not a share
    has no margin and is never equivalent.
    """
    if not metric.judged:
        return None
    estimated = estimate(pairs, metric)
    sums = np.bincount(pairs.clusters, weights=pairs.differences)
    few = int((np.abs(sums) > 1e-12).sum()) < MIN_CHANGED
    spread = widened_estimate(pairs.differences, pairs.clusters) if few else estimated
    if metric.unit == "share" and is_equivalent(spread, margin=rules.margin, alpha=rules.alpha):
        return "EQUIVALENT"
    low, high = estimated.interval(1 - rules.alpha)
    if p > rules.alpha or low <= 0 <= high:
        return "INCONCLUSIVE"
    return "IMPROVED" if (low > 0) == metric.higher_is_better else "REGRESSED"


def not_worse(pairs: Pairs, metric: Metric, rules: Rules) -> bool:
    """Whether the metric is non-inferior at the margin (``is_noninferior``)."""
    estimated = estimate(pairs, metric)
    gain = estimated.mean if metric.higher_is_better else -estimated.mean
    return is_noninferior(
        Estimate(gain, estimated.standard_error, estimated.df), margin=rules.margin, alpha=rules.alpha
    )


def view(pairs: Pairs, metric: Metric, rules: Rules) -> View:
    """Means, difference, interval and p. The interval of a share is clipped to ±1."""
    low, high = estimate(pairs, metric).interval(1 - rules.alpha)
    if metric.unit == "share":
        low, high = max(low, -1.0), min(high, 1.0)
    return View(
        base_mean=float(pairs.base.mean()),
        tuned_mean=float(pairs.tuned.mean()),
        difference=float(pairs.differences.mean()),
        low=low if math.isfinite(low) else None,
        high=high if math.isfinite(high) else None,
        p=sign_flip_p(pairs.differences, pairs.clusters),
        n_questions=pairs.differences.size,
        n_clusters=int(pairs.clusters.max()) + 1,
    )


def _needed(pairs: Pairs, metric: Metric, rules: Rules) -> int | None:
    if metric.unit != "share":
        return None
    clusters = needed_clusters(estimate(pairs, metric), effect=rules.margin, alpha=rules.alpha)
    if clusters is None:
        return None
    return math.ceil(clusters * pairs.differences.size / (int(pairs.clusters.max()) + 1))


def make_row(metric: Metric, pairs: Pairs, valid: Pairs | None, rules: Rules, *, holm_p: float | None) -> MetricRow:
    """The row of one metric; ``holm_p`` is None for rows outside the family."""
    whole = view(pairs, metric, rules)
    both_valid = view(valid, metric, rules) if valid else None
    differences = pairs.differences
    paired_once = pairs.binary and bool(np.isin(differences, (-1.0, 0.0, 1.0)).all())
    losses, gains = int((differences < 0).sum()), int((differences > 0).sum())
    return MetricRow(
        name=metric.name,
        label=metric.label,
        role=metric.role,
        unit=metric.unit,
        higher_is_better=metric.higher_is_better,
        in_family=metric.name in rules.family,
        verdict=decide_row(pairs, metric, whole.p if holm_p is None else holm_p, rules),
        all=whole,
        both_valid=both_valid,
        due_to_invalid=whole.difference - both_valid.difference if both_valid else None,
        holm_p=holm_p,
        mcnemar_p=mcnemar_p(losses, gains) if paired_once else None,
        n_undefined=pairs.n_undefined,
        detectable=detectable(estimate(pairs, metric), alpha=rules.alpha),
        needed_questions=_needed(pairs, metric, rules),
    )
