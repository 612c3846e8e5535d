"""How many tokens a text has: by the ``tokenizer.json`` of a model, or estimated where there is none."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Ends = NDArray[np.int64]
ENCODED_AT_ONCE = 20_000
"""In characters. Longer texts are encoded in parts, since the library takes 100 bytes and more for each token."""
UNKNOWN_CHARACTERS = 64
"""A longer token is a word that the tokenizer does not know, and counts as one for every 16 characters."""
_PER_UNKNOWN = 16


class TokenCounter(Protocol):
    """Counts tokens, without those that a model adds around a text."""

    def ends(self, text: str, /) -> Ends:
        """``(N,)`` int64: where each of the N tokens ends, as ascending character offsets."""


class TokenizerFile:
    """Counts with a ``tokenizer.json``. Raises ValueError for a file that is not one."""

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer

        try:
            self._tokenizer: Any = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise ValueError(str(error)) from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def ends(self, text: str, /) -> Ends:
        """As ``TokenCounter.ends``."""
        found = []
        for start, end in _parts(text):
            encoding = self._tokenizer.encode(text[start:end], add_special_tokens=False)
            offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
            ends = np.maximum.accumulate(offsets[:, 1]) if len(offsets) else offsets[:, 1]
            found.append(_known(np.diff(ends, prepend=0), ends) + start)
        return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def _known(lengths: NDArray[np.int64], ends: Ends) -> Ends:
    """The ends, with more of them inside tokens of more than UNKNOWN_CHARACTERS."""
    long = np.flatnonzero(lengths > UNKNOWN_CHARACTERS)
    if not len(long):
        return ends
    more = [np.arange(ends[at] - lengths[at] + _PER_UNKNOWN, ends[at], _PER_UNKNOWN) for at in long]
    return np.sort(np.concatenate([ends, *more]))


def _parts(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of parts of at most ENCODED_AT_ONCE characters, which begin at white space where there is some."""
    start = 0
    while start < len(text):
        end = min(start + ENCODED_AT_ONCE, len(text))
        if end < len(text):
            cut = max(text.rfind(" ", start + 1, end), text.rfind("\n", start + 1, end))
            end = cut if cut > start else end
        yield start, end
        start = end


class Estimate:
    """Counts without a tokenizer: what byte-level BPE tokenizers of 50,000 to 150,000 tokens make of scientific text.

    A word is a token, and one more for each LETTERS letters beyond the first; a digit, a sign, an ideograph and
    a letter of a script without case are one each. ``benchmarks/reading.py --tokens`` compares it with a tokenizer.
    """

    LETTERS = 7
    _TOKEN = re.compile(
        r"[^\S\n]?(?:[A-Za-z\u00aa-\u024f]{1,7}|[^\W\d_\u3005-\U0003ffff]{1,3}|\w|[^\w\s])|\n\s*|[^\S\n]{1,8}"
    )

    def ends(self, text: str, /) -> Ends:
        """As ``TokenCounter.ends``."""
        return np.fromiter((match.end() for match in self._TOKEN.finditer(text)), dtype=np.int64)
