"""Rows of print: exponents, accents, ligatures, and columns that are drawn row by row."""

from pathlib import Path

import pytest

from mlx_ragtune.papers.pdf import read_pdf
from mlx_ragtune.papers.pdf_glyphs import Glyph
from mlx_ragtune.papers.print_rows import Row, make_row, page_rows
from tests.papers.made import PdfPage, write_pdf

WIDTH = 5.0


def glyphs(*parts: str | tuple[str, float, float], x: float = 60, y: float = 700) -> list[Glyph]:
    """Text at 10 points on the baseline, and (text, points above it, size) for exponents; spaces are real ones."""
    row: list[Glyph] = []
    for part in parts:
        text, rise, size = part if isinstance(part, tuple) else (part, 0.0, 10.0)
        for char in text:
            width = WIDTH * size / 10
            row.append(Glyph(char, x, y + rise, x + 0.95 * width, y + rise + 0.7 * size, x, y + rise, size, 0))
            x += width
    return row


def up(text: str) -> tuple[str, float, float]:
    return text, 3.6, 7.0


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (("has 10", up("9"), " parameters"), "has 10^9 parameters"),
        (("3 · 10", up("11"), " tokens"), "3 · 10^11 tokens"),
        (("2 × 10", up("−4"), " and 10", up("−2"), "."), "2 × 10^-4 and 10^-2."),
        (("25 m", up("2"), " and R", up("2"), " = 0.91"), "25 m^2 and R^2 = 0.91"),
        (("kg m", up("–1")), "kg m^-1"),
        (("x", up("T"), "y"), "x^T y"),
        (("(a + b)", up("n+1")), "(a + b)^n+1"),
        (("this result.", up("3"), " It"), "this result.^3 It"),
        (("all seeds", up("12"), " that"), "all seeds^12 that"),
        ((up("1"), "A footnote."), "^1 A footnote."),
        (("John Smith", up("1,2"), " and"), "John Smith^1,2 and"),
        (("the 4", up("th"), " of May"), "the 4th of May"),
        (("by L", up("A"), "TEX"), "by LATEX"),
        (("a note", up("∗"), " here"), "a note∗ here"),
        (("H", ("2", -1.5, 7.0), "O"), "H2O"),
        (("the x", ("i", -1.5, 7.0), up("2"), " of"), "the xi^2 of"),
    ],
)
def test_what_is_raised_is_an_exponent_or_a_mark_and_never_glued(parts: tuple[str, ...], text: str) -> None:
    assert make_row(glyphs(*parts)).text == text


def test_a_small_capital_on_the_baseline_is_not_raised() -> None:
    assert make_row(glyphs("A", ("BSTRACT", 0.0, 8.0))).text == "ABSTRACT"


def test_an_exponent_does_not_break_its_row_and_a_new_line_does() -> None:
    rows = page_rows([*glyphs("the 10", up("9"), " of them"), *glyphs("next line", y=688)])
    assert [row.text for row in rows] == ["the 10^9 of them", "next line"]


def accented(before: str, accent: str, letter: str, after: str) -> list[Glyph]:
    """An accent drawn in its own box over the letter that follows it."""
    row = glyphs(f"{before}{letter}{after}")
    at = len(before)
    base = row[at]
    mark = base._replace(text=accent, left=base.left + 1, right=base.right - 1, bottom=base.top, top=base.top + 2)
    return [*row[:at], mark, *row[at:]]


@pytest.mark.parametrize(
    ("accent", "letter", "joined"),
    [("´", "e", "é"), ("¨", "o", "ö"), ("´", "ı", "í"), ("ˇ", "s", "š"), ("¸", "c", "ç")],
)
def test_an_accent_over_a_letter_is_joined_with_it(accent: str, letter: str, joined: str) -> None:
    assert make_row(accented("Poincar", accent, letter, " x")).text == f"Poincar{joined} x"


def test_a_tilde_or_caret_beside_letters_stays() -> None:
    assert make_row(glyphs("y ~ x^2 `a´")).text == "y ~ x^2 `a´"


def test_the_letters_of_one_ligature_glyph_stay_together() -> None:
    row = glyphs("A")
    wide = row[0]._replace(left=65, right=76)
    parts = [wide._replace(text=char) for char in "ffi"]
    rest = glyphs("liations", x=76)
    assert [row.text for row in page_rows([*row, *parts, *rest])] == ["Affiliations"]


LEFT = (
    "The left column begins here and", "tells how the data were made in", "three steps, each of which took",
    "about one hour on one machine.", "Then the left column ends with", "words about the evaluation of it.",
)  # fmt: skip
RIGHT = (
    "The right column begins here and", "gives the results for every set", "of parameters that we have tried",
    "on the validation part. The best", "accuracy was 91 percent, and the", "worst was 44 percent in all runs.",
)  # fmt: skip


def test_columns_that_are_drawn_row_by_row_are_read_one_after_the_other(tmp_path: Path) -> None:
    page = PdfPage().add("A Paper in Two Columns", size=16, x=150)
    for at, (left, right) in enumerate(zip(LEFT, RIGHT, strict=True)):
        page.at(60, 700 - 14 * at, left).at(320, 700 - 14 * at, right)
    text = read_pdf(write_pdf(tmp_path / "p.pdf", [page]), "p").document.text
    assert " ".join(text.split()) == " ".join(["A Paper in Two Columns", *LEFT, *RIGHT])


def test_a_table_is_not_taken_for_two_columns_and_its_rows_stay_rows(tmp_path: Path) -> None:
    page = PdfPage().add("A short paper with a table of results that is read row by row and not by columns.")
    for at, (name, score) in enumerate([("Model", "Score"), ("base", "61.2"), ("tuned", "64.8"), ("best", "66.0")] * 2):
        page.at(60, 700 - 14 * at, name).at(320, 700 - 14 * at, score)
    text = read_pdf(write_pdf(tmp_path / "p.pdf", [page]), "p").document.text
    assert "| Model | Score |\n| --- | --- |\n| base | 61.2 |\n| tuned | 64.8 |\n" in text


def test_a_wide_table_of_single_words_in_the_middle_is_not_two_columns(tmp_path: Path) -> None:
    page = PdfPage()
    for at, (name, score) in enumerate([("Models", "of language"), ("apples", "61.2 and more"), ("pears", "64.8")] * 4):
        page.at(160, 700 - 14 * at, name + " and seeds of all sorts").at(320, 700 - 14 * at, score)
    text = read_pdf(write_pdf(tmp_path / "p.pdf", [page]), "p").document.text
    assert "| apples and seeds of all sorts | 61.2 and more |" in text


def test_control_characters_are_counted_and_not_in_the_text() -> None:
    row: Row = make_row(glyphs("Be\x07ll"))
    assert (row.text, dict(row.removed)) == ("Bell", {"\x07": 1})
