import math

import numpy as np
import pytest

from mlx_ragtune.errors import InputError
from mlx_ragtune.scoring.verdict.calibration import corrected_difference


def _labeled(n: int, labels: int) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    return np.arange(n) < labels


def test_by_hand_with_one_question_a_cluster() -> None:
    rng = np.random.default_rng(0)
    n, labels = 120, 60
    judged, human = rng.normal(0.2, 0.3, n), rng.normal(0.0, 0.3, n)
    chosen = _labeled(n, labels)
    found = corrected_difference(judged, human, chosen, np.arange(n))
    errors, rest = (human - judged)[chosen], judged[~chosen]
    assert found.mean == pytest.approx(rest.mean() + errors.mean())
    variance = (errors.var() / 60 + rest.var() / 60) * n / (n - 1)
    assert found.standard_error == pytest.approx(math.sqrt(variance))
    assert found.df == n - 1


def test_a_perfect_judge_needs_no_correction() -> None:
    rng = np.random.default_rng(1)
    judged = rng.normal(0.1, 0.3, 100)
    found = corrected_difference(judged, judged, _labeled(100, 50), np.arange(100))
    assert found.mean == pytest.approx(judged[50:].mean())


def test_the_correction_takes_the_bias_out_and_its_interval_covers() -> None:
    rng = np.random.default_rng(2)
    truth, covered, means = 0.05, 0, []
    for _ in range(400):
        papers = np.repeat(np.arange(100), 2)
        human = truth + rng.normal(0, 0.1, 100)[papers] + rng.normal(0, 0.2, 200)
        judged = human + 0.15 + rng.normal(0, 0.1, 100)[papers] + rng.normal(0, 0.1, 200)
        found = corrected_difference(judged, human, rng.permutation(200) < 80, papers)
        low, high = found.interval(0.95)
        covered += low <= truth <= high
        means.append(found.mean)
    assert np.mean(means) == pytest.approx(truth, abs=0.01)
    assert 0.92 <= covered / 400 <= 0.98


@pytest.mark.parametrize(("n", "labels"), [(100, 49), (60, 60)])
def test_too_few_labels_or_nothing_left_to_judge_is_refused(n: int, labels: int) -> None:
    values = np.zeros(n)
    with pytest.raises(InputError, match=f"{labels} human labels"):
        corrected_difference(values, values, _labeled(n, labels), np.arange(n))


def test_one_cluster_has_no_interval() -> None:
    values = np.zeros(80)
    found = corrected_difference(values, values, _labeled(80, 50), np.zeros(80, dtype=np.intp))
    assert found.interval(0.95) == (-math.inf, math.inf)
