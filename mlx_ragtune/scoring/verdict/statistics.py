"""Paired statistics for clustered questions: estimate, interval, p values and power.

One difference per question (tuned − base), one cluster per paper: ``G`` clusters, ``n`` questions. All
arrays are float64 of shape [n]; ``clusters`` are integer codes 0 … G − 1 of shape [n].
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]
Mask = NDArray[np.bool_]

POWER = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean paired difference with its cluster-robust standard error and degrees of freedom."""

    mean: float
    standard_error: float
    df: float

    def interval(self, level: float) -> tuple[float, float]:
        """Two-sided t interval; (−∞, ∞) with a single cluster."""
        if self.df <= 0:
            return -math.inf, math.inf
        half = float(special.stdtrit(self.df, (1 + level) / 2)) * self.standard_error
        return self.mean - half, self.mean + half

    def p(self, *, noise: float = 0.0) -> float:
        """Two-sided t test of a true difference of at most ``noise``; 1 with a single cluster.

        It agrees with ``interval``: p < 1 − level exactly when that interval lies beyond ±``noise``. A t test
        on few clusters keeps its level for any variances of the clusters (Bakirov & Szekely 2006; Ibragimov &
        Mueller 2010, doi:10.1198/jbes.2009.08046).
        """
        beyond = abs(self.mean) - noise
        if self.df <= 0 or beyond <= 0:
            return 1.0
        if self.standard_error == 0:
            return 0.0
        return float(2 * special.stdtr(self.df, -beyond / self.standard_error))


def cluster_estimate(differences: Floats, clusters: Codes) -> Estimate:
    """Mean difference with the CR2 standard error and Satterthwaite degrees of freedom.

    CR2 (Bell & McCaffrey 2002; Pustejovsky & Tipton 2018, doi:10.1080/07350015.2016.1247004) for an
    intercept-only model: Σ_g (Σ_{i∈g} e_i)² / (1 − n_g/n) / n². With clusters of equal size it is the t test
    of the cluster means, with G − 1 degrees of freedom; the more unequal the sizes, the fewer there are.
    """
    n = differences.size
    sizes = np.bincount(clusters)
    mean = float(differences.mean())
    if sizes.size < 2:
        return Estimate(mean, math.inf, 0)
    sums = np.bincount(clusters, weights=differences - mean)
    variance = float((sums**2 / (1 - sizes / n)).sum()) / n**2
    return Estimate(mean, math.sqrt(variance), _degrees_of_freedom(sizes))


def _degrees_of_freedom(sizes: NDArray[np.int64]) -> float:
    """Satterthwaite degrees of freedom of the CR2 variance under independent errors (Bell & McCaffrey 2002).

    (tr B)² / tr B² with B_gg = n_g and B_gh = −n_g n_h / (n √((1 − n_g/n)(1 − n_h/n))).
    """
    squares = sizes.astype(np.float64) ** 2
    n = float(sizes.sum())
    weights = squares / (1 - sizes / n)
    between = (float(weights.sum()) ** 2 - float((weights**2).sum())) / n**2
    return n**2 / (float(squares.sum()) + between)


def widened_estimate(differences: Floats, clusters: Codes, *, bound: float = 1.0) -> Estimate:
    """The estimate after adding two clusters of one question, one gaining and one losing ``bound``.

    For yes/no answers with one question per cluster it is Bonett & Price (2012,
    doi:10.3102/1076998611411915): (b + 1)/(n + 2) − (c + 1)/(n + 2). The interval always has a width: n
    questions without a change cannot rule out changes in a share of about 2/n, and clusters that agree by
    chance do not make the variance 0. ``benchmarks/verdict.py`` measures its error from four clusters up.
    """
    more = np.concatenate([differences, [bound, -bound]])
    groups = int(clusters.max()) + 1
    if groups < 2:
        return cluster_estimate(differences, clusters)
    return cluster_estimate(more, np.concatenate([clusters, [groups, groups + 1]]).astype(np.intp))


def mcnemar_p(losses: int, gains: int) -> float:
    """Exact two-sided McNemar p: a binomial test of the discordant pairs (McNemar 1947); 1 without any."""
    if losses + gains == 0:
        return 1.0
    return float(stats.binomtest(losses, losses + gains, 0.5).pvalue)


def holm(p_values: dict[str, float]) -> dict[str, float]:
    """Holm's step-down adjusted p values (Holm 1979), by name."""
    adjusted: dict[str, float] = {}
    largest = 0.0
    ordered = sorted(p_values.items(), key=lambda pair: (pair[1], pair[0]))
    for rank, (name, p) in enumerate(ordered):
        largest = max(largest, min(1.0, (len(ordered) - rank) * p))
        adjusted[name] = largest
    return adjusted


def is_equivalent(estimate: Estimate, *, margin: float, alpha: float) -> bool:
    """Two one-sided tests: the 1 − 2α interval lies inside ±margin (Schuirmann 1987)."""
    low, high = estimate.interval(1 - 2 * alpha)
    return -margin < low and high < margin


def is_noninferior(estimate: Estimate, *, margin: float, alpha: float) -> bool:
    """One-sided: the lower end of the 1 − 2α interval of the gain lies above −margin."""
    return estimate.interval(1 - 2 * alpha)[0] > -margin


def detectable(estimate: Estimate, *, alpha: float, power: float = POWER) -> float | None:
    """The smallest true difference that this many clusters detect with probability ``power``.

    (t_{1−α/2} + t_{power}) · se (Bloom 1995, doi:10.1177/0193841X9501900504).
    Power .95 matches α .05: a missed effect counts as much as a false one. None with one cluster.
    """
    if estimate.df <= 0:
        return None
    factor = stats.t.ppf(1 - alpha / 2, estimate.df) + stats.t.ppf(power, estimate.df)
    return float(factor) * estimate.standard_error


def needed_clusters(estimate: Estimate, *, groups: int, effect: float, alpha: float) -> int | None:
    """How many clusters like these ``groups`` detect a true difference of ``effect`` with power ``POWER``.

    Solves ``detectable`` for G with se ∝ 1/√G, the t quantiles taken at the answer, G − 1 degrees of freedom.
    None with one cluster.
    """
    if estimate.df <= 0:
        return None
    spread = estimate.standard_error * math.sqrt(groups)
    normal = float(stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(POWER))
    needed = max(2, math.ceil((normal * spread / effect) ** 2))  # a lower bound: t quantiles are larger
    while True:
        factor = float(stats.t.ppf(1 - alpha / 2, needed - 1) + stats.t.ppf(POWER, needed - 1))
        if factor * spread / math.sqrt(needed) <= effect:
            return needed
        needed += 1


def wilson_interval(hits: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Interval of one share (Wilson 1927)."""
    interval = stats.binomtest(hits, n).proportion_ci(confidence_level=level, method="wilson")
    return float(interval.low), float(interval.high)
