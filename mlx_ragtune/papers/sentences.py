"""Where a text may be cut: after sentences, around tables, displayed formulas and code, never inside one of them.

A cut that is left out costs little, a wrong one tears a sentence. What may be an abbreviation, an initial or an
ordinal therefore ends no sentence.
"""

import itertools
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_CLOSERS = r"[\"'”’»›\)\]\}」』】》〉）］｝*_]*"
_UNSPACED = r"\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Kana and ideographs: sentences follow each other without a space."""
_TERMINATORS = "!?‼⁇⁈⁉…؟۔।॥։።፧។៕။"
_END = re.compile(
    rf"(?P<wide>[。！？｡．]{_CLOSERS})\s*"
    rf"|(?<![.{_TERMINATORS}])(?P<narrow>[.{_TERMINATORS}]++{_CLOSERS}+"
    r"(?P<mark>(?:\[[\d,\s–-]+\])|(?:(?<=[^\W\d_][.!?])\^?\d{1,3}(?:,\d{1,3})*)|[⁰¹²³⁴-⁹]+)?)"
    rf"(?=\s|[{_UNSPACED}])\s*"
)
_ABBREVIATED = (
    "al approx art assoc bzw ca cap cf chap co col corp def dept dr ed eds eq eqn eqs esp est et etc ex exp fig figs "
    "fn gen hrsg ibid ie eg inc incl jr lemma ltd max min mr mrs ms no nos nr op p par pp prof prop pt ref refs rem "
    "resp sec sect seq sic sr st suppl supp tab tabs thm univ v viz vol vols vs vgl abb abs abschn anm aufl bd bspw "
    "evtl ggf hg inkl kap p.ex s sog u.a usw z.b z.t d.h ej i.e e.g u.s u.k a.k.a n.b ph.d m.sc b.sc w.r.t i.i.d s.t "
    "a.m p.m"
)
_ABBREVIATIONS = frozenset(_ABBREVIATED.split())
"""Words that end in a point inside a sentence, without their last point."""
_BEFORE_ORDINALS = frozenset(
    ("", "ab", "am", "an", "bis", "das", "dem", "den", "der", "des", "die", "im", "seit", "vom", "zum", "zur")
)
"""What stands before an ordinal number that is written with a point: nothing (a numbered line), or a German word."""
_WORDS_BEFORE = re.compile(r"(?:(?P<before>[^\s]+)[^\S\n]+)?(?P<last>[\w.]*)$")
WRAPPED = 120
"""In characters. A longer line is a whole paragraph; shorter ones may be wrapped."""
_MARKER = re.compile(
    r"\s*(?:[-*+•·–▪◦]\s|\d{1,3}[.)]\s|\([a-z\d]{1,3}\)\s|[a-z]\)\s|#{1,6}\s|\||>|```|~~~|\$\$|\\\[|\\begin\{)"
)
_LINE_BREAK = re.compile(r"\n\s*")
_HEADING = re.compile(r"#{1,6}\s")
_FENCE = re.compile(r"\s{0,3}(```|~~~)")
_ENVIRONMENTS = (
    "equation|align|alignat|gather|multline|eqnarray|displaymath|math|split|tabular|tabularx|longtable|table|array|"
    "verbatim|lstlisting|algorithm|algorithmic"
)
_OPENING = re.compile(rf"\s*(?:(?P<dollars>\$\$)|(?P<bracket>\\\[)|\\begin\{{(?P<name>(?:{_ENVIRONMENTS})\*?)\}})")
_TABLE_ROW = re.compile(r"\s*\|")
LONGEST_ATOM = 2000
"""In lines. A formula or code that does not end within so many has no end."""


@dataclass(frozen=True)
class Unit:
    """A half-open span ``[start, end)`` of a text that is kept whole, without white space at its ends.

    ``is_sentence``: not a table, a formula or code. ``ends_paragraph``: the next unit begins a paragraph.
    """

    start: int
    end: int
    is_sentence: bool = True
    ends_paragraph: bool = False


def units(text: str, breaks: Sequence[int] = ()) -> list[Unit]:
    """The units of a text in order. They hold every character that is not white space.

    ``breaks``: ascending offsets where a page begins. A paragraph that is not finished there continues.
    """
    found: list[Unit] = []
    for start, end, is_prose in _blocks(text):
        if is_prose:
            found += _sentences(text, start, end, breaks)
        else:
            found += [_trimmed(text, start, end, is_sentence=False)]
    return [unit for unit in found if unit.start < unit.end]


def _trimmed(text: str, start: int, end: int, *, is_sentence: bool = True, ends_paragraph: bool = True) -> Unit:
    piece = text[start:end]
    lead, trail = len(piece) - len(piece.lstrip()), len(piece) - len(piece.rstrip())
    return Unit(min(start + lead, end), max(end - trail, min(start + lead, end)), is_sentence, ends_paragraph)


def _lines(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of each line, with its line end."""
    start = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        yield start, end
        start = end


def _blocks(text: str) -> Iterator[tuple[int, int, bool]]:
    """(start, end, is prose) of runs of lines: prose, or one table, displayed formula or block of code."""
    lines = list(_lines(text))
    closings = _Closings(text, lines)
    prose = number = 0
    while number < len(lines):
        last = _atom(text, lines, number, closings)
        if last is None:
            number += 1
            continue
        if prose < number:
            yield lines[prose][0], lines[number][0], True
        yield lines[number][0], lines[last][1], False
        prose = number = last + 1
    if prose < len(lines):
        yield lines[prose][0], len(text), True


class _Closings:
    """The lines that end a displayed formula, an environment or code, found once for each way to write the end."""

    def __init__(self, text: str, lines: Sequence[tuple[int, int]]) -> None:
        self._text, self._lines = text, lines
        self._found: dict[str, list[int]] = {}

    def after(self, pattern: str, number: int) -> int | None:
        """The first line from ``number`` on that has the pattern, if it is near enough."""
        if pattern not in self._found:
            closing = re.compile(pattern, re.MULTILINE)
            self._found[pattern] = [
                at for at, (start, end) in enumerate(self._lines) if closing.search(self._text, start, end)
            ]
        places = self._found[pattern]
        at = bisect_left(places, number)
        return places[at] if at < len(places) and places[at] - number < LONGEST_ATOM else None


def _atom(text: str, lines: Sequence[tuple[int, int]], number: int, closings: _Closings) -> int | None:
    """The last line of the table, formula or code that begins on the line; None where none begins, or it has no end."""
    start, end = lines[number]
    if _TABLE_ROW.match(text, start, end):
        last = number
        while last + 1 < len(lines) and _TABLE_ROW.match(text, *lines[last + 1]):
            last += 1
        return last if last > number else None
    if fence := _FENCE.match(text, start, end):
        return closings.after(rf"^[ \t]{{0,3}}{fence[1]}[`~]*[^\S\n]*$", number + 1)
    if opening := _OPENING.match(text, start, end):
        if opening["name"]:
            pattern = rf"\\end\{{{re.escape(opening['name'])}\}}"
        else:
            pattern = r"\$\$" if opening["dollars"] else r"\\\]"
        return number if re.compile(pattern).search(text, opening.end(), end) else closings.after(pattern, number + 1)
    return None


def _sentences(text: str, start: int, end: int, breaks: Sequence[int]) -> Iterator[Unit]:
    """The sentences of prose."""
    cuts: dict[int, bool] = {}
    for match in _END.finditer(text, start, end):
        if match.end() < end and _ends_sentence(text, match, start):
            line_start = max(text.rfind("\n", start, match.start()) + 1, start)
            cuts[match.end()] = "\n" in match[0] and match.start() - line_start > WRAPPED
    for match in _LINE_BREAK.finditer(text, start, end):
        first, last = match.span()
        if last < end and _ends_line(text, (first, last), start, breaks):
            cuts[last] = match[0].count("\n") > 1 or cuts.get(last, False)
    places = [start, *sorted(cuts), end]
    for first, last in itertools.pairwise(places):
        yield _trimmed(text, first, last, ends_paragraph=cuts.get(last, True))


def _ends_line(text: str, gap: tuple[int, int], start: int, breaks: Sequence[int]) -> bool:
    """Whether the line break at ``gap`` ends a sentence: a paragraph, a heading or a list item begins or ends there."""
    first, last = gap
    line_start = max(text.rfind("\n", start, first) + 1, start)
    if _MARKER.match(text, last) or _HEADING.match(text, line_start):
        return True
    if not text[first:last].count("\n") > 1:
        return False  # a wrapped line; where a sentence ends with it, its full stop says so
    if _is_finished(text, first):
        return True
    page = bisect_left(breaks, first)
    if page < len(breaks) and breaks[page] <= last:
        return False
    return not text[last].islower()


def _is_finished(text: str, end: int) -> bool:
    tail = text[max(0, end - 24) : end].rstrip("\"'”’»›)]}」』】》〉）］｝*_ 0123456789^")
    return tail.endswith((".", ":", "。", "！", "？", "｡", "．", *_TERMINATORS))


def _ends_sentence(text: str, match: re.Match[str], start: int) -> bool:
    """Whether a full stop, with what follows it, ends a sentence."""
    after = text[match.end()]
    if match["wide"]:
        if match["wide"][0] == "．" and text[match.start() - 1 : match.start()].isdigit() and after.isdigit():
            return False
        quoted = len(match["wide"]) > 1
        return not (after in "，、；：,;:」』）)" or (quoted and "\u3041" <= after <= "\u3096"))
    if after.islower() or after in ",;:)]}%=<>+/&|":
        return False
    point = match.start()
    if text[point] != "." or text[point : point + 2] == "..":
        return True
    return not _is_abbreviation(_WORDS_BEFORE.search(text, max(start, point - 36), point))


def _is_abbreviation(words: re.Match[str] | None) -> bool:
    """Whether the word before a point is an abbreviation, an initial, or an ordinal number."""
    word = words["last"].lstrip("._") if words else ""
    if not word or not words:
        return False
    if word.casefold() in _ABBREVIATIONS:
        return True
    if word.isdigit():
        return len(word) <= 2 and (words["before"] or "").casefold() in _BEFORE_ORDINALS
    parts = word.split(".")
    return all(len(part) == 1 and part.isalpha() for part in parts)
