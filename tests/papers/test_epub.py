"""EPUB in: the pages in reading order; protected, empty and damaged books have a reason each."""

from pathlib import Path

import pytest

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.epub import read_epub
from mlx_ragtune.papers.reading import open_paper
from tests.papers.packages import CONTAINER, write_epub, write_zip

METADATA = (
    "<dc:title>A Book of Adapters</dc:title><dc:creator>Ada Lovelace</dc:creator><dc:creator>Kurt Gödel</dc:creator>"
    "<dc:date>2021-05-01</dc:date>"
)
ENCRYPTION = (
    '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container" xmlns:enc="http://www.w3.org/2001/04/xmlenc#">'
    '<enc:EncryptedData><enc:EncryptionMethod Algorithm="{}"/></enc:EncryptedData></encryption>'
)


def test_pages_come_in_the_order_of_the_spine_with_their_headings(tmp_path: Path) -> None:
    pages = {
        "nav": "<nav><ol><li>One</li><li>Two</li></ol></nav>",
        "zwei": "<h1>Two</h1><p>Later, <b>m</b><sup>2</sup>.</p>",
        "eins": '<h1>One</h1><p id="a"/><p>Energy: <m:math xmlns:m="x"><m:mi>E</m:mi><m:mo>=</m:mo><m:mi>m</m:mi>'
        "<m:msup><m:mi>c</m:mi><m:mn>2</m:mn></m:msup></m:math></p><table><tr><td>a</td><td>b</td></tr></table>",
        "end": "<h2>References</h2><p>[1] Cited.</p>",
    }
    reading = read_epub(write_epub(tmp_path / "book.epub", pages, metadata=METADATA), "book")
    document = reading.document
    assert document.text == "Two\nLater, m^2.\nOne\nEnergy: E = mc^2\n| a | b |\n| --- | --- |\n"
    assert [section.title for section in document.sections] == ["Two", "One"]
    assert (document.title, document.year) == ("A Book of Adapters", 2021)
    assert document.authors == ("Ada Lovelace", "Kurt Gödel")
    assert [(drop.reason, drop.text) for drop in reading.dropped] == [
        ("table of contents", "One\nTwo"), ("references", "References\n[1] Cited."),
    ]  # fmt: skip
    assert document.page_starts == (0,)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"META-INF__rights_dot_xml": "<rights/>"}, "it is protected"),
        (
            {"META-INF__encryption_dot_xml": ENCRYPTION.format("http://www.w3.org/2001/04/xmlenc#aes128-cbc")},
            "protected",
        ),
        ({"OEBPS__content_dot_opf": "<package><spine>"}, "content.opf is not well-formed XML"),
        ({"META-INF__container_dot_xml": "<container/>"}, "names no package document"),
        ({"META-INF__container_dot_xml": CONTAINER.replace("OEBPS/", "../../")}, "names no package document"),
        (
            {"OEBPS__content_dot_opf": '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><package>&x;</package>'},
            "declares XML entities",
        ),
        (
            {
                "OEBPS__content_dot_opf": '<package><manifest><item id="a" href="gone.xhtml"/></manifest>'
                '<spine><itemref idref="a"/></spine></package>'
            },
            "it holds no gone.xhtml",
        ),
    ],
)
def test_each_book_that_cannot_be_read_has_its_own_reason(tmp_path: Path, more: dict[str, str], reason: str) -> None:
    path = tmp_path / "x.epub"
    write_epub(path, {"a": "<p>text</p>"}, **{name: text for name, text in more.items() if "OEBPS" not in name})
    if any("OEBPS" in name or "container" in name for name in more):
        members = {"META-INF/container.xml": CONTAINER, "OEBPS/content.opf": "<package/>"}
        members |= {name.replace("__", "/").replace("_dot_", "."): text for name, text in more.items()}
        write_zip(path, members)
    with pytest.raises(InputError, match=reason) as caught:
        read_epub(path, "x")
    assert caught.value.where == str(path)


def test_obfuscated_fonts_are_not_a_protection(tmp_path: Path) -> None:
    fonts = ENCRYPTION.format("http://www.idpf.org/2008/embedding")
    path = write_epub(tmp_path / "x.epub", {"a": "<p>text</p>"}, **{"META-INF__encryption_dot_xml": fonts})
    assert read_epub(path, "x").document.text == "text\n"


def test_an_empty_book_and_another_zip_file_are_refused(tmp_path: Path) -> None:
    write_epub(tmp_path / "x.epub", {"a": "  "})
    with pytest.raises(InputError, match="it contains no text"):
        open_paper(tmp_path / "x.epub", id="x")
    write_zip(tmp_path / "y.epub", {"a": "b"})
    with pytest.raises(InputError, match=r"it holds no META-INF/container\.xml"):
        open_paper(tmp_path / "y.epub", id="x")
