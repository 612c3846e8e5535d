"""Words that are broken at the end of a line become whole again, by the words of the document itself."""

import itertools
import re

from mlx_ragtune.papers.pdf_glyphs import SOFT_HYPHEN

PAGE_BREAK = "\f"
_BROKEN = re.compile(rf"(\w+)(?:-|{SOFT_HYPHEN})(\s*[\n{PAGE_BREAK}]\s*)(\w+)(\S*)")
_PRINTED = re.compile(r"\w+(?:-\w+)+")
_WORD = re.compile(r"\w+")


class Words:
    """The words of a document and those that it prints with a hyphen inside a line, without regard to case."""

    def __init__(self, text: str) -> None:
        whole = _BROKEN.sub(" ", text).casefold()
        self.hyphenated = {part for word in _PRINTED.findall(whole) for part in _pairs(word)}
        self.words = set(_WORD.findall(whole))

    def join(self, first: str, second: str) -> str:
        """The word of which a line ends with ``first-`` and the next one begins with ``second``.

        Whole if it occurs elsewhere. Otherwise it keeps its hyphen if it occurs with it, if both halves are words
        of the document, or if one of them is a number, a single letter or a name; else it is whole.
        """
        whole, apart = (first + second).casefold(), f"{first}-{second}".casefold()
        if whole in self.words:
            return first + second
        keeps = (
            apart in self.hyphenated
            or (first.casefold() in self.words and second.casefold() in self.words)
            or not (first + second).isalpha()
            or len(first) == 1
            or (second[0].isupper() and not first.isupper())
        )
        return f"{first}-{second}" if keeps else first + second


def _pairs(word: str) -> list[str]:
    """Each pair of neighbors in a word with hyphens: state-of, of-the, the-art."""
    parts = word.split("-")
    return [f"{first}-{second}" for first, second in itertools.pairwise(parts)]


def join_hyphens(text: str) -> str:
    """``text`` without the hyphens that only a line's end made; the break moves behind the word."""
    words = Words(text)

    def joined(match: re.Match[str]) -> str:
        return words.join(match[1], match[3]) + match[4] + match[2]

    while (joined_once := _BROKEN.sub(joined, text)) != text:  # a word may be broken twice
        text = joined_once
    return re.sub(rf"{SOFT_HYPHEN}(?=\s)", "-", text).replace(SOFT_HYPHEN, "")
