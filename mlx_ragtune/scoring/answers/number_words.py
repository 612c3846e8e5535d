"""Numbers written in words: English, German and French cardinals, English fractions, Chinese and Japanese numerals.

"one" and articles such as "un" and "ein" are mostly not numbers; ``values`` decides what a spelled one may stand for.
"""

import re
from collections.abc import Sequence
from fractions import Fraction

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_GERMAN = "_ eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf"
_GERMAN_TENS = "zwanzig dreissig vierzig fünfzig sechzig siebzig achtzig neunzig"
_FRENCH = "_ _ deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize"
_FRENCH_TENS = "vingt trente quarante cinquante soixante"


def _german() -> dict[str, int]:
    ones = ["", "ein", *_GERMAN.split()[2:10]]
    names = {name: value for value, name in enumerate(_GERMAN.split()) if name != "_"}
    for value, stem in enumerate(("drei", "vier", "fünf", "sech", "sieb", "acht", "neun"), start=13):
        names[f"{stem}zehn"] = value
    for tens, name in enumerate(_GERMAN_TENS.split(), start=2):
        names[name] = 10 * tens
        for unit in range(1, 10):
            names[f"{ones[unit]}und{name}"] = 10 * tens + unit
    return names


_SMALL: dict[str, int] = {
    **_german(),
    **{name: value for value, name in enumerate(_FRENCH.split()) if name != "_"},
    **{name: 10 * value for value, name in enumerate(_FRENCH_TENS.split(), start=2)},
    **{name: value for value, name in enumerate(_UNITS.split())},
    **{name: 10 * value for value, name in enumerate(_TENS.split(), start=2)},
}


def _french() -> dict[tuple[str, ...], int]:
    """The French cardinals of several words, from "vingt et un" to "quatre-vingt-dix-neuf"."""
    tens = {**{name: 10 * value for value, name in enumerate(_FRENCH_TENS.split(), start=2)}, "quatre vingt": 80}
    ones = {**{name: value for value, name in enumerate(_FRENCH.split()) if name != "_"}, "un": 1, "une": 1}
    ones |= {f"dix {name}": 10 + ones[name] for name in ("sept", "huit", "neuf")}
    names = {"quatre vingts": 80}
    for ten, value in tens.items():
        reach = 19 if value in (60, 80) else 9
        for one, unit in ones.items():
            if unit <= reach:
                names[f"{ten} {one}"] = names[f"{ten} et {one}"] = value + unit
        names |= {ten: value} if " " in ten else {}
    return {tuple(name.split()): value for name, value in names.items()}


_COMPOUNDS = _french()
_HUNDRED = frozenset({"hundred", "hundert"})
_SCALES = {
    "thousand": 10**3, "tausend": 10**3, "mille": 10**3, "million": 10**6, "millionen": 10**6, "billion": 10**9,
    "milliarde": 10**9, "milliarden": 10**9, "trillion": 10**12,
}  # fmt: skip
_PARTS = {
    "half": 2, "halves": 2, "third": 3, "thirds": 3, "quarter": 4, "quarters": 4, "fourth": 4, "fourths": 4,
    "fifth": 5, "fifths": 5, "sixth": 6, "sixths": 6, "seventh": 7, "sevenths": 7, "eighth": 8, "eighths": 8,
    "ninth": 9, "ninths": 9, "tenth": 10, "tenths": 10, "hundredth": 100, "hundredths": 100,
    "thousandth": 1000, "thousandths": 1000,
}  # fmt: skip
REPEATED = {"twice": 2, "thrice": 3, "doubly": 2, "zweimal": 2, "dreimal": 3}
"""Words that say how many times."""
MAX_WORDS = 14
_HALVED = frozenset({"of", "the", "as", "its", "their", "that"})
"""Words before which "half" is a number, unlike in "the second half"."""


def is_start(word: str) -> bool:
    """Whether a number in words may begin with this word."""
    return word in _SMALL or word in ("a", "half")


def _whole(words: Sequence[str]) -> tuple[int, int] | None:
    """(value, words read) of the cardinal at the start of ``words``."""
    total, current, read = 0, -1, 0
    for position, word in enumerate(words[:MAX_WORDS]):
        following = words[position + 1] if position + 1 < len(words) else ""
        if word == "a" and position == 0 and (following in _HUNDRED or following in _SCALES or following == "dozen"):
            current = 1
        elif word in _SMALL and (
            current < 0
            or (current % 100 == 0 and current > 0)
            or (current % 100 >= 20 and current % 10 == 0 and 0 < _SMALL[word] < 10)
        ):
            current = max(current, 0) + _SMALL[word]
        elif word in _HUNDRED and 0 < current < 100:
            current *= 100
        elif word == "dozen" and 0 < current < 100:
            return current * 12, position + 1
        elif word in _SCALES and current > 0:
            total, current = total + current * _SCALES[word], -1
        elif word == "and" and following in _SMALL and (current < 0 < total or (current > 0 and current % 100 == 0)):
            continue
        else:
            break
        read = position + 1
    return (total + max(current, 0), read) if read else None


def _decimals(words: Sequence[str]) -> str:
    digits = ""
    for word in words[:MAX_WORDS]:
        if _SMALL.get(word, 10) > 9:
            break
        digits += str(_SMALL[word])
    return digits


def spelled_number(words: Sequence[str]) -> tuple[Fraction, int] | None:
    """(value, number of words) of the number at the start of ``words``, or None.

    "a third" and "two thirds" are fractions; "half" is one alone, in "a half", "one half", "half of" and "half the".
    """
    if words[:1] == ["half"] and (len(words) == 1 or words[1] in _HALVED):
        return Fraction(1, 2), 1
    if len(words) > 1 and words[0] == "a" and words[1] in _PARTS:
        return Fraction(1, _PARTS[words[1]]), 2
    compound = next((size for size in range(min(4, len(words)), 1, -1) if tuple(words[:size]) in _COMPOUNDS), 0)
    whole = (_COMPOUNDS[tuple(words[:compound])], compound) if compound else _whole(words)
    if whole is None:
        return None
    value, read = whole
    rest = words[read : read + MAX_WORDS]
    if rest and rest[0] in _PARTS and 0 < value < 100 and (value == 1 or rest[0].endswith("s")):
        return Fraction(value, _PARTS[rest[0]]), read + 1
    if rest[:3] == ["and", "a", "half"]:
        return value + Fraction(1, 2), read + 3
    if rest[:1] == ["point"] and (digits := _decimals(rest[1:])):
        return value + Fraction(int(digits), 10 ** len(digits)), read + 1 + len(digits)
    return Fraction(value), read


_IDEOGRAPHIC_DIGITS = {digit: value for value, digit in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "兩": 2}
_IDEOGRAPHIC_TENS = {"十": 10, "百": 100, "千": 1000}
_MYRIADS = {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
IDEOGRAPHIC = re.compile(
    r"(?P<percent>百分之)?(?P<whole>[零〇一二两兩三四五六七八九十百千万萬亿億]{1,24})(?:[点點](?P<decimals>[零〇一二三四五六七八九]{1,24}))?"
)


def ideographic_number(whole: str, decimals: str | None) -> Fraction | None:
    """The value of Chinese or Japanese numerals; None for a scale without a digit ("万")."""
    if not any(char in _IDEOGRAPHIC_DIGITS or char == "十" for char in whole):
        return None
    if all(char in _IDEOGRAPHIC_DIGITS for char in whole):
        total = int("".join(str(_IDEOGRAPHIC_DIGITS[char]) for char in whole))
    else:
        total = section = digit = 0
        for char in whole:
            if char in _IDEOGRAPHIC_DIGITS:
                digit = _IDEOGRAPHIC_DIGITS[char]
            elif char in _IDEOGRAPHIC_TENS:
                section, digit = section + (digit or 1) * _IDEOGRAPHIC_TENS[char], 0
            else:
                total, section, digit = total + (section + digit) * _MYRIADS[char], 0, 0
        total += section + digit
    fraction = "".join(str(_IDEOGRAPHIC_DIGITS[char]) for char in decimals or "")
    return total + (Fraction(int(fraction), 10 ** len(fraction)) if fraction else Fraction(0))
