"""M2's companion without a judge: are the answer's numbers and identifiers in what the model was shown?

A number is a value with an optional unit; it is found when the contexts or the question hold the same
value with the same unit, or one side has none. An identifier (``GPT-3``, ``NF4``) is found when its
letters and digits occur, however they are joined. List markers and ``[1]`` are not counted.
"""

import re
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
_INSIDE_NAME = re.compile(r"(?<=[A-Za-z])[-‐‑](?=\d)")
_MARKERS = re.compile(r"\[\d+(?:, ?\d+)*\]|^\s*\d+[.)]\s", re.MULTILINE)


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
    """Share of the answer's distinct numbers and identifiers that occur in ``shown``; None if it has none."""
    numbers, identifiers = mentions(text)
    if not numbers and not identifiers:
        return None
    source = fold("\n".join(shown))
    known = {(_value(match["number"]), match["unit"] or "") for match in _NUMBER.finditer(source)}
    known |= {(_WORDS[word], "") for word in re.findall(r"[a-z]+", source) if word in _WORDS}
    joined = re.sub(r"[^a-z0-9.|]", "", re.sub(r"\.(?!\d)", "|", source))
    found = sum(
        any(value == other and (unit == has or not unit or not has) for other, has in known) for value, unit in numbers
    )
    found += sum(bool(re.search(re.escape(name) + r"(?!\d|\.\d)", joined)) for name in identifiers)
    return found / (len(numbers) + len(identifiers))
