"""Headings of printed papers: by the outline, else by print and numbers, and nothing that only looks like one."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from mlx_ragtune.papers.pdf import read_pdf
from tests.papers.made import BOLD, CODE, PdfPage, write_pdf
from tests.papers.test_page_furniture import prose


def titles(path: Path, *, use_outline: bool = True) -> list[str]:
    document = read_pdf(path, "p", use_outline=use_outline).document
    for section in document.sections:
        assert document.text[section.start :].startswith(section.title)
    return [section.title for section in document.sections if section.title]


def paper(*names: str, size: float = 12) -> list[PdfPage]:
    """A page for each two headings, with three lines of text below each."""
    pages = []
    for at, name in enumerate(names):
        if at % 2 == 0:
            pages.append(PdfPage())
            if at == 0:
                pages[0].add("A Title in Large Print of Several Words", size=18).add("Jane Doe and John Roe")
        pages[-1].heading(name, size=size).add(*prose(at, 6))
    return pages


NUMBERED = ("Abstract", "1 Introduction", "2 Model frame", "2.1 The data", "2.2 F tests", "3 Results and outlook")


@pytest.mark.parametrize("size", [10, 12, 14])
def test_numbered_headings_in_bold_or_large_print_are_found(tmp_path: Path, size: float) -> None:
    assert titles(write_pdf(tmp_path / "p.pdf", paper(*NUMBERED, size=size))) == list(NUMBERED)


def test_unnumbered_headings_in_the_print_of_known_ones_are_found(tmp_path: Path) -> None:
    names = ("Abstract", "Introduction", "Why lamps draw moths", "Traps in the orchard", "Discussion")
    assert titles(write_pdf(tmp_path / "p.pdf", paper(*names))) == list(names)


def test_a_heading_directly_below_a_full_line_is_found(tmp_path: Path) -> None:
    page = PdfPage().heading("1 Introduction", size=12).add(*prose(1, 20)).add("2 Model frame", size=12, font=BOLD)
    page.add(*prose(2, 4))
    assert titles(write_pdf(tmp_path / "p.pdf", [page])) == ["1 Introduction", "2 Model frame"]


def test_a_heading_on_two_rows_is_one_with_its_broken_word_joined(tmp_path: Path) -> None:
    page = PdfPage().heading("1 Introduction", size=12).add(*prose(1))
    page.top -= 8
    page.add("2 A heading so long that it is bro-", "ken over two rows", size=12, font=BOLD).add(*prose(2))
    assert titles(write_pdf(tmp_path / "p.pdf", [page]))[1] == "2 A heading so long that it is broken over two rows"


@pytest.mark.parametrize(
    "number",
    [
        ("I. INTRODUCTION", "II. METHODS", "A. Data", "III. RESULTS"),
        ("1. Introduction", "2. Methods", "2.1. Data", "3. Results"),
    ],
)
def test_other_ways_to_number_are_known(tmp_path: Path, number: Sequence[str]) -> None:
    assert titles(write_pdf(tmp_path / "p.pdf", paper(*number))) == list(number)


def test_appendices_behind_the_references_are_kept_and_the_references_are_not(tmp_path: Path) -> None:
    pages = paper("1 Introduction", "2 Results", "References", "A Simulated p values", "B.1 Data", "Appendix C: Code")
    reading = read_pdf(write_pdf(tmp_path / "p.pdf", pages), "p")
    assert [section.title for section in reading.document.sections][1:] == [
        "1 Introduction", "2 Results", "A Simulated p values", "B.1 Data", "Appendix C: Code",
    ]  # fmt: skip
    (references,) = [drop for drop in reading.dropped if drop.reason == "references"]
    assert references.text.split("\n") == ["References", *prose(2, 6)]


def beside(pages: list[PdfPage], add: Sequence[PdfPage]) -> list[PdfPage]:
    return [*pages[:-1], *add, pages[-1]]


def false_ones() -> PdfPage:
    """Print that stands out and is no heading."""
    page = PdfPage().add(*prose(11, 3))
    page.heading("Table 3 Scores of all models").heading("Figure 2: What the traps caught")
    page.at(60, 600, "Model", font=BOLD).at(200, 600, "Score", font=BOLD).at(320, 600, "Words", font=BOLD)
    for at in range(3):
        page.at(60, 586 - 14 * at, f"{at + 1} model").at(200, 586 - 14 * at, "61.2").at(320, 586 - 14 * at, "350")
    page.top = 540
    page.add("1. the first item of a list", "2. The second item of the list", "3 Models of Another Kind")
    page.add(*prose(12, 3))
    page.add("Estimation of the model.", font=BOLD).add(*prose(13, 2))
    page.at(300, 420, "Residuals against time", size=12, font=BOLD).at(
        120, 420, "Fitted values of y", size=12, font=BOLD
    )
    page.heading("fit <- function(data) update(data)", size=10)
    page.top -= 20
    page.add("Fit the model twice", font=CODE, size=12)
    page.top -= 20
    page.add("# Fit the model", "fit <- lm(y ~ x)", "2 Results of the call", font=CODE)
    page.add(*prose(14, 2))
    page.top -= 30
    page.add("1 See the manual of the package", "2 Thanks go to Jane Doe", size=7)
    return page


def test_tables_captions_lists_footnotes_run_in_heads_and_code_are_no_headings(tmp_path: Path) -> None:
    pages = beside(paper(*NUMBERED), [false_ones()])
    assert titles(write_pdf(tmp_path / "p.pdf", pages)) == list(NUMBERED)


def test_a_table_of_contents_makes_no_headings_and_is_listed(tmp_path: Path) -> None:
    contents = PdfPage().heading("Contents", size=12)
    for at, name in enumerate(NUMBERED[1:]):
        y = contents.top - 20 - 14 * at
        contents.at(60, y, name, font=BOLD).at(480, y, str(at + 2), font=BOLD)
    first, *others = paper(*NUMBERED)
    reading = read_pdf(write_pdf(tmp_path / "p.pdf", [first, contents, *others]), "p")
    assert [section.title for section in reading.document.sections if section.title] == list(NUMBERED)
    assert [drop.text for drop in reading.dropped if drop.reason == "table of contents"] == [
        "1 Introduction 2", "2 Model frame 3", "2.1 The data 4", "2.2 F tests 5", "3 Results and outlook 6", "Contents",
    ]  # fmt: skip


def outlined(tmp_path: Path, *, size: float = 10) -> Path:
    """A paper in one print whose headings only the outline tells."""
    names = ("Introduction", "On traps", "What the lamps did to moths in the night", "Outlook")
    pages = [PdfPage().add(*prose(at, 4), name, *prose(at + 20, 4)) for at, name in enumerate(names)]
    entries = [(f"{at + 1} {name}" if at == 1 else name, at) for at, name in enumerate(names)]
    return write_pdf(tmp_path / "o.pdf", pages, outline=entries)


def test_the_outline_tells_headings_that_print_does_not(tmp_path: Path) -> None:
    path = outlined(tmp_path)
    assert titles(path) == ["Introduction", "On traps", "What the lamps did to moths in the night", "Outlook"]
    assert titles(path, use_outline=False) == ["Introduction"]


def test_the_outline_tells_headings_that_run_into_their_text(tmp_path: Path) -> None:
    names = ("1 Introduction", "1.1. Roots", "1.2 Boxed formulas", "Dots")
    runs = (names[0], "1.1. Roots. The text of the roots", "1.2 Boxed formulas are boxed", "Dots: more of them")
    page = PdfPage().add("A Title of Several Words", size=18)
    for at, run in enumerate(runs):
        page.add(run, *prose(at, 3))
    path = write_pdf(tmp_path / "p.pdf", [page], outline=[(name, 0) for name in names])
    assert titles(path) == ["1 Introduction", "1.1. Roots.", "1.2 Boxed formulas", "Dots:"]
    assert "1.1. Roots.\nThe text of the roots" in read_pdf(path, "p").document.text


def test_an_outline_that_names_no_headings_of_the_text_is_not_used(tmp_path: Path) -> None:
    entries = [("Page 1", 0), ("Page 2", 1), ("Cover", 0)]
    assert titles(write_pdf(tmp_path / "p.pdf", paper(*NUMBERED), outline=entries)) == list(NUMBERED)


def test_the_title_and_authors_above_the_abstract_are_no_headings(tmp_path: Path) -> None:
    first = (
        PdfPage().add("Lamps and Moths in an Orchard", size=18).heading("Jane Doe", size=12).heading("Some University")
    )
    first.heading("Abstract", size=12).add(*prose(1)).heading("1 Introduction", size=12).add(*prose(2))
    assert titles(write_pdf(tmp_path / "p.pdf", [first])) == ["Abstract", "1 Introduction"]


def test_the_number_of_a_chapter_and_its_title_below_are_one_heading(tmp_path: Path) -> None:
    pages = paper("Abstract", "1 Introduction")
    for number, name in ((2, "Survival curves of moths"), (3, "Models of lamps")):
        pages.append(PdfPage().heading(f"Chapter {number}", size=20))
        pages[-1].top -= 20
        pages[-1].heading(name, size=24).add(*prose(number, 8)).heading(f"{number}.1 Overview").add(
            *prose(number + 5, 8)
        )
    assert titles(write_pdf(tmp_path / "p.pdf", pages)) == [
        "Abstract", "1 Introduction", "Chapter 2 Survival curves of moths", "2.1 Overview",
        "Chapter 3 Models of lamps", "3.1 Overview",
    ]  # fmt: skip


@pytest.mark.parametrize("date", ["February 1, 2023", "3 March 2021", "Dec. 24th, 1999"])
def test_a_date_in_large_print_is_not_a_heading(tmp_path: Path, date: str) -> None:
    pages = paper("1 Introduction", "2 Lamps", "3 Moths", "4 Traps")
    pages[1].heading(date, size=12).add(*prose(9, 6))
    assert titles(write_pdf(tmp_path / "p.pdf", pages)) == ["1 Introduction", "2 Lamps", "3 Moths", "4 Traps"]
