import math

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
    assert 1 < found.df < 2


def test_with_equal_clusters_cr2_is_the_t_test_of_cluster_means() -> None:
    values = np.array([1.0, 0.5, 0.0, 0.0, -0.5, 0.25])
    found = cluster_estimate(values, np.array([0, 0, 1, 1, 2, 2]))
    means = values.reshape(3, 2).mean(axis=1)
    assert found.standard_error == pytest.approx(means.std(ddof=1) / math.sqrt(3))
    assert found.df == pytest.approx(2)


def test_copies_within_a_cluster_add_no_certainty() -> None:
    values, clusters = _each_its_own([0.5, -0.25, 0.0, 0.25])
    once = cluster_estimate(values, clusters)
    thrice = cluster_estimate(np.repeat(values, 3), np.repeat(clusters, 3))
    assert thrice == once


def test_one_cluster_says_nothing() -> None:
    found = cluster_estimate(np.array([1.0, 1.0]), np.array([0, 0]))
    assert found.interval(0.95) == (-math.inf, math.inf)
    assert detectable(found, alpha=0.05) is None
    assert needed_clusters(found, groups=1, effect=0.05, alpha=0.05) is None


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


def test_no_difference_at_all_has_p_one() -> None:
    assert widened_estimate(*_each_its_own([0.0] * 5)).p() == 1.0
    assert mcnemar_p(0, 0) == 1.0


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), min_size=2, max_size=30),
    st.sampled_from([0.5, 0.9, 0.95, 0.99]),
)
def test_p_and_interval_agree(values: list[float], level: float) -> None:
    found = widened_estimate(*_each_its_own(values))
    low, high = found.interval(level)
    assert (found.p() < 1 - level) == (low > 0 or high < 0)
    assert (found.p(noise=0.1) < 1 - level) == (low > 0.1 or high < -0.1)


def test_a_difference_inside_the_noise_has_p_one() -> None:
    found = Estimate(0.03, 0.001, 40)
    assert found.p() < 1e-9
    assert found.p(noise=0.03) == 1.0
    assert Estimate(-0.03, 0.001, 40).p(noise=0.029) == pytest.approx(Estimate(0.001, 0.001, 40).p())


def test_on_yes_or_no_items_p_is_close_to_mcnemar() -> None:
    for losses, gains in [(0, 7), (1, 9), (3, 3), (2, 12)]:
        values, clusters = _each_its_own([-1.0] * losses + [1.0] * gains + [0.0] * 40)
        assert widened_estimate(values, clusters).p() == pytest.approx(mcnemar_p(losses, gains), abs=0.02)


def test_four_papers_of_nonsense_against_perfect_survive_holm_over_two_comparisons() -> None:
    values, clusters = np.ones(20), np.repeat(np.arange(4), 5)
    assert 14 * widened_estimate(values, clusters).p() < 0.05


def test_unequal_papers_have_fewer_degrees_of_freedom() -> None:
    rng = np.random.default_rng(4)
    equal = cluster_estimate(rng.normal(size=24), np.repeat(np.arange(6), 4))
    unequal = cluster_estimate(rng.normal(size=24), np.repeat(np.arange(6), [15, 3, 2, 2, 1, 1]))
    assert equal.df == pytest.approx(5)
    assert 1 < unequal.df < 3


def test_degrees_of_freedom_are_satterthwaites_by_matrix() -> None:
    sizes = np.array([5, 3, 1, 1])
    n = sizes.sum()
    residual = np.diag(sizes).astype(float) - np.outer(sizes, sizes) / n
    product = residual @ np.diag(1 / (1 - sizes / n))
    expected = np.trace(product) ** 2 / np.trace(product @ product)
    found = cluster_estimate(np.arange(10.0), np.repeat(np.arange(4), sizes))
    assert found.df == pytest.approx(expected)


def test_one_large_paper_that_changes_alone_decides_nothing() -> None:
    values = np.array([1.0] * 12 + [0.0] * 5)
    clusters = np.repeat(np.arange(6), [12, 1, 1, 1, 1, 1])
    assert widened_estimate(values, clusters).p() > 0.05


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), min_size=2, max_size=30))
def test_exchanging_the_models_changes_no_p_and_mirrors_the_interval(values: list[float]) -> None:
    there, clusters = _each_its_own(values)
    assert widened_estimate(there, clusters).p() == pytest.approx(widened_estimate(-there, clusters).p())
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
    groups = needed_clusters(start, groups=15, effect=0.05, alpha=0.05)
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
