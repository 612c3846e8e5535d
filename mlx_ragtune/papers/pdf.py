"""PDF by pypdfium2: hyphens at line ends joined, running heads out, everything from References on out."""

import re
import unicodedata
from collections import Counter
from pathlib import Path

import pypdfium2 as pdfium

from mlx_ragtune.errors import InputError
from mlx_ragtune.records import Document, Section

_HYPHEN = re.compile("(\\w+)[\u0002\ufffe\u00ad]\\s*(\\w+)")
_REFERENCES = re.compile(r"^\s*(?:\d+\.?\s*)?(?:References|REFERENCES|Bibliography)\s*$", re.MULTILINE)
_HEADING = re.compile(r"^(?:\d+(?:\.\d+)*\.?\s+[A-Z][^\n.]{2,70}|Abstract|ABSTRACT)$", re.MULTILINE)
_PASSWORD = 4  # FPDF_ERR_PASSWORD


def _pages(path: Path) -> tuple[list[str], str]:
    """The raw text of every page, and the title in the metadata."""
    try:
        document = pdfium.PdfDocument(path)
    except pdfium.PdfiumError as error:
        if getattr(error, "err_code", None) == _PASSWORD or "password" in str(error).lower():
            raise InputError("it is encrypted", where=str(path), fix="remove its password") from None
        raise InputError("it is not a PDF that can be read", where=str(path), fix="remove it") from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path)) from None
    try:
        pages = []
        for number in range(len(document)):
            page = document[number]
            text_page = page.get_textpage()
            pages.append(text_page.get_text_range().replace("\r\n", "\n").replace("\0", ""))
            text_page.close()
            page.close()
        return pages, document.get_metadata_value("Title") or ""
    finally:
        document.close()


def _running_lines(pages: list[str]) -> set[str]:
    """Lines, digits aside, that stand first or last on at least half of three or more pages."""
    if len(pages) < 3:
        return set()
    counts: Counter[str] = Counter()
    for page in pages:
        lines = [line.strip() for line in page.splitlines() if line.strip()]
        counts.update({re.sub(r"\d+", "#", line) for line in lines[:2] + lines[-2:]})
    return {line for line, count in counts.items() if count * 2 >= len(pages)}


def _join_hyphens(text: str) -> str:
    """A word broken at a line end is joined where the joined word occurs elsewhere; else the hyphen stays."""
    known = set(re.findall(r"\w+", text))

    def joined(match: re.Match[str]) -> str:
        whole = match[1] + match[2]
        return whole if whole in known else f"{match[1]}-{match[2]}"

    return _HYPHEN.sub(joined, text)


def _sections(text: str) -> tuple[Section, ...]:
    marks = [("", 0), *((" ".join(match[0].split()), match.start()) for match in _HEADING.finditer(text))]
    ends = [start for _, start in marks[1:]] + [len(text)]
    return tuple(
        Section(name, start, end) for (name, start), end in zip(marks, ends, strict=True) if end > start
    )


def read_pdf(path: Path, identifier: str) -> Document:
    """The text layer up to the references. Raises InputError: encrypted, not a PDF, scanned without text."""
    pages, title = _pages(path)
    running = _running_lines(pages)
    cleaned = []
    for page in pages:
        lines = [line for line in page.splitlines() if re.sub(r"\d+", "#", line.strip()) not in running]
        cleaned.append(unicodedata.normalize("NFC", _join_hyphens("\n".join(lines))).strip())
    if not any(cleaned):
        raise InputError(f"no text on its {len(pages)} pages: a scan?", where=str(path), fix="run OCR on it")
    starts, text = [], ""
    for page in cleaned:
        starts.append(len(text))
        text += page + "\n\n"
    references = [match.start() for match in _REFERENCES.finditer(text) if match.start() > len(text) // 3]
    if references:
        text = text[: references[0]]
    first = next((line.strip() for line in text.splitlines() if line.strip()), path.stem)
    return Document(
        identifier,
        path.name,
        " ".join((title.strip() or first).split())[:200],
        text,
        sections=_sections(text),
        page_starts=tuple(start for start in starts if start < len(text)) or (0,),
    )
