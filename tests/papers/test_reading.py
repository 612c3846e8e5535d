"""One function for all formats; headings of printed papers; sections that cover the whole text."""

from pathlib import Path

import pytest

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.formats import SUFFIXES
from mlx_ragtune.papers.reading import open_paper
from mlx_ragtune.papers.sections import cover, headings, is_references


def test_the_format_is_known_by_its_ending_whatever_its_case(tmp_path: Path) -> None:
    for name, text in (
        ("a.md", "# A title\n\nSome text."),
        ("b.TXT", "A title\n\nSome text."),
        ("c.html", "<html><title>A title</title><body><p>Some text.</p></body></html>"),
    ):
        (tmp_path / name).write_text(text)
        document = open_paper(tmp_path / name, id="x").document
        assert "Some text." in document.text, name
        assert document.id == "x"


def test_another_format_is_refused_with_those_that_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.odt").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"'\.odt' is not a supported format") as caught:
        open_paper(tmp_path / "a.odt", id="x")
    assert all(suffix in caught.value.fix for suffix in SUFFIXES)


@pytest.mark.parametrize("content", ["", "\n\n  \n", "\ufeff"])
def test_an_empty_paper_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.txt").write_text(content, encoding="utf-8")
    with pytest.raises(InputError):
        open_paper(tmp_path / "a.txt", id="x")


def test_sections_cover_the_text_without_gap_or_overlap() -> None:
    sections = cover([("Introduction", 10), ("Methods", 40), ("Empty", 90)], 90)
    assert [(one.title, one.start, one.end) for one in sections] == [
        ("", 0, 10),
        ("Introduction", 10, 40),
        ("Methods", 40, 90),
    ]


def test_a_text_without_headings_is_one_section() -> None:
    assert [(one.start, one.end) for one in cover([], 7)] == [(0, 7)]
    assert cover([], 0) == ()


@pytest.mark.parametrize("line", ["References", "7 References", "BIBLIOGRAPHY", " 12. Works Cited "])
def test_lists_of_references_are_known(line: str) -> None:
    assert is_references(line)


@pytest.mark.parametrize("line", ["References to earlier work", "See the references", "Reference", ""])
def test_lines_that_mention_references_are_not_a_list(line: str) -> None:
    assert not is_references(line)


def found(*lines: str) -> list[str]:
    return [lines[at] for at in headings(lines)]


def test_numbered_headings_follow_each_other() -> None:
    lines = ("1 Introduction", "text", "2 Methods", "2.1 Data", "2.2 Model", "3 Results", "3.1 Main Results")
    assert found(*lines) == [line for line in lines if line != "text"]


def test_numbers_that_do_not_follow_are_rows_and_items() -> None:
    assert found("1 Introduction", "7 Apples", "12 Months of data", "2.5 Points", "2 Methods") == [
        "1 Introduction",
        "2 Methods",
    ]


@pytest.mark.parametrize(
    "line", ["1 introduction", "1 A sentence that ends.", "1 0.5 0.7 0.9", "1 " + "Word " * 13, "1 3.4 % of Rows, and"]
)
def test_a_numbered_line_that_is_not_a_title_is_not_a_heading(line: str) -> None:
    assert found(line) == []


def test_usual_names_need_no_number() -> None:
    assert found("Abstract", "abstract", "Conclusion and future work", "Limitations", "We conclude") == [
        "Abstract",
        "Conclusion and future work",
        "Limitations",
    ]
