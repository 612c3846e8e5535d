"""A PDF's pages as glyphs: what pypdfium2 says about each character, in the order in which it is drawn."""

import ctypes
import itertools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_raw

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.plain_text import check_length, read_bytes

MAX_FILE_BYTES = 256 * 2**20
"""Largest PDF that is read."""
MAX_PAGES = 2000
SOFT_HYPHEN = "\u00ad"
"""What a glyph's text is where PDFium sees a hyphen at the end of a line."""
_BOLD = re.compile(
    r"bold|black|heavy|demi|medi(?:um)?\b|cmbx|cmb\d|sfbx|ecbx|cmssbx|-b\b|TB\b|biolinumtb", re.IGNORECASE
)
_MONOSPACED = re.compile(r"mono|courier|typewriter|cmtt|sftt|ectt|cmsltt|inconsolata|consol|zi4|menlo", re.IGNORECASE)
_NAME_BYTES = 256
MOST_CODE = 0.9
"""A document with a larger share of even letters is typed: they are not code."""
LEAST_STEPS = 12
"""So many distances between letters say whether a font is one for code."""


@dataclass(frozen=True)
class Font:
    """A font of a document. Type 3 fonts have no name, and nothing is known of their weight.

    ``even`` is whether its letters are seen to stand at equal distances, ``typed`` whether nearly the whole document
    is printed so, as on a typewriter.
    """

    name: str
    even: bool = False
    typed: bool = False

    @property
    def is_type3(self) -> bool:
        """Whether the font has no name, so that its characters may be codes of TeX."""
        return not self.name

    @property
    def is_bold(self) -> bool:
        """Whether the name says that the font is bold."""
        return _BOLD.search(self.name) is not None

    @property
    def is_monospaced(self) -> bool:
        """Whether the font is one for code, by its name or by its even letters."""
        return not self.typed and (self.even or _MONOSPACED.search(self.name) is not None)


class Glyph(NamedTuple):
    """A character with its box and its origin (x, baseline) in points, y upwards.

    ``before`` is a space or line break that PDFium adds before it.
    """

    text: str
    left: float
    bottom: float
    right: float
    top: float
    x: float
    baseline: float
    size: float
    font: int
    before: str = ""


class OutlineItem(NamedTuple):
    """An entry of the outline and the page, from 0, that it leads to."""

    title: str
    page: int | None


@dataclass
class GlyphPage:
    """The upright glyphs of a page, and the text of the others."""

    width: float
    height: float
    glyphs: list[Glyph] = field(default_factory=list)
    turned: str = ""


@dataclass(frozen=True)
class GlyphDocument:
    """All pages, the fonts that glyphs refer to, the outline, and the title in the metadata."""

    pages: list[GlyphPage]
    fonts: list[Font]
    outline: list[OutlineItem]
    metadata_title: str


class _Drawn(NamedTuple):
    """What all glyphs of one text object share: the font, the size in points, quarter turns."""

    font: int
    size: float
    turns: int


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


class _Fonts:
    """The fonts of a document, each once, and the drawing of each text object of a page."""

    def __init__(self) -> None:
        self.fonts: list[Font] = []
        self._numbers: dict[int | str, int] = {}
        self._drawn: dict[int, _Drawn] = {}
        self._name = ctypes.create_string_buffer(_NAME_BYTES)
        self._matrix = pdfium_raw.FS_MATRIX()

    def next_page(self) -> None:
        """Forget the text objects, whose addresses another page may use again."""
        self._drawn.clear()

    def _number(self, text_object: Any) -> int:
        font = pdfium_raw.FPDFTextObj_GetFont(text_object)
        length = pdfium_raw.FPDFFont_GetBaseFontName(font, self._name, _NAME_BYTES) if font else 0
        name = self._name.value.decode("utf-8", "replace") if length > 1 else ""
        key = name or (ctypes.cast(font, ctypes.c_void_p).value or 0)
        if key not in self._numbers:
            self._numbers[key] = len(self.fonts)
            self.fonts.append(Font(name))
        return self._numbers[key]

    def drawn(self, text_page: Any, index: int) -> _Drawn | None:
        """How the character is drawn, or None for one that PDFium adds."""
        text_object = pdfium_raw.FPDFText_GetTextObject(text_page, index)
        if not text_object:
            return None
        address = ctypes.addressof(text_object.contents)
        if address not in self._drawn:
            pdfium_raw.FPDFText_GetMatrix(text_page, index, self._matrix)
            matrix = self._matrix
            size = pdfium_raw.FPDFText_GetFontSize(text_page, index) * math.hypot(matrix.c, matrix.d)
            turns = round(math.degrees(math.atan2(matrix.b, matrix.a)) / 90) % 4
            self._drawn[address] = _Drawn(self._number(text_object), round(size, 1), turns)
        return self._drawn[address]


def _glyphs(text_page: Any, fonts: _Fonts) -> Iterator[tuple[int, Glyph]]:
    """(quarter turns, glyph) of each character on the page."""
    numbers = (ctypes.c_double * 6)()  # left, right, bottom, top, x, y: read at once, since this is the slowest loop
    places = [
        ctypes.cast(ctypes.addressof(numbers) + 8 * at, ctypes.POINTER(ctypes.c_double)) for at in range(len(numbers))
    ]
    before, high = "", ""
    for index in range(pdfium_raw.FPDFText_CountChars(text_page)):
        drawn = fonts.drawn(text_page, index)
        code = pdfium_raw.FPDFText_GetUnicode(text_page, index)
        char = chr(code) if code <= 0x10FFFF else "\ufffd"
        if drawn is None:
            before = "\n" if char in "\r\n" else before or " "
            continue
        if char in "\u0002\ufffe\u00ad" and pdfium_raw.FPDFText_IsHyphen(text_page, index) == 1:
            char = SOFT_HYPHEN
        if "\ud800" <= char <= "\udbff":
            high = char
            continue
        if high:
            char = (high + char).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            high = ""
        pdfium_raw.FPDFText_GetCharBox(text_page, index, *places[:4])
        pdfium_raw.FPDFText_GetCharOrigin(text_page, index, places[4], places[5])
        left, right, bottom, top, x, y = numbers
        size = drawn.size if drawn.size >= 2 else max(2.0, round(top - bottom, 1))
        yield drawn.turns, Glyph(char, left, bottom, right, top, x, y, size, drawn.font, before)
        before = ""


def _with_even_letters(fonts: Sequence[Font], pages: Sequence[GlyphPage]) -> list[Font]:
    """The fonts, with those marked whose letters stand at equal distances: fonts for code without a telling name."""
    steps: defaultdict[int, Counter[float]] = defaultdict(Counter)
    for page in pages:
        for glyph, after in itertools.pairwise(page.glyphs):
            if after.font == glyph.font and not after.before and glyph.text.isalpha() and after.text.isalpha():
                steps[glyph.font][round((after.x - glyph.x) / glyph.size, 2)] += 1
    marked = [
        replace(font, even=_is_even(steps[number])) if number in steps else font for number, font in enumerate(fonts)
    ]
    code = sum(steps[number].total() for number, font in enumerate(marked) if font.is_monospaced)
    every = sum(counts.total() for counts in steps.values())
    return [replace(font, typed=True) for font in marked] if code > MOST_CODE * every else marked


def _is_even(steps: Counter[float]) -> bool:
    usual, _ = steps.most_common(1)[0]
    near = sum(count for step, count in steps.items() if abs(step - usual) <= 0.015)
    return steps.total() >= LEAST_STEPS and near >= 0.9 * steps.total() and usual > 0.3


def _turned(glyph: Glyph, turns: int, width: float, height: float) -> Glyph:
    """The glyph of a page that is printed sideways or upside down, as if that page were upright."""
    left, bottom, right, top = glyph.left, glyph.bottom, glyph.right, glyph.top
    if turns == 1:
        left, bottom, right, top = bottom, width - right, top, width - left
    elif turns == 2:
        left, bottom, right, top = width - right, height - top, width - left, height - bottom
    else:
        left, bottom, right, top = height - top, left, height - bottom, right
    return glyph._replace(left=left, bottom=bottom, right=right, top=top, x=left, baseline=bottom)


def _quarter_turns(drawn: Sequence[tuple[int, Glyph]]) -> int:
    """How often the page must be turned clockwise so that most of its text is upright: only if nearly all is."""
    counts = Counter(turns for turns, glyph in drawn if not glyph.text.isspace())
    return next((turns for turns, count in counts.items() if turns and count > 3 * counts[0]), 0)


def _load_page(page: pdfium.PdfPage, fonts: _Fonts, path: Path, characters: int) -> tuple[GlyphPage, int]:
    """The page, and ``characters`` with its own added; what is not upright as the rest is kept apart.

    PDFium orders lines as the page is shown. One that is shown sideways is first turned as its text is printed.
    """
    shown = page.get_rotation()
    width, height = page.get_size()
    if shown % 180:
        width, height = height, width
    drawn: list[tuple[int, Glyph]] = []
    turns = shown // 90
    for attempt in range(2):
        text_page = page.get_textpage()
        check_length(characters + text_page.count_chars(), path)
        fonts.next_page()
        drawn = list(_glyphs(text_page.raw, fonts))
        count = text_page.count_chars()
        text_page.close()
        turns = _quarter_turns(drawn)
        if 90 * turns == shown or attempt:
            break
        page.set_rotation(90 * turns)
    upright = [glyph for turn, glyph in drawn if turn == turns]
    result = GlyphPage(height, width) if turns % 2 else GlyphPage(width, height)
    result.glyphs = [_turned(glyph, turns, width, height) for glyph in upright] if turns else upright
    result.turned = "".join(glyph.before + glyph.text for turn, glyph in drawn if turn != turns)
    return result, characters + count


def _outline(document: pdfium.PdfDocument) -> Iterator[OutlineItem]:
    try:
        for bookmark in document.get_toc():
            destination = bookmark.get_dest()
            title = " ".join((bookmark.get_title() or "").split())
            yield OutlineItem(title, destination.get_index() if destination else None)
    except (pdfium.PdfiumError, UnicodeDecodeError):  # a damaged outline is none
        return


def load_glyphs(path: Path) -> GlyphDocument:
    """All glyphs. Raises InputError for a damaged file, or one with too many pages or too much text."""
    document = _open(path)
    fonts = _Fonts()
    pages: list[GlyphPage] = []
    try:
        if len(document) > MAX_PAGES:
            raise InputError(
                f"it has {len(document):,} pages, more than {MAX_PAGES:,}", where=str(path), fix="split or remove it"
            )
        characters = 0
        for number in range(len(document)):
            page = document[number]
            glyphs, characters = _load_page(page, fonts, path, characters)
            pages.append(glyphs)
            page.close()
        title = document.get_metadata_value("Title") or ""
        return GlyphDocument(pages, _with_even_letters(fonts.fonts, pages), list(_outline(document)), title)
    except pdfium.PdfiumError as error:
        raise InputError(
            f"a page cannot be read: {str(error).rstrip('.')}", where=str(path), fix="download it again"
        ) from None
    finally:
        document.close()
