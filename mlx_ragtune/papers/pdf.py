"""PDF, read by pypdfium2: the text layer in paragraphs and sections, without what printing adds to it."""

import re
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.dropped import Dropped, Reading
from mlx_ragtune.papers.page_furniture import Taken, take_contents, take_line_numbers, take_points, take_running
from mlx_ragtune.papers.pdf_glyphs import SOFT_HYPHEN, GlyphDocument, GlyphPage, load_glyphs
from mlx_ragtune.papers.plain_text import LONGEST_TITLE, check_length, removed_characters
from mlx_ragtune.papers.print_headings import Heading, Placed, find_headings
from mlx_ragtune.papers.print_layout import ALONE, HEADING, lines_of, paragraphs
from mlx_ragtune.papers.print_rows import Row, is_code, page_rows
from mlx_ragtune.papers.print_title import choose_title
from mlx_ragtune.papers.scrambled import is_scrambled
from mlx_ragtune.papers.sections import cover, is_references
from mlx_ragtune.papers.tex_codes import decode
from mlx_ragtune.records import Document

_STAMP = re.compile(r"arXiv:\s*(\d{4}\.\d{4,5})(?:v\d+)?\b.*", re.DOTALL)
_ARXIV_NAME = re.compile(r"(\d{4}\.\d{4,5})(?:v\d+)?")
OCR_FIX = "run OCR on it: ocrmypdf"
"""How the advice about a PDF starts that OCR can read."""
NO_TEXT = "no text on this page"
"""The reason that is listed for a page without text."""
Page = list[Row]


def read_pdf(path: Path, identifier: str, *, use_outline: bool = True) -> Reading:
    """The text layer with its pages and sections; appendices are kept.

    Left out and listed: running heads and feet, line numbers, tables of contents, points of plots, the arXiv stamp
    and other text that is not upright, the references, pages without text, control characters. Raises InputError for a
    file that is not a PDF, damaged, encrypted, too large, without text on any page, or with a text layer that is not
    what is printed. ``use_outline=False`` finds headings by their print alone, and ignores the metadata's title.
    """
    source = load_glyphs(path)
    decode(source.pages, source.fonts)
    pages = [_rows(page) for page in source.pages]
    _check_text(pages, path)
    taken = [Taken(number, NO_TEXT, "") for number, page in enumerate(pages) if not page]
    pages, more = take_running(pages, [page.height for page in source.pages])
    taken += more
    stamps, arxiv = _stamps(source, pages, path)
    taken += stamps
    for take in (take_contents, take_line_numbers, take_points):
        pages, more = take(pages)
        taken += more
    metadata = source.metadata_title if use_outline else ""
    title = choose_title(metadata, pages[0], source.pages[0].height, path.stem)
    rows = [Placed(number, row) for number, page in enumerate(pages) for row in page]
    headings = find_headings(rows, source.fonts, source.outline if use_outline else [])
    kept, references = _without_references(rows, headings)
    taken += references
    text, starts, marks = _assemble(_lines(rows, headings, kept, source))
    check_length(len(text), path)
    document = Document(
        identifier,
        path.name,
        title[:LONGEST_TITLE],
        text,
        year=2000 + int(arxiv[:2]) if arxiv else None,
        arxiv_id=arxiv,
        sections=cover(marks, len(text)),
        page_starts=starts,
    )
    dropped = [Dropped(identifier, line.page + 1, line.reason, line.text.replace(SOFT_HYPHEN, "-")) for line in taken]
    for number, page in enumerate(pages, 1):
        removed = sum((row.removed for row in page), Counter[str]())
        dropped += removed_characters(identifier, number, removed)
    return Reading(document, tuple(sorted(dropped, key=lambda drop: (drop.page, drop.reason, drop.text))))


def _rows(page: GlyphPage) -> Page:
    """The page's rows. Its glyphs are let go, since those of a book take hundreds of megabytes."""
    rows = page_rows(page.glyphs)
    page.glyphs = []
    return rows


def _check_text(pages: Sequence[Page], path: Path) -> None:
    """Raise InputError for a scan, and for a text layer that is not what is printed."""
    text = "\n".join(row.text + "".join(row.removed.elements()) for page in pages for row in page)
    name = shlex.quote(path.name)
    if not text.strip():
        count = f"{len(pages)} page{'s' if len(pages) > 1 else ''}"
        raise InputError(f"no text on its {count}: it is scanned", where=str(path), fix=f"{OCR_FIX} {name} OUT.pdf")
    if is_scrambled(text):
        raise InputError(
            "its text layer holds other characters than the pages show",
            where=str(path),
            fix=f"{OCR_FIX} --force-ocr {name} OUT.pdf",
        )


def _stamps(source: GlyphDocument, pages: list[Page], path: Path) -> tuple[list[Taken], str | None]:
    """The text that is not upright, and the arXiv id in the stamp among it, on the first page, or in the file's name.

    Takes a stamp that is a row of the first page out of it.
    """
    taken: list[Taken] = []
    arxiv = None
    for number, page in enumerate(source.pages):
        for line in filter(None, (" ".join(line.split()) for line in page.turned.split("\n"))):
            match = _STAMP.fullmatch(line)
            arxiv = arxiv or (match[1] if match and number == 0 else None)
            taken.append(Taken(number, "arXiv stamp" if match else "text that is not upright", line))
    for row in [row for row in pages[0] if _STAMP.fullmatch(row.text)]:
        match = _STAMP.fullmatch(row.text)
        arxiv = arxiv or (match[1] if match else None)
        pages[0].remove(row)
        taken.append(Taken(0, "arXiv stamp", row.text))
    named = _ARXIV_NAME.fullmatch(path.stem)
    return taken, arxiv or (named[1] if named else None)


def _without_references(rows: Sequence[Placed], headings: Sequence[Heading]) -> tuple[set[int], list[Taken]]:
    """The indices of the rows outside lists of references, and what those lists hold, by page.

    A list ends at the next heading, so that an appendix is kept. A heading of references in the first third
    belongs to a table of contents and cuts nothing.
    """
    kept = set(range(len(rows)))
    for heading, after in zip(headings, [*headings[1:], None], strict=False):
        if is_references(heading.title) and heading.first > len(rows) // 3:
            kept -= set(range(heading.first, after.first if after else len(rows)))
    by_page: dict[int, list[str]] = {}
    for index, (page, row) in enumerate(rows):
        if index not in kept:
            by_page.setdefault(page, []).append(row.text)
    return kept, [Taken(page, "references", "\n".join(lines)) for page, lines in by_page.items()]


def _lines(
    rows: Sequence[Placed], headings: Sequence[Heading], kept: set[int], source: GlyphDocument
) -> list[list[str]]:
    """The lines of each page that are kept, with marks for headings and for lines that stay on their own."""
    pages: list[list[str]] = []
    first = 0
    for number in range(len(source.pages)):
        end = first
        while end < len(rows) and rows[end].page == number:
            end += 1
        indices = [index for index in range(first, end) if index in kept]
        places = {index: place for place, index in enumerate(indices)}
        titles = {
            places[heading.first]: (places[heading.last], heading.title, heading.rest)
            for heading in headings
            if heading.first in places and heading.last in places
        }
        page = [rows[index].row for index in indices]
        code = {place for place, row in enumerate(page) if is_code(row, source.fonts)}
        pages.append([line for line in lines_of(page, titles, code) if line])
        first = end
    return pages


def _assemble(pages: Sequence[Sequence[str]]) -> tuple[str, tuple[int, ...], list[tuple[str, int]]]:
    """The whole text, the start of each page in it, and the headings with their starts."""
    text, starts, marks = "", [], []
    for page in paragraphs(pages):
        starts.append(len(text))
        for line in page:
            if line.startswith(HEADING):
                marks.append((line.removeprefix(HEADING), len(text)))
            text += line.lstrip(HEADING + ALONE) + "\n"
        text += "\n" if page else ""
    return text, tuple(starts), marks
