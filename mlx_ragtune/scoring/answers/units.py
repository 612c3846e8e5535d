"""Units that stand after a number, with their dimension and size, so that 48,000 MB is 48 GB and 2 h is 120 min.

A one-letter unit may mean two things ("5 m": million or meters); ``units`` returns both.
"""

from fractions import Fraction

Reading = tuple[Fraction, str]
"""A number as written (signs and powers included) and the name of its unit, "" without one."""

SCALES: dict[str, int] = {
    **dict.fromkeys(("k", "thousand", "thousands", "tausend", "mille", "千"), 10**3),
    **dict.fromkeys(("万", "萬", "만"), 10**4),
    **dict.fromkeys(("m", "mn", "mio", "million", "millions", "millionen"), 10**6),
    **dict.fromkeys(("亿", "億", "억"), 10**8),
    **dict.fromkeys(
        ("b", "bn", "mrd", "billion", "billions", "milliarde", "milliarden", "milliard", "milliards"), 10**9
    ),
    **dict.fromkeys(("t", "tn", "trillion", "trillions", "兆"), 10**12),
}

UNITS: dict[str, tuple[str, Fraction]] = {}
"""Spelling of a unit → (dimension, size in the dimension's base unit)."""


def _define(dimension: str, size: int | Fraction, spellings: str) -> None:
    for spelling in spellings.split():
        UNITS[spelling] = (dimension, Fraction(size))


_define("%", Fraction(1, 100), "% percent prozent pourcent pp 퍼센트")
_define("%", Fraction(1, 1000), "‰")
_define("times", 1, "times x × fold mal fois 倍 배")
_define("degree", 1, "° °c degree degrees grad degrés 度 도")
_define("bit", 1, "bit bits")
for _power, _stem in enumerate(("kilo", "mega", "giga", "tera", "peta"), start=1):
    _letter = _stem[0]
    _define("byte", 10 ** (3 * _power), f"{_letter}b {_letter}bs {_letter}bytes {_letter}byte {_stem}byte {_stem}bytes")
    _define("byte", 10 ** (3 * _power), f"{_stem}octet {_stem}octets")
    _define("byte", 2 ** (10 * _power), f"{_letter}ib {_stem[:2]}bibyte {_stem[:2]}bibytes")
    _define("hertz", 10 ** (3 * _power), f"{_letter}hz {_stem}hertz")
    _define("flop", 10 ** (3 * _power), f"{_letter}flop {_letter}flops")
    _define("watt", 10 ** (3 * _power), f"{_letter}w {_stem}watt {_stem}watts")
_define("byte", 10**9, "gig gigs")
_define("byte", 1, "byte bytes")
_define("hertz", 1, "hz hertz")
_define("watt", 1, "w watt watts")
_define("joule", 3_600_000, "kwh")
_define("second", Fraction(1, 10**9), "ns nanosecond nanoseconds")
_define("second", Fraction(1, 10**6), "us μs µs microsecond microseconds")
_define("second", Fraction(1, 1000), "ms msec millisecond milliseconds millisekunden millisecondes 毫秒")
_define("second", 1, "s sec secs second seconds sekunde sekunden seconde secondes 秒 초")
_define("second", 60, "min mins minute minutes minuten 分钟 分鐘 分間 分 분")
_define("second", 3600, "h hr hrs hour hours stunde stunden heure heures 小时 小時 時間 시간")
_define("second", 86_400, "d day days tag tage tagen jour jours 天 日間 일")
_define("second", 604_800, "week weeks woche wochen semaine semaines 周 週間 주")
_define("month", 1, "month months monat monate monaten mois 个月 個月 ヶ月 개월")
_define("month", 12, "year years jahr jahre jahren année années 年間")
_define("meter", Fraction(1, 10**9), "nm nanometer nanometers nanometre nanometres")
_define("meter", Fraction(1, 10**6), "μm µm um micrometer micrometers micrometre micrometres micron microns 微米")
_define("meter", Fraction(1, 1000), "mm millimeter millimeters millimetre millimetres 毫米")
_define("meter", Fraction(1, 100), "cm centimeter centimeters centimetre centimetres 厘米 公分")
_define("meter", 1, "m meter meters metre metres mètre mètres 米")
_define("meter", 1000, "km kilometer kilometers kilometre kilometres 公里")
_define("gram", Fraction(1, 1000), "mg milligram milligrams")
_define("gram", 1, "g gram grams gramm grammes 克")
_define("gram", 1000, "kg kilogram kilograms kilogramm 公斤 千克")
_define("gram", 10**6, "t ton tons tonne tonnes tonnen 吨 噸")
_define("dollar", 1, "$ usd dollar dollars")
_define("euro", 1, "€ eur euro euros")
_define("pound", 1, "£ gbp pound pounds")

HARD = frozenset({"byte", "bit", "hertz", "flop", "watt", "joule"})
"""Dimensions without which a number says something else: "48" does not stand for "48 GB", nor the reverse."""


def same(left: Reading, right: Reading) -> bool:
    """Whether two numbers with units are the same quantity."""
    if left[1] == right[1]:
        return left[0] == right[0]
    of_left, of_right = UNITS.get(left[1]), UNITS.get(right[1])
    if not of_left or not of_right or of_left[0] != of_right[0]:
        return False
    return left[0] * of_left[1] == right[0] * of_right[1]


def dimension(unit: str) -> str:
    """The dimension of a unit, "" for none."""
    return UNITS[unit][0] if unit else ""
