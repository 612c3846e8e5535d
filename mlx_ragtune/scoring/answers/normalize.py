"""Text normalization shared by all metrics, so that spelling never decides a comparison.

Both sides of every match are folded: case, dashes, thousands separators, ``per cent`` and ``%``, ``48 GB``
and ``48GB``, ``65 billion`` and ``65B``, ``-ise`` and ``-ize`` become the same. Every function here takes
time linear in the length of the text.
"""

import itertools
import re
import unicodedata
from functools import lru_cache

_FOLDS = (
    (re.compile(r"[‐‑‒–—−]"), "-"),
    (re.compile(r"[“”„«»]"), '"'),
    (re.compile(r"[‘’`´]"), "'"),
    (re.compile(r"(?<=\d),(?=\d{3}(?!\d))"), ""),
    (re.compile(r"(?<=\w)-(?=\w)"), " "),
    (re.compile(r"(\d)\s*(?:%|per ?cent\b)"), r"\1%"),
    (re.compile(r"(\d) ?(gb|mb|kb|tb|gib|mib)\b"), r"\1\2"),
    (re.compile(r"(\d) ?bits?\b"), r"\1bit"),
    (re.compile(r"(\d) (?:billion|bn)\b"), r"\1b"),
    (re.compile(r"(\d) million\b"), r"\1m"),
    (re.compile(r"(\d) thousand\b"), r"\1k"),
    (re.compile(r"(?<=\w\w)is(?=(?:e|ed|es|er|ers|ing|ation|ations)\b)"), "iz"),
    (re.compile(r"[ \t\r\f\v]+"), " "),
)
# Han characters and hiragana are written without spaces; each counts as a word.
_SINGLE = r"\u3041-\u3096\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_SINGLE}]|[^\W{_SINGLE}]+(?:['’.+-][^\W{_SINGLE}]+)*\+*")
_ABBREVIATIONS = (
    *("al", r"e\.g", r"i\.e", "vs", "cf", "vgl", "bzw", "ca", "[Nn]r", "[Aa]bb", "[Ff]ig"),
    *(r"z\.[Bb]", r"z\. [Bb]", r"d\.h", r"d\. h", r"p\. ex"),
)
_SENTENCE_END = re.compile(
    "".join(rf"(?<!\b{abbreviation})" for abbreviation in _ABBREVIATIONS)
    + r"[.!?](?!\s+[Bh]\.)[\"')\]”]*\s+|[。！？｡][\"'」』”’）)]*\s*"
    rf"|(?<=[{_SINGLE}])[!?][\"'」』”’)]*\s*|\n+"
)


SHORT_CHARACTERS = 500
"""Texts up to this length (titles, phrases) stay in a large cache; longer ones (answers) in a small one."""


def fold(text: str) -> str:
    """``text`` in the form in which all comparisons are made; lines are kept."""
    return _fold_short(text) if len(text) <= SHORT_CHARACTERS else _fold_long(text)


@lru_cache(maxsize=4096)
def _fold_short(text: str) -> str:
    return _fold(text)


@lru_cache(maxsize=8)
def _fold_long(text: str) -> str:
    return _fold(text)


def _fold(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    for pattern, replacement in _FOLDS:
        folded = pattern.sub(replacement, folded)
    return folded.strip()


def words(text: str) -> list[str]:
    """The words of ``text``: runs of letters and digits, joined by inner apostrophes, hyphens, points or pluses.

    In Chinese and Japanese each Han character and each hiragana is a word.
    """
    return _WORD.findall(unicodedata.normalize("NFC", text))


def sentences(text: str) -> list[str]:
    """``text`` split after sentence ends and at line ends, without empty parts."""
    cuts = [0, *(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]
    parts = (text[start:end].strip() for start, end in itertools.pairwise(cuts))
    return [part for part in parts if part]


@lru_cache(maxsize=4096)
def _pattern(phrase: str) -> re.Pattern[str]:
    folded = fold(phrase)
    body = r"\s+".join(re.escape(part) for part in folded.split())
    plural = r"(?:e?s)?" if folded[-1:].isalpha() else ""
    after = r"(?![\w+])" if folded[-1:].isalpha() else r"(?!\w)"
    return re.compile(rf"(?<!\w)(?<!\d[.,]){body}{plural}{after}(?!\.\d)")


def find_phrase(folded: str, phrase: str) -> list[tuple[int, int]]:
    """Spans ``(start, end)`` of ``phrase`` in an already folded text, at word boundaries; a plural ending may follow.

    ``4`` is not found in ``45``, ``4.5`` or ``4bit``; ``LoRA`` is not found in ``QLoRA`` or ``LoRA+``.
    A phrase that folds to nothing has no spans.
    """
    if not fold(phrase):
        return []
    return [match.span() for match in _pattern(phrase).finditer(folded)]


def has_any(folded: str, aliases: tuple[str, ...]) -> bool:
    """Whether one of the aliases occurs in an already folded text."""
    return any(find_phrase(folded, alias) for alias in aliases)
