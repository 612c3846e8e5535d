"""Counts and lengths by kind."""

import pytest

from mlx_ragtune.records import Example, Kind
from mlx_ragtune.synthesis.token_statistics import describe


def row(identifier: str, kind: Kind, group: str) -> Example:
    return Example(identifier, kind, group, ())


ROWS = [
    row("a", "refusal", "1"),
    row("b", "grounded", "1"),
    row("c", "grounded", "2"),
    row("d", "grounded", "2"),
]
TOKENS = {"a": 100, "b": 257, "c": 300, "d": 841}


def test_each_kind_has_its_count_share_and_lengths() -> None:
    statistics = describe(ROWS, TOKENS)
    assert [kind.kind for kind in statistics.kinds] == ["grounded", "refusal"]
    grounded = statistics.kinds[0]
    assert (grounded.rows, grounded.share) == (3, 0.75)
    assert (grounded.tokens_min, grounded.tokens_max) == (257, 841)
    assert grounded.tokens_mean == pytest.approx(466)
    assert (statistics.total.rows, statistics.total.tokens_min, statistics.groups) == (4, 100, 2)


def test_no_rows_or_a_row_without_a_length_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="no rows"):
        describe([], {})
    with pytest.raises(KeyError):
        describe(ROWS, {"a": 1})
