"""Names of authors, as title pages and catalogs write them."""

import re
from collections.abc import Iterable

from mlx_ragtune.papers.blocks import one_line

_MARKS = re.compile(r"\^?\{?[\d∗*†‡§¶♠♣♡♢⋆✉]+(?:,[\d∗*†‡§¶♠♣♡♢⋆✉]+)*\}?(?=\s|,|$)|[∗*†‡§¶♠♣♡♢⋆✉]")
_NOT_NAMES = re.compile(
    r"@|\d|\b(?:university|universit\w+|institut\w*|department|dept|school|college|laborator\w+|labs?|research|inc|"
    r"google|microsoft|deepmind|meta ai|openai|corresponding|equal contribution|abstract|user|https?|cent(?:er|re))\b",
    re.IGNORECASE,
)
_SEPARATORS = re.compile(r"\s*(?:,|;|&|\band\b|\bund\b|·|•)\s*")
MOST_WORDS = 6
"""A name of more words is not one."""


def author_names(entries: Iterable[str]) -> tuple[str, ...]:
    """The names in the authors' part of a title page; each entry is one author or several, one or more lines.

    Lines that hold an address, a place or an email are not names.
    """
    names: list[str] = []
    for entry in entries:
        for line in entry.split("\n"):
            line = one_line(_MARKS.sub("", line)).strip(" ,;")
            if _NOT_NAMES.search(line):
                continue
            parts = [name for name in _SEPARATORS.split(line) if name]
            if not all(_is_name(part) for part in parts):
                break  # what follows the names are places
            names += parts
            if names:
                break
    return tuple(dict.fromkeys(names))


def _is_name(text: str) -> bool:
    words = text.split()
    return len(words) <= MOST_WORDS and text[:1].isalpha() and any(word[:1].isupper() for word in words)
