"""The marks that print leaves in a text layer: hyphens, running heads, line breaks; undone on plain strings.

A document travels through here as a list of pages, each a list of lines; only words are kept, and every
line that is taken out is returned.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from mlx_ragtune.papers.sections import headings, is_references

Page = list[str]
PAGE_BREAK = "\f"
EDGE = 2
"""How many lines at the top and at the bottom of a page may be running heads or feet."""

_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"})
_BROKEN = re.compile("(\\w+)(?:[\u0002\ufffe\u00ad]|-(?=\\s*\f))(\\s*)(\\w+)")
_FOOT_AFTER_HYPHEN = re.compile("[\u0002\ufffe\u00ad](\\d{1,4}\\s*)\\Z")
"""The hyphen mark swallows the line break: a page number below a broken word would be its second half."""
_MARKS = re.compile("[\u0002\ufffe\u00ad]")


def lines_of(raw: str) -> Page:
    """The lines of a page that hold something; ligatures spelt out, control characters out, NFC."""
    text = raw.replace("\r\n", "\n").replace("\r", "\n").translate(_LIGATURES)
    text = _FOOT_AFTER_HYPHEN.sub("-\n\\1", text)
    text = "".join(char for char in text if char in "\n\t\u0002" or unicodedata.category(char) not in ("Cc", "Cs"))
    lines = (re.sub(r"[^\S\n]+", " ", line).strip() for line in unicodedata.normalize("NFC", text).split("\n"))
    return [line for line in lines if line]


def _pattern(line: str) -> str:
    return re.sub(r"\d+", "#", line)


def take_running(pages: Sequence[Page]) -> tuple[list[Page], list[list[str]]]:
    """The pages without their running heads and feet, and what was taken from each.

    A running line stands, digits aside, at the same edge of two pages in five or more (heads of left and
    right pages differ), and of two pages at least. Only what stands at an edge is taken: the same line
    within a page stays.
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
    """Words broken at a line's end are whole where the whole word occurs elsewhere; else the hyphen stays.

    A page break (form feed) within a word moves behind it.
    """
    known = {word.casefold() for word in re.findall(r"\w+", text)}

    def joined(match: re.Match[str]) -> str:
        whole = match[1] + match[3]
        word = whole if whole.casefold() in known else f"{match[1]}-{match[3]}"
        return word + (PAGE_BREAK if PAGE_BREAK in match[2] else "")

    while (once := _BROKEN.sub(joined, text)) != text:  # a chain: state-of-the-art over three lines
        text = once
    return _MARKS.sub("-", text)


def unwrap(lines: Page) -> Page:
    """Paragraphs: a line goes on in the next one when it is nearly full, or the next begins in lower case.

    Headings stand alone. Only line breaks change, so that a chunk need not end in mid-sentence.
    """
    alone = set(headings(lines)) | {at for at, line in enumerate(lines) if is_references(line)}
    lengths = sorted(map(len, lines))
    full = 0.75 * lengths[int(0.9 * (len(lengths) - 1))] if lengths else 0
    paragraphs: Page = []
    for at, line in enumerate(lines):
        goes_on = (
            at > 0 and not {at - 1, at} & alone and (line[0].islower() or (len(lines[at - 1]) >= full and full >= 30))
        )
        if goes_on:
            paragraphs[-1] += " " + line
        else:
            paragraphs.append(line)
    return paragraphs
