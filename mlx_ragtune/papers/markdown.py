"""Markdown with optional YAML front matter (title, authors, year, arxiv); headings make sections."""

import re
import unicodedata
from pathlib import Path
from typing import Any

import yaml

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.dropped import Reading
from mlx_ragtune.papers.plain_text import load_text
from mlx_ragtune.papers.sections import cover
from mlx_ragtune.records import Document

_FRONT = re.compile(r"---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_FENCE = re.compile(r"^ {0,3}(```+|~~~+).*?(?:^ {0,3}\1[`~]*[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(
    r"^ {0,3}#{1,6}[ \t]+(?P<atx>.+?)(?:[ \t]+#+)?[ \t]*$|^ {0,3}(?P<setext>\S.*?)[ \t]*\n {0,3}(?:=+|--+)[ \t]*$",
    re.MULTILINE,
)


def _front_matter(text: str, path: Path) -> tuple[dict[str, Any], str]:
    """The front matter's keys and the text below it; a rule that opens plain text is part of the text."""
    match = _FRONT.match(text)
    if not match:
        return {}, text
    try:
        matter = yaml.safe_load(match[1])
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 2 if mark else 1
        raise InputError(
            f"its front matter is not YAML: {getattr(error, 'problem', None) or error}",
            where=f"{path}:{line}",
            fix='put values with a colon in quotes: title: "LoRA: …"',
        ) from None
    if not isinstance(matter, dict):
        return {}, text
    return matter, text[match.end() :].lstrip("\n")


def _headings(text: str) -> list[tuple[str, int]]:
    fenced = [match.span() for match in _FENCE.finditer(text)]
    return [
        (match["atx"] or match["setext"], match.start())
        for match in _HEADING.finditer(text)
        if not any(start <= match.start() < end for start, end in fenced)
    ]


def _names(value: object) -> tuple[str, ...]:
    """Authors, written as a list or as one line with commas."""
    names = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    return tuple(_plain(name) for name in names if _plain(name))


def _plain(value: object) -> str:
    return unicodedata.normalize("NFC", " ".join(str(value).split()))


def _year(value: object, path: Path) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"year: {value!r} is not a year", where=str(path), fix="write it as year: 2023")
    return value


def read_markdown(path: Path, identifier: str) -> Reading:
    """The text below the front matter. Title: front matter, else the first heading, else the file's name.

    Raises InputError for front matter that is not YAML, or a year that is none.
    """
    matter, text = _front_matter(load_text(path), path)
    marks = _headings(text)
    arxiv = matter.get("arxiv")
    return Reading(
        Document(
            identifier,
            path.name,
            _plain(matter.get("title") or next((title for title, _ in marks), path.stem)),
            text,
            authors=_names(matter.get("authors")),
            year=_year(matter.get("year"), path),
            arxiv_id=_plain(arxiv) if arxiv else None,
            sections=cover(marks, len(text)),
        )
    )
