"""Headings become sections that cover a text from its first character to its last."""

import re
from collections.abc import Iterable, Iterator

from mlx_ragtune.records import Section

_NAMED = (
    r"abstract|introduction|background|related works?|preliminaries|methods?|methodology|approach|experiments?"
    r"|experimental (?:setup|settings|results)|evaluation|results|results and discussion|analysis|discussion"
    r"|ablations?|ablation stud(?:y|ies)|limitations?|conclusions?|conclusions? and future work|future work"
    r"|ethics statement|broader impacts?|acknowledge?ments?"
)
_UNNUMBERED = re.compile(rf"(?:{_NAMED})", re.IGNORECASE)
_NUMBERED = re.compile(r"(\d{1,2}(?:\.\d{1,2}){0,3})\.?\s+(\S.{1,90})")
_APPENDIX = re.compile(
    r"(?i:appendix\s+)?([A-Z])[.:]?\s+[A-Z][^\d,.;]{2,80}|(?i:appendix)(?:[.:]?\s+[A-Z][^\d,.;]*)?|(?i:appendices)"
)
_REFERENCES = re.compile(r"(?:\d{1,2}\.?\s+)?(?:references|bibliography|works cited|literature cited)", re.IGNORECASE)


def cover(marks: Iterable[tuple[str, int]], length: int) -> tuple[Section, ...]:
    """A section from each mark (title, start) to the next, and an untitled one before the first mark.

    Empty sections are left out. The others cover ``[0, length)`` without gap or overlap.
    """
    starts = [("", 0), *marks]
    ends = [start for _, start in starts[1:]] + [length]
    return tuple(Section(title, start, end) for (title, start), end in zip(starts, ends, strict=True) if end > start)


def is_references(line: str) -> bool:
    """Whether the line is the heading of a list of references."""
    return _REFERENCES.fullmatch(line.strip()) is not None


def is_named(line: str) -> bool:
    """Whether the line is a usual name of a section, such as Abstract or Related Work."""
    text = line.strip()
    return text[:1].isupper() and _UNNUMBERED.fullmatch(text) is not None


def headings(lines: Iterable[str]) -> Iterator[int]:
    """Indices of the lines that are headings of a printed paper.

    A numbered line counts only when its number follows that of the heading before it (3 or 2.1 after 2),
    since table rows and list items start with numbers too. Unnumbered headings are known by their usual names.
    Below the references, ``A Proofs`` and ``B Data`` are headings of appendices, in their order.
    """
    last: tuple[int, ...] = (0,)
    letter = ""
    for index, line in enumerate(lines):
        text = line.strip()
        if is_references(text):
            letter = "A"
        appendix = _APPENDIX.fullmatch(text) if letter else None
        if appendix and appendix[1] in (None, letter):
            letter = chr(ord(letter) + 1)
            yield index
            continue
        if is_named(text):
            yield index
            continue
        match = _NUMBERED.fullmatch(text)
        if not match or not _is_heading_text(match[2]):
            continue
        number = tuple(int(part) for part in match[1].split("."))
        if _follows(number, last):
            last = number
            yield index


def _is_heading_text(text: str) -> bool:
    words = text.split()
    letters = sum(char.isalpha() for char in text)
    return (
        text[0].isupper()
        and len(words) <= 12
        and letters >= 0.6 * len(text.replace(" ", ""))
        and not text.endswith((".", ",", ";"))
    )


def _follows(number: tuple[int, ...], last: tuple[int, ...]) -> bool:
    """2.1 after 2; 2.2 after 2.1 or 2.1.3; 3 after anything in 2."""
    if number == (*last, 1):
        return True
    depth = len(number)
    return depth <= len(last) and number[:-1] == last[: depth - 1] and number[-1] == last[depth - 1] + 1
