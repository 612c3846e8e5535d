"""Markdown in: front matter, headings, and what is not one."""

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


def test_front_matter_gives_title_authors_year_and_arxiv_id_and_is_not_text(tmp_path: Path) -> None:
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


def test_hashes_in_fenced_code_are_not_headings_even_when_the_fence_is_never_closed(tmp_path: Path) -> None:
    assert titles(read(tmp_path, "# A\n```\n# not\n```\n# B\n~~~\n# nor this\n")) == ["A", "B"]


def test_headings_inside_lists_quotations_comments_and_indented_code_do_not_make_sections(tmp_path: Path) -> None:
    text = "# A\n\n- # item\n\n> # quoted\n\n<!--\n# comment\n-->\n\n    # code\n\nTwo\nlines\n===\n"
    document = read(tmp_path, text)
    assert titles(document) == ["A", "Two lines"]
    assert document.text[document.sections[1].start :] == "Two\nlines\n===\n"


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\r", "\f"])
def test_other_line_separators_do_not_shift_headings(tmp_path: Path, separator: str) -> None:
    document = read(tmp_path, f"one{separator}two\n\n# Heading\n\nmore\n")
    assert document.text[document.sections[1].start :].startswith("# Heading")


def test_control_characters_are_removed_and_listed(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_bytes(b"# T\n\nred \x1b[31mwords\x07\x07 and \xc2\x9b more\n")
    reading = read_markdown(tmp_path / "a.md", "a")
    assert reading.document.text == "# T\n\nred [31mwords and  more\n"
    assert [(drop.reason, drop.text) for drop in reading.dropped] == [
        ("control characters", "U+0007 × 2, U+001B × 1, U+009B × 1")
    ]


def test_authors_in_one_line_are_separated_at_commas(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("matter", "reason"),
    [
        ("a: &x [1]\nb: *x", "aliases"),
        ("a: &a [b, b]\nb: &b [*a, *a, *a]\nc: [*b, *b]", "aliases"),
        ("x: " + "[" * 3000, "nested too deeply"),
        ("title: [one, two]", "title: .* is not text"),
        ("year: [2020]", "year: .* is not text"),
        ("year: 2021-05-01", "'2021-05-01' is not a year"),
        ("year: !!int 0x10", "'0x10' is not a year"),
        ("year: " + "9" * 5000, "is not a year"),
        ("? [a]\n: b", "unhashable key"),
        ("title: a\ttitle: b", "cannot start any token"),
        ("x: " + "y" * 70_000, "longer than 65,536 characters"),
    ],
)
def test_hostile_front_matter_is_an_input_error(tmp_path: Path, matter: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        read(tmp_path, f"---\n{matter}\n---\ntext")


@pytest.mark.parametrize(
    ("matter", "title"),
    [
        ("title: !!float abc", "abc"),
        ("title: !!python/object:os.system {}", None),
        ("title: Yes", "Yes"),
        ("title: 2021-13-45", "2021-13-45"),
        ("title: " + "9" * 5000, "9" * 300),
        ("title: null", "note"),
        ("date: 2021-13-45\nvolume: 1e999\ntitle: A", "A"),
    ],
)
def test_values_of_front_matter_are_text_whatever_they_look_like(
    tmp_path: Path, matter: str, title: str | None
) -> None:
    if title is None:
        with pytest.raises(InputError, match="is not text"):
            read(tmp_path, f"---\n{matter}\n---\ntext")
    else:
        assert read(tmp_path, f"---\n{matter}\n---\ntext").title == title


def test_front_matter_may_end_the_file(tmp_path: Path) -> None:
    document = read(tmp_path, "---\ntitle: Alone\n---")
    assert (document.title, document.text) == ("Alone", "")


def test_an_invalid_year_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'about 2020' is not a year"):
        read(tmp_path, "---\nyear: about 2020\n---\ntext")


def test_plain_text_is_titled_by_its_first_line(tmp_path: Path) -> None:
    document = read(tmp_path, "\n  On Adapters \n\ntext\n", "p.txt")
    assert (document.title, titles(document)) == ("On Adapters", [""])


@pytest.mark.parametrize(
    ("content", "reason"), [(b"caf\xe9", "not UTF-8 text .byte 0xe9 at position 4"), (b"a\0b", "NUL bytes")]
)
def test_what_is_not_text_says_why(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "x.txt").write_bytes(content)
    with pytest.raises(InputError, match=reason):
        load_text(tmp_path / "x.txt")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_other_encodings_are_refused_with_the_fix(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "x.txt").write_bytes("Über café".encode(encoding))
    with pytest.raises(InputError, match="not UTF-8 text") as caught:
        load_text(tmp_path / "x.txt")
    assert caught.value.fix == "save it as UTF-8"


def test_a_text_too_long_for_a_paper_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="longer than 3,000,000 characters"):
        read(tmp_path, "x" * 3_000_001, "x.txt")
    monkeypatch.setattr("mlx_ragtune.papers.plain_text.MAX_FILE_BYTES", 2**20)
    with pytest.raises(InputError, match="the file is larger than 1 MiB"):
        read(tmp_path, "x" * (2**20 + 1), "x.txt")


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read: No such file"):
        load_text(tmp_path / "none.txt")
