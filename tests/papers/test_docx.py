"""DOCX in: the text that Word shows, in sections, and everything else listed."""

from pathlib import Path

import pytest

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.docx import read_docx
from mlx_ragtune.papers.dropped import Reading
from tests.papers.packages import W, par, write_docx, write_zip


def read(folder: Path, body: str, *, title: str = "", creator: str = "", **parts: str | bytes) -> Reading:
    return read_docx(write_docx(folder / "paper.docx", body, title=title, creator=creator, **parts), "paper")


def left_out(reading: Reading) -> dict[str, str]:
    return {drop.reason: drop.text for drop in reading.dropped}


def test_headings_are_known_by_their_styles_also_in_other_languages(tmp_path: Path) -> None:
    body = (
        par("A Study of Adapters", "Titel")
        + par("Einleitung", "berschrift1")
        + par("They are small.")
        + par("Daten", "berschrift2")
        + par("Ten sets.")
        + par("Own", "Eigene")
        + par("Inherited.")
    )
    document = read(tmp_path, body, creator="Ada Lovelace; Kurt Gödel").document
    assert [section.title for section in document.sections] == ["", "Einleitung", "Daten", "Own"]
    assert document.title == "A Study of Adapters"
    assert document.authors == ("Ada Lovelace", "Kurt Gödel")
    assert document.text == "A Study of Adapters\nEinleitung\nThey are small.\nDaten\nTen sets.\nOwn\nInherited.\n"


def test_without_heading_styles_bold_lines_and_usual_names_are_headings(tmp_path: Path) -> None:
    body = (
        par("The Title of This Paper", bold=True)
        + par("Abstract")
        + par("Short.")
        + par("Our own method", bold=True)
        + par("Text.")
        + par("A whole bold sentence ends with a full stop.", bold=True)
    )
    document = read(tmp_path, body).document
    assert [section.title for section in document.sections] == [
        "The Title of This Paper", "Abstract", "Our own method",
    ]  # fmt: skip
    assert document.title == "The Title of This Paper"


def test_the_title_of_the_properties_counts_only_if_it_stands_in_the_text(tmp_path: Path) -> None:
    body = par("Results of a Trial") + par("Introduction", "berschrift1") + par("Text.")
    assert read(tmp_path, body, title="Results of a Trial").document.title == "Results of a Trial"
    assert read(tmp_path, body, title="Template v3").document.title == "Template v3"
    assert read(tmp_path, body, title="Word Document").document.title == "paper"


def test_tables_are_rows_with_merged_cells_in_their_columns(tmp_path: Path) -> None:
    wide = '<w:tc><w:tcPr><w:gridSpan w:val="2"/></w:tcPr>' + par("Accuracy") + "</w:tc>"
    rows = f"<w:tr><w:tc>{par('Model')}</w:tc>{wide}</w:tr>" + "".join(
        f"<w:tr>{''.join(f'<w:tc>{par(cell)}</w:tc>' for cell in row)}</w:tr>"
        for row in (("A|B", "1", "2"), ("C", "", "4"))
    )
    assert read(tmp_path, f"<w:tbl>{rows}</w:tbl>").document.text == (
        "| Model | Accuracy |  |\n| --- | --- | --- |\n| A\\|B | 1 | 2 |\n| C |  | 4 |\n"
    )


def test_exponents_and_formulas_are_readable(tmp_path: Path) -> None:
    raised = '<w:r><w:rPr><w:vertAlign w:val="superscript"/></w:rPr><w:t>{}</w:t></w:r>'
    text = "<w:r><w:t>10</w:t></w:r>" + raised.format("9") + "<w:r><w:t> cells, the 1</w:t></w:r>" + raised.format("st")
    script = "<m:sSup><m:e><m:r><m:t>10</m:t></m:r></m:e><m:sup><m:r><m:t>−4</m:t></m:r></m:sup></m:sSup>"
    half = "<m:f><m:num><m:r><m:t>a+b</m:t></m:r></m:num><m:den><m:r><m:t>c</m:t></m:r></m:den></m:f>"
    root = "<m:rad><m:radPr/><m:deg/><m:e><m:r><m:t>x</m:t></m:r></m:e></m:rad>"
    body = par(text) + f"<w:p><m:oMath>{script}</m:oMath></w:p><w:p><m:oMath>{half}</m:oMath></w:p>"
    body += f"<w:p><m:oMath>{root}</m:oMath></w:p>"
    assert read(tmp_path, body).document.text == "10^9 cells, the 1st\n10^−4\n(a+b)/c\n√x\n"


def test_what_word_does_not_show_or_repeats_is_listed(tmp_path: Path) -> None:
    hidden = "<w:r><w:rPr><w:vanish/></w:rPr><w:t>secret</w:t></w:r>"
    deleted = '<w:del w:id="1"><w:r><w:delText>old words</w:delText></w:r></w:del>'
    inserted = '<w:ins w:id="2"><w:r><w:t>new words</w:t></w:r></w:ins>'
    reading = read(
        tmp_path,
        par("Introduction", "berschrift1")
        + par("1 Introduction 3", "Verzeichnis1")
        + par(f"<w:r><w:t>Kept </w:t></w:r>{hidden}{deleted}{inserted}"),
        header1=f"<w:hdr {W}>{par('Journal of Tests')}</w:hdr>",
        comments=f'<w:comments {W}><w:comment w:id="0">{par("check this")}</w:comment></w:comments>',
    )
    assert reading.document.text == "Introduction\nKept new words\n"
    assert left_out(reading) == {
        "table of contents": "1 Introduction 3", "hidden text": "secret", "deleted text": "old words",
        "running head": "Journal of Tests", "comment": "check this",
    }  # fmt: skip


def test_footnotes_follow_their_paragraph_and_text_boxes_appear_once(tmp_path: Path) -> None:
    box = f"<w:txbxContent>{par('In a box')}</w:txbxContent>"
    both = "<mc:AlternateContent><mc:Choice>{0}</mc:Choice><mc:Fallback>{0}</mc:Fallback></mc:AlternateContent>"
    drawing = both.format(f"<w:drawing>{box}</w:drawing>")
    body = par(f'<w:r><w:t>Claim.</w:t><w:footnoteReference w:id="2"/>{drawing}</w:r>') + par("Next.")
    notes = f'<w:footnotes {W}><w:footnote w:id="0" w:type="separator"/><w:footnote w:id="2">{par("Evidence.")}'
    document = read(tmp_path, body, footnotes=notes + "</w:footnote></w:footnotes>").document
    assert document.text == "Claim.\nFootnote: Evidence.\nIn a box\nNext.\n"


def test_references_are_left_out_up_to_the_appendix(tmp_path: Path) -> None:
    body = (
        par("Results", "berschrift1")
        + par("Good.")
        + par("Hu, E. 2021.", "Literatur")
        + par("References", "berschrift1")
        + par("[1] Cited.")
        + par("Appendix", "berschrift1")
        + par("Proofs.")
    )
    reading = read(tmp_path, body)
    assert reading.document.text == "Results\nGood.\nAppendix\nProofs.\n"
    assert [drop.text for drop in reading.dropped] == ["Hu, E. 2021.", "References\n[1] Cited."]


def test_each_file_that_cannot_be_read_has_its_own_reason(tmp_path: Path) -> None:
    path = tmp_path / "x.docx"
    ole = bytes.fromhex("d0cf11e0a1b11ae1") + b"\0" * 600

    def reason(content: bytes) -> str:
        path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            read_docx(path, "x")
        assert caught.value.where == str(path)
        assert caught.value.fix
        return caught.value.what

    assert reason(b"no zip") == "not a DOCX file, or damaged"
    assert reason(ole + "EncryptedPackage".encode("utf-16-le")) == "it is encrypted"
    assert reason(ole) == "not a DOCX file: a file of Word 97 to 2003"
    assert reason(write_zip(tmp_path / "z", {"a.txt": "x"}).read_bytes()) == (
        "not a DOCX file, or damaged: it holds no word/document.xml"
    )
    assert reason(
        write_zip(tmp_path / "z", {"word/document.xml": "<a/>", "word/vbaProject.bin": "x"}).read_bytes()
    ) == ("it contains macros")
    assert reason(write_zip(tmp_path / "z", {"word/document.xml": "<a><b></a>"}).read_bytes()) == (
        "word/document.xml is not well-formed XML (line 1: mismatched tag)"
    )
    whole = write_docx(tmp_path / "t", par("word " * 5000)).read_bytes()
    assert reason(whole[: len(whole) // 2]) == "not a DOCX file, or damaged"
