"""Where an anchor stands in a text: words by spelling, numbers by value.

An alias without digits is found as a phrase. An alias with digits is found where the same words stand around equal
values: ``48GB`` in "48,000 MB", ``0.37 bits`` in "0.370 bits", ``GPT-4`` in "GPT4"; not ``0.5`` in "-0.5", not ``12``
in "2012", not ``4`` in "GPT-4".
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from mlx_ragtune.scoring.answers.normalize import find_phrase, fold
from mlx_ragtune.scoring.answers.notation import uses_decimal_comma
from mlx_ragtune.scoring.answers.units import HARD, Reading, dimension, same
from mlx_ragtune.scoring.answers.values import PLAIN, Token, tokens_of

_SHARE = re.compile(
    r"%|\bper ?cent\b|\b(?:share|fraction|proportion|rate|accuracy|probability|precision|recall|f1|cases|agree\w*"
    r"|percentage)\b"
)
_PARAMETERS = frozenset(
    re.findall(
        r"\w+",
        "temperature alpha beta gamma lambda mu sigma epsilon eta tau version threshold correlation kappa p r rho rank "
        "dropout decay momentum ratio",
    )
)
"""A decimal fraction after one of these is not a percentage: "a temperature of 0.5" is not 50%."""


def states_share(text: str) -> bool:
    """Whether a folded text is about percentages or shares, so that 0.95 may stand for 95%."""
    return bool(_SHARE.search(text))


def _percent_as_fraction(percent: Fraction, fraction: Reading) -> bool:
    return fraction[1] == "" and 0 < abs(fraction[0]) < 1 and percent == fraction[0] * 100


def _agree(anchor: Reading, reading: Reading, *, share: bool, decimal: bool) -> bool:
    if same(anchor, reading):
        return True
    if anchor[1] == "":
        if reading[1] == "%" and share and _percent_as_fraction(reading[0], anchor):
            return True
        return bool(reading[1]) and dimension(reading[1]) not in HARD and anchor[0] == reading[0]
    return anchor[1] == "%" and decimal and _percent_as_fraction(anchor[0], reading)


def _equal(anchor: Token, tokens: Sequence[Token], position: int, *, share: bool, alone: bool) -> bool:
    """Whether the number at ``position`` has a value of the anchor's number."""
    token = tokens[position]
    units = [suffix for suffix in anchor.suffixes if suffix != PLAIN]
    if units:
        anchor = replace(anchor, suffixes=tuple(units))
    if alone and not anchor.named:
        if token.named == "glued" or (token.named == "hyphen" and token.suffixes == (PLAIN,)):
            return False
        if anchor.number == 1 and anchor.suffixes == (PLAIN,) and anchor.spelled != token.spelled:
            return False
    before = {item.text for item in tokens[max(0, position - 2) : position]}
    decimal = token.decimal and not before & _PARAMETERS
    return any(
        _agree(expected, reading, share=share, decimal=decimal)
        for expected in anchor.readings
        for reading in token.readings
    )


def _same_word(expected: str, word: str, *, last: bool) -> bool:
    if expected == word:
        return True
    return last and expected[-1:].isalpha() and word in (f"{expected}s", f"{expected}es")


def _find_values(tokens: Sequence[Token], anchor: Sequence[Token], *, share: bool) -> list[tuple[int, int]]:
    size, spans = len(anchor), []
    for first in range(len(tokens) - size + 1):
        for offset, expected in enumerate(anchor):
            token = tokens[first + offset]
            if expected.number is None:
                if token.number is not None or not _same_word(expected.text, token.text, last=offset == size - 1):
                    break
            elif token.number is None or not _equal(expected, tokens, first + offset, share=share, alone=offset == 0):
                break
        else:
            spans.append((tokens[first].start, tokens[first + size - 1].end))
    return spans


class AnchorText:
    """A folded text in which anchors are found; ``like`` tells the number notation where the text itself does not."""

    def __init__(self, folded: str, *, like: str = "") -> None:
        self.folded = folded
        self.decimal_comma = bool(_first_known(uses_decimal_comma(folded), uses_decimal_comma(like)))
        self.tokens = tokens_of(folded, decimal_comma=self.decimal_comma)

    def find(self, alias: str, *, share: bool = False) -> list[tuple[int, int]]:
        """Spans of an alias in the folded text, in order."""
        folded = fold(alias)
        spans: list[tuple[int, int]] = []
        anchor = tokens_of(folded, decimal_comma=self.decimal_comma)
        if not any(token.number is not None and not token.spelled for token in anchor):
            spans = find_phrase(self.folded, alias)
        if any(token.number is not None for token in anchor):
            spans = sorted({*spans, *_find_values(self.tokens, anchor, share=share)})
        return spans

    def has_any(self, aliases: tuple[str, ...]) -> bool:
        """Whether one of the aliases occurs."""
        share = any(states_share(fold(alias)) for alias in aliases)
        return any(self.find(alias, share=share) for alias in aliases)


def _first_known(*values: bool | None) -> bool | None:
    return next((value for value in values if value is not None), None)
