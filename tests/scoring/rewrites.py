"""Rewriters of answers: some keep the meaning and change only the notation, others change a value or deny it.

Every rewriter takes a text without its quoted titles and a random generator.
"""

import random
import re
from collections.abc import Callable

Rewrite = Callable[[str, random.Random], str]

_QUOTED = re.compile(r"(\"[^\"\n]{8,200}\")")
_NUMBER = re.compile(
    r"(?<![\w.,-])(?P<number>\d+(?:,\d{3})*(?:\.\d+)?)(?P<unit>%| ?GB\b| ?B\b| (?:b|tr)illion\b|-bit\b)?"
    r"(?![\w.,]\d|\w|-)"
)
_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
_WORDS = (_ONES + "seventeen eighteen nineteen").split()
_TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905


def outside_titles(text: str, rewrite: Callable[[str], str]) -> str:
    """``text`` with every part outside quotation marks rewritten."""
    return "".join(part if part.startswith('"') else rewrite(part) for part in _QUOTED.split(text))


def _numbers(replace: Callable[[str, str, random.Random], str | None], *, share: float = 0.67) -> Rewrite:
    """A rewriter of this share of the numbers: (number, unit, generator) → the new text, or None to keep it."""

    def rewrite(text: str, draw: random.Random) -> str:
        def new(match: re.Match[str]) -> str:
            if draw.random() > share:
                return match[0]
            return replace(match["number"], match["unit"] or "", draw) or match[0]

        return _NUMBER.sub(new, text)

    return rewrite


def _every_number(replace: Callable[[str, str], str | None]) -> Rewrite:
    def rewrite(text: str, draw: random.Random) -> str:
        return _NUMBER.sub(lambda match: replace(match["number"], match["unit"] or "") or match[0], text)

    return rewrite


def _some_words(template: str) -> Rewrite:
    def rewrite(text: str, draw: random.Random) -> str:
        return re.sub(
            r"(?<![\w.\\$*_`{-])[A-Za-z]{4,}(?![\w\\$*_`{}-])",
            lambda match: template.format(match[0]) if draw.random() < 0.2 else match[0],
            text,
        )

    return rewrite


def _latex_unit(number: str, unit: str, draw: random.Random) -> str | None:
    number = number.replace(",", "{,}")
    if unit == "%":
        return draw.choice((f"${number}\\%$", f"{number}\\%", f"\\({number}\\,\\%\\)", f"$\\mathbf{{{number}\\%}}$"))
    if unit.strip() in ("GB", "B"):
        return draw.choice((f"${number}\\,\\text{{{unit.strip()}}}$", f"\\({number}~\\mathrm{{{unit.strip()}}}\\)"))
    return f"${number}${unit}" if not unit.startswith("-") else None


def _grouped(number: str, unit: str, draw: random.Random) -> str | None:
    digits = number.replace(",", "")
    if not re.fullmatch(r"\d{4,6}", digits):
        return None
    head, tail = digits[:-3], digits[-3:]
    marks = (",", "{,}", "\u2009", "\u202f", "\u00a0", " ", "_", "'", "")
    return f"{head}{draw.choice(marks)}{tail}{unit}"


def _powers(number: str, unit: str, draw: random.Random) -> str | None:
    digits = number.replace(",", "")
    if not re.fullmatch(r"10{3,}", digits) or unit:
        return None
    power = len(digits) - 1
    forms = [f"$10^{power}$", f"10^{{{power}}}", f"1e{power}", f"1 × 10^{power}", f"$1\\times10^{{{power}}}$"]
    if power == 4:
        forms += ["10k", "10 thousand", "10⁴", "ten thousand"]
    return draw.choice(forms)


def _spelled_unit(number: str, unit: str, draw: random.Random) -> str | None:
    words: dict[str, tuple[str, ...]] = {
        "%": (" percent", " per cent", " %", "\u202f%"),
        "GB": (" gigabytes", " GB", "\u00a0GB", "GB"),
        "B": (" billion", " B", "B", "bn"),
        "trillion": (" trillion", "T", " T"),
        "billion": (" billion", "B"),
    }
    forms = words.get(unit.strip())
    return number + draw.choice(forms) if forms else None


def _decimals(number: str, unit: str, draw: random.Random) -> str | None:
    if "," in number or unit == "-bit":
        return None
    return f"{number}0{unit}" if "." in number else f"{number}.0{unit}"


def _fraction(number: str, unit: str, draw: random.Random) -> str | None:
    if unit != "%" or "," in number or float(number) >= 100:
        return None
    whole, _, decimals = number.partition(".")
    return f"0.{int(whole):02d}{decimals}"


def _spelled(number: str, unit: str, draw: random.Random) -> str | None:
    if not number.isdigit() or int(number) >= 100 or unit not in ("", "%"):
        return None
    value = int(number)
    word = _WORDS[value] if value < 20 else _TENS[value // 10] + (f"-{_WORDS[value % 10]}" if value % 10 else "")
    return word + (" percent" if unit else "")


def _translated(table: dict[int, str]) -> Rewrite:
    return lambda text, draw: text.translate(table)


KEEPING: dict[str, Rewrite] = {
    "bold numbers": _numbers(lambda number, unit, draw: f"**{number}{unit}**"),
    "italic numbers": _numbers(lambda number, unit, draw: f"*{number}*{unit}" if not unit else f"*{number}{unit}*"),
    "numbers as code": _numbers(lambda number, unit, draw: f"`{number}{unit}`"),
    "LaTeX numbers": _numbers(_latex_unit),
    "digit groups": _numbers(_grouped, share=1.0),
    "powers of ten": _numbers(_powers, share=1.0),
    "LaTeX throughout": _numbers(_latex_unit, share=1.0),
    "units in words": _numbers(_spelled_unit),
    "trailing zeros": _numbers(_decimals),
    "percentages as fractions": _numbers(_fraction),
    "number words": _numbers(_spelled),
    "HTML": _numbers(lambda number, unit, draw: f"<b>{number}</b>{unit}"),
    "full-width digits": _translated({ord("0") + digit: chr(ord("０") + digit) for digit in range(10)}),
    "mathematical digits": _translated({ord("0") + digit: chr(0x1D7CE + digit) for digit in range(10)}),
    "non-breaking hyphens": _translated({ord("-"): "\u2011"}),
    "curly quotes": _translated({ord("'"): "’"}),
    "ligatures": lambda text, draw: text.replace("fi", "ﬁ").replace("fl", "ﬂ"),
    "bold words": _some_words("**{}**"),
    "italic words": _some_words("_{}_"),
    "code words": _some_words("`{}`"),
    "LaTeX words": _some_words("\\textbf{{{}}}"),
    "non-breaking spaces": lambda text, draw: re.sub(r" ", lambda _: draw.choice((" ", " ", "\u00a0")), text),
    "soft hyphens": lambda text, draw: re.sub(r"(?<=[a-z]{3})(?=[a-z]{3})", "\u00ad", text, count=3),
    "zero-width spaces": lambda text, draw: text.replace(", ", ",\u200b "),
    "capitals": lambda text, draw: re.sub(r"\b(?:the|a|is|and)\b", lambda match: match[0].upper(), text),
}
"""Rewriters that keep the meaning: their result must score as the text does."""

AROUND: dict[str, tuple[str, str]] = {
    "heading": ("## Answer\n\n", ""),
    "bullet": ("- ", ""),
    "bold answer": ("**Answer:** ", ""),
    "a fact": ("It is true that ", ""),
    "in short": ("In short, ", " That is all."),
    "not only": ("It is not only plausible but documented: ", ""),
    "no doubt": ("There is no doubt about it: ", ""),
    "as stated": ("As the paper states, ", " (see Table 3)."),
}
"""What may stand before and after an answer without changing it."""


def _shifted(number: str, unit: str) -> str | None:
    digits = number.replace(",", "")
    return f"{digits[:-1]}.{digits[-1]}{unit}" if digits.isdigit() and len(digits) > 1 else f"{digits}7{unit}"


_OTHER_UNITS = {"%": "‰", "GB": "MB", "B": "M", "trillion": "billion", "billion": "million", "-bit": " bytes"}

CHANGING_NUMBERS: dict[str, Rewrite] = {
    "sign": _every_number(lambda number, unit: f"−{number}{unit}"),
    "ASCII sign": _every_number(lambda number, unit: f"-{number}{unit}"),
    "LaTeX sign": _every_number(lambda number, unit: f"$-{number}${unit}"),
    "plus 13": _every_number(lambda number, unit: f"{float(number.replace(',', '')) + 13:g}{unit}"),
    "decimal point": _every_number(_shifted),
    "ten times": _every_number(lambda number, unit: f"{float(number.replace(',', '')) * 10:g}{unit}"),
    "a thousandth": _every_number(lambda number, unit: f"{number} × 10^-3{unit}"),
    "inside a name": _every_number(lambda number, unit: f"x{number.replace(',', '')}y"),
}
CHANGING_UNITS: dict[str, Rewrite] = {
    "other unit": _every_number(lambda number, unit: f"{number} {_OTHER_UNITS[unit.strip()]}" if unit else None),
}
"""Rewriters that change every number, or every unit."""

DENYING: dict[str, tuple[str, str]] = {
    "not true": ("It is not true that ", ""),
    "false": ("It is false that ", ""),
    "isn't correct": ("It isn't correct that ", ""),
    "not the case": ("It is not the case that ", ""),
    "myth": ("It is a common myth that ", ""),
    "would be wrong": ("It would be wrong to say that ", ""),
    "no evidence": ("There is no evidence that ", ""),
    "contrary": ("Contrary to what the authors claim, ", ""),
    "deny": ("The authors deny that ", ""),
    "nobody": ("Nobody claims that ", ""),
    "this is false": ("", " This is false."),
    "not true, though": ("", " But that is not true."),
    "which is wrong": ("", ", which is wrong."),
}
"""What before or after an answer takes it back."""


def around(text: str, affixes: tuple[str, str]) -> str:
    """``text`` between two affixes; a comma after it takes the place of its full stop."""
    before, after = affixes
    if after.startswith(","):
        text = text.rstrip(".")
    return f"{before}{text}{after}"
