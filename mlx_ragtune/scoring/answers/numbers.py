"""M2 without a judge: do the answer's numbers and identifiers occur in the contexts or the question?

A number is a value with an optional unit. It is grounded when the contexts or the question contain the same
value with the same unit, or with no unit on either side. An identifier (``GPT-3``, ``NF4``) is grounded when
its letters and digits occur, with or without hyphens. List markers and ``[1]`` are not counted.
"""

import re
from collections import defaultdict
from collections.abc import Iterable

from mlx_ragtune.scoring.answers.normalize import fold

_WORDS = {
    name: str(value)
    for value, name in enumerate(
        re.findall(
            r"\w+",
            "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
            "sixteen seventeen eighteen nineteen twenty",
        )
    )
}
_NUMBER = re.compile(r"(?<![\w.])(?P<number>\d+(?:\.\d+)*)(?P<unit>%|[a-z]{1,4}\b)?")
_MENTION = re.compile(rf"(?<![\w.])(?P<name>[a-z]+\d[a-z0-9]*(?:\.\d+)*)|{_NUMBER.pattern}")
_CONTINUED = re.compile(r"\.?\d")
_INSIDE_NAME = re.compile(r"(?<=[A-Za-z])[-‐‑](?=\d)")
_MARKERS = re.compile(r"\[\d+(?:, ?\d+)*\]|^[^\S\n]*\d+[.)]\s", re.MULTILINE)


def _value(digits: str) -> str:
    return digits.rstrip("0").rstrip(".") if digits.count(".") == 1 else digits


def mentions(text: str) -> tuple[set[tuple[str, str]], set[str]]:
    """(value, unit) pairs and identifiers of a text: ``rank 4`` is a number, ``NF4`` a name."""
    numbers, identifiers = set(), set()
    for match in _MENTION.finditer(fold(_INSIDE_NAME.sub("", _MARKERS.sub(" ", text)))):
        if match["name"]:
            identifiers.add(match["name"])
        else:
            numbers.add((_value(match["number"]), match["unit"] or ""))
    return numbers, identifiers


def number_grounding(text: str, shown: Iterable[str]) -> float | None:
    """Share of the answer's distinct numbers and identifiers that occur in ``shown``; None if there are none."""
    numbers, identifiers = mentions(text)
    if not numbers and not identifiers:
        return None
    source = fold("\n".join(shown))
    known_units: dict[str, set[str]] = defaultdict(set)
    for match in _NUMBER.finditer(source):
        known_units[_value(match["number"])].add(match["unit"] or "")
    for word in re.findall(r"[a-z]+", source):
        if word in _WORDS:
            known_units[_WORDS[word]].add("")
    joined = re.sub(r"[^a-z0-9.|]", "", re.sub(r"\.(?!\d)", "|", source))
    grounded = sum(
        value in known_units and (not unit or bool(known_units[value] & {unit, ""})) for value, unit in numbers
    )
    grounded += sum(_has_identifier(joined, name) for name in identifiers)
    return grounded / (len(numbers) + len(identifiers))


def _has_identifier(joined: str, name: str) -> bool:
    """Whether ``name`` occurs where no digit and no decimal part continues it."""
    at = joined.find(name)
    while at >= 0:
        if not _CONTINUED.match(joined, at + len(name)):
            return True
        at = joined.find(name, at + 1)
    return False
