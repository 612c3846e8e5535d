"""TeX's codes in Type 3 fonts are read as the letters that are printed."""

from pathlib import Path

import pytest

from mlx_ragtune.papers.pdf import read_pdf
from mlx_ragtune.papers.pdf_glyphs import Font, Glyph, GlyphPage
from mlx_ragtune.papers.tex_codes import MATH_ITALIC, OT1, SYMBOLS, T1, decode, encodings, uses_of
from tests.papers.made import write_type3

LINES = (
    "A Study of Scientific Coefficients",
    "Abstract",
    "We find a significant effect in the first field: the coefficient of",
    "efficiency rises for “patients” aged 50–54 over a range of 0–1, and the",
    "flow of fluids was modified by 65–85%. No official offer was final.",
)


@pytest.mark.parametrize("encoding", ["T1", "OT1"])
def test_ligatures_dashes_and_quotes_of_type3_fonts_are_kept(tmp_path: Path, encoding: str) -> None:
    reading = read_pdf(write_type3(tmp_path / "p.pdf", LINES, encoding), "p")
    for line in LINES:
        assert set(line.split()) <= set(reading.document.text.split())
    assert reading.dropped == ()


def line(text: str, *, font: int = 0, y: float = 100) -> list[Glyph]:
    """Glyphs of 5 points in a row; a space becomes the next glyph's space."""
    glyphs, before = [], ""
    for at, char in enumerate(text):
        if char == " ":
            before = " "
            continue
        glyphs.append(Glyph(char, 5 * at, y, 5 * at + 4.5, y + 7, 5 * at, y, 10, font, before))
        before = ""
    return glyphs


def decoded(*lines: list[Glyph], fonts: int = 1) -> list[str]:
    page = GlyphPage(600, 800, [glyph for row in lines for glyph in row])
    decode([page], [Font("")] * fonts)
    text = "".join(glyph.before + glyph.text for glyph in page.glyphs)
    return text.split()


def test_a_named_font_keeps_its_characters() -> None:
    page = GlyphPage(600, 800, line("of{ \x0c"))
    decode([page], [Font("Helvetica")])
    assert [glyph.text for glyph in page.glyphs] == ["o", "f", "{", "\x0c"]


def test_braces_of_a_typewriter_font_stay_braces_beside_a_roman_one_with_ligatures() -> None:
    roman = line("the \x0crst e\x0bect 50{54 was \x0cnal in the \x0celd")
    code = line("function{x}", font=1, y=80)
    assert decoded(roman, code, fonts=2) == [
        "the", "first", "effect", "50–54", "was", "final", "in", "the", "fieldfunction{x}",
    ]  # fmt: skip


def test_letters_that_stand_alone_are_mathematics_and_signs_without_letters_are_symbols() -> None:
    text = line("e\x1bect of \x1celds in the \x1crst e\x1bort of all")
    math = line("x y z a b c p q r s \x0b \x0c", font=1, y=80)
    signs = line("\x00 \x02", font=2, y=60)
    page = GlyphPage(600, 800, [*text, *math, *signs])
    tables = encodings(uses_of([page], [Font("")] * 3))
    assert (tables[0], tables[1], tables[2]) == (T1, MATH_ITALIC, SYMBOLS)
    decode([page], [Font("")] * 3)
    assert [glyph.text for glyph in page.glyphs[-4:]] == ["α", "β", "−", "×"]


def test_a_small_font_without_ligatures_has_the_encoding_of_the_others() -> None:
    roman = line("the \x0crst e\x0bect was \x0cnal in the \x0celd")
    small = line("see 10{12 in (3)", font=1, y=80)
    page = GlyphPage(600, 800, [*roman, *small])
    assert encodings(uses_of([page], [Font("")] * 2)) == {0: OT1, 1: OT1}
    decode([page], [Font("")] * 2)
    assert "10–12" in "".join(glyph.before + glyph.text for glyph in page.glyphs)
