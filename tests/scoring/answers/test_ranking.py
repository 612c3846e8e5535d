import math

import pytest

from mlx_ragtune.scoring.answers.ranking import (
    hit_at,
    ndcg,
    ranked_documents,
    recall_at,
    reciprocal_rank,
    retrieval_metrics,
)

RANKED = ["a", "b", "c", "d"]


def test_the_definitions_on_a_ranking_with_gold_at_two_and_four() -> None:
    gold = {"b", "d"}
    assert hit_at(1, RANKED, gold) == 0.0
    assert hit_at(2, RANKED, gold) == 1.0
    assert recall_at(2, RANKED, gold) == 0.5
    assert recall_at(4, RANKED, gold) == 1.0
    assert reciprocal_rank(RANKED, gold) == 0.5
    ideal = 1 + 1 / math.log2(3)
    assert ndcg(RANKED, gold) == pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / ideal)


def test_gold_that_was_not_found_scores_zero() -> None:
    assert (hit_at(4, RANKED, {"x"}), reciprocal_rank(RANKED, {"x"}), ndcg(RANKED, {"x"})) == (0.0, 0.0, 0.0)


def test_without_gold_everything_is_undefined() -> None:
    assert retrieval_metrics(RANKED, set()) == {}
    assert hit_at(1, RANKED, set()) is recall_at(1, RANKED, set()) is reciprocal_rank(RANKED, set()) is None
    assert ndcg(RANKED, set()) is None


def test_chunks_of_one_paper_count_once_and_never_raise_ndcg_above_one() -> None:
    assert ranked_documents(["b", "b", "a", "b"]) == ["b", "a"]
    assert ndcg(["b", "b", "b"], {"b"}) == 1.0
    assert retrieval_metrics(["a", "a", "b"], {"b"})["mrr"] == 0.5


def test_ndcg_looks_at_ten_documents_only() -> None:
    assert ndcg([str(number) for number in range(20)], {"10"}) == 0.0
    assert ndcg([str(number) for number in range(20)], {"9"}) == pytest.approx(1 / math.log2(11))
