"""Counts and lengths by kind."""

import pytest

from mlx_ragtune.records import Example, Kind
from mlx_ragtune.synthesis.token_statistics import HEADER, describe


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
    found = describe(ROWS, TOKENS, max_tokens=2048)
    assert [one.kind for one in found.kinds] == ["grounded", "refusal"]
    grounded = found.kinds[0]
    assert (grounded.rows, grounded.share) == (3, 0.75)
    assert (grounded.tokens_min, grounded.tokens_max) == (257, 841)
    assert grounded.tokens_mean == pytest.approx(466)
    assert (found.total.rows, found.total.tokens_min, found.groups) == (4, 100, 2)
    assert found.too_long == ()


def test_rows_that_do_not_fit_are_named_and_one_that_just_fits_is_not() -> None:
    found = describe(ROWS, TOKENS, max_tokens=300)
    assert found.too_long == ("d",)
    assert [one.too_long for one in (*found.kinds, found.total)] == [1, 0, 1]


def test_the_table_has_a_line_for_each_kind_and_the_sum() -> None:
    table = describe(ROWS, TOKENS, max_tokens=300).table()
    assert table[0] == HEADER
    assert table[1] == ("grounded", "3", "75%", "257", "466", "841", "1")
    assert table[-1] == ("all", "4", "100%", "100", "374", "841", "1")
    assert {len(line) for line in table} == {len(HEADER)}


def test_no_rows_or_a_row_without_a_length_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="no rows"):
        describe([], {}, max_tokens=10)
    with pytest.raises(KeyError):
        describe(ROWS, {"a": 1}, max_tokens=10)
