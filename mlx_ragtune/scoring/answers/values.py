"""Folded text as tokens: words, punctuation marks, and numbers with their value, unit and sign.

``48 GB``, ``48,000 MB`` and ``forty-eight gigabytes`` are one quantity; ``1e-4``, ``10^-4`` and ``0.0001`` one number.
A hyphen before a number is a sign ("-0.5"), a range ("0.3-0.5") or part of a name ("GPT-4"). Long texts take time
linear in their length.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Literal

from mlx_ragtune.scoring.answers.normalize import UNSPACED
from mlx_ragtune.scoring.answers.number_words import (
    IDEOGRAPHIC,
    MAX_WORDS,
    REPEATED,
    ideographic_number,
    is_start,
    spelled_number,
)
from mlx_ragtune.scoring.answers.units import SCALES, UNITS, Reading

Suffix = tuple[int, str]
"""What follows a number: a power of ten ("billion") and a unit; (1, "") for neither."""
PLAIN: Suffix = (1, "")


@dataclass(frozen=True, slots=True)
class Token:
    """A word, a punctuation mark or a number at ``[start, end)`` of the folded text.

    A number has at least one reading. ``named``: it belongs to a name, directly ("NF4") or after a hyphen ("GPT-4").
    ``decimal``: written as a decimal fraction. ``spelled``: written in words.
    """

    start: int
    end: int
    text: str
    number: Fraction | None = None
    suffixes: tuple[Suffix, ...] = (PLAIN,)
    named: Literal["", "glued", "hyphen"] = ""
    decimal: bool = False
    spelled: bool = False

    @property
    def readings(self) -> tuple[Reading, ...]:
        """What the number may mean; none for a word."""
        if self.number is None:
            return ()
        return tuple((self.number * scale, unit) for scale, unit in self.suffixes)


MAX_DIGITS = 60
MAX_EXPONENT = 400
"""Longer numbers are words: nobody states a value with them, and exact arithmetic would take long."""

_LETTER = rf"[^\W\d_{UNSPACED}]"
_WORD = rf"(?P<word>{_LETTER}+(?:'{_LETTER}+)*\+*)"
_POINT_NUMBER = (
    r"(?<!\d )(?<![^\W\d_])(?<![^\W\d_]-)[1-9]\d{0,2}(?: \d{3})+(?! ?\d)(?:\.\d+)?|\d+(?:\.\d+)*|(?<!\w)\.\d+"
)
_COMMA_NUMBER = r"[1-9]\d{0,2}(?:[. ]\d{3})+(?![\d.])(?:,\d+)?|\d+,\d+(?!,?\d)|\d+(?:\.\d+)*"
_LEXERS = {
    comma: re.compile(rf"(?P<number>{number})|{_WORD}|(?P<ideographs>{IDEOGRAPHIC.pattern})|(?P<other>\S)")
    for comma, number in ((False, _POINT_NUMBER), (True, _COMMA_NUMBER))
}
_EXPONENT = re.compile(
    rf"e([+-]?\d{{1,4}})(?!\.?\d|{_LETTER}|_)|\s?[x×*·⋅∙]\s?10(?:\s?(?:\^|\*\*)\s?|(?=-))([+-]?\d{{1,4}})(?!\d)"
)
_POWER = re.compile(r"\s?\^\s?([+-]?\d{1,4})(?!\.?\d)")
_AFTER = re.compile(rf"(\s?)({_LETTER}{{1,14}}(?!{_LETTER})|[%‰°$€£][cC]?|[{UNSPACED}]{{1,3}})")
_TWO_WORD_PERCENT = re.compile(r"\s?(?:p(?:er|our) cent|percentage(?= points?\b))\b")
_TIMES = re.compile(rf"\s?[x×](?!\s?\d|{_LETTER})")
_CURRENCY = re.compile(r"(?<![^\W\d_])(?:us)?([$€£]|usd|eur|gbp) ?$")
_NAME_TAIL = re.compile(rf"{_LETTER}+\d\w*")
_WORD_TAIL = re.compile(r"\w+")
_FOLLOWED = re.compile(rf"{_LETTER}|\d|_")

PARAMETERS = frozenset(
    re.findall(
        r"\w+",
        "rank top level layer epoch step bit bits size batch order dimension width depth head year age week day month "
        "seed fold stage phase group score rate length of to from by than about over under near around",
    )
)
"""Words whose hyphenated number is a value ("rank-64"), unlike that of a name ("GPT-4")."""
_SEPARATORS = frozenset({"-", "to", "and", "or", ",", "/", "versus", "vs", "bis", "à", "und", "et", ":", "~"})
_RANGES = frozenset({"to", "bis", "à", ":"})
_BETWEEN = frozenset((("between", "and"), ("zwischen", "und"), ("entre", "et")))
_IGNORED = frozenset("\"'~≈≤≥<>≠")
_AMBIGUOUS = frozenset({"us", "um", "min", "mal", "tag", "an"})


def _scaled(letters: str) -> list[Suffix]:
    suffixes: list[Suffix] = []
    if letters in SCALES:
        suffixes.append((SCALES[letters], ""))
    if letters in UNITS:
        suffixes.append((1, letters))
    return suffixes


def _suffixes(folded: str, end: int) -> tuple[tuple[Suffix, ...], int] | None:
    """The suffixes of the number that ends at ``end`` and where they end; None if letters make it a word ("4o")."""
    if match := _TWO_WORD_PERCENT.match(folded, end):
        return ((1, "%"),), match.end()
    if match := _TIMES.match(folded, end):
        return ((1, "x"),), match.end()
    match = _AFTER.match(folded, end)
    if match is None:
        glued = _FOLLOWED.match(folded, end)
        return None if glued else ((PLAIN,), end)
    spaced, letters = bool(match[1]), match[2]
    if re.match(f"[{UNSPACED}]", letters):
        return _unspaced_suffixes(letters, match.start(2), end)
    suffixes = _scaled(letters)
    if not suffixes or _FOLLOWED.match(folded, match.end()):
        return ((PLAIN,), end) if spaced else None
    stop = match.end()
    following = _AFTER.match(folded, stop) if letters in SCALES else None
    if following and (len(following[2]) > 1 or following[2] in "%€$"):
        unit = UNITS.get(following[2])
        if unit and unit[0] != "times":
            return ((SCALES[letters], following[2]),), following.end()
    if spaced and ((len(letters) == 1 and letters.isalpha()) or letters in _AMBIGUOUS):
        suffixes.append(PLAIN)
    return tuple(suffixes), stop


def _unspaced_suffixes(letters: str, start: int, end: int) -> tuple[tuple[Suffix, ...], int]:
    scale, used = 1, 0
    if letters[0] in SCALES:
        scale, used = SCALES[letters[0]], 1
    for length in range(len(letters), used, -1):
        if letters[used:length] in UNITS:
            return ((scale, letters[used:length]),), start + length
    return ((scale, ""),), start + used if used else end


def _number_value(text: str, comma: bool) -> Fraction | None:
    digits = text.replace(" ", "")
    if comma and ("," in digits or re.fullmatch(r"[1-9]\d{0,2}(?:\.\d{3})+", digits)):
        digits = digits.replace(".", "").replace(",", ".")
    return Fraction(digits) if digits.count(".") <= 1 and len(digits) <= MAX_DIGITS else None


def _raised(folded: str, value: Fraction, end: int) -> tuple[Fraction, int]:
    """The number with the power that follows it: "1e-4", "1 × 10^-4", "10^4"."""
    if match := _EXPONENT.match(folded, end):
        exponent = int(match[1] or match[2])
        if abs(exponent) <= MAX_EXPONENT:
            return value * Fraction(10) ** exponent, match.end()
    elif (match := _POWER.match(folded, end)) and value:
        exponent = int(match[1])
        if abs(exponent) <= MAX_EXPONENT and value.numerator < 10**6 and value.denominator < 10**6:
            return value**exponent, match.end()
    return value, end


def _before(folded: str, start: int, last: str) -> tuple[int, bool, Literal["", "glued", "hyphen"]]:
    """(start with its sign, negative, named) of the number at ``start``; ``last`` is the word before it."""
    previous, earlier = folded[start - 1 : start], folded[max(0, start - 2) : start - 1]
    if re.fullmatch(rf"{_LETTER}|_", previous):
        return start, False, "glued"
    if previous == "-" and re.fullmatch(_LETTER, earlier):
        return start, False, "" if last in PARAMETERS else "hyphen"
    if previous in "-+" and previous and not re.fullmatch(r"[\w)%.\]°-]", earlier):
        return start - 1, previous == "-", ""
    return start, False, ""


def _read_number(folded: str, match: re.Match[str], comma: bool, last: str) -> Token:
    start, end = match.span()
    tail = _NAME_TAIL.match(folded, end)
    if tail and not _EXPONENT.match(folded, end):
        return Token(start, tail.end(), folded[start : tail.end()])
    value = _number_value(match[0], comma)
    if value is None:
        return Token(start, end, match[0])
    start, negative, named = _before(folded, start, last)
    value, end = _raised(folded, value, end)
    suffixes = _suffixes(folded, end)
    if suffixes is None:
        tail = _WORD_TAIL.match(folded, end)
        stop = tail.end() if tail else end
        return Token(start, stop, folded[start:stop])
    decimal = bool(re.search(r"\d[.,]\d|^\.", match[0])) or end > match.end()
    currency = _CURRENCY.search(folded, max(0, start - 4), start)
    if currency:
        start, suffixes = currency.start(), (tuple((scale, currency[1]) for scale, _ in suffixes[0]), suffixes[1])
    text = folded[match.start() : suffixes[1]]
    return Token(start, suffixes[1], text, -value if negative else value, suffixes[0], named, decimal)


def _read_ideographs(folded: str, match: re.Match[str]) -> Token:
    value = ideographic_number(match["whole"], match["decimals"])
    if value is None or (len(match[0]) > MAX_DIGITS):
        return Token(match.start(), match.start() + 1, folded[match.start()])
    suffixes: tuple[Suffix, ...] = ((1, "%"),)
    end = match.end()
    if not match["percent"]:
        suffixes, end = _suffixes(folded, end) or ((PLAIN,), end)
    return Token(match.start(), end, folded[match.start() : end], value, suffixes, spelled=True)


def _belongs_to_number(mark: Token, number: Token, *, joined: bool) -> bool:
    """Whether a hyphen or plus is the sign of the number, or joins it to the word before it ("rank-64")."""
    if number.number is None or mark.text not in ("-", "+", "$", "€", "£", "usd", "eur", "gbp"):
        return False
    return mark.start == number.start or (mark.end == number.start and (joined or number.named == "hyphen"))


def _lex(folded: str, comma: bool) -> list[Token]:
    tokens: list[Token] = []
    position, lexer, last = 0, _LEXERS[comma], ""
    while match := lexer.search(folded, position):
        if match["number"]:
            token = _read_number(folded, match, comma, last)
            if tokens and _belongs_to_number(tokens[-1], token, joined=last in PARAMETERS):
                tokens.pop()
        elif match["ideographs"]:
            token = _read_ideographs(folded, match)
        else:
            token = Token(match.start(), match.end(), match[0])
            last = match["word"] or ("" if match[0] != "-" else last)
        position = token.end
        if token.number is not None:
            last = ""
        if token.text not in _IGNORED:
            tokens.append(token)
    return tokens


def _unit_after(folded: str, end: int) -> tuple[tuple[Suffix, ...], int]:
    """The unit after a number in words: of one letter none."""
    suffixes, stop = _suffixes(folded, end) or ((PLAIN,), end)
    return ((PLAIN,), end) if stop - end < 3 and folded[end:stop].strip(" ").isalpha() else (suffixes, stop)


def _spelled(folded: str, tokens: list[Token]) -> list[Token]:
    """The tokens with every number in words read as a number."""
    kept: list[Token] = []
    position = 0
    while position < len(tokens):
        token = tokens[position]
        step = 1
        if token.number is None and token.text in REPEATED:
            token = replace(token, number=Fraction(REPEATED[token.text]), suffixes=((1, "times"),), spelled=True)
        elif token.number is None and len(token.text) > 6 and token.text.endswith("fold"):
            value = spelled_number([token.text[:-4]])
            if value:
                token = replace(token, number=value[0], suffixes=((1, "times"),), spelled=True)
        elif token.number is None and is_start(token.text):
            ahead = tokens[position : position + MAX_WORDS]
            value = spelled_number([item.text if item.number is None else "" for item in ahead])
            if value:
                last = tokens[position + value[1] - 1]
                suffixes, end = _unit_after(folded, last.end)
                step = value[1]
                while position + step < len(tokens) and tokens[position + step].end <= end:
                    step += 1
                text, partial = folded[token.start : end], value[0].denominator > 1
                token = Token(token.start, end, text, value[0], suffixes, decimal=partial, spelled=True)
        kept.append(token)
        position += step
    return kept


def _with_signs(tokens: list[Token]) -> list[Token]:
    """The tokens with "minus 0.5" and "negative 0.5" as negative numbers; "4 minus 3" stays a difference."""
    kept: list[Token] = []
    for token in tokens:
        words = [item.text for item in kept[-1:]]
        if token.number is not None and words and words[0] in ("minus", "negative", "moins"):
            difference = len(kept) > 1 and kept[-2].number is not None
            if not difference:
                word = kept.pop()
                token = replace(token, start=word.start, number=-token.number)
        kept.append(token)
    return kept


_SIMPLE_FRACTIONS = frozenset({2, 3, 4, 5, 8, 10})


def _with_fractions(tokens: list[Token]) -> list[Token]:
    """The tokens with "1/2" and "2 1/2" as one number; "20/25" stays two numbers."""
    kept: list[Token] = []
    position = 0
    while position < len(tokens):
        token = tokens[position]
        three = tokens[position : position + 3]
        if (
            len(three) == 3
            and three[1].text == "/"
            and token.number is not None
            and three[2].number is not None
            and token.end == three[1].start
            and three[1].end == three[2].start
            and (three[2].number in _SIMPLE_FRACTIONS or (token.number == 1 and three[2].suffixes == (PLAIN,)))
            and abs(token.number) < three[2].number
            and token.number.denominator == 1
            and token.suffixes == (PLAIN,)
        ):
            value = token.number / three[2].number
            start = token.start
            whole = kept[-1] if kept else None
            if whole and whole.number is not None and whole.suffixes == (PLAIN,) and whole.end + 1 == start:
                value, start = value + whole.number, kept.pop().start
            token = replace(three[2], start=start, text=f"{token.text}/{three[2].text}", number=value, decimal=True)
            position += 2
        kept.append(token)
        position += 1
    return kept


def _is_range(tokens: Sequence[Token], position: int) -> bool:
    """Whether the token between two numbers makes a range of them: "10 to 20", "between 10 and 20"."""
    before = tokens[position - 2].text if position > 1 else ""
    return tokens[position].text in _RANGES or (before, tokens[position].text) in _BETWEEN


def _with_shared_units(tokens: list[Token]) -> list[Token]:
    """A number without a unit gets also that of the next one in a list or range: "24 to 48GB", "12 and 4%"."""
    shared = list(tokens)
    following: int | None = None
    for position in range(len(tokens) - 1, -1, -1):
        token = shared[position]
        if token.number is not None:
            if following is not None and following - position in (2, 3) and token.suffixes == (PLAIN,):
                between = tokens[position + 1 : following]
                extra = tuple(suffix for suffix in shared[following].suffixes if suffix != PLAIN)
                if all(item.text in _SEPARATORS for item in between) and extra:
                    shared[position] = replace(token, suffixes=(PLAIN, *extra))
            following = position
    for position in range(1, len(shared) - 1):
        if all(shared[position + side].number is not None for side in (-1, 1)) and _is_range(shared, position):
            shared[position] = replace(shared[position], text="-")
    return shared


def _with_factors(tokens: list[Token]) -> list[Token]:
    """The tokens in which "a factor of 3" and "×3" mean 3 times too."""
    for position, token in enumerate(tokens):
        last, earlier = tokens[max(0, position - 1)], tokens[max(0, position - 2)]
        factor = last.number is None and earlier.text in ("factor", "faktor", "facteur")
        factor |= last.text == "×" and earlier.number is None
        if factor and token.number is not None and token.suffixes == (PLAIN,):
            tokens[position] = replace(token, suffixes=(PLAIN, (1, "times")))
    return tokens


def tokens_of(folded: str, *, decimal_comma: bool = False) -> Sequence[Token]:
    """The tokens of a folded text, in order, without overlaps. Quotation marks and signs such as ≈ are left out."""
    return (_short if len(folded) <= SHORT_CHARACTERS else _long)(folded, decimal_comma)


SHORT_CHARACTERS = 500


@lru_cache(maxsize=4096)
def _short(folded: str, comma: bool) -> tuple[Token, ...]:
    return _tokens(folded, comma)


@lru_cache(maxsize=8)
def _long(folded: str, comma: bool) -> tuple[Token, ...]:
    return _tokens(folded, comma)


def _tokens(folded: str, comma: bool) -> tuple[Token, ...]:
    tokens = _spelled(folded, _lex(folded, comma))
    return tuple(_with_factors(_with_shared_units(_with_fractions(_with_signs(tokens)))))
