"""Documents become chunks of a limited number of tokens that end where sentences end and never cross a section.

Tables, displayed formulas and code are kept whole like sentences. What is longer than a chunk is cut at its lines,
else at its clauses, else between words, else between characters. What is in no chunk is listed.
"""

import itertools
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mlx_ragtune.papers.dropped import Dropped
from mlx_ragtune.papers.sentences import Unit, units
from mlx_ragtune.papers.token_counts import Estimate, TokenCounter
from mlx_ragtune.records import Chunk, Document, Section

PARAGRAPH_MERIT = 0.5
"""A chunk that ends with a paragraph may differ from the even size by this share more than another."""
_CUTS = (re.compile(r"\n\s*"), re.compile(r"[;:,—、，；：؛،]\s+|[、，；：]"), re.compile(r"\s+"))
"""Where a unit that is longer than a chunk is cut: at line ends, else after clauses, else between words."""


@dataclass(frozen=True)
class Chunking:
    """The longest chunk and the longest overlap of two chunks, in tokens, and what counts them."""

    tokens: int = 512
    overlap: int = 0
    counter: TokenCounter = field(default_factory=Estimate)


@dataclass(frozen=True)
class Chunked:
    """The chunks of a document, the tokens of each, and what is in no chunk."""

    chunks: tuple[Chunk, ...]
    tokens: tuple[int, ...]
    dropped: tuple[Dropped, ...]


def _page(document: Document, offset: int) -> int:
    return max(1, bisect_right(document.page_starts, offset))


def split(document: Document, chunking: Chunking) -> Chunked:
    """The document's chunks in order, with section, page and offsets, and what is in none of them.

    ``chunk.text == document.text[chunk.start:chunk.end]``, which has at most ``chunking.tokens`` tokens, unless one
    character has more. Consecutive chunks of a section share whole sentences of at most ``chunking.overlap`` tokens.
    A heading without text below it is dropped, so that no chunk consists of a heading only.
    """
    chunks: list[Chunk] = []
    sizes: list[int] = []
    dropped: list[Dropped] = []
    for section in document.sections or (Section("", 0, len(document.text)),):
        text = document.text[section.start : section.end]
        body = text.strip()
        if not body:
            continue
        if section.title and _is_heading_alone(body, section.title):
            dropped.append(Dropped(document.id, _page(document, section.start), "heading without text", body))
            continue
        pages = [start - section.start for start in document.page_starts if section.start < start < section.end]
        for start, end in _Packer(text, chunking).spans(units(text, pages)):
            first, last = section.start + start, section.start + end
            chunks.append(
                Chunk(
                    f"{document.id}:{len(chunks)}",
                    document.id,
                    document.title,
                    section.title,
                    _page(document, first),
                    first,
                    last,
                    document.text[first:last],
                )
            )
            sizes.append(len(chunking.counter.ends(chunks[-1].text)))
    return Chunked(tuple(chunks), tuple(sizes), tuple(dropped))


def _is_heading_alone(body: str, title: str) -> bool:
    """Whether the body is only the heading, apart from Markdown's marks."""
    body, title = (" ".join(text.split()) for text in (body, title))
    return body == title or body.strip("#=- ") == title.strip("#=- ")


class _Packer:
    """Packs the units of one section into spans of at most so many tokens."""

    def __init__(self, text: str, chunking: Chunking) -> None:
        self._text, self._limit = text, chunking.tokens
        self._overlap = min(chunking.overlap, chunking.tokens // 2)  # the loader refuses more
        self._counter = chunking.counter
        self._ends = chunking.counter.ends(text)

    def _size(self, start: int, end: int) -> int:
        """Tokens of a span as it stands in the section: nearly what it has on its own."""
        return int(self._ends.searchsorted(end, "right") - self._ends.searchsorted(start, "right"))

    def _fits(self, start: int, end: int) -> bool:
        """Whether the span has at most ``limit`` tokens on its own."""
        if end - start <= 1:
            return True
        near = self._size(start, end)
        if near > 1.1 * self._limit + 16:
            return False
        return len(self._counter.ends(self._text[start:end])) <= self._limit

    def spans(self, whole: Sequence[Unit]) -> list[tuple[int, int]]:
        """Spans in order that hold every unit: nearly even, since a last piece of a few words answers nothing."""
        parts = list(self._cut(whole))
        if not parts:
            return []
        wanted = self._least(parts, 0)
        while len(spans := list(self._packed(parts, wanted))) > wanted:
            wanted = len(spans)  # sentences do not fit as evenly as words would
        return spans

    def _least(self, parts: Sequence[Unit], number: int) -> int:
        """How many chunks the parts from ``number`` on need at least."""
        return max(1, -(-self._size(parts[number].start, parts[-1].end) // (self._limit - self._overlap)))

    def _packed(self, parts: Sequence[Unit], wanted: int) -> Iterator[tuple[int, int]]:
        """Spans of about the size that ``wanted`` of them have if they are even."""
        first = number = 0
        while number < len(parts):
            begin = min(first, number)
            while begin < number and not self._fits(parts[begin].start, parts[number].end):
                begin += 1
            left = max(wanted, self._least(parts, number))
            number = self._last(parts, begin, number, left) + 1
            yield parts[begin].start, parts[number - 1].end
            first = self._carried(parts, begin, number)
            wanted -= 1

    def _last(self, parts: Sequence[Unit], begin: int, number: int, left: int) -> int:
        """The last part of a chunk that begins with part ``begin``; it holds part ``number`` at least.

        ``left``: how many chunks should hold the rest, this one included.
        """
        start = parts[begin].start
        even = self._size(start, parts[number].start) + self._size(parts[number].start, parts[-1].end) / left
        chosen, least = number, float("inf")
        for last in range(number, len(parts)):
            size = self._size(start, parts[last].end)
            if size > self._limit or (last > number and size > even * (1 + PARAGRAPH_MERIT)):
                break
            cost = abs(size - even) - (PARAGRAPH_MERIT * even if parts[last].ends_paragraph else 0)
            if cost <= least:
                chosen, least = last, cost
        while chosen > number and not self._fits(start, parts[chosen].end):
            chosen -= 1
        return chosen

    def _carried(self, parts: Sequence[Unit], begin: int, end: int) -> int:
        """The first of the last whole sentences of a chunk that the next one repeats; ``end`` when there are none."""
        first = end
        while (
            first - 1 > begin
            and parts[first - 1].is_sentence
            and self._size(parts[first - 1].start, parts[end - 1].end) <= self._overlap
        ):
            first -= 1
        return first

    def _cut(self, whole: Sequence[Unit]) -> Iterator[Unit]:
        """The units, with those that are longer than a chunk in parts, which no other chunk repeats."""
        for unit in whole:
            if self._fits(unit.start, unit.end):
                yield unit
            else:
                parts = list(self._pieces(unit.start, unit.end, 0))
                for start, end in parts:
                    yield Unit(start, end, False, unit.ends_paragraph and end == parts[-1][1])

    def _pieces(self, start: int, end: int, level: int) -> Iterator[tuple[int, int]]:
        """Spans of at most ``limit`` tokens that hold all of a span but white space, cut as coarsely as possible."""
        if self._fits(start, end):
            yield start, end
            return
        if level == len(_CUTS):
            yield from self._between_characters(start, end)
            return
        cuts = [match.end() for match in _CUTS[level].finditer(self._text, start, end) if match.end() < end]
        held: tuple[int, int] | None = None
        for first, last in itertools.pairwise([start, *cuts, end]):
            piece = self._text[first:last]
            last = first + len(piece.rstrip())
            first += len(piece) - len(piece.lstrip())
            if first >= last:
                continue
            if held and self._size(held[0], last) <= self._limit and self._fits(held[0], last):
                held = held[0], last
                continue
            if held:
                yield from self._pieces(*held, level + 1)
            held = first, last
        if held:
            yield from self._pieces(*held, level + 1)

    def _between_characters(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Spans of at most ``limit`` tokens; a letter keeps its accents."""
        while start < end:
            token = int(self._ends.searchsorted(start, "right")) + self._limit - 1
            last = min(int(self._ends[token]), end) if token < len(self._ends) else end
            while last - start > 1 and not self._fits(start, last):
                last -= max(1, (last - start) // 16)
            while last < end and last - start > 1 and unicodedata.combining(self._text[last]):
                last -= 1
            last = max(last, start + 1)
            yield start, last
            start = last
