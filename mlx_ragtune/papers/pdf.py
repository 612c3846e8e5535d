"""PDF by pypdfium2: its text layer without running heads, as paragraphs, up to the references."""

import re
from dataclasses import dataclass
from pathlib import Path

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_raw

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.dropped import Dropped, Reading
from mlx_ragtune.papers.print_layout import PAGE_BREAK, Page, join_hyphens, lines_of, take_running, unwrap
from mlx_ragtune.papers.sections import cover, headings, is_references
from mlx_ragtune.records import Document

_STAMP = re.compile(r"arXiv:\s*(\d{4}\.\d{4,5})(?:v\d+)?\b.*")
_ARXIV_NAME = re.compile(r"(\d{4}\.\d{4,5})(?:v\d+)?")
_JUNK_TITLE = re.compile(
    r"untitled.*|microsoft (?:word|powerpoint).*|.*\.(?:docx?|tex|pdf|dvi|indd|rtf|odt)|arxiv:.*|paper|main|title|\W*",
    re.IGNORECASE,
)
_LONGEST_TITLE = 300


@dataclass(frozen=True)
class _Raw:
    pages: list[str]
    metadata_title: str
    large: str


def _open(path: Path) -> pdfium.PdfDocument:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"it cannot be read: {error.strerror}", where=str(path), fix="allow reading it") from None
    if not content:
        raise InputError("it is empty", where=str(path), fix="remove it, or fetch it again")
    try:
        return pdfium.PdfDocument(content)
    except pdfium.PdfiumError as error:
        if "password" in str(error).lower():
            raise InputError("it is encrypted", where=str(path), fix="save a copy without a password") from None
        raise InputError(
            "it is not a PDF, or a damaged one", where=str(path), fix="remove it, or fetch it again"
        ) from None


def _large_lines(text_page: pdfium.PdfTextPage) -> str:
    """The first lines of a page's largest upright print, joined; empty when all lines are of one size.

    Sizes are heights of character boxes: a font's nominal size ignores the text matrix. Upright only: the
    stamp that arXiv prints up the margin is larger than most titles.
    """
    lines: list[tuple[float, str]] = []
    size, text = 0.0, ""
    for at in range(text_page.count_chars()):
        char = chr(pdfium_raw.FPDFText_GetUnicode(text_page, at))
        if char == "\r":
            continue
        if char == "\n":
            lines.append((size, text))
            size, text = 0.0, ""
        elif abs(pdfium_raw.FPDFText_GetCharAngle(text_page, at)) < 0.1:
            text += char
            if char.isalnum():
                _, bottom, _, top = text_page.get_charbox(at, loose=True)
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


def _load(path: Path) -> _Raw:
    document = _open(path)
    try:
        pages, large = [], ""
        for number in range(len(document)):
            page = document[number]
            text_page = page.get_textpage()
            pages.append(text_page.get_text_range())
            if number == 0:
                large = _large_lines(text_page)
            text_page.close()
            page.close()
        return _Raw(pages, document.get_metadata_value("Title") or "", large)
    except pdfium.PdfiumError as error:
        raise InputError(f"a page cannot be read: {error}", where=str(path), fix="fetch it again") from None
    finally:
        document.close()


def _title(raw: _Raw, text: str, stem: str) -> str:
    """Metadata, unless it is what a program put there; else the largest print; else the first line."""
    first = next((line for line in text.replace(PAGE_BREAK, "\n").splitlines() if line.strip()), stem)
    for found in (raw.metadata_title, join_hyphens(" ".join(lines_of(raw.large))), first):
        plain = " ".join(" ".join(lines_of(found)).split())
        if not _JUNK_TITLE.fullmatch(plain):
            return plain[:_LONGEST_TITLE]
    return stem


def _take_stamp(page: Page) -> tuple[Page, list[str], str | None]:
    """The first page without the stamp that arXiv prints on it, the stamp, and the id in it."""
    stamps = [line for line in page if _STAMP.fullmatch(line)]
    match = _STAMP.fullmatch(stamps[0]) if stamps else None
    return [line for line in page if line not in stamps], stamps, match[1] if match else None


def _cut_references(pages: list[Page]) -> tuple[list[Page], list[tuple[int, str]]]:
    """The pages up to the heading of the references, and the rest with its page numbers (from 1)."""
    total = sum(map(len, pages))
    before = 0
    for number, page in enumerate(pages):
        for at, line in enumerate(page):
            if is_references(line) and before + at > total // 3:  # above it is a table of contents
                rest = [(number + 1, "\n".join(page[at:]))]
                rest += [(later + 1, "\n".join(pages[later])) for later in range(number + 1, len(pages))]
                return [*pages[:number], page[:at]], [one for one in rest if one[1]]
        before += len(page)
    return pages, []


def _paragraphs(pages: list[Page]) -> list[Page]:
    """Broken words joined over the whole document, then lines joined to paragraphs page by page."""
    whole = join_hyphens(PAGE_BREAK.join("\n".join(page) for page in pages))
    return [unwrap([line.strip() for line in page.split("\n") if line.strip()]) for page in whole.split(PAGE_BREAK)]


def read_pdf(path: Path, identifier: str) -> Reading:
    """The text layer with its pages and numbered sections, up to the references.

    Left out and listed: running heads and feet, the arXiv stamp, the references and what follows them,
    pages without text. Raises InputError: not a PDF, damaged, encrypted, no text on any page.
    """
    raw = _load(path)
    pages = [lines_of(page) for page in raw.pages]
    if not any(pages):
        raise InputError(
            f"no text on its {len(pages)} pages, it is scanned", where=str(path), fix="run OCR on it (ocrmypdf)"
        )
    out = [(at, "no text on this page", "") for at, page in enumerate(pages, 1) if not page]
    pages[0], stamps, arxiv = _take_stamp(pages[0])
    pages, taken = take_running(pages)
    pages, references = _cut_references(_paragraphs(pages))
    out += [(1, "arXiv stamp", line) for line in stamps]
    out += [(at, "running head or foot", line) for at, lines in enumerate(taken, 1) for line in lines]
    out += [(at, "references and what follows them", text) for at, text in references]
    text, starts, marks = _assemble(pages)
    named = _ARXIV_NAME.fullmatch(path.stem)
    arxiv = arxiv or (named[1] if named else None)
    document = Document(
        identifier,
        path.name,
        _title(raw, text, path.stem),
        text,
        year=2000 + int(arxiv[:2]) if arxiv else None,
        arxiv_id=arxiv,
        sections=cover(marks, len(text)),
        page_starts=starts,
    )
    return Reading(document, tuple(Dropped(identifier, *one) for one in sorted(out)))


def _assemble(pages: list[Page]) -> tuple[str, tuple[int, ...], list[tuple[str, int]]]:
    """One text, where each page starts in it, and its headings with where they start."""
    text, starts, lines, places = "", [], [], []
    for page in pages:
        starts.append(len(text))
        for line in page:
            lines.append(line)
            places.append(len(text))
            text += line + "\n"
        text += "\n" if page else ""
    return text, tuple(starts), [(lines[at], places[at]) for at in headings(lines)]
