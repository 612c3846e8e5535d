"""PDF in: what printing added is undone, what is left out is listed, unreadable files say why."""

import re
from pathlib import Path

import pytest

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.chunks import Chunking, split
from mlx_ragtune.papers.dropped import Reading
from mlx_ragtune.papers.pdf import read_pdf
from tests.papers.made import BOLD, DINGBATS, PdfPage, page, write_pdf

LONG = "Low-rank adapters leave the weights of the base model as they are and learn a small update"


def paper(folder: Path) -> Path:
    """Four pages with heads, feet, a broken word over a page, sections and references."""
    first = PdfPage().add("Adapters of Low Rank for", "Large Models", size=18).add("Jane Doe, John Roe")
    first.add(
        "Abstract", "We measure adap-", "tation at rank 16.", "1 Introduction", "Adaptation is cheap with hyphen-"
    )
    second = page("ation left as it is.", "2 Method", "2.1 Training", "3 epochs were enough.", "16 layers were used.")
    third = page("3 Results", "The score rose from 61.2 to 64.8 on average.", "12 25 37")
    fourth = page("References", "[1] A paper that is cited. 2021.", "A Appendix", "More numbers.")
    for number, one in enumerate((first, second, third, fourth), 1):
        one.head("Adapters of Low Rank" if number % 2 else "Doe and Roe").foot(str(number))
    return write_pdf(folder / "paper.pdf", [first, second, third, fourth])


@pytest.fixture
def reading(tmp_path: Path) -> Reading:
    return read_pdf(paper(tmp_path), "paper")


def test_running_heads_of_left_and_right_pages_and_page_numbers_are_taken_out_and_listed(reading: Reading) -> None:
    assert "Doe and Roe" not in reading.document.text
    taken = [(one.page, one.text) for one in reading.dropped if one.reason == "running head or foot"]
    assert taken == [
        (1, "1"), (1, "Adapters of Low Rank"), (2, "2"), (2, "Doe and Roe"), (3, "3"), (3, "Adapters of Low Rank"),
        (4, "4"), (4, "Doe and Roe"),
    ]  # fmt: skip


def test_a_word_broken_at_a_line_end_is_whole_when_it_occurs_elsewhere(reading: Reading) -> None:
    assert "We measure adaptation at rank 16." in reading.document.text


def test_a_word_broken_over_a_page_is_joined_when_its_halves_are_no_words_of_the_paper(reading: Reading) -> None:
    assert "cheap with hyphenation\n\nleft as it is." in reading.document.text


def test_a_word_broken_over_a_page_is_joined_when_it_occurs_elsewhere(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "p.pdf", [page("Hyphenation again, hyphen-").foot("1"), page("ation ends.").foot("2")])
    document = read_pdf(path, "p").document
    assert document.text == "Hyphenation again, hyphenation\n\nends.\n\n"
    assert document.page_starts == (0, document.text.index("ends."))


def test_numbered_headings_make_sections_and_numbered_lines_do_not(reading: Reading) -> None:
    document = reading.document
    assert [one.title for one in document.sections] == [
        "", "Abstract", "1 Introduction", "2 Method", "2.1 Training", "3 Results", "A Appendix",
    ]  # fmt: skip
    method = next(one for one in document.sections if one.title == "2.1 Training")
    assert "16 layers were used." in document.text[method.start : method.end]


def test_references_are_listed_by_page_and_the_appendix_behind_them_is_kept(reading: Reading) -> None:
    assert "is cited" not in reading.document.text
    (rest,) = [drop for drop in reading.dropped if drop.reason == "references"]
    assert (rest.page, rest.text) == (4, "References\n[1] A paper that is cited. 2021.")
    assert reading.document.sections[-1].title == "A Appendix"
    assert reading.document.text.endswith("A Appendix\nMore numbers.\n\n")


def test_a_table_of_contents_on_page_one_does_not_cut_the_paper(tmp_path: Path) -> None:
    contents = page("A Long Report", "Contents", "Introduction", "References", "Appendix")
    body = [page(*(f"The {word} of the {part} is kept." for word in "abcdefghi")) for part in ("second", "third")]
    end = page("References", "[1] A paper that is cited. 2021.")
    reading = read_pdf(write_pdf(tmp_path / "p.pdf", [contents, *body, end]), "p")
    assert "The i of the third is kept." in reading.document.text
    assert "is cited" not in reading.document.text
    assert [drop.page for drop in reading.dropped if drop.reason.startswith("references")] == [4]


def test_control_characters_are_removed_and_listed_by_page(tmp_path: Path) -> None:
    reading = read_pdf(write_pdf(tmp_path / "p.pdf", [page("First page."), page("Bell \x07 here.")]), "p")
    assert "\x07" not in reading.document.text
    assert [(drop.page, drop.reason, drop.text) for drop in reading.dropped] == [
        (2, "control characters", "U+0007 × 1")
    ]


def test_too_many_pages_or_too_much_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_pdf(tmp_path / "p.pdf", [page("Words on this page.")] * 3)
    monkeypatch.setattr("mlx_ragtune.papers.pdf_glyphs.MAX_PAGES", 2)
    with pytest.raises(InputError, match="it has 3 pages, more than 2"):
        read_pdf(path, "p")
    monkeypatch.setattr("mlx_ragtune.papers.pdf_glyphs.MAX_PAGES", 3)
    monkeypatch.setattr("mlx_ragtune.papers.plain_text.MAX_CHARACTERS", 40)
    with pytest.raises(InputError, match="the text is longer than 40 characters"):
        read_pdf(path, "p")


def test_each_page_starts_where_its_first_word_stands(reading: Reading) -> None:
    document = reading.document
    assert [document.text[start:].split()[0] for start in document.page_starts[:3]] == ["Adapters", "left", "3"]
    chunks = split(document, Chunking()).chunks
    assert {chunk.section: chunk.page for chunk in chunks}["3 Results"] == 3


def test_the_title_is_the_largest_print_over_its_lines(reading: Reading) -> None:
    assert reading.document.title == "Adapters of Low Rank for Large Models"


def test_the_title_in_the_metadata_wins_if_the_first_page_shows_it(tmp_path: Path) -> None:
    pages = [PdfPage().add("Printed Title", size=20).add("and its Subtitle", size=12).add("text below it")]
    path = write_pdf(tmp_path / "a.pdf", pages, title="Printed Title and its Subtitle")
    assert read_pdf(path, "a").document.title == "Printed Title and its Subtitle"
    for junk in ("Another Title", "Microsoft Word - draft.docx", "untitled", "main.tex", "..."):
        assert read_pdf(write_pdf(tmp_path / "b.pdf", pages, title=junk), "b").document.title == "Printed Title"


def test_the_arxiv_stamp_is_not_the_title_but_gives_the_id_and_the_year(tmp_path: Path) -> None:
    first = PdfPage().add("A Title in Print", size=11).add("Text of the paper.")
    first.stamp("arXiv:2305.14314v1 [cs.LG] 23 May 2023")
    reading = read_pdf(write_pdf(tmp_path / "q.pdf", [first]), "q")
    assert (reading.document.title, reading.document.arxiv_id, reading.document.year) == (
        "A Title in Print", "2305.14314", 2023,
    )  # fmt: skip
    assert "arXiv" not in reading.document.text
    assert [one.reason for one in reading.dropped] == ["arXiv stamp"]


def test_print_in_the_margin_is_not_the_title(tmp_path: Path) -> None:
    first = PdfPage().add("A Title in Print", size=12).add("Text of the paper.").stamp("AUTHOR MANUSCRIPT")
    assert read_pdf(write_pdf(tmp_path / "m.pdf", [first]), "m").document.title == "A Title in Print"


def test_a_file_named_by_its_arxiv_id_has_it(tmp_path: Path) -> None:
    document = read_pdf(write_pdf(tmp_path / "2106.09685v2.pdf", [page("Some words here.")]), "x").document
    assert (document.arxiv_id, document.year) == ("2106.09685", 2021)


def test_full_lines_run_on_as_a_paragraph_and_short_ones_end_it(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "p.pdf", [page(LONG, LONG, "to them.", "A new paragraph.", LONG)])
    assert read_pdf(path, "p").document.text.splitlines()[:2] == [f"{LONG} {LONG} to them.", "A new paragraph."]


def test_no_word_is_lost_between_chunks_and_what_was_dropped(tmp_path: Path) -> None:
    reading = read_pdf(paper(tmp_path), "paper")
    chunked = split(reading.document, Chunking(tokens=32))
    words = " ".join(
        [*(one.text for one in chunked.chunks), *(one.text for one in (*reading.dropped, *chunked.dropped))]
    ).split()
    printed = re.findall(r"\((.*)\) Tj", (tmp_path / "paper.pdf").read_bytes().decode("cp1252"))
    letters = re.sub(r"[\s-]", "", "".join(printed))
    assert sorted(re.sub("-", "", "".join(words))) == sorted(letters)


def test_no_letter_is_lost_from_a_page_with_everything_that_is_left_out(tmp_path: Path) -> None:
    pages = []
    for number in range(4):
        words = [f"{at}{number}".translate(str.maketrans("0123", "kqxz")) for at in range(4)]
        one = page(*(f"{word} is a line in full, with the words of page {number}" for word in words))
        one.head(f"{number} Running head").foot(str(number)).stamp("SIDEWAYS PRINT").heading(
            f"{number + 1} Heading {number}"
        )
        for at, word in enumerate(("apples", "pears", "plums")):
            one.at(60, 500 - 14 * at, word).at(200, 500 - 14 * at, "61.2").at(340, 500 - 14 * at, "64.8")
        pages.append(one)
    pages.append(page("Contents", "1 Heading 1", "2 Heading 2", "3 Heading 3").add("References", font=BOLD, size=12))
    pages[-1].add("[1] Jane Doe. A paper that is cited. 2021.")
    path = write_pdf(tmp_path / "p.pdf", pages)
    reading = read_pdf(path, "p")
    chunked = split(reading.document, Chunking(tokens=32))
    texts = [*(chunk.text for chunk in chunked.chunks), *(drop.text for drop in (*reading.dropped, *chunked.dropped))]
    printed = re.findall(r"\((.*)\) Tj", path.read_bytes().decode("cp1252"))
    assert sorted(re.sub(r"[\s|]|---", "", "".join(texts))) == sorted(re.sub(r"\s", "", "".join(printed)))
    assert {drop.reason for drop in reading.dropped} == {
        "running head or foot", "text that is not upright", "references", "table of contents",
    }  # fmt: skip


def test_a_page_without_text_among_others_is_listed(tmp_path: Path) -> None:
    reading = read_pdf(write_pdf(tmp_path / "p.pdf", [page("Words."), PdfPage(), page("More.")]), "p")
    assert [(one.page, one.reason) for one in reading.dropped] == [(2, "no text on this page")]
    assert reading.document.text[reading.document.page_starts[2] :].startswith("More.")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"<html>not found</html>", "not a PDF, or damaged"),
        (b"%PDF-1.7\n" + b"\0" * 300, "not a PDF, or damaged"),
    ],
)
def test_what_is_not_a_pdf_says_so(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "bad.pdf"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_pdf(path, "bad")
    assert (caught.value.what, caught.value.where) == (reason, str(path))
    assert caught.value.fix


def test_an_encrypted_pdf_says_so_and_its_text_is_really_sealed(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "sealed.pdf", [page("Nobody reads this.")], password="secret")
    assert b"Nobody" not in path.read_bytes()
    with pytest.raises(InputError, match="encrypted"):
        read_pdf(path, "sealed")


def test_a_scan_without_a_text_layer_says_which_command_helps(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no text on its 2 pages: it is scanned") as caught:
        read_pdf(write_pdf(tmp_path / "a scan.pdf", [PdfPage(), PdfPage()]), "scan")
    assert caught.value.fix == "run OCR on it: ocrmypdf 'a scan.pdf' OUT.pdf"


def test_a_scrambled_text_layer_says_which_command_helps(tmp_path: Path) -> None:
    scrambled = PdfPage().add(*["Penalized Least Squares versus Generalized"] * 3, font=DINGBATS)
    with pytest.raises(InputError, match="its text layer holds other characters than the pages show") as caught:
        read_pdf(write_pdf(tmp_path / "s.pdf", [scrambled, page("A line that can be read.")]), "s")
    assert caught.value.fix == "run OCR on it: ocrmypdf --force-ocr s.pdf OUT.pdf"


def test_a_few_symbols_among_letters_are_no_scrambled_layer(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "p.pdf", [page(*[LONG] * 4).add("abc", font=DINGBATS)])
    assert read_pdf(path, "p").document.text.startswith(LONG)


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
def test_a_page_that_is_shown_turned_is_read_as_it_is_printed(tmp_path: Path, rotate: int) -> None:
    path = write_pdf(tmp_path / "p.pdf", [page(LONG, "to them.")], rotate=rotate)
    assert read_pdf(path, "p").document.text == f"{LONG} to them.\n\n"


def test_a_page_printed_sideways_is_read_and_its_upright_page_number_is_listed(tmp_path: Path) -> None:
    sideways = PdfPage()
    for at, line in enumerate((LONG, "to them, and more of them.")):
        sideways.at(200 + 14 * at, 60, line, turned=True)
    reading = read_pdf(write_pdf(tmp_path / "p.pdf", [sideways.foot("7")]), "p")
    assert reading.document.text == f"{LONG} to them, and more of them.\n\n"
    assert [(drop.reason, drop.text) for drop in reading.dropped] == [("text that is not upright", "7")]


def test_exponents_are_marked_and_do_not_break_the_line(tmp_path: Path) -> None:
    first = page(LONG).at(60, 760, "The model has 10").at(134, 764, "9", size=7).at(140, 760, "parameters in all.")
    assert (
        "The model has 10^9 parameters in all." in read_pdf(write_pdf(tmp_path / "p.pdf", [first]), "p").document.text
    )


def test_a_folder_in_place_of_a_pdf_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        read_pdf(tmp_path, "folder")
