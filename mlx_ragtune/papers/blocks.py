"""A paper as blocks of text and headings, as readers of marked-up formats give it, put together as a document."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mlx_ragtune.papers.dropped import Dropped
from mlx_ragtune.papers.plain_text import removed_characters, without_control
from mlx_ragtune.papers.sections import is_references


@dataclass(frozen=True)
class Block:
    """A paragraph, a row of a table or a heading; ``dropped`` is the reason why it is left out, or ""."""

    text: str
    is_heading: bool = False
    dropped: str = ""


class Assembly(NamedTuple):
    """The text of a document, its headings as (title, start), and what is not in the text."""

    text: str
    marks: list[tuple[str, int]]
    dropped: list[Dropped]


def one_line(text: str) -> str:
    """NFC text with single spaces between words."""
    return unicodedata.normalize("NFC", " ".join(text.split()))


def markdown_table(table: Sequence[Sequence[str]]) -> list[str]:
    """The rows in Markdown, the first as the head; short rows are filled at their end."""
    width = max(map(len, table))
    lines = [
        f"| {' | '.join([*(cell.replace('|', chr(92) + '|') for cell in cells), *[''] * (width - len(cells))])} |"
        for cells in table
    ]
    return [lines[0], "|" + " --- |" * width, *lines[1:]]


def table_blocks(table: Iterable[Sequence[str]]) -> Iterator[Block]:
    """The rows of a table that hold text, as Markdown; a single cell is a paragraph."""
    rows = [[one_line(cell) for cell in cells] for cells in table]
    rows = [cells for cells in rows if any(cells)]
    if rows and max(map(len, rows)) == 1:
        yield from (Block(cells[0]) for cells in rows)
    elif rows:
        yield from map(Block, markdown_table(rows))


def assemble(identifier: str, blocks: Iterable[Block]) -> Assembly:
    """The blocks that are kept, one a line, and what is left out: by its reason, or since it is a reference.

    A list of references starts at its heading and ends at the next one.
    """
    marks: list[tuple[str, int]] = []
    left_out: list[tuple[str, list[str]]] = []
    in_references = False
    removed = Counter[str]()
    parts: list[str] = []
    length = 0
    for block in blocks:
        loaded = without_control(unicodedata.normalize("NFC", block.text))
        line = loaded.text.strip()
        removed += loaded.removed
        if not line:
            continue
        if block.is_heading and not block.dropped:
            in_references = is_references(line) and bool(parts)
        reason = block.dropped or ("references" if in_references else "")
        if reason:
            joins = left_out and left_out[-1][0] == reason and reason in _JOINED and not block.is_heading
            if joins:
                left_out[-1][1].append(line)
            else:
                left_out.append((reason, [line]))
            continue
        if block.is_heading:
            marks.append((one_line(line), length))
        parts.append(line + "\n")
        length += len(parts[-1])
    text = "".join(parts)
    dropped = [Dropped(identifier, 1, reason, "\n".join(lines)) for reason, lines in left_out]
    return Assembly(text, marks, [*dropped, *removed_characters(identifier, 1, removed)])


_JOINED = ("references", "comment", "table of contents")
"""Neighbors that are left out for this reason are listed together."""


_YEAR = re.compile(r"\b(1[89]\d\d|20\d\d)\b")


def year_in(text: str) -> int | None:
    """The first year in a date such as ``2023-05-23`` or ``May 2023``, or None."""
    match = _YEAR.search(text)
    return int(match[1]) if match else None
