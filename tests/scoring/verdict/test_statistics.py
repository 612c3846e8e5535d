import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mlx_ragtune.scoring.verdict.statistics import (
    Codes,
    Estimate,
    Floats,
    cluster_estimate,
    detectable,
    holm,
    is_equivalent,
    is_noninferior,
    mcnemar_p,
    needed_clusters,
    sign_flip_p,
    widened_estimate,
    wilson_interval,
)


def _each_its_own(values: list[float]) -> tuple[Floats, Codes]:
    return np.array(values, dtype=float), np.arange(len(values))


def test_with_one_question_a_cluster_it_is_the_paired_t_test() -> None:
    values, clusters = _each_its_own([0.5, -0.25, 0.0, 0.25, 1.0, 0.0])
    found = cluster_estimate(values, clusters)
    assert found.mean == pytest.approx(values.mean())
    assert found.standard_error == pytest.approx(values.std(ddof=1) / math.sqrt(6))
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found.interval(0.95) == pytest.approx((expected.low, expected.high))


def test_cr2_by_hand_on_unequal_clusters() -> None:
    values, clusters = np.array([1.0, 0.0, 0.0, 0.0, -0.5]), np.array([0, 0, 0, 1, 2])
    mean = 0.1
    sums = [1.0 - 3 * mean, 0.0 - mean, -0.5 - mean]
    sizes = [3, 1, 1]
    variance = sum(s**2 / (1 - n / 5) for s, n in zip(sums, sizes, strict=True)) / 25
    found = cluster_estimate(values, clusters)
    assert found.mean == pytest.approx(mean)
    assert found.standard_error == pytest.approx(math.sqrt(variance))
    assert found.df == 2


def test_with_equal_clusters_cr2_is_the_t_test_of_cluster_means() -> None:
    values = np.array([1.0, 0.5, 0.0, 0.0, -0.5, 0.25])
    found = cluster_estimate(values, np.array([0, 0, 1, 1, 2, 2]))
    means = values.reshape(3, 2).mean(axis=1)
    assert found.standard_error == pytest.approx(means.std(ddof=1) / math.sqrt(3))
    assert found.df == 2


def test_copies_within_a_cluster_add_no_certainty() -> None:
    values, clusters = _each_its_own([0.5, -0.25, 0.0, 0.25])
    once = cluster_estimate(values, clusters)
    thrice = cluster_estimate(np.repeat(values, 3), np.repeat(clusters, 3))
    assert thrice == once


def test_one_cluster_says_nothing() -> None:
    found = cluster_estimate(np.array([1.0, 1.0]), np.array([0, 0]))
    assert found.interval(0.95) == (-math.inf, math.inf)
    assert detectable(found, alpha=0.05) is None
    assert needed_clusters(found, effect=0.05, alpha=0.05) is None


def test_the_widened_estimate_is_bonett_and_price() -> None:
    losses, gains, n = 1, 4, 15
    values, clusters = _each_its_own([-1.0] * losses + [1.0] * gains + [0.0] * (n - losses - gains))
    found = widened_estimate(values, clusters)
    up, down = (gains + 1) / (n + 2), (losses + 1) / (n + 2)
    assert found.mean == pytest.approx(up - down)
    variance = (up + down - (up - down) ** 2) / (n + 2)
    assert found.standard_error**2 == pytest.approx(variance * (n + 2) / (n + 1))


def test_the_widened_interval_is_never_zero_wide() -> None:
    for values in ([0.0] * 10, [1.0] * 10):
        low, high = widened_estimate(*_each_its_own(values)).interval(0.95)
        assert high - low > 0.2


def test_sign_flip_is_exact_for_few_clusters() -> None:
    values = np.array([0.5, 0.25, -0.25, 1.0, 0.0])
    clusters = np.array([0, 0, 1, 2, 3])
    sums = [0.75, -0.25, 1.0]
    observed = abs(sum(sums))
    flips = [abs(sum(s * x for s, x in zip(signs, sums, strict=True))) for signs in product((1, -1), repeat=3)]
    assert sign_flip_p(values, clusters) == sum(flip >= observed - 1e-9 for flip in flips) / 8


def test_sign_flip_on_yes_or_no_items_is_mcnemar() -> None:
    for losses, gains in [(0, 1), (1, 5), (0, 8), (3, 3), (2, 10)]:
        values, clusters = _each_its_own([-1.0] * losses + [1.0] * gains + [0.0] * 20)
        assert sign_flip_p(values, clusters) == pytest.approx(mcnemar_p(losses, gains))


def test_monte_carlo_sign_flip_agrees_with_mcnemar_and_is_always_the_same() -> None:
    values, clusters = _each_its_own([-1.0] * 5 + [1.0] * 15 + [0.0] * 20)
    p = sign_flip_p(values, clusters)
    assert p == pytest.approx(mcnemar_p(5, 15), abs=0.01)
    assert p == sign_flip_p(values, clusters)


def test_monte_carlo_p_is_never_zero() -> None:
    values, clusters = _each_its_own([1.0] * 40)
    assert sign_flip_p(values, clusters) == 1 / 10_000


def test_no_difference_at_all_has_p_one() -> None:
    assert sign_flip_p(*_each_its_own([0.0] * 5)) == 1.0
    assert mcnemar_p(0, 0) == 1.0


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), min_size=2, max_size=30))
def test_exchanging_the_models_changes_no_p_and_mirrors_the_interval(values: list[float]) -> None:
    there, clusters = _each_its_own(values)
    assert sign_flip_p(there, clusters) == sign_flip_p(-there, clusters)
    low, high = widened_estimate(there, clusters).interval(0.95)
    assert widened_estimate(-there, clusters).interval(0.95) == pytest.approx((-high, -low))


def test_mcnemar_by_hand() -> None:
    assert mcnemar_p(1, 0) == 1.0
    assert mcnemar_p(6, 0) == pytest.approx(2 / 64)
    assert mcnemar_p(1, 7) == pytest.approx(2 * (1 + 8) / 256)


def test_holm_by_hand() -> None:
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert adjusted == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})


def test_holm_never_exceeds_one_and_of_one_changes_nothing() -> None:
    assert holm({"a": 0.8, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    assert holm({"a": 0.03}) == {"a": 0.03}
    assert holm({}) == {}


def test_equivalence_is_two_one_sided_tests() -> None:
    t = float(stats.t.ppf(0.95, 99))
    inside = Estimate(0.01, 0.0399 / t, 99)
    outside = Estimate(0.01, 0.0401 / t, 99)
    assert is_equivalent(inside, margin=0.05, alpha=0.05)
    assert not is_equivalent(outside, margin=0.05, alpha=0.05)
    assert is_noninferior(outside, margin=0.05, alpha=0.05)
    assert not is_noninferior(Estimate(-0.01, 0.0401 / t, 99), margin=0.05, alpha=0.05)


def test_the_detectable_difference_is_found_that_often() -> None:
    rng = np.random.default_rng(3)
    n, spread = 40, 0.3
    effect = detectable(Estimate(0.0, spread / math.sqrt(n), n - 1), alpha=0.05)
    assert effect is not None
    samples = rng.normal(effect, spread, (4000, n))
    found = float(np.mean(stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05))
    assert found == pytest.approx(0.95, abs=0.015)


def test_needed_clusters_make_the_effect_detectable_and_one_fewer_do_not() -> None:
    start = Estimate(0.02, 0.06, 14)
    groups = needed_clusters(start, effect=0.05, alpha=0.05)
    assert groups is not None
    for count, enough in ((groups, True), (groups - 1, False)):
        error = 0.06 * math.sqrt(15 / count)
        found = detectable(Estimate(0.0, error, count - 1), alpha=0.05)
        assert found is not None
        assert (found <= 0.05) is enough


def test_wilson_by_hand() -> None:
    low, high = wilson_interval(0, 100)
    assert low == 0.0
    assert high == pytest.approx(1.96**2 / (100 + 1.96**2), abs=1e-4)
