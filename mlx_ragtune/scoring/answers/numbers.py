"""M2 without a judge: do the answer's numbers and identifiers occur in the contexts or the question?

A number is a value with an optional unit (``values``). It is grounded when the contexts or the question contain
the same quantity, or the same number where one side has no unit. An identifier (``GPT-3``, ``NF4``) is grounded
when its letters and digits occur, with or without hyphens. List markers and ``[1]`` are not counted.
"""

import re
from collections.abc import Iterable
from fractions import Fraction

from mlx_ragtune.scoring.answers.normalize import fold
from mlx_ragtune.scoring.answers.notation import uses_decimal_comma
from mlx_ragtune.scoring.answers.units import UNITS, Reading
from mlx_ragtune.scoring.answers.values import PARAMETERS, Token, tokens_of

MAX_COUNTED = 12
"""Up to here a number in words without a unit is not checked."""

_NAME = re.compile(r"(?<![\w.])[a-z]+\d[a-z0-9]*(?:\.\d+)*")
_CONTINUED = re.compile(r"\.?\d")
_INSIDE_NAME = re.compile(r"(?<![^\W\d_])([a-z]+)-(?=\d)")
_MARKERS = re.compile(r"\[\d+(?:, ?\d+)*\]|^[^\S\n]*\d+[.)]\s", re.MULTILINE)


def _tokens(folded: str) -> Iterable[Token]:
    return (
        token for token in tokens_of(folded, decimal_comma=bool(uses_decimal_comma(folded))) if token.number is not None
    )


def _joined_names(folded: str) -> str:
    """``folded`` with the hyphens inside names removed ("gpt-4", but not "rank-64")."""
    return _INSIDE_NAME.sub(lambda match: match[0] if match[1] in PARAMETERS else match[1], folded)


def _quantity(reading: Reading) -> tuple[Fraction, str]:
    """The number in the base unit of its dimension."""
    number, unit = reading
    if not unit:
        return number, ""
    dimension, size = UNITS[unit]
    return number * size, dimension


def _states_value(token: Token) -> bool:
    """Whether a number in words states a value and is not only a way to speak."""
    number, unit = token.readings[0]
    return number > MAX_COUNTED or (number > 1 and unit != "" and UNITS[unit][0] != "times")


def mentions(text: str) -> tuple[list[tuple[Reading, ...]], set[str]]:
    """The readings of each different number of a text, and its identifiers: "rank 4" has a number, "NF4" a name.

    A number in words counts with a unit ("three days") or above twelve, since "one" and "two" often count nothing.
    """
    folded = fold(_MARKERS.sub(" ", text))
    numbers = {
        _quantity(token.readings[-1]): token.readings
        for token in _tokens(folded)
        if not token.named and (not token.spelled or _states_value(token))
    }
    return list(numbers.values()), set(_NAME.findall(_joined_names(folded)))


class _Source:
    """The numbers of what was shown, for look-ups by quantity, by number and by bare number."""

    def __init__(self, folded: str) -> None:
        self.quantities: set[tuple[Fraction, str]] = set()
        self.numbers: set[Fraction] = set()
        for token in (token for token in _tokens(folded) if token.named != "glued"):
            for reading in token.readings:
                self.quantities.add(_quantity(reading))
                self.numbers.add(reading[0])
        joined = re.sub(r"\.(?!\d)", "|", folded)
        joined = re.sub(r"(?<=\d)[^a-z0-9.|]+(?=\d)", "|", joined)  # "ResNet-50, 24" has no name of four digits
        self.joined = re.sub(r"[^a-z0-9.|]", "", joined)

    def has_number(self, readings: tuple[Reading, ...]) -> bool:
        """Whether one reading occurs: with its unit, or as the same number where one side has no unit.

        A letter that may be a unit ("0.4 g") is one: then the source has that unit, or none. A percent sign may be that
        of the next number ("0.12 and 4%").
        """
        bare = not any(unit not in ("", "%") for _, unit in readings)
        for number, unit in readings:
            if _quantity((number, unit)) in self.quantities or (unit and (number, "") in self.quantities):
                return True
            if (
                bare
                and not unit
                and (number in self.numbers or (0 < abs(number) < 1 and (number, "%") in self.quantities))
            ):
                return True
            if unit == "%" and 0 < abs(number) < 100 and (number / 100, "") in self.quantities:
                return True
        return False

    def has_name(self, name: str) -> bool:
        """Whether ``name`` occurs where no digit and no decimal part continues it."""
        at = self.joined.find(name)
        while at >= 0:
            if not _CONTINUED.match(self.joined, at + len(name)):
                return True
            at = self.joined.find(name, at + 1)
        return False


def number_grounding(text: str, shown: Iterable[str]) -> float | None:
    """Share of the answer's distinct numbers and identifiers that occur in ``shown``; None if there are none."""
    numbers, identifiers = mentions(text)
    if not numbers and not identifiers:
        return None
    source = _Source(fold("\n".join(shown)))
    grounded = sum(map(source.has_number, numbers)) + sum(map(source.has_name, identifiers))
    return grounded / (len(numbers) + len(identifiers))
