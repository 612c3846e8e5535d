"""Markdown with optional YAML front matter (title, authors, year, arxiv); headings make sections."""

import re
from pathlib import Path
from typing import Any

import yaml

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.text import load_text
from mlx_ragtune.records import Document, Section

_HEADING = re.compile(r"^(#{1,6})[ \t]+(.+?)[ \t#]*$", re.MULTILINE)
_FENCE = re.compile(r"^(```|~~~).*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)


def _front_matter(text: str, path: Path) -> tuple[dict[str, Any], str]:
    match = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    if not match:
        return {}, text
    try:
        matter = yaml.safe_load(match[1])
    except yaml.YAMLError as error:
        raise InputError(
            f"its front matter is not YAML: {error}", where=str(path), fix="correct its head"
        ) from None
    if not isinstance(matter, dict):
        raise InputError("its front matter has no keys", where=str(path), fix="write `title: …` there")
    return matter, text[match.end() :].lstrip("\n")


def sections_of(text: str) -> tuple[Section, ...]:
    """The spans below each heading, and the one before the first; together they cover the text."""
    fenced = [match.span() for match in _FENCE.finditer(text)]
    marks = [("", 0)]
    for match in _HEADING.finditer(text):
        if not any(start <= match.start() < end for start, end in fenced):
            marks.append((match[2], match.start()))
    ends = [start for _, start in marks[1:]] + [len(text)]
    return tuple(
        Section(title, start, end) for (title, start), end in zip(marks, ends, strict=True) if end > start
    )


def read_markdown(path: Path, identifier: str) -> Document:
    """The text below the front matter. Title: front matter, else the first heading, else the file's name."""
    matter, text = _front_matter(load_text(path), path)
    sections = sections_of(text)
    heading = next((section.title for section in sections if section.title), path.stem)
    authors = matter.get("authors") or ()
    year, arxiv = matter.get("year"), matter.get("arxiv")
    return Document(
        identifier,
        path.name,
        str(matter.get("title") or heading),
        text,
        authors=(authors,) if isinstance(authors, str) else tuple(str(one) for one in authors),
        year=year if isinstance(year, int) else None,
        arxiv_id=str(arxiv) if arxiv else None,
        sections=sections,
    )
