"""Which rows of a printed paper are headings: by its outline, else by their print and their numbers."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rapidfuzz import fuzz

from mlx_ragtune.papers.page_furniture import is_entry
from mlx_ragtune.papers.pdf_glyphs import Font, OutlineItem
from mlx_ragtune.papers.print_rows import Row
from mlx_ragtune.papers.sections import headings, is_named, is_references

MOST_ROWS = 3
"""A heading takes at most so many rows."""
LONGEST_HEADING = 160
"""In characters."""
_NUMBER = re.compile(
    r"(?:(?:section|appendix|chapter|part)\s+)?(\d{1,2}(?:\.\d{1,2}){0,3}|[A-Z](?:\.\d{1,2}){0,3}|[IVX]{1,5})(?:[.:)]\s*|\s+)(?=\S)",
    re.IGNORECASE,
)
_APPENDIX = re.compile(r"appendi(?:x|ces)\b", re.IGNORECASE)
_CAPTION = re.compile(
    r"(?:fig(?:ure|\.)|table|tab\.|algorithm|listing|example|exercise|theorem|lemma|definition|proposition|corollary"
    r"|remark|proof|step|case|equation|box|plate|scheme|chart)s?\s*[A-Z]?\d",
    re.IGNORECASE,
)
_CODE = re.compile(r"[>#$%+@{}\\]|R>|//|/\*")
_LETTERSPACED = re.compile(r"(?:\w\s){4,}\w")


class Heading(NamedTuple):
    """The rows ``first`` to ``last`` of a document, counted over all pages, and their text."""

    first: int
    last: int
    title: str


class Placed(NamedTuple):
    """A row and the page, from 0, on which it stands."""

    page: int
    row: Row


def _key(text: str) -> str:
    """Letters and digits only, without accents and case."""
    return "".join(char for char in unicodedata.normalize("NFKD", text).casefold() if char.isalnum())


def _unnumbered(text: str) -> str:
    return _NUMBER.sub("", text, count=1) if _NUMBER.match(text) else text


def joined_title(rows: Iterable[Row]) -> str:
    """The heading that the rows form, with a word that is broken between them as one."""
    text = ""
    for row in rows:
        part = row.text.replace("\u00ad", "-")
        text = text[:-1] + part if text.endswith("-") and part[:1].islower() else f"{text} {part}".strip()
    return re.sub(r"(?<=\w)\s(?=\w\b)", "", text) if _LETTERSPACED.fullmatch(text) else text


def outline_headings(rows: Sequence[Placed], outline: Sequence[OutlineItem]) -> list[Heading]:
    """The rows that the outline's entries name, each in order and on its page or the next."""
    starts: defaultdict[int, list[int]] = defaultdict(list)
    for index, (page, _) in enumerate(rows):
        starts[page].append(index)
    matched: list[Heading] = []
    after = 0
    for item in outline:
        if item.page is None or len(_key(item.title)) < 2:
            continue
        places = [index for page in (item.page, item.page + 1) for index in starts[page] if index >= after]
        heading = _match(rows, places, item.title)
        if heading is not None:
            matched.append(heading)
            after = heading.last + 1
    return matched


def _match(rows: Sequence[Placed], places: Sequence[int], title: str) -> Heading | None:
    """The best of up to three joined rows at one of the places for the title; larger print wins between equals."""
    wanted = _key(title), _key(_unnumbered(title))
    best: tuple[float, float, int, int] | None = None
    for index in places:
        page, row = rows[index]
        for last in range(index, min(index + MOST_ROWS, len(rows))):
            if rows[last].page != page:
                break
            text = joined_title(placed.row for placed in rows[index : last + 1])
            if len(text) > LONGEST_HEADING + len(title):
                break
            score = _similarity(text, wanted)
            if score >= 0.9 and (best is None or (score, row.size) > best[:2]):
                best = score, row.size, index, last
    if best is None:
        return None
    _, _, first, last = best
    return Heading(first, last, joined_title(placed.row for placed in rows[first : last + 1]))


def _similarity(text: str, wanted: tuple[str, str]) -> float:
    keys = {_key(text), _key(_unnumbered(text))} - {""}
    if keys & set(wanted):
        return 1.0
    return max((fuzz.ratio(key, other) / 100 for key in keys for other in wanted if len(other) >= 8), default=0.0)


@dataclass(frozen=True)
class Style:
    """How text is printed: font and size."""

    font: int
    size: float


class Print:
    """The styles of a document: that of its text, and what stands out from it."""

    def __init__(self, rows: Sequence[Placed], fonts: Sequence[Font]) -> None:
        self.fonts = fonts
        counts: Counter[Style] = Counter()
        for _, row in rows:
            if not fonts[row.font].is_monospaced:
                counts[style_of(row)] += len(row.text)
        self.body = counts.most_common(1)[0][0] if counts else Style(0, 0.0)
        self.varied = len(counts) > 1

    def stands_out(self, row: Row) -> bool:
        """Whether the row is larger than the text, bold where it is not, or in another font of at least its size."""
        if self.fonts[row.font].is_monospaced or row.size < 0.95 * self.body.size:
            return False
        if row.size > 1.04 * self.body.size or self.is_bold(row):
            return True
        return row.font != self.body.font

    def is_strong(self, row: Row) -> bool:
        """Whether the row is clearly larger, or bold, or in a font without a name that is not the text's."""
        return (
            row.size > 1.04 * self.body.size
            or self.is_bold(row)
            or (self.fonts[row.font].is_type3 and row.font != self.body.font)
        )

    def is_bold(self, row: Row) -> bool:
        """Whether the row is bold and the text is not."""
        return self.fonts[row.font].is_bold and not self.fonts[self.body.font].is_bold


def style_of(row: Row) -> Style:
    """The style of most of the row's letters."""
    return Style(row.font, row.size)


def _reads_as_heading(text: str) -> bool:
    letters = sum(char.isalpha() for char in text)
    body = _unnumbered(text)
    return (
        2 <= letters
        and len(text) <= LONGEST_HEADING
        and letters >= 0.5 * len(text.replace(" ", ""))
        and (body[:1].isupper() or not body[:1].isalpha() or not text[:1].isalpha())
        and not text.rstrip().endswith((",", ";", ":"))
        and not _CAPTION.match(text)
        and not _CODE.match(text)
    )


def _number(text: str) -> tuple[str, ...] | None:
    match = _NUMBER.match(text)
    return tuple(match[1].split(".")) if match else None


def _blocks(rows: Sequence[Placed], printed: Print) -> Iterator[Heading]:
    """Rows in print that stands out, joined where they follow in one style and no new number begins."""
    index = 0
    while index < len(rows):
        page, row = rows[index]
        if not printed.stands_out(row) or row.uniform < 0.5 or not row.text.strip():
            index += 1
            continue
        last = index
        while last + 1 < len(rows):
            page_after, after = rows[last + 1]
            same = page_after == page and style_of(after) == style_of(row) and after.uniform >= 0.5
            close = 0 < rows[last].row.baseline - after.baseline < 1.7 * row.size
            if not same or not close or _number(after.text) is not None and _number(row.text) is not None:
                break
            last += 1
        yield Heading(index, last, joined_title(placed.row for placed in rows[index : last + 1]))
        index = last + 1


def _plain_cells(row: Row) -> bool:
    """Whether the row is one piece of text, or a number and a piece of text: rows of tables have more."""
    return (
        len(row.cells) <= 1
        or (len(row.cells) == 2 and _NUMBER.fullmatch(row.cells[0] + " x"[:0]) is not None)
        or (
            len(row.cells) == 2
            and re.fullmatch(r"(?:\d{1,2}(?:\.\d{1,2})*|[A-Z](?:\.\d{1,2})*|[IVX]+)\.?", row.cells[0]) is not None
        )
    )


def style_headings(rows: Sequence[Placed], fonts: Sequence[Font]) -> list[Heading]:
    """The headings by their print. Where all text is printed alike, by their numbers and usual names."""
    printed = Print(rows, fonts)
    blocks = [
        block
        for block in _blocks(rows, printed)
        if block.last - block.first < MOST_ROWS
        and _reads_as_heading(block.title)
        and all(
            _plain_cells(placed.row) and not is_entry_of_contents(placed.row)
            for placed in rows[block.first : block.last + 1]
        )
    ]
    styles = _heading_styles(rows, blocks, printed)
    chosen = [block for block in blocks if _is_heading(rows, block, styles, printed)]
    named = [
        Heading(index, index, placed.row.text)
        for index, placed in enumerate(rows)
        if is_named(joined_title([placed.row])) and _plain_cells(placed.row)
    ]
    if not chosen:
        lines = [placed.row.text for placed in rows]
        chosen = [Heading(index, index, lines[index]) for index in headings(lines)]
    return _from_abstract(_merged(chosen, named), rows)


def is_entry_of_contents(row: Row) -> bool:
    """Whether the row ends in a page number after a wide gap or dots."""
    return is_entry(row) and (len(row.cells) > 1 or ". ." in row.text or ".." in row.text)


def _follows(number: tuple[str, ...], last: tuple[str, ...]) -> bool:
    """Whether a numbered heading may come after another: the same parts up to one that grows by one or two."""
    if not last:
        return number[0] in ("0", "1", "2", "I", "A", "i", "a")
    if len(number) > len(last) and number[: len(last)] == last:
        return number[len(last)] in ("0", "1", "2")
    for mine, other in zip(number, last, strict=False):
        if mine != other:
            step = _ordinal(mine) - _ordinal(other)
            return 1 <= step <= 2 or mine in ("A", "1", "I")
    return False


def _ordinal(part: str) -> int:
    if part.isdigit():
        return int(part)
    roman = {"I": 1, "II": 2, "III": 3, "IV": 4, "V": 5, "VI": 6, "VII": 7, "VIII": 8, "IX": 9, "X": 10}
    return roman.get(part, ord(part[0].upper()) - 64)


def _heading_styles(rows: Sequence[Placed], blocks: Sequence[Heading], printed: Print) -> dict[Style, int]:
    """Style → number of its blocks with a section's number in order or a usual name."""
    styles: Counter[Style] = Counter()
    last: tuple[str, ...] = ()
    for block in blocks:
        row = rows[block.first].row
        number = _number(block.title)
        if is_named(_unnumbered(block.title)) or is_references(block.title):
            styles[style_of(row)] += 2
            last = number or last
        elif number is not None and (number[0].isdigit() or len(number) > 1 or printed.is_strong(row)):
            if _follows(number, last):
                styles[style_of(row)] += 1
                last = number
    return {style: count for style, count in styles.items() if count >= 2 or style.size > 1.1 * printed.body.size}


def _is_heading(rows: Sequence[Placed], block: Heading, styles: dict[Style, int], printed: Print) -> bool:
    row = rows[block.first].row
    style = style_of(row)
    number = _number(block.title)
    if style in styles:
        return number is not None or printed.is_strong(row) and _stands_apart(rows, block)
    if not printed.is_strong(row) or not _stands_apart(rows, block):
        return False
    if any(style.font == known.font for known in styles):
        return style.size >= printed.body.size
    return not styles and style.size > 1.1 * printed.body.size and len(block.title.split()) >= 1


def _stands_apart(rows: Sequence[Placed], block: Heading) -> bool:
    """Whether text follows below, and no other row of its print stands beside it."""
    page, row = rows[block.first]
    beside = [
        other
        for index in range(max(0, block.first - 4), min(len(rows), block.last + 5))
        if not block.first <= index <= block.last
        for other_page, other in [rows[index]]
        if other_page == page and abs(other.baseline - row.baseline) < 2 and abs(other.left - row.right) < 60
    ]
    return not beside and len(block.title.split()) <= 16


def _merged(chosen: Sequence[Heading], named: Sequence[Heading]) -> list[Heading]:
    """All headings in order, without those that lie inside another."""
    taken = {index for heading in chosen for index in range(heading.first, heading.last + 1)}
    more = [heading for heading in named if heading.first not in taken]
    return sorted([*chosen, *more])


def _from_abstract(found: list[Heading], rows: Sequence[Placed]) -> list[Heading]:
    """The headings without those on the first page above the abstract or the first section: title and authors."""
    first = next(
        (
            heading.first
            for heading in found
            if rows[heading.first].page == 0
            and (is_named(_unnumbered(heading.title)) or (_number(heading.title) or ("",))[0] in ("1", "I", "0"))
        ),
        None,
    )
    if first is None:
        return [heading for heading in found if rows[heading.first].page > 0 or heading.first > 3]
    return [heading for heading in found if heading.first >= first]


def find_headings(rows: Sequence[Placed], fonts: Sequence[Font], outline: Sequence[OutlineItem]) -> list[Heading]:
    """The document's headings in order: those of its outline and the usual names, or else those by print.

    An outline counts when at least half of its entries, and three of them, stand in the text.
    """
    by_style = style_headings(rows, fonts)
    by_outline = outline_headings(rows, outline)
    if len(by_outline) < 3 or 2 * len(by_outline) < len(outline):
        return by_style
    named = [heading for heading in by_style if is_named(heading.title) or is_references(heading.title)]
    return _merged(by_outline, named)
