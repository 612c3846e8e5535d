"""Which rows of a printed paper are headings: by its outline, else by their print and their numbers."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from rapidfuzz import fuzz

from mlx_ragtune.papers.page_furniture import PART, is_entry
from mlx_ragtune.papers.pdf_glyphs import Font, OutlineItem
from mlx_ragtune.papers.print_rows import Row, is_code
from mlx_ragtune.papers.sections import headings, is_named, is_references

MOST_ROWS = 3
"""A heading takes at most so many rows."""
MOST_PROSE = 0.4
"""A style with more lines of paragraphs than this share of the commonest style's is one of text, not of headings."""
LONGEST_HEADING = 160
"""In characters."""
_NUMBER = re.compile(
    r"(?:(?:section|appendix|chapter|part)\s+)?(\d{1,2}(?:\.\d{1,2}){0,3}|[A-Z](?:\.\d{1,2}){0,3}|[IVX]{1,5})(?:[.:)]\s*|\s+)(?=\S)",
    re.IGNORECASE,
)
_ONLY_NUMBER = re.compile(r"(?:\d{1,2}(?:\.\d{1,2})*|[A-Z](?:\.\d{1,2})*|[IVX]+)[.:)]?")
_CAPTION = re.compile(
    r"(?:fig(?:ure|\.)|table|tab\.|algorithm|listing|theorem|lemma|definition|proposition|corollary"
    r"|remark|proof|axiom|conjecture|equation|box|plate|scheme|chart)s?\s*[A-Z]?\d",
    re.IGNORECASE,
)
_CODE = re.compile(r"[>#$%+@{}\\•▪■◦‣●*·–—(,;]|R>|//|/\*|\[\d")
_ASSIGNMENT = re.compile(r"<[-−]|:=|==")
_DATE = re.compile(
    r"(?:\d{1,2}\.?\s)?(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?,?\s(?:\d{1,2}(?:st|nd|rd|th)?,?\s)?\d{4}",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]{3}|[\u3040-\u9fff\uac00-\ud7af]")
_LETTERSPACED = re.compile(r"(?:\w\s){4,}\w")


class Heading(NamedTuple):
    """The rows ``first`` to ``last`` of a document, counted over all pages, and their text.

    ``rest`` is the text that a heading is run into on its row.
    """

    first: int
    last: int
    title: str
    rest: str = ""


class Placed(NamedTuple):
    """A row and the page, from 0, on which it stands."""

    page: int
    row: Row


@lru_cache(maxsize=8192)
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
    run_in: Heading | None = None
    for index in places:
        page, row = rows[index]
        run_in = run_in or _run_in(row.text, title, index)
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
        return run_in
    _, _, first, last = best
    return Heading(first, last, joined_title(placed.row for placed in rows[first : last + 1]))


def _run_in(text: str, title: str, index: int) -> Heading | None:
    """The heading that begins the row, if its title ends there with a period or colon, or has the same number."""
    for start in (0, len(text) - len(_unnumbered(text))):
        end, wanted = start, _key(title if start == 0 else _unnumbered(title))
        if len(wanted) < 4 or not _key(text[start:]).startswith(wanted):
            continue
        while end < len(text) and len(_key(text[start:end])) < len(wanted) and end - start < 2 * len(title) + 9:
            end += 1
        numbered = _number(title) is not None and _number(title) == _number(text)
        if _key(text[start:end]) != wanted or not (numbered or text[end : end + 1] in (".", ":")):
            continue
        mark = end + (text[end : end + 1] in (".", ":"))
        return Heading(index, index, text[:mark], text[mark:].strip())
    return None


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


def _is_prose(text: str) -> bool:
    """Whether the row is a line of a paragraph: eight words or more, and few signs."""
    words = text.split()
    return len(words) >= 8 and sum(char.isalpha() for char in text) >= 0.85 * (len(text) - len(words))


class Print:
    """The styles of a document: that of its text, and what stands out from it."""

    def __init__(self, rows: Sequence[Placed], fonts: Sequence[Font]) -> None:
        self.fonts = fonts
        prose: Counter[Style] = Counter()
        every: Counter[Style] = Counter()
        for _, row in rows:
            if not fonts[row.font].is_monospaced:
                every[style_of(row)] += len(row.text)
                prose[style_of(row)] += len(row.text) if _is_prose(row.text) else 0
        most = MOST_PROSE * max(prose.values(), default=0)
        self._text_styles = {style for style, count in prose.items() if count > most}
        counts = prose if prose.total() >= 0.2 * every.total() else every
        self.body = counts.most_common(1)[0][0] if counts else Style(0, 0.0)

    def stands_out(self, row: Row) -> bool:
        """Whether nothing in the row is printed as the text, and some of it is larger, bold or in another font."""
        if is_code(row, self.fonts) or style_of(row) in self._text_styles:
            return False
        number = _NUMBER.match(row.text)
        as_text = sum(count for font, size, count in row.mix if Style(font, size) == self.body)
        as_text -= sum(char.isalnum() for char in number[0]) if number else 0
        least = 0.85 if self.is_bold(row) else 0.95
        return as_text <= 1 and max(row.size, *(size for _, size, _ in row.mix), 0) >= least * self.body.size

    def is_larger(self, row: Row) -> bool:
        """Whether the row's largest print is larger than the text."""
        return max((size for font, size, count in row.mix), default=row.size) > 1.04 * self.body.size

    def is_strong(self, row: Row) -> bool:
        """Whether the row is clearly larger, or bold, or in a font without a name that is not the text's."""
        type3 = self.fonts[row.font].is_type3 and row.font != self.body.font and not is_code(row, self.fonts)
        return self.is_larger(row) or self.is_bold(row) or type3

    def is_bold(self, row: Row) -> bool:
        """Whether some of the row is bold, and the text is not."""
        bold = any(self.fonts[font].is_bold for font, _, _ in row.mix)
        return bold and not self.fonts[self.body.font].is_bold

    def family(self, font: int) -> str:
        """The first letters of the font's name, which fonts made for one another share; empty for Type 3 fonts."""
        return self.fonts[font].name.partition("+")[2][:2] or self.fonts[font].name[:2]


def style_of(row: Row) -> Style:
    """The style of most of the row's letters."""
    return Style(row.font, row.size)


def _reads_as_heading(text: str) -> bool:
    letters = sum(char.isalpha() for char in text)
    return (
        _WORD.search(text) is not None
        and len(text) <= LONGEST_HEADING
        and letters >= 0.5 * len(text.replace(" ", ""))
        and not text.rstrip().endswith((",", ";", ":"))
        and not _CAPTION.match(text)
        and not _CODE.match(text)
        and not _ASSIGNMENT.search(text)
        and not _DATE.fullmatch(text.strip())
    )


def _number(text: str) -> tuple[str, ...] | None:
    match = _NUMBER.match(text)
    return tuple(match[1].split(".")) if match else None


def _blocks(rows: Sequence[Placed], printed: Print) -> Iterator[Heading]:
    """Rows in print that stands out, joined where they follow in one style and no new number begins."""
    index = 0
    while index < len(rows):
        page, row = rows[index]
        if not printed.stands_out(row) or not row.text.strip():
            index += 1
            continue
        last = index
        while last + 1 < len(rows):
            page_after, after = rows[last + 1]
            same = page_after == page and style_of(after) == style_of(row) and printed.stands_out(after)
            close = 0 < rows[last].row.baseline - after.baseline < 1.7 * row.size
            if not same or not close or (_number(after.text) is not None and _number(row.text) is not None):
                break
            last += 1
        yield Heading(index, last, joined_title(placed.row for placed in rows[index : last + 1]))
        index = last + 1


def _plain_cells(row: Row) -> bool:
    """Whether the row is one piece of text, or a number and a piece of text: rows of tables have more."""
    return len(row.cells) <= 1 or (len(row.cells) == 2 and _ONLY_NUMBER.fullmatch(row.cells[0]) is not None)


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
        if is_usual(joined_title([placed.row])) and _plain_cells(placed.row)
    ]
    if not styles:
        lines = [placed.row.text for placed in rows]
        chosen = _merged(chosen, [Heading(index, index, lines[index]) for index in headings(lines)])
    return _from_abstract(_with_parts(_merged(chosen, named), rows), rows)


def _with_parts(found: Sequence[Heading], rows: Sequence[Placed]) -> list[Heading]:
    """The headings, with the number of a chapter and the title on the next row as one."""
    joined: list[Heading] = []
    for heading in found:
        before = joined[-1] if joined else None
        if (
            before is not None
            and PART.fullmatch(before.title)
            and heading.first == before.last + 1
            and rows[heading.first].page == rows[before.first].page
        ):
            joined[-1] = Heading(before.first, heading.last, f"{before.title} {heading.title}", heading.rest)
        else:
            joined.append(heading)
    return joined


def is_usual(title: str) -> bool:
    """Whether a title is a usual name of a section, or the heading of a list of references."""
    return is_named(title) or is_references(title)


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
    of_style: dict[Style, tuple[str, ...]] = {}
    for block in blocks:
        row = rows[block.first].row
        number = _number(block.title)
        if is_usual(_unnumbered(block.title)):
            styles[style_of(row)] += 2
            last = number or last
        elif number is not None and (number[0].isdigit() or len(number) > 1 or printed.is_strong(row)):
            before = of_style.get(style_of(row), ())
            if _follows(number, last) or (before and _follows(number, before)):
                of_style[style_of(row)] = number
                styles[style_of(row)] += 1
                last = number
    return {style: count for style, count in styles.items() if count >= 2 or style.size > 1.1 * printed.body.size}


def _is_heading(rows: Sequence[Placed], block: Heading, styles: dict[Style, int], printed: Print) -> bool:
    """Whether a block of print that stands out is a heading.

    With a number, in the style of other headings; without one also in a related font, if it is larger than the text
    or stands apart from it.
    """
    row = rows[block.first].row
    style = style_of(row)
    if style in styles and _number(block.title) is not None:
        return True
    if not printed.is_strong(row) or _has_neighbor(rows, block) or len(block.title.split()) > 16:
        return False
    if (not printed.is_larger(row) or block.title[0].islower()) and not _stands_apart(rows, block, printed):
        return False
    if style in styles:
        return True
    if styles:
        return any(printed.family(style.font) == printed.family(known.font) for known in styles)
    return style.size > 1.1 * printed.body.size


def _has_neighbor(rows: Sequence[Placed], block: Heading) -> bool:
    """Whether another row stands beside the block at a small distance, as in a table or a figure."""
    page, row = rows[block.first]
    return any(
        other_page == page and abs(other.baseline - row.baseline) < 2 and abs(other.left - row.right) < 60
        for index in range(max(0, block.first - 4), min(len(rows), block.last + 5))
        if not block.first <= index <= block.last
        for other_page, other in [rows[index]]
    )


def _stands_apart(rows: Sequence[Placed], block: Heading, printed: Print) -> bool:
    """Whether there is more space above and below the block than between lines of the text, which follows below it."""
    page, row = rows[block.first]
    spacing = 1.2 * printed.body.size
    if block.last + 1 >= len(rows) or len(block.title.split()) > 12 or block.title.endswith("."):
        return False
    before = rows[block.first - 1] if block.first else None
    above = before.row.baseline - row.baseline if before is not None and before.page == page else 2 * spacing
    after = rows[block.last + 1]
    below = rows[block.last].row.baseline - after.row.baseline if after.page == page else 0.0
    if below < 0 or len(after.row.cells) > 2:
        return False
    return (above < 0 or above >= 1.25 * spacing) and below >= 1.1 * spacing


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
    named = [heading for heading in by_style if is_usual(heading.title)]
    return _merged(by_outline, named)
