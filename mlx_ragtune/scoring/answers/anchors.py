"""Where an anchor stands in a text: words by spelling, numbers by value.

An alias without digits is found as a phrase. An alias with digits is found where the same words stand around equal
values: ``48GB`` in "48,000 MB", ``0.37 bits`` in "0.370 bits", ``GPT-4`` in "GPT4"; not ``0.5`` in "-0.5", not ``12``
in "2012", not ``4`` in "GPT-4".
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from mlx_ragtune.scoring.answers.normalize import find_phrase, fold
from mlx_ragtune.scoring.answers.notation import uses_decimal_comma
from mlx_ragtune.scoring.answers.units import HARD, Reading, dimension, same
from mlx_ragtune.scoring.answers.values import PLAIN, Token, tokens_of

_CONTRACTED = re.compile(
    r"\b(do|does|did|is|are|was|were|ca|wo|would|could|should|has|have|had|need)n't\b|\b(can)not\b"
)
_IRREGULAR = {"ca": "can", "wo": "will", None: "can"}
_SHARE = re.compile(
    r"%|\bper ?cent\b|\b(?:share|fraction|proportion|rate|accuracy|probability|precision|recall|f1|cases|agree\w*"
    r"|percentage|half|thirds?|quarters?)\b"
)
_MORE = r"(?:(?:more|greater|larger|higher|longer) than|above|over|at least)"
_LESS = r"(?:(?:less|fewer|smaller|lower|shorter) than|below|under|at most|up to)"
_LIMIT_WORDS = re.compile(rf"\b(?:{_MORE}|{_LESS}) (?=[$€£]?\d)")
_BOUND = re.compile(
    r"(?P<not>\b(?:no|not|never|nicht|pas) (?:\w+ ){0,3}?)?"
    rf"(?:(?P<more>\b(?:{_MORE}|exceed(?:s|ed|ing)?|mehr als|mindestens|über|plus de|au moins)|(?<![-=])>|≥"
    r"|超过|多于|大于|至少)"
    rf"|(?P<less>\b(?:{_LESS}|weniger als|höchstens|unter|moins de|au plus)|<|≤|不到|少于|小于|至多)|=) ?[$€£]?$"
)
BOUND_CHARACTERS = 50
_LINKS = frozenset(("=", ":", "of", "is", "equals"))
_PARAMETERS = frozenset(
    re.findall(
        r"\w+",
        "temperature alpha beta gamma lambda mu sigma epsilon eta tau version threshold correlation kappa p r rho rank "
        "dropout decay momentum ratio",
    )
)
"""A decimal fraction after one of these is not a percentage: "a temperature of 0.5" is not 50%."""


@dataclass(frozen=True)
class _Meaning:
    """What numbers of an anchor mean: shares, so that 0.95 may stand for 95%, or quantities that the fact gives a unit.

    ``units`` maps a number without a unit to those that it has in the nugget's text.
    """

    share: bool = False
    units: tuple[tuple[Fraction, str], ...] = ()


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


def _equal(
    anchor: Token, tokens: Sequence[Token], position: int, *, meaning: _Meaning, leading: bool, alone: bool
) -> bool:
    """Whether the number at ``position`` has a value of the anchor's number, its first token or the only one."""
    token = tokens[position]
    if leading and not anchor.named:
        if token.named == "glued" or (token.named == "hyphen" and token.suffixes == (PLAIN,)):
            return False
        if alone and anchor.number == 1 and anchor.suffixes == (PLAIN,) and anchor.spelled != token.spelled:
            return False
    before = {item.text for item in tokens[max(0, position - 2) : position]}
    decimal = token.decimal and not before & _PARAMETERS
    pairs = zip(anchor.suffixes, anchor.readings, strict=True)
    expected = [reading for suffix, reading in pairs if suffix != PLAIN] or list(anchor.readings)
    known = [quantity for quantity in meaning.units if quantity[0] == expected[0][0] and not expected[0][1]]
    if known and expected[0] in token.readings:
        return True
    return any(
        _agree(wanted, reading, share=meaning.share, decimal=decimal)
        for wanted in known or expected
        for reading in token.readings
    )


def _same_word(expected: str, word: str, *, last: bool, counted: bool) -> bool:
    """Whether two words are the same but for a plural ending; ``counted``: behind a number ("a 12-layer model")."""
    if expected == word or (counted and len(word) > 2 and expected in (f"{word}s", f"{word}es")):
        return True
    return last and expected[-1:].isalpha() and word in (f"{expected}s", f"{expected}es")


def _find_values(tokens: Sequence[Token], anchor: Sequence[Token], meaning: _Meaning) -> list[tuple[int, int]]:
    size, spans = len(anchor), []
    for first in range(len(tokens) - size + 1):
        for offset, expected in enumerate(anchor):
            token = tokens[first + offset]
            if expected.number is None:
                counted = offset > 0 and anchor[offset - 1].number is not None
                if token.number is not None or not _same_word(
                    expected.text, token.text, last=offset == size - 1, counted=counted
                ):
                    break
            elif token.number is None or not _equal(
                expected, tokens, first + offset, meaning=meaning, leading=offset == 0, alone=size == 1
            ):
                break
        else:
            spans.append((tokens[first].start, tokens[first + size - 1].end))
    return spans


def _bound(text: str, start: int) -> str:
    """What stands before the number at ``start``: "<" or ">" of a limit ("more than 48 GB"), "=", or ""."""
    match = _BOUND.search(text[max(0, start - BOUND_CHARACTERS) : start])
    if match is None:
        return ""
    if not (match["more"] or match["less"]):
        return "="
    return ">" if bool(match["more"]) != bool(match["not"]) else "<"


def _without_links(tokens: Sequence[Token]) -> list[Token]:
    """The tokens with "β = 0.9", "a β of 0.9" and "β is equal to 0.9" all as "β 0.9"."""
    kept: list[Token] = []
    for token in tokens:
        if token.number is not None and kept:
            if [item.text for item in kept[-2:]] == ["equal", "to"]:
                del kept[-2:]
            if len(kept) > 1 and kept[-1].text in _LINKS and kept[-2].number is None and kept[-2].text.isalpha():
                kept.pop()
        kept.append(token)
    return kept


def spelled_out(folded: str) -> str:
    """A folded text with "not" in place of its contraction: "aren't" becomes "are not", "can't" "can not"."""
    return _CONTRACTED.sub(lambda match: f"{_IRREGULAR.get(match[1], match[1])} not", folded)


class AnchorText:
    """A folded text in which anchors are found; ``like`` tells the number notation where the text itself does not."""

    def __init__(self, folded: str, *, like: str = "") -> None:
        self.folded = folded = spelled_out(folded)
        notation = uses_decimal_comma(folded)
        self.decimal_comma = bool(uses_decimal_comma(like) if notation is None else notation)
        self.tokens = self._tokens_of(folded)

    def find(self, aliases: Iterable[str], *, fact: "AnchorText | None" = None) -> list[tuple[int, int]]:
        """Spans of an anchor's aliases in the folded text, in order; ``fact`` is the nugget's text."""
        texts = [spelled_out(fold(alias)) for alias in aliases]
        share = any(_SHARE.search(text) for text in (*texts, fact.folded if fact else ""))
        units = () if fact is None else fact.quantities
        spans = {span for text in texts for span in self._find_limited(text, _Meaning(share, units), fact)}
        return sorted(spans)

    def _find_limited(self, alias: str, meaning: _Meaning, fact: "AnchorText | None") -> list[tuple[int, int]]:
        """Spans of an alias where its number is no other limit; "less than 1%" is also found as "<1%"."""
        allowed = self._allowed_limits(alias, fact)
        spans = [span for span in self._find(alias, meaning) if not allowed or self._limit(span) in allowed]
        if limit := _LIMIT_WORDS.search(alias):
            bare = alias[: limit.start()] + alias[limit.end() :]
            spans += [span for span in self._find(bare, meaning) if self._limit(span) == _bound(alias, limit.end())]
        return spans

    def _allowed_limits(self, alias: str, fact: "AnchorText | None") -> set[str]:
        """What may stand before the number of an alias, by the alias or else by the fact; empty for anything."""
        number = next((token for token in self._tokens_of(alias) if token.readings), None)
        if number is None:
            return set()
        if limit := _bound(alias, number.start):
            return {"", limit}
        same_numbers = [token for token in (fact.tokens if fact else ()) if token.number == number.number]
        limits = {_bound(fact.folded, token.start) for token in same_numbers if fact}
        return set() if "" in limits or not limits else {"", "=", *limits}

    def _limit(self, span: tuple[int, int]) -> str:
        """What stands before the first number at the span."""
        for index in range(max(0, self._index(span[0])), len(self.tokens)):
            if self.tokens[index].readings:
                return _bound(self.folded, self.tokens[index].start)
        return ""

    def _tokens_of(self, folded: str) -> Sequence[Token]:
        return _without_links(tokens_of(folded, decimal_comma=self.decimal_comma))

    @property
    def quantities(self) -> tuple[Reading, ...]:
        """The numbers of the text that have a unit."""
        return tuple(reading for token in self.tokens for reading in token.readings if reading[1])

    def _find(self, alias: str, meaning: _Meaning) -> list[tuple[int, int]]:
        anchor = self._tokens_of(alias)
        spans: list[tuple[int, int]] = []
        if not any(token.number is not None and not token.spelled for token in anchor):
            spans = find_phrase(self.folded, alias)
        if any(token.number is not None for token in anchor):
            spans = [span for span in spans if not self._cuts_number(span)]
            spans += _find_values(self.tokens, anchor, meaning)
        return spans

    def _cuts_number(self, span: tuple[int, int]) -> bool:
        """Whether a number reaches beyond the span: "eight" in "twenty-eight" or in "eight thousand"."""
        return any(
            token.number is not None and edge < token.end and (token.start < span[0] or token.end > span[1])
            for edge in (span[0], span[1] - 1)
            for token in self.tokens[max(0, self._index(edge)) : self._index(edge) + 1]
        )

    def _index(self, position: int) -> int:
        return bisect_right(self.tokens, position, key=lambda token: token.start) - 1
