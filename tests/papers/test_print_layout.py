"""Rows become paragraphs and tables; only line breaks and marks of tables are new."""

from hypothesis import given
from hypothesis import strategies as st

from mlx_ragtune.papers.blocks import markdown_table
from mlx_ragtune.papers.print_layout import ALONE, HEADING, lines_of, paragraphs, unwrap
from mlx_ragtune.papers.print_rows import Row


def row(y: float, *cells: str) -> Row:
    return Row(" ".join(cells), 60, 500, y, 10, 0, (), cells)


@given(st.lists(st.text("abcXYZ. 12", min_size=1).filter(str.strip).map(str.strip), max_size=8))
def test_unwrapping_changes_line_breaks_only(lines: list[str]) -> None:
    assert " ".join(unwrap(lines)).split() == " ".join(lines).split()


def test_marked_lines_stay_on_their_own() -> None:
    full = "Low-rank adapters leave the weights of the base model as they are and learn a small update"
    lines = [full, HEADING + "2 Method", full, ALONE + "x <- 1", "and on"]
    assert unwrap(lines) == lines


def test_three_rows_of_as_many_cells_are_a_table() -> None:
    rows = [
        row(700, "Text above."),
        row(680, "Model", "Size"),
        row(668, "a", "1"),
        row(656, "b", "2"),
        row(600, "x", "y"),
    ]
    assert lines_of(rows, {}, set()) == [
        "Text above.",
        *(ALONE + line for line in ("| Model | Size |", "| --- | --- |", "| a | 1 |", "| b | 2 |")),
        "x y",
    ]


def test_a_bar_in_a_cell_is_escaped_and_short_rows_are_filled() -> None:
    assert markdown_table([("a|b", "c"), ("d",)]) == ["| a\\|b | c |", "| --- | --- |", "| d |  |"]


def test_a_word_broken_over_pages_is_joined_and_a_heading_is_never_joined_to() -> None:
    assert paragraphs([["adaptation by adap-"], ["tation ends"]]) == [["adaptation by adaptation"], ["ends"]]
    assert paragraphs([["by pre-", HEADING + "Methods"]]) == [["by pre-", HEADING + "Methods"]]
