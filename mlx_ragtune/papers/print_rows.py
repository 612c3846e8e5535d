"""Glyphs become rows: what stands on one baseline, with exponents marked, accents composed and columns apart."""

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mlx_ragtune.papers.pdf_glyphs import Font, Glyph
from mlx_ragtune.papers.plain_text import is_control

SMALL = 0.86
"""An exponent is smaller than this share of the print beside it."""
WIDE_GAP = 1.6
"""A gap of this many times the size of the print separates two cells of a table."""
_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"})
_ACCENTS = {
    "`": "\u0300", "´": "\u0301", "ˆ": "\u0302", "^": "\u0302", "˜": "\u0303", "~": "\u0303", "¨": "\u0308",
    "˝": "\u030b", "˚": "\u030a", "ˇ": "\u030c", "˘": "\u0306", "¯": "\u0304", "˙": "\u0307", "¸": "\u0327",
    "˛": "\u0328",
}  # fmt: skip
_DOTLESS = {"ı": "i", "ȷ": "j"}
_ORDINALS = {"st", "nd", "rd", "th", "o", "TM", "SM"}
_SIGNS = "−–+-"


@dataclass(frozen=True)
class Row:
    """What stands on one baseline of a page, from the left to the right, in points.

    ``font`` and ``size`` are those of most letters; ``mix`` counts the letters and digits of each font and size.
    ``cells`` are the parts between wide gaps. ``removed`` counts the control characters that are not in the text.
    """

    text: str
    left: float
    right: float
    baseline: float
    size: float
    font: int
    mix: tuple[tuple[int, float, int], ...] = ()
    cells: tuple[str, ...] = ()
    removed: Counter[str] = field(default_factory=Counter)


def _continues(row: list[Glyph], glyph: Glyph, base: Glyph) -> bool:
    """Whether the glyph stands on the row; ``base`` is the row's largest glyph so far."""
    larger = max(base.size, glyph.size)
    if (glyph.left, glyph.right, glyph.bottom) == (row[-1].left, row[-1].right, row[-1].bottom):
        return True  # the letters of one ligature
    if glyph.left < row[-1].right - 0.9 * larger:
        return False
    same_size = min(base.size, glyph.size) >= SMALL * larger
    return abs(glyph.baseline - base.baseline) < (0.3 if same_size else 0.62) * larger


def glyph_rows(glyphs: Sequence[Glyph]) -> list[list[Glyph]]:
    """The glyphs in their order, broken where the next one does not stand on the same row."""
    rows: list[list[Glyph]] = []
    base = None
    for glyph in glyphs:
        if base is not None and _continues(rows[-1], glyph, base):
            rows[-1].append(glyph)
            if glyph.size > base.size and not glyph.text.isspace():
                base = glyph
        else:
            rows.append([glyph])
            base = glyph
    return [row for row in rows if any(not glyph.text.isspace() for glyph in row)]


def _compose(row: list[Glyph]) -> list[Glyph]:
    """The row with each accent that is printed over a letter joined to that letter."""
    composed: list[Glyph] = []
    pending: Glyph | None = None
    for glyph in row:
        if pending is not None:
            joined = _over(pending, glyph)
            if joined is None:
                composed.append(pending)
            else:
                glyph = glyph._replace(text=joined, before=pending.before)
            pending = None
        elif glyph.text in _ACCENTS or unicodedata.combining(glyph.text[:1] or " "):
            joined = _over(glyph, composed[-1]) if composed else None
            if joined is not None:
                composed[-1] = composed[-1]._replace(text=joined)
            else:
                pending = glyph
            continue
        composed.append(glyph)
    return [*composed, pending] if pending is not None else composed


def _over(accent: Glyph, letter: Glyph) -> str | None:
    """The letter with the accent, if the accent stands over it and Unicode has both as one character."""
    middle = (accent.left + accent.right) / 2
    width = letter.right - letter.left
    if not letter.left - 0.15 * width <= middle <= letter.right + 0.15 * width:
        return None
    base = _DOTLESS.get(letter.text, letter.text)
    joined = unicodedata.normalize("NFC", base + _ACCENTS.get(accent.text, accent.text))
    return joined if len(base) == 1 and base.isalpha() and len(joined) == 1 else None


class _Main(NamedTuple):
    """Font, size and baseline of most of a row's letters, and the letters of each font and size."""

    font: int
    size: float
    baseline: float
    mix: tuple[tuple[int, float, int], ...]


def _main(row: Sequence[Glyph]) -> _Main:
    letters = [glyph for glyph in row if glyph.text.isalnum()] or [glyph for glyph in row if not glyph.text.isspace()]
    counts = Counter((glyph.font, glyph.size) for glyph in letters)
    (font, size), _ = counts.most_common(1)[0]
    if len(letters) <= 4:  # a base and its exponents
        largest = max(letters, key=lambda glyph: glyph.size)
        font, size = largest.font, largest.size
    baselines = sorted(glyph.baseline for glyph in letters if glyph.size == size)
    mix = tuple((font, size, count) for (font, size), count in counts.items())
    return _Main(font, size, baselines[len(baselines) // 2], mix)


def _is_raised(glyph: Glyph, size: float, baseline: float) -> bool:
    return glyph.size < SMALL * size and 0.1 * size < glyph.baseline - baseline < 0.75 * size


class _Writer:
    """Writes the text of a row: spaces between words, ``^`` before what is raised."""

    def __init__(self) -> None:
        self.text = ""
        self.cells = [""]
        self._after_raised = False

    def space(self, *, wide: bool = False) -> None:
        if self.text and not self.text.endswith(" "):
            self.text += " "
            self.cells[-1] += " "
        if wide and self.cells[-1]:
            self.cells.append("")
        self._after_raised = False

    def write(self, text: str) -> None:
        if self._after_raised and text[:1].isalnum():
            self.space()
        self._after_raised = False
        self.text += text
        self.cells[-1] += text

    def write_raised(self, text: str) -> None:
        """Write an exponent or a mark of a footnote."""
        before = self.text[-1:]
        first = text[:1]
        plain = (
            (text in _ORDINALS and (before.isdigit() or text in ("TM", "SM")))
            or (text == "A" and before == "L")
            or not (first.isalnum() or first in _SIGNS)
        )
        if plain:
            self.write(text)
            return
        if re.fullmatch(rf"[{_SIGNS}]\s*\w.*", text):
            text = ("+" if first == "+" else "-") + text[1:].lstrip()
        self.write("^" + text)
        self._after_raised = True


def _printable(text: str, removed: Counter[str]) -> str:
    """The text with ligatures as letters, without spaces and control characters; counts the latter."""
    removed.update(char for char in text if is_control(char))
    return "".join(char for char in text.translate(_LIGATURES) if not is_control(char) and not char.isspace())


def make_row(glyphs: Sequence[Glyph]) -> Row:
    """The row that these glyphs form."""
    row = _compose(list(glyphs))
    font, size, baseline, mix = _main(row)
    writer = _Writer()
    removed: Counter[str] = Counter()
    raised = ""
    right = row[0].left
    for glyph in row:
        gap = glyph.left - right
        up = _is_raised(glyph, size, baseline)
        blank = glyph.text.isspace() or glyph.before == " " or gap > (0.25 if glyph.before else 0.4) * size
        if raised and (not up or gap > 0.4 * size):
            writer.write_raised(raised)
            raised = ""
        if (blank and not up) or (blank and not raised):
            writer.space(wide=gap > WIDE_GAP * size)
        text = glyph.text
        if not (text.isascii() and text.isalnum()):
            text = _printable(text, removed)
        if up:
            raised += text
        elif text:
            writer.write(text)
        if not glyph.text.isspace():
            right = max(right, glyph.right)
    if raised:
        writer.write_raised(raised)
    cells = tuple(cell.strip() for cell in writer.cells if cell.strip())
    text = unicodedata.normalize("NFC", writer.text.strip())
    return Row(text, row[0].left, right, baseline, size, font, mix, cells, removed)


def page_rows(glyphs: Sequence[Glyph]) -> list[Row]:
    """The rows of a page in reading order. Two columns that are drawn row by row are read one after the other."""
    rows = [make_row(row) for row in columns_apart(glyph_rows(glyphs))]
    return [row for row in rows if row.text or row.removed]


def is_code(row: Row, fonts: Sequence[Font]) -> bool:
    """Whether the row is set in a font for code, but for a few letters."""
    code = sum(count for font, _, count in row.mix if fonts[font].is_monospaced)
    return code >= 0.8 * sum(count for _, _, count in row.mix)


def _gaps(row: Sequence[Glyph]) -> list[tuple[float, float]]:
    """(left, right) of the gaps within a row that are as wide as a letter."""
    printed = [glyph for glyph in row if not glyph.text.isspace()]
    return [
        (before.right, after.left)
        for before, after in itertools.pairwise(printed)
        if after.left - before.right > 0.8 * before.size
    ]


def _gutter(rows: Sequence[Sequence[Glyph]]) -> float | None:
    """Where the gap between two columns is, if most rows are printed across it.

    Both columns must look like text rather than a table: the gap is in the middle, at least five rows have it,
    and each side of it holds three words or more in most rows.
    """
    left = min(glyph.left for row in rows for glyph in row)
    right = max(glyph.right for row in rows for glyph in row)
    width = right - left
    gaps = [gap for row in rows for gap in _gaps(row) if gap[0] > left + 0.25 * width and gap[1] < right - 0.25 * width]
    best: tuple[int, float] = (0, 0.0)
    for _, end in gaps:
        at = end - 1.0
        best = max(best, (sum(start < at < stop for start, stop in gaps), at))
    count, at = best
    crossing = [row for row in rows if row[0].left < at - 1 and row[-1].right > at + 1]
    if count < 5 or count < 0.6 * len(crossing):
        return None
    split = [_split(row, at) for row in crossing if any(start < at < stop for start, stop in _gaps(row))]
    wordy = sum(all(_words(side) >= 3 for side in sides) for sides in split)
    return at if wordy >= 0.6 * len(split) else None


def _words(glyphs: Sequence[Glyph]) -> int:
    text = "".join((" " if glyph.before else "") + glyph.text for glyph in glyphs)
    return sum(any(char.isalpha() for char in word) for word in text.split())


def _split(row: Sequence[Glyph], at: float) -> tuple[list[Glyph], list[Glyph]]:
    return [glyph for glyph in row if glyph.right <= at + 1], [glyph for glyph in row if glyph.right > at + 1]


def columns_apart(rows: list[list[Glyph]]) -> list[list[Glyph]]:
    """The rows, with those that run across a gap between two columns split, and the left column read first.

    A row without the gap, such as a title or a wide figure's caption, ends the columns above it.
    """
    if len(rows) < 5:
        return rows
    at = _gutter(rows)
    if at is None:
        return rows
    ordered: list[list[Glyph]] = []
    left_column: list[list[Glyph]] = []
    right_column: list[list[Glyph]] = []
    for row in rows:
        is_split = any(start < at < stop for start, stop in _gaps(row))
        if is_split:
            left, right = _split(row, at)
            left_column.append(left)
            right_column.append(right)
        elif row[-1].right <= at:
            left_column.append(row)
        elif row[0].left >= at - 1:
            right_column.append(row)
        else:
            ordered += [*left_column, *right_column, row]
            left_column, right_column = [], []
    return [row for row in [*ordered, *left_column, *right_column] if row]
