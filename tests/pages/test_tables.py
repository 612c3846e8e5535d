"""Text tables: the width is kept, nothing is lost."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len as cell_width

from mlx_ragtune.pages.tables import fill, render_table


def test_columns_stand_under_their_headers() -> None:
    assert render_table(["stage", "rows"], [["corpus", 56], ["dataset", 7]]) == (
        "stage    rows\n─────────────\ncorpus     56\ndataset     7"
    )


def test_numbers_with_signs_units_and_blanks_go_right_and_words_left() -> None:
    table = render_table(["metric", "change"], [["cites", "+95.0 %"], ["correct", "−1.2 %"], ["style", ""]])
    assert table.splitlines()[2:4] == ["cites    +95.0 %", "correct   −1.2 %"]
    assert render_table(["a", "bb"], [["x", "1"], ["y", "n/a"]]).splitlines()[2] == "x  1"


def test_long_cells_wrap_within_the_width_and_the_widest_column_gives_way() -> None:
    table = render_table(["stage", "why"], [["evaluate", "the benchmark has changed since " * 6]], width=60)
    lines = table.splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[2].startswith("evaluate  the benchmark")
    assert len(lines) > 5


def test_control_characters_are_shown_as_escapes() -> None:
    assert "\\x1b[31m" in render_table(["a\x07"], [["\x1b[31mred"]])
    assert "\\x9b" in fill("\x9b31m")


def test_markup_of_rich_is_text() -> None:
    assert "[bold]x[/]" in render_table(["a"], [["[bold]x[/]"]])
    assert fill("[red]x[/]") == "[red]x[/]"


def test_a_paragraph_is_indented_as_far_as_its_bullet() -> None:
    lines = fill("論文の題 " * 30, width=40, bullet="  - ").split("\n")
    assert lines[0].startswith("  - 論")
    assert all(line.startswith("    論") for line in lines[1:])
    assert max(map(cell_width, lines)) <= 40


def test_wide_characters_count_twice_and_accents_not_at_all() -> None:
    assert cell_width("論文") == 4
    assert cell_width("e\u0301") == 1
    lines = render_table(["title", "n"], [["論文の題", 3], ["plain", 4]]).splitlines()
    assert cell_width(lines[2]) == cell_width(lines[3])


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="2 cells"):
        render_table(["a", "b"], [["only one"]])


def test_a_table_without_rows_is_its_head() -> None:
    assert render_table(["a", "b"], []) == "a  b\n────"


def test_none_is_blank() -> None:
    assert render_table(["a", "b"], [["x", None]]).splitlines()[-1] == "x"


CELLS = st.text(st.characters(categories=("L", "N", "P", "Zs")), max_size=60)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 5).flatmap(lambda n: st.lists(st.lists(CELLS, min_size=n, max_size=n), min_size=1, max_size=4)))
def test_no_character_is_lost_and_the_width_holds(rows: list[list[str]]) -> None:
    headers = [f"h{at}" for at in range(len(rows[0]))]
    table = render_table(headers, rows, width=40)
    assert all(cell_width(line) <= 40 for line in table.splitlines())

    def counted(text: str) -> list[str]:
        return sorted(re.sub(r"\s", "", text))

    assert counted(table.replace("─", "")) == counted(
        "".join(headers + [c.replace("─", "") for row in rows for c in row])
    )
