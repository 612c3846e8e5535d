"""What is known of a PDF's fonts and outline."""

from pathlib import Path

from mlx_ragtune.papers.pdf import read_pdf
from mlx_ragtune.papers.pdf_glyphs import OutlineItem, load_glyphs
from tests.papers.made import BOLD, CODE, PdfPage, page, write_pdf, write_type3

TEXT = "Letters of unequal width: millimetres and willows"


def test_fonts_are_known_as_bold_or_for_code_by_their_names(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "p.pdf", [PdfPage().add(TEXT).add(TEXT, font=BOLD).add(TEXT, font=CODE)])
    assert [(font.is_bold, font.is_monospaced) for font in load_glyphs(path).fonts] == [
        (False, False),
        (True, False),
        (False, True),
    ]


def test_a_font_without_a_name_is_one_for_code_when_its_letters_stand_at_equal_distances(tmp_path: Path) -> None:
    (font,) = load_glyphs(write_type3(tmp_path / "p.pdf", [TEXT], "T1")).fonts
    assert (font.is_type3, font.even) == (True, True)


def test_a_paper_that_is_typed_is_not_code(tmp_path: Path) -> None:
    lines = [f"{TEXT} in the {word} line of a typed pa-" for word in ("first", "second")]
    typed = PdfPage().add(*lines, "per of one page", font=CODE)
    assert not any(font.is_monospaced for font in load_glyphs(write_pdf(tmp_path / "p.pdf", [typed])).fonts)
    assert "a typed paper of one page" in " ".join(read_pdf(tmp_path / "p.pdf", "p").document.text.split())


def test_the_outline_has_titles_and_pages(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "p.pdf", [page("a"), page("b")], outline=[("One", 0), ("Two", 1)])
    assert load_glyphs(path).outline == [OutlineItem("One", 0), OutlineItem("Two", 1)]
