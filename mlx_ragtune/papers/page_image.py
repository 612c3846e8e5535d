"""A page of a PDF as an image, with a quote marked; rendered in a process of its own, which a bad file may end.

``python -m mlx_ragtune.papers.page_image`` reads one JSON request from stdin, and writes a line of JSON, and the PNG.
"""

import json
import struct
import subprocess
import sys
import unicodedata
import zlib
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Literal

from rapidfuzz import fuzz

from mlx_ragtune.errors import InputError, ToolError

SECONDS = 30.0
LONGEST_SIDE = 1800
"""Pixels of the longer side at most."""
SCALE = 2.2
"""Pixels per point, as far as LONGEST_SIDE allows."""
PART_CHARACTERS = 24
"""The longest common part of quote and page is marked if it has so many characters without spaces."""
SAME_RATIO = 90.0
"""A place on the page that is so similar to the quote (partial ratio of rapidfuzz) is the quote."""
Marked = Literal["whole", "part", "none"]
_TINT = (255, 226, 110)


@dataclass(frozen=True)
class PageImage:
    """A page as PNG; ``page`` and ``pages`` count from 1. ``marked`` is how much of the quote was found on it.

    ``top`` is where the mark begins, as a share of the page's height.
    """

    png: bytes
    page: int
    pages: int
    marked: Marked
    top: float = 0.0


def page_image(path: Path, page: int, quote: str = "") -> PageImage:
    """The page, or the nearest one that the PDF has, with the quote marked.

    Raises InputError for a file that is not a readable PDF, ToolError when rendering takes longer than SECONDS.
    """
    request = json.dumps({"path": str(path), "page": page, "quote": quote}).encode("utf-8", "surrogatepass")
    command = [sys.executable, "-m", "mlx_ragtune.papers.page_image"]
    try:
        done = subprocess.run(command, input=request, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ToolError(
            f"page {page} was not rendered in {SECONDS:.0f} s", where=str(path), fix="open the file in a viewer"
        ) from None
    head, _, png = done.stdout.partition(b"\n")
    try:
        answer: dict[str, Any] = json.loads(head)
    except ValueError:
        raise InputError(
            f"page {page} cannot be rendered (the renderer ended with status {done.returncode})",
            where=str(path),
            fix="open the file in a viewer",
        ) from None
    if "error" in answer:
        raise InputError(answer["error"], where=str(path), fix="open the file in a viewer")
    return PageImage(png, answer["page"], answer["pages"], answer["marked"], answer["top"])


def _bare(text: str) -> tuple[str, list[int]]:
    """The letters and digits of a text in lower case (NFKC), each with the index of its character.

    All else is left out: a page breaks lines and words where a quote does not, and has quotation marks of its own.
    """
    kept: list[str] = []
    places: list[int] = []
    for index, char in enumerate(text):
        for one in unicodedata.normalize("NFKC", char).casefold():
            if unicodedata.category(one)[0] in "LMN":
                kept.append(one)
                places.append(index)
    return "".join(kept), places


def find_on_page(quote: str, page: str) -> tuple[int, int, Marked]:
    """The half-open span of the quote's characters in the page's text, and whether it is whole or a part."""
    bare, places = _bare(page)
    wanted, _ = _bare(quote)
    if not wanted or not bare:
        return 0, 0, "none"
    if (start := bare.find(wanted)) >= 0:
        return places[start], places[start + len(wanted) - 1] + 1, "whole"
    near = fuzz.partial_ratio_alignment(wanted, bare, score_cutoff=SAME_RATIO) if len(wanted) <= len(bare) else None
    if near is not None and len(wanted) >= PART_CHARACTERS:
        return places[near.dest_start], places[near.dest_end - 1] + 1, "whole"
    match = SequenceMatcher(None, bare, wanted, autojunk=False).find_longest_match()
    if match.size < min(PART_CHARACTERS, len(wanted)):
        return 0, 0, "none"
    return places[match.a], places[match.a + match.size - 1] + 1, "part"


def _render(path: Path, number: int, quote: str) -> tuple[dict[str, Any], bytes]:
    """The answer to a request, and the PNG."""
    import pypdfium2 as pdfium
    import pypdfium2.raw as pdfium_raw

    document = pdfium.PdfDocument(path)
    page_number = max(1, min(number, len(document)))
    page = document[page_number - 1]
    scale = min(SCALE, LONGEST_SIDE / max(*page.get_size(), 1))
    bitmap = page.render(scale=scale, rev_byteorder=True, prefer_bgrx=False)
    pixels = bitmap.to_numpy()[:, :, :3].copy()
    text_page = page.get_textpage()
    count = text_page.count_chars()
    text = "".join(chr(pdfium_raw.FPDFText_GetUnicode(text_page, index) or 32) for index in range(count))
    start, end, marked = find_on_page(quote, text)
    tops: list[float] = []
    if end > start:
        place = bitmap.get_posconv(page)
        for index in range(text_page.count_rects(start, end - start)):
            left, bottom, right, top = text_page.get_rect(index)
            corners = place.to_bitmap(left, bottom), place.to_bitmap(right, top)
            _mark(pixels, *corners)
            tops.append(min(corners[0][1], corners[1][1]) / pixels.shape[0])
    about = {"page": page_number, "pages": len(document), "marked": marked, "top": round(min(tops, default=0.0), 4)}
    return about, _png(pixels)


def _mark(pixels: Any, one: tuple[float, float], other: tuple[float, float]) -> None:
    """Tint a rectangle, so that what is printed on it stays readable."""
    import numpy as np

    height, width = pixels.shape[:2]
    (x0, x1), (y0, y1) = sorted((int(one[0]), int(other[0]))), sorted((int(one[1]), int(other[1])))
    part = pixels[max(0, y0 - 2) : min(height, y1 + 3), max(0, x0 - 1) : min(width, x1 + 2)]
    part[:] = np.minimum(part, np.array(_TINT, part.dtype))


def _png(pixels: Any) -> bytes:
    """An array of 8-bit RGB as PNG (ISO/IEC 15948), without filters."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + pixels[row].tobytes() for row in range(height))
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows, 3)),
        (b"IEND", b""),
    )
    chunks = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def main() -> None:
    """Answer one request."""
    request = json.loads(sys.stdin.buffer.read())
    try:
        answer, png = _render(Path(request["path"]), int(request["page"]), request["quote"])
    except Exception as error:  # whatever the file makes the renderer raise is about the file
        answer, png = {"error": f"the page cannot be rendered: {error}"[:300]}, b""
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + png)


if __name__ == "__main__":
    main()
