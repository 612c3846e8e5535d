"""What is printed around a paper's text: running heads by their place, line numbers, tables of contents."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_ragtune.papers.page_furniture import take_contents, take_line_numbers, take_points, take_running
from mlx_ragtune.papers.pdf import read_pdf
from mlx_ragtune.papers.print_rows import Row
from tests.papers.made import PdfPage, write_pdf

WORDS = ("accuracy", "baseline", "data", "evaluation", "language", "model", "network", "result", "sample", "training")
TITLE = "A Study of Running Feet in Short Papers"


def prose(seed: int, lines: int = 12) -> list[str]:
    """Lines of which no two are alike."""
    return [
        " ".join([WORDS[(seed + 3 * at) % 10], *(WORDS[(seed * 7 + at * at + 5 * place) % 10] for place in range(7))])
        + f" of part {seed} in line {at}"
        for at in range(lines)
    ]


def journal(count: int, *, feet: bool = False) -> list[PdfPage]:
    """Pages of a journal from 101 on: the author on left-hand pages, the title on right-hand ones."""
    pages = []
    for index in range(count):
        page = PdfPage(top=780)
        if index == 0:
            page.add(TITLE, size=16)
        page.add(*prose(index))
        number = 101 + index
        if index:
            text = f"{number} A. Example" if number % 2 == 0 else f"{TITLE} {number}"
            page.foot(text) if feet else page.head(text)
        pages.append(page)
    return pages


@pytest.mark.parametrize("feet", [False, True])
@pytest.mark.parametrize("count", [3, 4, 5, 6, 8, 13])
def test_running_heads_of_left_and_right_pages_are_taken_in_short_papers_too(
    tmp_path: Path, count: int, feet: bool
) -> None:
    reading = read_pdf(write_pdf(tmp_path / "p.pdf", journal(count, feet=feet)), "p")
    taken = [drop.page for drop in reading.dropped if drop.reason == "running head or foot"]
    assert taken == list(range(2, count + 1))
    assert reading.document.text.count(TITLE) == 1
    assert reading.document.title == TITLE
    assert "Example" not in reading.document.text


def test_a_title_at_the_place_of_the_running_heads_is_kept(tmp_path: Path) -> None:
    pages = journal(5)
    pages[0].lines[0] = replace(pages[0].lines[0], y=815)
    reading = read_pdf(write_pdf(tmp_path / "p.pdf", pages), "p")
    assert reading.document.text.startswith(TITLE)
    assert len(reading.dropped) == 4


def test_heads_that_change_with_the_section_are_taken_by_their_place(tmp_path: Path) -> None:
    names = ["Introduction", "Data", "Data", "Methods", "Methods", "Results", "Results", "Outlook"]
    pages = [PdfPage(top=780).add(*prose(index)).head(name) for index, name in enumerate(names)]
    reading = read_pdf(write_pdf(tmp_path / "p.pdf", pages), "p")
    assert [drop.text for drop in reading.dropped] == names


def test_the_first_lines_of_pages_that_begin_alike_are_kept(tmp_path: Path) -> None:
    pages = [
        PdfPage().add("R> summary(x)" if index in (1, 3) else prose(index, 1)[0], *prose(index)) for index in range(9)
    ]
    assert read_pdf(write_pdf(tmp_path / "p.pdf", pages), "p").dropped == ()


def row(text: str, y: float, *, x: float = 60, size: float = 10) -> Row:
    return Row(text, x, x + 4.5 * len(text), y, size, 0, ((0, size, len(text)),), (text,))


def texts(pages: list[list[Row]]) -> list[list[str]]:
    return [[row.text for row in page] for page in pages]


@given(
    st.lists(st.lists(st.tuples(st.sampled_from(["Head 1", "Head 2", "7", "words"]), st.integers(0, 800))), max_size=5)
)
def test_kept_and_taken_lines_are_all_there_were(content: list[list[tuple[str, int]]]) -> None:
    pages = [[row(text, y) for text, y in page] for page in content]
    kept, taken = take_running(pages, [842.0] * len(pages))
    assert sorted([*(text for page in texts(kept) for text in page), *(line.text for line in taken)]) == sorted(
        text for page in texts(pages) for text in page
    )


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("first", [1, 51, 996])
def test_line_numbers_of_a_review_copy_go_and_numbers_of_the_text_stay(tmp_path: Path, side: str, first: int) -> None:
    lines = [f"We count {at} of 300 near misses, and then the text of this line goes on" for at in range(12)]
    page = PdfPage().add("A Paper Under Review", size=16)
    for at, line in enumerate(lines):
        page.at(60, 700 - 14 * at, line)
        page.at(30 if side == "before" else 520, 700 - 14 * at, f"{first + at:03d}", size=6)
    reading = read_pdf(write_pdf(tmp_path / "p.pdf", [page]), "p")
    assert " ".join(reading.document.text.split()) == " ".join(["A Paper Under Review", *lines])
    assert [(drop.reason, drop.text) for drop in reading.dropped] == [
        ("line numbers", " ".join(f"{first + at:03d}" for at in range(12)))
    ]


def test_line_numbers_at_both_margins_of_two_columns_go(tmp_path: Path) -> None:
    page = PdfPage().add("A Paper Under Review", size=16)
    for at, line in enumerate(prose(1)):
        page.at(60, 700 - 14 * at, line[:45])
    for at, line in enumerate(prose(2)):
        page.at(320, 700 - 14 * at, line[:45])
    for at in range(12):
        page.at(36, 700 - 14 * at, f"{at:03d}", size=6)
    for at in range(12):
        page.at(570, 700 - 14 * at, f"{12 + at:03d}", size=6)
    reading = read_pdf(write_pdf(tmp_path / "p.pdf", [page]), "p")
    assert [drop.text for drop in reading.dropped] == [
        " ".join(f"{at:03d}" for at in range(first, first + 12)) for first in (0, 12)
    ]


def test_lines_that_end_in_growing_numbers_keep_them(tmp_path: Path) -> None:
    page = PdfPage().add(*(f"{line} words and {at}" for at, line in enumerate(prose(5))))
    assert read_pdf(write_pdf(tmp_path / "p.pdf", [page]), "p").dropped == ()


def test_line_numbers_that_are_drawn_after_the_text_go_too(tmp_path: Path) -> None:
    page = PdfPage().add("A Paper Under Review", size=16)
    for at, line in enumerate(prose(3)):
        page.at(80, 700 - 14 * at, line)
    for at in range(12):
        page.at(30, 700 - 14 * at, f"{at + 1}", size=6)
    reading = read_pdf(write_pdf(tmp_path / "p.pdf", [page]), "p")
    assert [drop.reason for drop in reading.dropped] == ["line numbers"]
    assert " ".join(reading.document.text.split()) == " ".join(["A Paper Under Review", *prose(3)])


def test_numbers_at_each_fifth_line_go() -> None:
    page = [
        row(
            f"{at} words of the line" if at % 5 == 0 else "words of the line",
            800 - 14 * at,
            x=20 if at % 5 == 0 else 60,
        )
        for at in range(1, 40)
    ]
    kept, taken = take_line_numbers([page])
    assert texts(kept) == [["words of the line"] * 39]
    assert [line.text for line in taken] == ["5 10 15 20 25 30 35"]


def test_the_first_column_of_a_table_and_a_numbered_list_are_not_line_numbers() -> None:
    table = [row(text, 790 - 14 * at) for at, text in enumerate(prose(1))]
    table += [row(f"{at} 0.{at}7 0.{at}1", 600 - 14 * at) for at in range(1, 9)]
    table += [row(text, 470 - 14 * at) for at, text in enumerate(prose(2))]
    assert take_line_numbers([table]) == ([table], [])


def test_a_table_of_contents_is_taken_and_a_heading_without_pages_is_not() -> None:
    contents = [
        "Contents",
        "1 Introduction 1",
        "2 Data . . . . . . . . 3",
        "3 A heading that is so long that it",
        "takes two rows 5",
        "References 9",
    ]
    page = [row(text, 780 - 14 * at) for at, text in enumerate([*contents, *prose(1, 6)])]
    kept, taken = take_contents([page])
    assert [line.text for line in taken] == contents
    assert len(kept[0]) == 6
    plain = [row(text, 780 - 14 * at) for at, text in enumerate(["Contents", "Introduction", "Data", "Results"])]
    assert take_contents([plain]) == ([plain], [])


def test_the_points_of_a_plot_are_left_out_and_listed_and_marks_of_a_list_are_not() -> None:
    def at(number: int, text: str) -> Row:
        return Row(text, 60, 80, 700 - 10 * number, 10, 0)

    plot = [at(0, "Sales by year"), *(at(number, "● ●●" if number % 2 else "▲") for number in range(1, 12))]
    marks = [row for number in range(0, 18, 2) for row in (at(number, "●"), at(number + 1, "an item"))]
    kept, taken = take_points([plot, marks])
    assert [row.text for row in kept[0]] == ["Sales by year"]
    assert kept[1] == marks
    assert {line.reason for line in taken} == {"points of a plot"}
    assert len(taken) == 11
