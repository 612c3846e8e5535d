"""Markdown in: front matter, headings, and what is not a heading."""

from pathlib import Path

import pytest

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.markdown import read_markdown
from mlx_ragtune.papers.plain_text import load_text, read_text
from mlx_ragtune.records import Document

NOTE = """---
title: "LoRA: Low-Rank Adaptation"
authors: [Edward Hu, Yelong Shen]
year: 2021
arxiv: "2106.09685"
---

First words.

## What was found

More words.
"""


def read(folder: Path, text: str | bytes, name: str = "note.md") -> Document:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return (read_markdown if name.endswith(".md") else read_text)(path, "note").document


def titles(document: Document) -> list[str]:
    return [section.title for section in document.sections]


def test_front_matter_gives_title_authors_year_and_arxiv_id_and_is_no_text(tmp_path: Path) -> None:
    document = read(tmp_path, NOTE)
    assert (document.title, document.year, document.arxiv_id) == ("LoRA: Low-Rank Adaptation", 2021, "2106.09685")
    assert document.authors == ("Edward Hu", "Yelong Shen")
    assert document.text.startswith("First words.")


def test_sections_cover_the_text_without_gap(tmp_path: Path) -> None:
    document = read(tmp_path, NOTE)
    assert titles(document) == ["", "What was found"]
    assert [(one.start, one.end) for one in document.sections] == [(0, 14), (14, len(document.text))]


def test_without_front_matter_the_first_heading_is_the_title_and_without_that_the_file(tmp_path: Path) -> None:
    assert read(tmp_path, "Intro.\n\n# The Heading ##\n").title == "The Heading"
    assert read(tmp_path, "Only words.\n", "my_note.md").title == "my_note"


def test_underlined_headings_count_and_a_sharp_within_a_heading_stays(tmp_path: Path) -> None:
    assert titles(read(tmp_path, "Title\n=====\n\na\n\nSub\n---\n\nb\n\n# About C#\n")) == ["Title", "Sub", "About C#"]


def test_hashes_in_fenced_code_are_no_headings_even_when_the_fence_is_never_closed(tmp_path: Path) -> None:
    assert titles(read(tmp_path, "# A\n```\n# not\n```\n# B\n~~~\n# nor this\n")) == ["A", "B"]


def test_authors_in_one_line_are_parted_at_commas(tmp_path: Path) -> None:
    assert read(tmp_path, "---\nauthors: A. One,  B. Two\n---\nx").authors == ("A. One", "B. Two")


def test_windows_line_ends_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    document = read(tmp_path, b"\xef\xbb\xbf" + NOTE.replace("\n", "\r\n").encode())
    assert document.title == "LoRA: Low-Rank Adaptation"
    assert "\r" not in document.text


def test_a_rule_that_opens_plain_text_loses_nothing(tmp_path: Path) -> None:
    text = "---\nonly words here\n---\nmore\n"
    assert read(tmp_path, text).text == text


def test_text_is_composed_to_nfc(tmp_path: Path) -> None:
    assert "Poincaré" in read(tmp_path, "# Poincare\u0301\n\ntext").text


def test_front_matter_that_is_not_yaml_names_its_line(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, "---\nyear: 2021\ntitle: LoRA: Low-Rank\n---\ntext")
    assert caught.value.where.endswith("note.md:3")
    assert "quotes" in caught.value.fix


def test_front_matter_may_end_the_file(tmp_path: Path) -> None:
    document = read(tmp_path, "---\ntitle: Alone\n---")
    assert (document.title, document.text) == ("Alone", "")


def test_a_year_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'about 2020' is not a year"):
        read(tmp_path, "---\nyear: about 2020\n---\ntext")


def test_plain_text_is_titled_by_its_first_line(tmp_path: Path) -> None:
    document = read(tmp_path, "\n  On Adapters \n\ntext\n", "p.txt")
    assert (document.title, titles(document)) == ("On Adapters", [""])


@pytest.mark.parametrize(("content", "reason"), [(b"caf\xe9", "not UTF-8 text .byte 3"), (b"a\0b", "zero bytes")])
def test_what_is_not_text_says_why(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "x.txt").write_bytes(content)
    with pytest.raises(InputError, match=reason):
        load_text(tmp_path / "x.txt")


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        load_text(tmp_path / "none.txt")
