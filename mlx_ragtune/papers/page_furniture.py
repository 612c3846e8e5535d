"""What is printed around the text of a paper: running heads and feet, line numbers, tables of contents."""

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from mlx_ragtune.papers.print_rows import Row

EDGE_SHARE = 0.14
"""Running heads and feet are within this share of the page's height at the top and the bottom."""
PLACE_POINTS = 4.0
"""Running lines of two pages are at one place when their heights differ by less."""
LEAST_LINE_NUMBERS = 5
LEAST_POINTS = 10
"""Fewer rows of only a shape may be the marks of a list."""
_SHAPES = re.compile(r"[\s\u25a0-\u25ff]+")
_PAGE_NUMBER = r"(?:page\s+)?[-–—]?\s*(?:\d{1,5}|[ivxl]{1,6})\s*[-–—]?(?:\s*(?:of|/)\s*\d{1,5})?"
_ONLY_NUMBER = re.compile(_PAGE_NUMBER, re.IGNORECASE)
_NUMBER_AT_ENDS = re.compile(r"(?:(\d{1,4})\b)?.*?(?:\b(\d{1,4}))?", re.DOTALL)
_LEADERS = re.compile(r"(?:\.\s?){4,}\s*(?:\d{1,4}|[ivxl]{1,6})?$")
_ENTRY = re.compile(r".*\S[\s.]+(\d{1,4}|[ivxl]{1,6})$")
_CONTENTS = re.compile(r"(?:table of )?contents|list of (?:figures|tables)", re.IGNORECASE)

PART = re.compile(r"(?:chapter|appendix|part)\s+(?:\d{1,2}|[A-Z]|[IVX]+)[.:]?", re.IGNORECASE)
"""The number of a chapter on a row of its own; its title is below."""


class Taken(NamedTuple):
    """A line that is not part of the text: the page, from 0, the reason, and the line."""

    page: int
    reason: str
    text: str


def _pattern(text: str) -> str:
    return re.sub(r"\d+", "#", text).casefold()


class _Edges:
    """The outermost rows of each page at its top (or foot), where running lines may be."""

    def __init__(self, pages: Sequence[Sequence[Row]], heights: Sequence[float], *, top: bool) -> None:
        self._top = top
        self.rows: list[list[int]] = []
        sizes = Counter[float]()
        for row in itertools.chain.from_iterable(pages):
            sizes[row.size] += len(row.text)
        self._body = sizes.most_common(1)[0][0] if sizes else 0.0
        for rows, height in zip(pages, heights, strict=True):
            edge = [
                index
                for index, row in enumerate(rows)
                if self._depth(row, height) < EDGE_SHARE * height and not self._is_part(row)
            ]
            edge.sort(key=lambda index: self._depth(rows[index], height))
            self.rows.append(edge)

    def _is_part(self, row: Row) -> bool:
        """Whether the row is the number of a chapter in large print: each begins a page, at the same height."""
        return row.size > 1.2 * self._body and PART.fullmatch(row.text) is not None

    def _depth(self, row: Row, height: float) -> float:
        return height - row.baseline if self._top else row.baseline

    def outermost(self, page: int, rows: Sequence[Row], gone: set[int]) -> list[int]:
        """The rows on the page's outermost line that are not gone yet."""
        left = [index for index in self.rows[page] if index not in gone]
        return [index for index in left if abs(rows[index].baseline - rows[left[0]].baseline) < 2] if left else []


def _places(lines: Sequence[tuple[int, Sequence[Row]]], count: int) -> list[float]:
    """The heights at which the outermost lines of several pages are running lines.

    A place counts when most of its lines are there on other pages too, apart from numbers, or are page numbers:
    the first line of the text is at one height on every page as well.
    """
    by_pattern: defaultdict[str, list[float]] = defaultdict(list)
    for _, rows in lines:
        by_pattern[_pattern(" ".join(row.text for row in rows))].append(rows[0].baseline)
    places: list[float] = []
    for _, rows in lines:
        height = rows[0].baseline
        if any(abs(height - place) < PLACE_POINTS for place in places):
            continue
        here = [other for _, other in lines if abs(other[0].baseline - height) < PLACE_POINTS]
        known = 0
        for other in here:
            text = " ".join(row.text for row in other)
            heights = by_pattern[_pattern(text)]
            near = sum(abs(at - height) < PLACE_POINTS for at in heights)
            known += near >= 2
        if known >= 2 and known >= 0.5 * len(here) and len(here) >= min(count, 2):
            places.append(height)
    return places


def take_running(pages: Sequence[Sequence[Row]], heights: Sequence[float]) -> tuple[list[list[Row]], list[Taken]]:
    """The pages without running heads and feet, by their place, and the lines that were taken.

    At a place where lines of several pages repeat or are page numbers, every line is taken, so that a head that a
    short paper prints once goes too. The title's larger print is kept.
    """
    gone: list[set[int]] = [set() for _ in pages]
    for top in (True, False):
        edges = _Edges(pages, heights, top=top)
        for _ in range(3):
            outer = [(number, edges.outermost(number, rows, gone[number])) for number, rows in enumerate(pages)]
            lines = [(number, [pages[number][index] for index in indices]) for number, indices in outer if indices]
            places = _places(lines, len(pages))
            sizes = [row.size for _, rows in lines for row in rows if _at(row, places)]
            usual = sorted(sizes)[len(sizes) // 2] if sizes else 0.0
            for number, indices in outer:
                gone[number].update(
                    index for index in indices if _at(pages[number][index], places)
                    and pages[number][index].size < 1.2 * usual
                )  # fmt: skip
        _take_numbered(pages, edges, gone)
        _take_single(pages, edges, gone)
    return _apart(pages, gone, "running head or foot")


def _at(row: Row, places: Iterable[float]) -> bool:
    return any(abs(row.baseline - place) < PLACE_POINTS for place in places)


def _take_numbered(pages: Sequence[Sequence[Row]], edges: _Edges, gone: list[set[int]]) -> None:
    """Take outermost lines that begin or end with the page's number: one that grows with the pages, on half of them."""
    by_offset: defaultdict[int, dict[int, list[int]]] = defaultdict(dict)
    for page, rows in enumerate(pages):
        outer = edges.outermost(page, rows, gone[page])
        numbers = _NUMBER_AT_ENDS.fullmatch(" ".join(rows[index].text for index in outer))
        for number in numbers.groups() if numbers else ():
            if number is not None:
                by_offset[int(number) - page][page] = outer
    for outer_rows in by_offset.values():
        if len(outer_rows) >= max(2, 0.5 * len(pages)):
            for page, outer in outer_rows.items():
                gone[page].update(outer)


def _take_single(pages: Sequence[Sequence[Row]], edges: _Edges, gone: list[set[int]]) -> None:
    """Take an outermost line that is only a page number, and stands apart from the text."""
    for number, rows in enumerate(pages):
        outer = edges.outermost(number, rows, gone[number])
        if len(outer) == 1 and len(rows) > 1 and _ONLY_NUMBER.fullmatch(rows[outer[0]].text):
            others = [row for index, row in enumerate(rows) if index not in gone[number] and index != outer[0]]
            nearest = min((abs(row.baseline - rows[outer[0]].baseline) for row in others), default=0.0)
            if nearest > 1.6 * rows[outer[0]].size and len(pages) > 1:
                gone[number].add(outer[0])


def _apart(
    pages: Sequence[Sequence[Row]], gone: Sequence[set[int]], reason: str
) -> tuple[list[list[Row]], list[Taken]]:
    kept = [[row for index, row in enumerate(rows) if index not in gone[page]] for page, rows in enumerate(pages)]
    taken = [
        Taken(page, reason, pages[page][index].text) for page, indices in enumerate(gone) for index in sorted(indices)
    ]
    return kept, taken


_FIRST_NUMBER = re.compile(r"(\d{1,4})(?:\s+(\S.*))?")
_LAST_NUMBER = re.compile(r"(?:(.*\S)\s+)?(\d{1,4})")


def _numbered(rows: Sequence[Row], *, last: bool) -> list[int]:
    """The rows of one margin whose numbers count the lines: they grow by one, but for a few."""
    numbers: dict[int, int] = {}
    for index, row in enumerate(rows):
        match = (_LAST_NUMBER if last else _FIRST_NUMBER).fullmatch(row.text)
        if match:
            numbers[index] = int(match[2 if last else 1])
    margins = Counter(round(_margin(rows[index], last=last) / 8) for index in numbers)
    if not margins:
        return []
    usual = 8 * margins.most_common(1)[0][0]
    at_margin = _nearest(rows, list(numbers), usual, last=last)
    step = _usual_step([numbers[index] for index in at_margin])
    run: list[int] = []
    for index, after in zip(at_margin, [*at_margin[1:], None], strict=False):
        steps = [numbers[index] - numbers[run[-1]]] if run else []
        steps += [numbers[after] - numbers[index]] if after is not None else []
        if any(step <= grown <= 2 * step for grown in steps) and not (run and numbers[index] <= numbers[run[-1]]):
            run.append(index)
    ones = sum(numbers[after] - numbers[index] == step for index, after in itertools.pairwise(run))
    return run if run and ones >= 0.8 * (len(run) - 1) else []


def _nearest(rows: Sequence[Row], indices: Sequence[int], usual: float, *, last: bool) -> list[int]:
    """The rows at the margin: within 4.5 points at the right, where text ends anywhere, within 14 at the left."""
    near = [index for index in indices if abs(_margin(rows[index], last=last) - usual) < 14]
    if not last or not near:
        return near
    ends = sorted(rows[index].right for index in near)
    return [index for index in near if abs(rows[index].right - ends[len(ends) // 2]) < 4.5]


def _usual_step(numbers: Sequence[int]) -> int:
    """1, or 5 where only each fifth line has a number."""
    steps = Counter(after - before for before, after in itertools.pairwise(numbers))
    return 5 if steps[5] > steps[1] else 1


def _margin(row: Row, *, last: bool) -> float:
    return row.right if last else row.left


def take_line_numbers(pages: Sequence[Sequence[Row]]) -> tuple[list[list[Row]], list[Taken]]:
    """The pages without the line numbers of a review copy, and the numbers that were taken from each.

    Numbers count when five or more follow one another at one margin and most rows at that margin have one. The
    index column of a table is not: the rest of the page has none.
    """
    kept_pages, taken = [], []
    for number, rows in enumerate(pages):
        kept = list(rows)
        for last in (False, True, False):
            numbers = _numbered(kept, last=last)
            if len(numbers) < LEAST_LINE_NUMBERS or not _covers(kept, numbers, last=last):
                continue
            texts = [kept[index].text.split()[-1 if last else 0] for index in numbers]
            taken.append(Taken(number, "line numbers", " ".join(texts)))
            pattern, group = (_LAST_NUMBER, 1) if last else (_FIRST_NUMBER, 2)
            for index in numbers:
                match = pattern.fullmatch(kept[index].text)
                kept[index] = replace(kept[index], text=(match[group] or "") if match else "", cells=())
        kept_pages.append([row for row in kept if row.text or row.removed])
    return kept_pages, taken


def _covers(rows: Sequence[Row], numbers: Sequence[int], *, last: bool) -> bool:
    """Whether most of the rows at the numbers' margin are numbered, or the numbers stand alone beside the text."""
    alone = [index for index in numbers if rows[index].text.isdigit()]
    edge = _margin(rows[numbers[0]], last=last)
    if len(alone) >= 0.8 * len(numbers):
        others = [row for row in rows if row.text and not row.text.isdigit()]
        outside = sum(row.right < edge or row.left > edge for row in others)
        return len(others) > 0 and outside >= 0.9 * len(others) and len(numbers) >= 0.4 * min(len(others), 40)
    if len(numbers) >= 2 and not last and _is_left_of_text(rows, numbers):
        return True
    near = [row for row in rows if abs(_margin(row, last=last) - edge) < 30]
    return len(numbers) >= 0.6 * len(near) and len(numbers) >= 0.3 * len(rows)


def _is_left_of_text(rows: Sequence[Row], numbers: Sequence[int]) -> bool:
    """Whether all rows without a number begin to the right of the numbers, which more than a table has."""
    others = [row for index, row in enumerate(rows) if index not in set(numbers)]
    right = max(rows[index].left for index in numbers) + 6
    height = max(rows[index].baseline for index in numbers) - min(rows[index].baseline for index in numbers)
    extent = max(row.baseline for row in rows) - min(row.baseline for row in rows)
    beside = sum(row.left > right for row in others)
    return len(others) >= 3 and beside >= 0.95 * len(others) and height > 0.5 * extent


def take_points(pages: Sequence[Sequence[Row]]) -> tuple[list[list[Row]], list[Taken]]:
    """The pages without rows that are only shapes, where a page has many: the points of a plot."""
    points = [[index for index, row in enumerate(rows) if _SHAPES.fullmatch(row.text)] for rows in pages]
    gone = [set(indices) if len(indices) >= LEAST_POINTS else set() for indices in points]
    return _apart(pages, gone, "points of a plot")


def is_entry(row: Row) -> bool:
    """Whether the row may be one of a table of contents: it ends in a page number."""
    return _ENTRY.fullmatch(row.text) is not None or _LEADERS.search(row.text) is not None


def take_contents(pages: Sequence[Sequence[Row]]) -> tuple[list[list[Row]], list[Taken]]:
    """The pages without tables of contents: rows below such a heading that end in page numbers, and their rests.

    Rows with a line of dots before their number are taken wherever three of them follow one another.
    """
    gone: list[set[int]] = [set() for _ in pages]
    for number, rows in enumerate(pages):
        open_until = -1
        for index, row in enumerate(rows):
            heading = _CONTENTS.fullmatch(row.text.strip())
            if heading or (index == 0 and number and gone[number - 1] and is_entry(row)):
                entries = _entries(rows, index + bool(heading))
                if len(entries) >= 3:
                    gone[number] |= {*entries, *([index] if heading else [])}
                    open_until = max(entries)
            elif index > open_until and _LEADERS.search(row.text):
                entries = _entries(rows, index)
                if sum(_LEADERS.search(rows[at].text) is not None for at in entries) >= 3:
                    gone[number] |= set(entries)
                    open_until = max(entries)
    return _apart(pages, gone, "table of contents")


def _entries(rows: Sequence[Row], start: int) -> list[int]:
    """The rows from ``start`` that are entries, with pages that do not fall, and first halves of those on two rows."""
    entries: list[int] = []
    waiting: list[int] = []
    page = 0
    for index in range(start, len(rows)):
        match = _ENTRY.fullmatch(rows[index].text)
        number = int(match[1]) if match and match[1].isdigit() else page
        if is_entry(rows[index]) and number >= page:
            page = number
            entries += [*waiting, index]
            waiting = []
        elif waiting or len(rows[index].text) > 120:
            break
        else:
            waiting.append(index)
    return entries
