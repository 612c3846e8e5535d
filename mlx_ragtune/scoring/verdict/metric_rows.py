"""The row of one metric from its paired values, by the rules in ``decision``."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mlx_ragtune.scoring.answers.metrics import Metric
from mlx_ragtune.scoring.verdict.comparison import MetricRow, Verdict, View
from mlx_ragtune.scoring.verdict.pairing import Pairs
from mlx_ragtune.scoring.verdict.statistics import (
    Estimate,
    detectable,
    is_equivalent,
    is_noninferior,
    mcnemar_p,
    needed_clusters,
    widened_estimate,
)


@dataclass(frozen=True)
class Rules:
    """Differences inside ``margin`` are equivalent; ``alpha`` is the family-wise error rate.

    ``noise`` maps a metric to how far numerical noise alone moves its difference.
    """

    margin: float
    alpha: float
    family: tuple[str, ...]
    noise: Mapping[str, float] = field(default_factory=dict)

    def noise_of(self, metric: Metric) -> float:
        """The metric's noise floor; 0 when it was not measured."""
        return self.noise.get(metric.name, 0.0)


MIN_CHANGED = 10
MIN_CLUSTERS = 4
"""With fewer papers nothing is decided: the error of the test is measured from four up."""


def estimate(pairs: Pairs, metric: Metric) -> Estimate:
    """The estimate behind interval and p: widened (``widened_estimate``) by as much as one question moves.

    That is 1 for yes/no metrics, and the root mean square of the differences for others: few clusters with
    equal means by chance are then not taken for certainty. For shares whose values never vary it is 1.
    """
    bound = float(np.sqrt((pairs.differences**2).mean()))
    if metric.unit == "share" and (pairs.binary or bound < 1e-9):
        bound = 1.0
    return widened_estimate(pairs.differences, pairs.clusters, bound=bound)


def _groups(pairs: Pairs) -> int:
    return int(pairs.clusters.max()) + 1


def _spread(pairs: Pairs, metric: Metric) -> Estimate:
    """The estimate that equivalence is claimed on.

    Where fewer than ``MIN_CHANGED`` clusters differ, their variance is unknown, and one question may have moved
    by 1: a few unchanged questions prove nothing.
    """
    sums = np.bincount(pairs.clusters, weights=pairs.differences)
    few = int((np.abs(sums) > 1e-12).sum()) < MIN_CHANGED
    return widened_estimate(pairs.differences, pairs.clusters) if few else estimate(pairs, metric)


def tested_p(pairs: Pairs, metric: Metric, rules: Rules) -> float:
    """The p value that Holm adjusts: that the true difference is no larger than the noise floor.

    1 with fewer than ``MIN_CLUSTERS`` clusters.
    """
    if _groups(pairs) < MIN_CLUSTERS:
        return 1.0
    return estimate(pairs, metric).p(noise=rules.noise_of(metric))


def decide_row(pairs: Pairs, metric: Metric, p: float, rules: Rules) -> Verdict | None:
    """The verdict of one metric by its values; ``p`` is adjusted. None for a metric that is not judged.

    A metric that is not a share has no margin and is never equivalent.
    """
    if not metric.judged:
        return None
    enough = metric.unit == "share" and _groups(pairs) >= MIN_CLUSTERS
    if enough and is_equivalent(_spread(pairs, metric), margin=rules.margin, alpha=rules.alpha):
        return "EQUIVALENT"
    if p > rules.alpha:
        return "INCONCLUSIVE"
    return "IMPROVED" if (pairs.differences.mean() > 0) == metric.higher_is_better else "REGRESSED"


def not_worse(pairs: Pairs, metric: Metric, rules: Rules) -> bool:
    """Whether the metric is non-inferior at the margin (``is_noninferior``)."""
    estimated = estimate(pairs, metric)
    gain = estimated.mean if metric.higher_is_better else -estimated.mean
    return is_noninferior(
        Estimate(gain, estimated.standard_error, estimated.df), margin=rules.margin, alpha=rules.alpha
    )


def view(pairs: Pairs, metric: Metric, rules: Rules) -> View:
    """Means, difference, interval and p. The interval of a share is clipped to ±1."""
    estimated = estimate(pairs, metric)
    low, high = estimated.interval(1 - rules.alpha)
    if metric.unit == "share":
        low, high = max(low, -1.0), min(high, 1.0)
    several = _groups(pairs) > 1
    return View(
        base_mean=float(pairs.base.mean()),
        tuned_mean=float(pairs.tuned.mean()),
        difference=float(pairs.differences.mean()),
        low=low if several and math.isfinite(low) else None,
        high=high if several and math.isfinite(high) else None,
        p=estimated.p(),
        n_questions=pairs.differences.size,
        n_clusters=_groups(pairs),
    )


def rests_on_invalid(whole: View, valid: View | None, metric: Metric, verdict: Verdict | None, rules: Rules) -> bool:
    """Whether a decided row says more about unusable answers than about the usable ones.

    Only where an unusable answer counts as the worst value. A sure difference rests on them when they make
    more than half of it and the answers that are usable on both sides do not surely differ in its direction.
    Equivalence rests on them when they move the difference by more than the margin: a loss that more usable
    answers hide is not equivalence.
    """
    if metric.worst is None or verdict in (None, "INCONCLUSIVE"):
        return False
    if valid is None:
        return True
    due = whole.difference - valid.difference
    if verdict == "EQUIVALENT":
        return abs(due) > rules.margin
    direction = math.copysign(1.0, whole.difference)
    agrees = valid.p <= rules.alpha and valid.difference * direction > 0
    return due * direction > abs(whole.difference) / 2 and not agrees


def make_row(
    metric: Metric, pairs: Pairs, valid: Pairs | None, rules: Rules, *, holm_p: float | None, tests: int = 1
) -> MetricRow:
    """The row of one metric; ``holm_p`` is None for rows outside the family, ``tests`` is how many Holm counts.

    What can be detected is stated at alpha ÷ ``tests``, the level that the hardest test has to pass.
    """
    whole = view(pairs, metric, rules)
    both_valid = view(valid, metric, rules) if valid else None
    differences = pairs.differences
    paired_once = pairs.binary and bool(np.isin(differences, (-1.0, 0.0, 1.0)).all())
    losses, gains = int((differences < 0).sum()), int((differences > 0).sum())
    verdict = decide_row(pairs, metric, tested_p(pairs, metric, rules) if holm_p is None else holm_p, rules)
    rests = rests_on_invalid(whole, both_valid, metric, verdict, rules)
    estimated = estimate(pairs, metric)
    needed = (
        needed_clusters(estimated, groups=whole.n_clusters, effect=rules.margin, alpha=rules.alpha / tests)
        if metric.unit == "share"
        else None
    )
    return MetricRow(
        name=metric.name,
        label=metric.label,
        role=metric.role,
        unit=metric.unit,
        higher_is_better=metric.higher_is_better,
        in_family=metric.name in rules.family,
        verdict="INCONCLUSIVE" if rests else verdict,
        all=whole,
        both_valid=both_valid,
        due_to_invalid=whole.difference - both_valid.difference if both_valid else None,
        holm_p=holm_p,
        mcnemar_p=mcnemar_p(losses, gains) if paired_once else None,
        n_undefined=pairs.n_undefined,
        detectable=detectable(estimated, alpha=rules.alpha / tests),
        needed_questions=None if needed is None else math.ceil(needed * whole.n_questions / whole.n_clusters),
        noise=rules.noise.get(metric.name),
        needed_clusters=needed,
        rests_on_invalid=rests,
    )
