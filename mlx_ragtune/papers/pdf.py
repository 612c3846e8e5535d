"""PDF, read by pypdfium2: the text layer as paragraphs, without running heads, up to the references."""

import re
from dataclasses import dataclass
from pathlib import Path

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_raw

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.dropped import Dropped, Reading
from mlx_ragtune.papers.plain_text import LONGEST_TITLE, check_length, read_bytes, removed_characters
from mlx_ragtune.papers.print_layout import (
    PAGE_BREAK,
    Page,
    dropped_characters,
    join_hyphens,
    lines_of,
    take_running,
    unwrap,
)
from mlx_ragtune.papers.sections import cover, headings, is_references
from mlx_ragtune.records import Document

_STAMP = re.compile(r"arXiv:\s*(\d{4}\.\d{4,5})(?:v\d+)?\b.*")
_ARXIV_NAME = re.compile(r"(\d{4}\.\d{4,5})(?:v\d+)?")
_JUNK_TITLE = re.compile(
    r"untitled.*|microsoft (?:word|powerpoint).*|.*\.(?:docx?|tex|pdf|dvi|indd|rtf|odt)|arxiv:.*|paper|main|title|\W*",
    re.IGNORECASE,
)
MAX_FILE_BYTES = 256 * 2**20
"""Largest PDF that is read."""
MAX_PAGES = 2000


@dataclass(frozen=True)
class _TextLayer:
    """The text of each page, the title in the metadata, and the largest print of the first page."""

    pages: list[str]
    metadata_title: str
    large: str


def _open(path: Path) -> pdfium.PdfDocument:
    content = read_bytes(path, MAX_FILE_BYTES)
    if not content:
        raise InputError("the file is empty", where=str(path), fix="remove it, or download it again")
    try:
        return pdfium.PdfDocument(content)
    except pdfium.PdfiumError as error:
        if "password" in str(error).lower():
            raise InputError("it is encrypted", where=str(path), fix="save a copy without a password") from None
        raise InputError("not a PDF, or damaged", where=str(path), fix="remove it, or download it again") from None


def _large_lines(text_page: pdfium.PdfTextPage) -> str:
    """The first lines of a page's largest upright print, joined; empty when all lines have the same size.

    Sizes are heights of character boxes, because a font's nominal size ignores the text matrix. Rotated
    text is skipped: the stamp that arXiv prints in the margin is larger than most titles.
    """
    lines: list[tuple[float, str]] = []
    size, text = 0.0, ""
    for index in range(text_page.count_chars()):
        char = chr(pdfium_raw.FPDFText_GetUnicode(text_page, index))
        if char == "\r":
            continue
        if char == "\n":
            lines.append((size, text))
            size, text = 0.0, ""
        elif abs(pdfium_raw.FPDFText_GetCharAngle(text_page, index)) < 0.1:
            text += char
            if char.isalnum():
                _, bottom, _, top = text_page.get_charbox(index, loose=True)
                size = max(size, top - bottom)
    lines.append((size, text))
    worded = [(size, text) for size, text in lines if sum(char.isalpha() for char in text) >= 4]
    if not worded or max(worded)[0] < 1.05 * min(worded)[0]:
        return ""
    largest = max(size for size, _ in worded)
    chosen: list[str] = []
    for size, text in lines:
        if size >= 0.95 * largest:
            chosen.append(text)
        elif chosen:
            break
    return " ".join(chosen)


def _load(path: Path) -> _TextLayer:
    """The text layer. Raises InputError for a damaged file, or one with too many pages or too much text."""
    document = _open(path)
    try:
        if len(document) > MAX_PAGES:
            raise InputError(
                f"it has {len(document):,} pages, more than {MAX_PAGES:,}", where=str(path), fix="split or remove it"
            )
        pages, large, characters = [], "", 0
        for number in range(len(document)):
            page = document[number]
            text_page = page.get_textpage()
            characters += text_page.count_chars()
            check_length(characters, path)
            pages.append(text_page.get_text_range())
            if number == 0:
                large = _large_lines(text_page)
            text_page.close()
            page.close()
        return _TextLayer(pages, document.get_metadata_value("Title") or "", large)
    except pdfium.PdfiumError as error:
        raise InputError(
            f"a page cannot be read: {str(error).rstrip('.')}", where=str(path), fix="download it again"
        ) from None
    finally:
        document.close()


def _title(layer: _TextLayer, text: str, stem: str) -> str:
    """The metadata's title, unless a program wrote it; else the largest print; else the first line."""
    first = next((line for line in text.split("\n") if line.strip()), stem)
    for candidate in (layer.metadata_title, join_hyphens(" ".join(lines_of(layer.large))), first):
        title = " ".join(" ".join(lines_of(candidate)).split())
        if not _JUNK_TITLE.fullmatch(title):
            return title[:LONGEST_TITLE]
    return stem


def _take_stamp(page: Page) -> tuple[Page, list[str], str | None]:
    """The first page without the stamp that arXiv prints on it, the stamp, and the arXiv id in it."""
    stamps = [line for line in page if _STAMP.fullmatch(line)]
    match = _STAMP.fullmatch(stamps[0]) if stamps else None
    return [line for line in page if line not in stamps], stamps, match[1] if match else None


def _cut_references(pages: list[Page]) -> tuple[list[Page], list[tuple[int, str]]]:
    """The pages up to the heading of the references, and the rest with its page numbers (from 1).

    A heading in the first third of the lines belongs to a table of contents and cuts nothing.
    """
    total = sum(map(len, pages))
    before = 0
    for number, page in enumerate(pages):
        for index, line in enumerate(page):
            if is_references(line) and before + index > total // 3:
                rest = [(number + 1, "\n".join(page[index:]))]
                rest += [(later + 1, "\n".join(pages[later])) for later in range(number + 1, len(pages))]
                return [*pages[:number], page[:index]], [(page, text) for page, text in rest if text]
        before += len(page)
    return pages, []


def _paragraphs(pages: list[Page]) -> list[Page]:
    """The pages as paragraphs. Broken words are joined over the whole document, lines page by page."""
    whole = join_hyphens(PAGE_BREAK.join("\n".join(page) for page in pages))
    return [unwrap([line.strip() for line in page.split("\n") if line.strip()]) for page in whole.split(PAGE_BREAK)]


def read_pdf(path: Path, identifier: str) -> Reading:
    """The text layer with its pages and numbered sections, up to the references.

    Left out and listed: running heads and feet, the arXiv stamp, the references and what follows them,
    pages without text, control characters. Raises InputError for a file that is not a PDF, damaged,
    encrypted, too large, or without text on any page.
    """
    layer = _load(path)
    pages = [lines_of(page) for page in layer.pages]
    if not any(pages):
        raise InputError(
            f"no text on its {len(pages)} pages: it is scanned", where=str(path), fix="run OCR on it (ocrmypdf)"
        )
    dropped = [
        Dropped(identifier, number, "no text on this page", "") for number, page in enumerate(pages, 1) if not page
    ]
    for number, page_text in enumerate(layer.pages, 1):
        dropped += removed_characters(identifier, number, dropped_characters(page_text))
    pages[0], stamps, arxiv = _take_stamp(pages[0])
    pages, taken = take_running(pages)
    pages, references = _cut_references(_paragraphs(pages))
    dropped += [Dropped(identifier, 1, "arXiv stamp", line) for line in stamps]
    for number, lines in enumerate(taken, 1):
        dropped += [Dropped(identifier, number, "running head or foot", line) for line in lines]
    dropped += [Dropped(identifier, number, "references and what follows them", text) for number, text in references]
    text, starts, marks = _assemble(pages)
    named = _ARXIV_NAME.fullmatch(path.stem)
    arxiv = arxiv or (named[1] if named else None)
    document = Document(
        identifier,
        path.name,
        _title(layer, text, path.stem),
        text,
        year=2000 + int(arxiv[:2]) if arxiv else None,
        arxiv_id=arxiv,
        sections=cover(marks, len(text)),
        page_starts=starts,
    )
    return Reading(document, tuple(sorted(dropped, key=lambda drop: (drop.page, drop.reason, drop.text))))


def _assemble(pages: list[Page]) -> tuple[str, tuple[int, ...], list[tuple[str, int]]]:
    """The whole text, the start of each page in it, and the headings with their starts."""
    text, starts, lines, line_starts = "", [], [], []
    for page in pages:
        starts.append(len(text))
        for line in page:
            lines.append(line)
            line_starts.append(len(text))
            text += line + "\n"
        text += "\n" if page else ""
    return text, tuple(starts), [(lines[index], line_starts[index]) for index in headings(lines)]
