from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_ragtune.scoring.answers.normalize import fold, words
from mlx_ragtune.scoring.answers.similarity import PLANTED, REFERENCE, Vectors, bertscore, cosine, planted_rows


def test_cosine_by_hand() -> None:
    assert cosine(np.array([1.0, 0.0]), np.array([3.0, 4.0])) == pytest.approx(0.6)
    assert cosine(np.array([1.0, 2.0]), np.array([-2.0, -4.0])) == pytest.approx(-1.0)


def test_a_vector_of_zeros_has_no_cosine() -> None:
    assert cosine(np.zeros(3), np.ones(3)) is None


def test_bertscore_by_hand() -> None:
    candidate = np.array([[1.0, 0.0], [0.0, 2.0]])
    reference = np.array([[1.0, 0.0], [3.0, 4.0], [1.0, 0.0]])
    found = bertscore(candidate, reference)
    assert found is not None
    assert found.precision == pytest.approx((1.0 + 0.8) / 2)
    assert found.recall == pytest.approx((1.0 + 0.8 + 1.0) / 3)
    assert found.f1 == pytest.approx(2 * 0.9 * (2.8 / 3) / (0.9 + 2.8 / 3))


def test_an_empty_answer_has_no_bertscore() -> None:
    assert bertscore(np.zeros((0, 4)), np.ones((2, 4))) is None
    assert bertscore(np.ones((2, 4)), np.zeros((0, 4))) is None


def test_opposite_tokens_score_zero_not_a_negative_harmonic_mean() -> None:
    found = bertscore(np.array([[1.0, 0.0]]), np.array([[-1.0, 0.0]]))
    assert found is not None
    assert found.f1 == 0.0


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_exchanging_the_texts_exchanges_precision_and_recall(t: int, s: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.normal(size=(t, 4)), rng.normal(size=(s, 4))
    there, back = bertscore(one, other), bertscore(other, one)
    assert there is not None
    assert back is not None
    assert (there.precision, there.recall) == pytest.approx((back.recall, back.precision))
    assert there.f1 == pytest.approx(back.f1)


def _bag_of_words(texts: Sequence[str]) -> Vectors:
    vocabulary = sorted({word for text in texts for word in words(fold(text))})
    return np.array([[words(fold(text)).count(word) for word in vocabulary] for text in texts], dtype=float)


def test_planted_wrong_answers_fool_similarity() -> None:
    rows = {row.name: row.similarity for row in planted_rows(_bag_of_words)}
    right, negated, wrong = rows["concise and correct"], rows["negated"], rows["wrong numbers"]
    assert right is not None
    assert negated is not None
    assert wrong is not None
    assert min(negated, wrong) > right
    assert all(planted.text != REFERENCE for planted in PLANTED)
