"""Paired statistics for clustered questions: estimate, interval, p values and power.

One difference per question (tuned − base), one cluster per paper: ``G`` clusters, ``n`` questions. All
arrays are float64 of shape [n]; ``clusters`` are integer codes 0 … G − 1 of shape [n].
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]
Mask = NDArray[np.bool_]

EXACT_CLUSTERS = 12
FLIPS = 9_999
POWER = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean paired difference with its cluster-robust standard error and degrees of freedom."""

    mean: float
    standard_error: float
    df: int

    def interval(self, level: float) -> tuple[float, float]:
        """Two-sided t interval; (−∞, ∞) with a single cluster."""
        if self.df < 1:
            return -math.inf, math.inf
        half = float(stats.t.ppf((1 + level) / 2, self.df)) * self.standard_error
        return self.mean - half, self.mean + half


def cluster_estimate(differences: Floats, clusters: Codes) -> Estimate:
    """Mean difference with the CR2 standard error and G − 1 degrees of freedom.

    CR2 (Bell & McCaffrey 2002; Pustejovsky & Tipton 2018, doi:10.1080/07350015.2016.1247004) for an
    intercept-only model: Σ_g (Σ_{i∈g} e_i)² / (1 − n_g/n) / n². With clusters of equal size it equals CR1.
    """
    n = differences.size
    sizes = np.bincount(clusters)
    mean = float(differences.mean())
    if sizes.size < 2:
        return Estimate(mean, math.inf, 0)
    sums = np.bincount(clusters, weights=differences - mean)
    variance = float((sums**2 / (1 - sizes / n)).sum()) / n**2
    return Estimate(mean, math.sqrt(variance), sizes.size - 1)


def widened_estimate(differences: Floats, clusters: Codes, *, bound: float = 1.0) -> Estimate:
    """The estimate after adding two clusters of one question, one gaining and one losing ``bound``.

    For yes/no answers with one question per cluster it is Bonett & Price (2012,
    doi:10.3102/1076998611411915): (b + 1)/(n + 2) − (c + 1)/(n + 2). The interval always has a width: n
    questions without a change cannot rule out changes in a share of about 2/n.
    """
    more = np.concatenate([differences, [bound, -bound]])
    groups = int(clusters.max()) + 1
    return cluster_estimate(more, np.concatenate([clusters, [groups, groups + 1]]).astype(np.intp))


@lru_cache(maxsize=32)
def _all_signs(groups: int) -> Floats:
    """All sign vectors of ±1, shape [2^G, G]."""
    codes = np.arange(2**groups)[:, None] >> np.arange(groups)
    return np.asarray(1.0 - 2.0 * (codes & 1), dtype=np.float64)


@lru_cache(maxsize=16)
def _random_signs(capacity: int) -> Floats:
    """Random sign vectors of ±1 from a fixed seed, shape [flips, capacity]."""
    generator = np.random.default_rng(20_211)
    return np.asarray(1.0 - 2.0 * generator.integers(0, 2, (FLIPS, capacity), dtype=np.int8), dtype=np.float64)


def sign_flip_p(differences: Floats, clusters: Codes) -> float:
    """Two-sided p value of no difference: the signs of whole clusters are flipped together.

    Exact over all 2^G when at most ``EXACT_CLUSTERS`` clusters have a difference; else Monte Carlo with
    (1 + hits) / (1 + flips) (Phipson & Smyth 2010, doi:10.2202/1544-6115.1585). The randomization
    test with the cluster as the unit: Canay, Romano & Shaikh 2017 (doi:10.3982/ECTA13081).
    """
    sums = np.bincount(clusters, weights=differences)
    sums = sums[np.abs(sums) > 1e-12]
    if sums.size == 0:
        return 1.0
    observed = abs(float(sums.sum()))
    exact = sums.size <= EXACT_CLUSTERS
    capacity = 1 << (sums.size - 1).bit_length()
    signs = _all_signs(sums.size) if exact else _random_signs(capacity)[:, : sums.size]
    hits = int((np.abs(signs @ sums) >= observed - 1e-9).sum())
    return hits / len(signs) if exact else (1 + hits) / (1 + FLIPS)


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

    (t_{1−α/2} + t_{power}) · se with G − 1 degrees of freedom (Bloom 1995, doi:10.1177/0193841X9501900504).
    Power .95 matches α .05: a missed effect counts as much as a false one. None with one cluster.
    """
    if estimate.df < 1:
        return None
    factor = stats.t.ppf(1 - alpha / 2, estimate.df) + stats.t.ppf(power, estimate.df)
    return float(factor) * estimate.standard_error


def needed_clusters(estimate: Estimate, *, effect: float, alpha: float, power: float = POWER) -> int | None:
    """How many clusters like these detect a true difference of ``effect``; None with one cluster.

    Solves ``detectable`` for G with se ∝ 1/√G, the t quantiles taken at the answer.
    """
    if estimate.df < 1:
        return None
    spread = estimate.standard_error * math.sqrt(estimate.df + 1)
    normal = float(stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power))
    groups = max(2, math.ceil((normal * spread / effect) ** 2))  # a lower bound: t quantiles are larger
    while True:
        factor = float(stats.t.ppf(1 - alpha / 2, groups - 1) + stats.t.ppf(power, groups - 1))
        if factor * spread / math.sqrt(groups) <= effect:
            return groups
        groups += 1


def wilson_interval(hits: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Interval of one share (Wilson 1927)."""
    interval = stats.binomtest(hits, n).proportion_ci(confidence_level=level, method="wilson")
    return float(interval.low), float(interval.high)
