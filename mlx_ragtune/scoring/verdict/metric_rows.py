"""One metric, decided: its row from its paired values, by the rule of ``verdict``."""

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
    """What counts: differences inside ``margin`` are equivalent, ``alpha`` is the family's error rate."""

    margin: float
    alpha: float
    family: tuple[str, ...]


def estimate(pairs: Pairs, metric: Metric) -> Estimate:
    """The estimate behind the interval.

    Widened for yes/no metrics, and for any share without spread, where the plain interval has no width.
    """
    plain = cluster_estimate(pairs.differences, pairs.clusters)
    if metric.unit == "share" and (pairs.binary or plain.standard_error < 1e-9):
        return widened_estimate(pairs.differences, pairs.clusters)
    return plain


def decide_row(pairs: Pairs, metric: Metric, p: float, rules: Rules) -> Verdict | None:
    """The verdict of one metric, ``p`` being adjusted already.

    Where fewer than ``MIN_CHANGED`` clusters differ, their spread is not known, and equivalence is claimed
    on the widened estimate only: a handful of unchanged questions proves nothing. A metric that is no
    share has no margin and is never equivalent.
    """
    if not metric.judged:
        return None
    found = estimate(pairs, metric)
    sums = np.bincount(pairs.clusters, weights=pairs.differences)
    few = int((np.abs(sums) > 1e-12).sum()) < MIN_CHANGED
    spread = widened_estimate(pairs.differences, pairs.clusters) if few else found
    if metric.unit == "share" and is_equivalent(spread, margin=rules.margin, alpha=rules.alpha):
        return "EQUIVALENT"
    low, high = found.interval(1 - rules.alpha)
    if p > rules.alpha or low <= 0 <= high:
        return "INCONCLUSIVE"
    return "IMPROVED" if (low > 0) == metric.higher_is_better else "REGRESSED"


def not_worse(pairs: Pairs, metric: Metric, rules: Rules) -> bool:
    """Whether the metric is surely not worse by more than the margin."""
    found = estimate(pairs, metric)
    gain = found.mean if metric.higher_is_better else -found.mean
    return is_noninferior(Estimate(gain, found.standard_error, found.df), margin=rules.margin, alpha=rules.alpha)


def view(pairs: Pairs, metric: Metric, rules: Rules) -> View:
    """Means, difference, interval and p. The interval of a share is cut at ±1."""
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
    """The row of one metric; ``holm_p`` is None for rows that decide nothing."""
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
