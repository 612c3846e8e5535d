"""Text normalization shared by all metrics, so that spelling never decides a comparison.

Both sides of every match are folded: markup, case, dashes, thousands separators, ``per cent`` and ``%``,
``48 GB`` and ``48GB``, ``65 billion`` and ``65B``, ``β`` and ``beta``, ``-ise`` and ``-ize`` become the same.
Numbers are compared by value in ``anchors``. Every function here takes time linear in the length of the text.
"""

import itertools
import re
import unicodedata
from functools import lru_cache

from mlx_ragtune.scoring.answers.markup import GREEK, without_markup
from mlx_ragtune.scoring.answers.notation import uses_decimal_comma

_GREEK = {letter: name for name, letter in GREEK.items()}
_GREEK_LETTER = re.compile(r"(?<![^\W\d_])[α-ω](?![^\W\d_])")
_THOUSANDS = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:,\d{3})+(?!,?\d)")
_ORDINALS = re.findall(
    r"\w+",
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth twentieth",
)
_TENS = re.findall(r"\w+", "twenty thirty forty fifty sixty seventy eighty ninety")
_SHORT_ORDINAL = re.compile(r"(?<![\w.,$-])(\d{1,2})(?:st|nd|rd|th)\b")
_LONG_ORDINAL = re.compile(rf"\b({'|'.join(_TENS)})[ -]({'|'.join(_ORDINALS[:9])})\b")
_RATES = {
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("s", "sec", "second", "seconds"), "s"),
    **dict.fromkeys(("min", "minute", "minutes"), "min"),
    **dict.fromkeys(("ha", "hectare", "hectares"), "ha"),
    **dict.fromkeys(("l", "liter", "liters", "litre", "litres"), "l"),
    **dict.fromkeys(("d", "day", "days"), "day"),
}
_RATE = re.compile(
    r"(?:(?<=[^\W\d_])|(?<=[^\W\d_] ))/ ?(h|hrs?|s|sec|min|ha|l|day)\b"
    r"|\bper (h|hr|hour|s|sec|second|min|minute|ha|hectare|l|lit(?:er|re)|day)\b"
    r"|(?<=[^\W\d_]) (h|s|min|ha|l|d)\^-1\b"
)
_KOREAN_DIGITS = {digit: value for value, digit in enumerate("일이삼사오육칠팔구", start=1)}
_KOREAN_TENS = {"십": 10, "백": 100, "천": 1000}
_KOREAN_COUNTS = {
    **{"한": 1, "두": 2, "세": 3, "네": 4, "다섯": 5, "여섯": 6, "일곱": 7, "여덟": 8, "아홉": 9},
    **{"열": 10, "스무": 20, "스물": 20},
}
_KOREAN = re.compile(
    r"(?<![가-힣])(?!이 )(?:(?P<sino>[일이삼사오육칠팔구십백천]{1,9})"
    r"|(?P<count>(?:열|스물)?(?:한|두|세|네|다섯|여섯|일곱|여덟|아홉)|열|스무)) ?"
    r"(?=분|초|시간|도(?:[^가-힣]|에|로|의|이)|개|년|퍼센트|미터|킬로|센티|톤|층|배|명|그램|번|마리|주(?:[^가-힣]|간)|일[^가-힣])"
)
_FOLDS = (
    (re.compile(r"[—―]|(?<=[^\W\d_])(?<!\de)–(?=\d)"), " - "),
    (re.compile(r"(?<=[\d%])-{2,3}(?=\d)"), "-"),
    (re.compile(r"(?<=[^\s-])-{2,3}(?=[^\s-])"), " - "),
    (re.compile(r"[‐‑‒–−]"), "-"),
    (re.compile(r"[“”„«»]"), '"'),
    (re.compile(r"[‘’´]"), "'"),
    (re.compile("⁄"), "/"),
    (re.compile(r"(?<=\d)(?<!\b0)(?: ?[x×*] ?| by )(?=\d)"), "×"),
    (re.compile(r"\+ ?/ ?-|\+-(?=\s?\d)"), "±"),
    (re.compile(">="), "≥"),
    (re.compile("<="), "≤"),
    (re.compile(r"\br ?\^ ?2\b"), "r2"),
    (re.compile(r"\b(pre|post|re|non|co|multi|sub|semi|anti|un|inter|intra|micro|macro|fine)-(?=[^\W\d_]{3})"), r"\1"),
    (re.compile(r"\b(pre|multi|semi|anti) (?=[^\W\d_]{3})"), r"\1"),
    (re.compile(r"\bfine (?=tun(?:e|ed|es|ing)\b)"), "fine"),
    (re.compile(r"(?<=\w)-(?=[^\W\d_])"), " "),
    (re.compile(r"(\d)\s*(?:%|per ?cent\b|pct\b)"), r"\1%"),
    (re.compile(r"(\d) ?(gb|mb|kb|tb|gib|mib)\b"), r"\1\2"),
    (re.compile(r"(\d) ?pts?\b"), r"\1 points"),
    (re.compile(r"(\d) ?pp\b"), r"\1 percentage points"),
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
    folded = unicodedata.normalize("NFKC", without_markup(text)).casefold()
    if "," in folded and not uses_decimal_comma(folded):
        folded = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), folded)
    folded = _KOREAN.sub(_korean_number, folded)
    folded = _GREEK_LETTER.sub(lambda match: _GREEK.get(match[0], match[0]), folded)
    for pattern, replacement in _FOLDS:
        folded = pattern.sub(replacement, folded)
    return _RATE.sub(_rate, _with_ordinals(folded)).strip()


def _korean_number(match: re.Match[str]) -> str:
    """The figure of a Korean numeral before a unit: "육 분" and "여섯 분" are "6분"."""
    if match["count"]:
        tens = next((name for name in ("열", "스물", "스무") if match["count"].startswith(name)), "")
        return str(_KOREAN_COUNTS.get(tens, 0) + _KOREAN_COUNTS.get(match["count"].removeprefix(tens), 0))
    total = digit = 0
    for character in match["sino"]:
        if character in _KOREAN_TENS:
            total, digit = total + (digit or 1) * _KOREAN_TENS[character], 0
        else:
            digit = _KOREAN_DIGITS[character]
    return str(total + digit)


def _with_ordinals(folded: str) -> str:
    """``folded`` with ordinals as words up to twentieth and as figures above: "third", "21st"."""
    folded = _LONG_ORDINAL.sub(lambda match: _ordinal(10 * _TENS.index(match[1]) + 20, match[2]), folded)
    return _SHORT_ORDINAL.sub(
        lambda match: _ORDINALS[int(match[1]) - 1] if 0 < int(match[1]) <= len(_ORDINALS) else match[0], folded
    )


def _ordinal(tens: int, unit: str) -> str:
    number = _ORDINALS.index(unit) + 1
    return f"{tens + number}{('st', 'nd', 'rd')[number - 1] if number < 4 else 'th'}"


def _rate(match: re.Match[str]) -> str:
    """The unit of a rate in one form, for "/s", "per second" and "s^-1"."""
    return f" / {_RATES[match[1] or match[2] or match[3]]}"


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


UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
"""Kana, ideographs and Hangul: scripts in which a word may begin and end beside another letter."""
_UNSPACED_CHARACTER = re.compile(f"[{UNSPACED}]")
_HAN_NUMERALS = "〇零一二三四五六七八九十百千万萬亿億兆两兩点點"
"""Six is not found in sixteen: a phrase that begins or ends with a numeral is not found beside another one."""


@lru_cache(maxsize=4096)
def _pattern(phrase: str) -> re.Pattern[str]:
    folded = fold(phrase)
    body = r"(?:\s+|-)".join(re.escape(part) for part in re.split(r"\s+|(?<=[^\W\d_])-(?=\d)", folded))
    letter = rf"[^\W{UNSPACED}]"
    before = "" if _UNSPACED_CHARACTER.match(folded[:1]) else rf"(?<!{letter})(?<!\d[.,])"
    before += rf"(?<![{_HAN_NUMERALS}\d])" if folded[:1] in _HAN_NUMERALS else ""
    if _UNSPACED_CHARACTER.match(folded[-1:]):
        return re.compile(before + body + (rf"(?![{_HAN_NUMERALS}\d])" if folded[-1:] in _HAN_NUMERALS else ""))
    plural = r"(?:e?s)?" if folded[-1:].isalpha() else ""
    after = rf"(?!{letter}|\+)" if folded[-1:].isalpha() else rf"(?!{letter})"
    return re.compile(rf"{before}{body}{plural}{after}(?!\.\d)")


def find_phrase(folded: str, phrase: str) -> list[tuple[int, int]]:
    """Spans ``(start, end)`` of ``phrase`` in an already folded text, at word boundaries; a plural ending may follow.

    ``4`` is not found in ``45``, ``4.5`` or ``4bit``; ``LoRA`` is not found in ``QLoRA`` or ``LoRA+``.
    A phrase that folds to nothing has no spans.
    """
    if not fold(phrase):
        return []
    return [match.span() for match in _pattern(phrase).finditer(folded)]
