"""Text layers that hold other characters than the page shows."""

import re
import unicodedata
from collections import Counter

from mlx_ragtune.papers.plain_text import is_control

MOST_SYMBOLS = 0.10
"""A text layer with a larger share of symbols is not what is printed."""
LEAST_LETTERS = 500
"""Letters are only judged in a text with so many Latin ones or more."""
LEAST_COMMON = 0.4
"""The eight letters are more than half of a text in any European language."""
_SYMBOL_BLOCKS = (
    (0x2300, 0x23FF),
    (0x2440, 0x24FF),
    (0x2500, 0x27BF),
    (0x2B00, 0x2BFF),
    (0xE000, 0xF8FF),
    (0xF0000, 0x10FFFF),
)
LEAST_WORDS = 100
"""Words are only judged where there are so many or more."""
MOST_WITHOUT_VOWEL, MOST_MIXED = 0.15, 0.5
"""Code has names such as ``readRows``, and some words without a vowel, but not that many of both."""
_WORD = re.compile(r"[A-Za-z]{3,}")
_VOWEL = re.compile(r"[aeiouyAEIOUY]")
_CAPITAL_INSIDE = re.compile(r"[a-z][A-Z]")
_COMMON = frozenset("eaionrst")


def _is_symbol(char: str) -> bool:
    code = ord(char)
    return char == "\ufffd" or is_control(char) or any(first <= code <= last for first, last in _SYMBOL_BLOCKS)


def _without_markers(text: str) -> Counter[str]:
    """The characters of a text, with their counts, without words of one symbol, such as ●●●, or of shapes only.

    They are the points of a plot, of which one page can hold more than a paper has letters.
    """
    counts = Counter[str]()
    for word, count in Counter(text.split()).items():
        characters = set(word)
        alone = len(characters) == 1 and "\u2300" <= word[0] <= "\u2bff"
        if not alone and not all("\u25a0" <= char <= "\u25ff" for char in characters):
            counts.update({char: count * word.count(char) for char in characters})
    return counts


def _symbol_share(counts: Counter[str]) -> float:
    return sum(count for char, count in counts.items() if _is_symbol(char)) / max(1, counts.total())


def is_scrambled(text: str) -> bool:
    """Whether the text is not what the page shows.

    That is so with many symbols in words, with few letters and digits, or when the letters that are common in every
    language are rare among many Latin ones (a font whose codes are shifted).
    """
    counts = _without_markers(text)
    if _symbol_share(counts) > MOST_SYMBOLS:
        return True
    if counts.total() < LEAST_LETTERS:
        return False
    if sum(count for char, count in counts.items() if char.isalnum()) < 0.5 * counts.total():
        return True
    latin = Counter[str]()
    for char, count in counts.items():
        if char.isalpha() and char < "\u0250":
            latin[unicodedata.normalize("NFD", char)[0].casefold()] += count
    common = sum(count for char, count in latin.items() if char in _COMMON)
    return latin.total() >= LEAST_LETTERS and (common < LEAST_COMMON * latin.total() or _has_no_words(text))


def _has_no_words(text: str) -> bool:
    """Whether many words have no vowel, and many a capital after a small letter, as when codes stand for others."""
    bare = "".join(char for char in unicodedata.normalize("NFD", text) if not unicodedata.combining(char))
    words = [word for word in _WORD.findall(bare) if not word.isupper()]
    if len(words) < LEAST_WORDS:
        return False
    without_vowel = sum(not _VOWEL.search(word) for word in words)
    mixed = sum(_CAPITAL_INSIDE.search(word) is not None for word in words)
    return without_vowel > MOST_WITHOUT_VOWEL * len(words) and mixed > MOST_MIXED * len(words)
