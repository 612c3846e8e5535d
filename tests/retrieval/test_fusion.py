"""Reciprocal rank fusion by hand."""

import pytest

from mlx_ragtune.retrieval.fusion import Hit, fuse


def ranking(*names: str) -> list[Hit]:
    return [Hit(name, -float(at)) for at, name in enumerate(names)]


def test_scores_are_sums_of_reciprocal_ranks() -> None:
    fused = {hit.chunk_id: hit.score for hit in fuse([ranking("a", "b"), ranking("b", "c", "a")])}
    assert fused == pytest.approx({"a": 1 / 61 + 1 / 63, "b": 1 / 62 + 1 / 61, "c": 1 / 62})


def test_what_both_rankings_hold_beats_what_one_puts_first() -> None:
    assert [hit.chunk_id for hit in fuse([ranking("x", "m"), ranking("y", "m")])] == ["m", "x", "y"]


def test_ties_are_in_the_order_of_ids_whichever_ranking_comes_first() -> None:
    assert fuse([ranking("b"), ranking("a")]) == fuse([ranking("a"), ranking("b")])


def test_a_single_ranking_keeps_its_order_and_none_is_empty() -> None:
    assert [hit.chunk_id for hit in fuse([ranking("c", "a", "b")])] == ["c", "a", "b"]
    assert fuse([]) == []
