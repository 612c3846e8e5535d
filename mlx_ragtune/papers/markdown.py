"""Markdown with optional YAML front matter (title, authors, year, arxiv); headings make sections."""

import itertools
import re
import unicodedata
from pathlib import Path
from typing import Any

import yaml
from markdown_it import MarkdownIt

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.dropped import Reading
from mlx_ragtune.papers.plain_text import LONGEST_TITLE, check_length, load_text, removed_characters
from mlx_ragtune.papers.sections import cover
from mlx_ragtune.records import Document

MAX_FRONT_MATTER = 65_536
"""Longest front matter, in characters."""
_OPENING = re.compile(r"---[ \t]*\n")
_CLOSING = re.compile(r"^(?:---|\.\.\.)[ \t]*$\n?", re.MULTILINE)


class _Loader(yaml.BaseLoader):
    """Every scalar as text, so that no value has a type that could be wrong; aliases are refused."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not supported", mark)
        return super().compose_node(parent, index)


def _front_matter(text: str, path: Path) -> tuple[dict[str, Any], str]:
    """The front matter's keys and the text below it; a rule that opens plain text is part of the text."""
    opening = _OPENING.match(text)
    closing = _CLOSING.search(text, opening.end()) if opening else None
    if not opening or not closing:
        return {}, text
    source = text[opening.end() : closing.start()]
    try:
        if len(source) > MAX_FRONT_MATTER:
            raise yaml.YAMLError(f"longer than {MAX_FRONT_MATTER:,} characters")
        matter = yaml.load(source, _Loader)  # noqa: S506 (a BaseLoader makes only text, lists and dicts)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        deep = isinstance(error, RecursionError)
        reason = "nested too deeply" if deep else getattr(error, "problem", None) or str(error).split("\n")[0]
        raise InputError(
            f"invalid YAML in the front matter: {reason}",
            where=f"{path}:{mark.line + 2 if mark else 1}",
            fix='put values with a colon in quotes: title: "LoRA: …"',
        ) from None
    if not isinstance(matter, dict):
        return {}, text
    return matter, text[closing.end() :].lstrip("\n")


def _headings(text: str) -> list[tuple[str, int]]:
    """(title, start) of each heading that is not inside a list or a quotation."""
    parser = MarkdownIt("commonmark")
    parser.core.ruler.enableOnly(["normalize", "block"])
    starts = list(itertools.accumulate((len(line) + 1 for line in text.split("\n")), initial=0))
    tokens = parser.parse(text)
    return [
        (" ".join(title.content.split()), starts[opening.map[0]])
        for opening, title in itertools.pairwise(tokens)
        if opening.type == "heading_open" and opening.level == 0 and opening.map and title.content
    ]


def _names(value: object) -> tuple[str, ...]:
    """Authors, written as a list or as one line with commas."""
    names = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    return tuple(_line(name) for name in names if isinstance(name, str) and name.strip())


def _line(text: str) -> str:
    return unicodedata.normalize("NFC", " ".join(text.split()))


def _text_of(matter: dict[str, Any], key: str, path: Path) -> str:
    """The key's value as one line of NFC text; empty where it is missing or null."""
    value = matter.get(key, "")
    if not isinstance(value, str):
        raise InputError(
            f"{key}: {value!r:.60} is not text", where=str(path), fix=f'put the value in quotes: {key}: "…"'
        )
    return "" if value in ("~", "null") else _line(value)


def _year(year: str, path: Path) -> int | None:
    if not year:
        return None
    if not re.fullmatch(r"[12]\d{3}", year, re.ASCII):
        raise InputError(f"year: {year!r:.40} is not a year", where=str(path), fix="write it as year: 2023")
    return int(year)


def read_markdown(path: Path, identifier: str) -> Reading:
    """The text below the front matter. Title: front matter, else the first heading, else the file's name.

    Raises InputError for front matter that is not valid YAML, or an invalid year.
    """
    loaded = load_text(path)
    matter, text = _front_matter(loaded.text, path)
    check_length(len(text), path)
    marks = _headings(text)
    title = _text_of(matter, "title", path) or next((title for title, _ in marks), "") or path.stem
    document = Document(
        identifier,
        path.name,
        title[:LONGEST_TITLE],
        text,
        authors=_names(matter.get("authors")),
        year=_year(_text_of(matter, "year", path), path),
        arxiv_id=_text_of(matter, "arxiv", path) or None,
        sections=cover(marks, len(text)),
    )
    return Reading(document, tuple(removed_characters(identifier, 1, loaded.removed)))
