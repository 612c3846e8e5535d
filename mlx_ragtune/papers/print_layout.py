"""Undoes what printing adds to a text layer: hyphens, running heads, line breaks. Works on plain strings.

A document is a list of pages, and a page is a list of lines. Every line that is removed is returned.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from mlx_ragtune.papers.plain_text import is_control
from mlx_ragtune.papers.sections import headings, is_references

Page = list[str]
PAGE_BREAK = "\f"
EDGE = 2
"""How many lines at the top and at the bottom of a page can be running heads or feet."""

_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"})
_BROKEN = re.compile("(\\w+)(?:[\u0002\ufffe\u00ad]|-(?=\\s*\f))(\\s*)(\\w+)")
_FOOT_AFTER_HYPHEN = re.compile("[\u0002\ufffe\u00ad](\\d{1,4}\\s*)\\Z")
"""The hyphen mark replaces the line break, so a page number below a broken word looks like its second half."""
_MARKS = re.compile("[\u0002\ufffe\u00ad]")


def _is_dropped(char: str) -> bool:
    return char not in "\r\u0002" and is_control(char)


def dropped_characters(raw: str) -> Counter[str]:
    """The control characters that ``lines_of`` removes from a page, with their counts."""
    return Counter(char for char in raw if _is_dropped(char))


def lines_of(raw: str) -> Page:
    """The lines of a page that are not blank, in NFC, with ligatures as letters and without control characters."""
    text = raw.replace("\r\n", "\n").replace("\r", "\n").translate(_LIGATURES)
    text = _FOOT_AFTER_HYPHEN.sub("-\n\\1", text)
    text = "".join(char for char in text if not _is_dropped(char))
    lines = (re.sub(r"[^\S\n]+", " ", line).strip() for line in unicodedata.normalize("NFC", text).split("\n"))
    return [line for line in lines if line]


def _pattern(line: str) -> str:
    return re.sub(r"\d+", "#", line)


def take_running(pages: Sequence[Page]) -> tuple[list[Page], list[list[str]]]:
    """The pages without their running heads and feet, and the lines that were removed from each.

    A running line is at the same edge of at least two pages in five (heads of left and right pages
    differ), and of at least two pages; digits may differ. The same line inside a page is kept.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for page in pages:
        counts.update({("head", _pattern(line)) for line in page[:EDGE]})
        counts.update({("foot", _pattern(line)) for line in page[-EDGE:]})
    least = max(2.0, 0.4 * len(pages))
    running = {key for key, count in counts.items() if count >= least}
    kept, taken = [], []
    for page in pages:
        start, end = 0, len(page)
        while start < min(EDGE, len(page)) and ("head", _pattern(page[start])) in running:
            start += 1
        while end > max(start, len(page) - EDGE) and ("foot", _pattern(page[end - 1])) in running:
            end -= 1
        kept.append(page[start:end])
        taken.append(page[:start] + page[end:])
    return kept, taken


def join_hyphens(text: str) -> str:
    """``text`` with words broken at a line's end joined where the whole word occurs elsewhere.

    Other words keep the hyphen. A page break (form feed) inside a word moves behind it.
    """
    known = {word.casefold() for word in re.findall(r"\w+", text)}

    def joined(match: re.Match[str]) -> str:
        whole = match[1] + match[3]
        word = whole if whole.casefold() in known else f"{match[1]}-{match[3]}"
        return word + (PAGE_BREAK if PAGE_BREAK in match[2] else "")

    while (joined_once := _BROKEN.sub(joined, text)) != text:  # a chain such as state-of-the-art
        text = joined_once
    return _MARKS.sub("-", text)


def unwrap(lines: Page) -> Page:
    """Paragraphs: a line continues in the next one when it is nearly full, or the next starts in lower case.

    Headings stay on their own. Only line breaks change, so that chunks can end at a sentence.
    """
    alone = set(headings(lines)) | {index for index, line in enumerate(lines) if is_references(line)}
    lengths = sorted(map(len, lines))
    full = 0.75 * lengths[int(0.9 * (len(lengths) - 1))] if lengths else 0
    paragraphs: Page = []
    for index, line in enumerate(lines):
        continues = (
            index > 0
            and not {index - 1, index} & alone
            and (line[0].islower() or (len(lines[index - 1]) >= full and full >= 30))
        )
        if continues:
            paragraphs[-1] += " " + line
        else:
            paragraphs.append(line)
    return paragraphs
