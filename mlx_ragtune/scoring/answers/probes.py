"""M8, forgetting probes: general questions whose answers a program can check, asked of both models.

A probe states how its answer is checked, with one answer that passes and one that fails:

    number        the last number of the answer is ``value``
    contains_any  one of ``aliases`` occurs in the answer as whole words, and none of ``none_of`` does
    exact         the answer is one of ``values``, ignoring case, quotes, emphasis and a final full stop
    regex         ``pattern`` is found in the answer
    json_keys     the answer is one JSON object with exactly these ``keys``
    word_count    the answer has ``least`` to ``most`` words
    line_count    the answer has ``least`` to ``most`` lines that are not blank

An empty answer passes no probe.
"""

import json
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, with_config

from mlx_ragtune.errors import InputError
from mlx_ragtune.jsonl import read_located_rows

Category = Literal["format", "arithmetic", "fact", "code", "translation", "reasoning"]

_strict = with_config(ConfigDict(extra="forbid"))


@_strict
@dataclass(frozen=True)
class NumberCheck:
    """The last number of the answer equals ``value``: models restate the sum before its result."""

    type: Literal["number"]
    value: float


@_strict
@dataclass(frozen=True)
class ContainsCheck:
    """One of ``aliases`` occurs as whole words in any case; none of ``none_of`` does."""

    type: Literal["contains_any"]
    aliases: Annotated[tuple[str, ...], Field(min_length=1)]
    none_of: tuple[str, ...] = ()


@_strict
@dataclass(frozen=True)
class ExactCheck:
    """The whole answer is one of ``values``; case, quotes, emphasis and a final full stop are ignored."""

    type: Literal["exact"]
    values: Annotated[tuple[str, ...], Field(min_length=1)]


@_strict
@dataclass(frozen=True)
class RegexCheck:
    """``pattern`` is found by ``re.search`` in the start of the stripped answer; repeated groups are refused."""

    type: Literal["regex"]
    pattern: Annotated[str, Field(min_length=1)]


@_strict
@dataclass(frozen=True)
class JsonCheck:
    """The answer, without a code fence around it, is one JSON object with exactly these keys."""

    type: Literal["json_keys"]
    keys: Annotated[tuple[str, ...], Field(min_length=1)]


@_strict
@dataclass(frozen=True)
class CountCheck:
    """The answer has ``least`` to ``most`` words, or lines that are not blank."""

    type: Literal["word_count", "line_count"]
    least: Annotated[int, Field(ge=1)]
    most: int


Check = Annotated[
    NumberCheck | ContainsCheck | ExactCheck | RegexCheck | JsonCheck | CountCheck,
    Field(discriminator="type"),
]


@dataclass(frozen=True)
class Probe:
    """One prompt, how its answer is checked, a ``good`` answer that passes and a ``bad`` one that fails.

    ``easy`` marks what an instruction-tuned model of a few hundred million parameters should manage.
    """

    id: str
    category: Category
    prompt: str
    check: Check
    good: str
    bad: str
    easy: bool = False


# Thousands are grouped by commas; a minus counts unless it follows a digit or letter, as in "5-3".
_NUMBER = re.compile(r"(?<![\w.])[-−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?!\d)")
_FENCE_START = re.compile(r"```(?:json)?[^\S\n]*\n", flags=re.IGNORECASE)
# A repeated group that ends in a repetition, such as (a+)+, makes a search exponential.
_REPEATED_GROUP = re.compile(r"\)[*+{]")
MAX_REGEX_CHARACTERS = 4000
"""How much of an answer a probe's own pattern reads: the pattern may take quadratic time."""
_WRAPPING = " \t\n\"'`*_“”‘’«».!"


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text).replace("’", "'").casefold()


@cache
def _whole_words(alias: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(_normal(alias))}(?!\w)")


def _number(check: NumberCheck, answer: str) -> bool:
    numbers = _NUMBER.findall(answer)
    return bool(numbers) and float(numbers[-1].replace(",", "").replace("−", "-")) == check.value


def _contains_any(check: ContainsCheck, answer: str) -> bool:
    text = _normal(answer)
    return any(_whole_words(alias).search(text) for alias in check.aliases) and not any(
        _whole_words(alias).search(text) for alias in check.none_of
    )


def _exact(check: ExactCheck, answer: str) -> bool:
    return _normal(answer).strip(_WRAPPING) in {_normal(value).strip(_WRAPPING) for value in check.values}


def _regex(check: RegexCheck, answer: str) -> bool:
    return re.search(check.pattern, answer[:MAX_REGEX_CHARACTERS]) is not None


def _unfenced(answer: str) -> str:
    """The answer without a code fence around it."""
    start = _FENCE_START.match(answer)
    if start is None or not answer.endswith("```"):
        return answer
    inner = answer[start.end() : -3]
    closed_on_own_line = "\n" in inner[len(inner.rstrip()) :]
    return inner if closed_on_own_line else answer


def _json_keys(check: JsonCheck, answer: str) -> bool:
    try:
        value = json.loads(_unfenced(answer))
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and set(value) == set(check.keys)


def _count(check: CountCheck, answer: str) -> bool:
    parts = answer.split() if check.type == "word_count" else [line for line in answer.split("\n") if line.strip()]
    return check.least <= len(parts) <= check.most


_CHECKERS: dict[type, Callable[[Any, str], bool]] = {
    NumberCheck: _number,
    ContainsCheck: _contains_any,
    ExactCheck: _exact,
    RegexCheck: _regex,
    JsonCheck: _json_keys,
    CountCheck: _count,
}


def passes(probe: Probe, answer_text: str) -> bool:
    """Whether the answer satisfies the probe's check. An empty or blank answer never does."""
    answer = answer_text.strip()
    return bool(answer) and _CHECKERS[type(probe.check)](probe.check, answer)


def _fault(probe: Probe) -> str | None:
    """What is wrong with a probe, or None."""
    check = probe.check
    if isinstance(check, RegexCheck):
        if _REPEATED_GROUP.search(check.pattern):
            return "its pattern repeats a group, which can take exponential time"
        try:
            re.compile(check.pattern)
        except re.error as error:
            return f"its pattern is not a regular expression: {error}"
    if isinstance(check, CountCheck) and check.least > check.most:
        return f"no count lies between {check.least} and {check.most}"
    if not passes(probe, probe.good):
        return f"its own good answer fails its check: {probe.good!r}"
    if passes(probe, probe.bad):
        return f"its bad answer passes its check: {probe.bad!r}"
    return None


def read_probes(path: Path) -> list[Probe]:
    """The probes of a JSONL file, in order. Raises InputError with the file, the line and the probe.

    Ids must be distinct; each probe's check must accept its good answer and reject its bad one.
    """
    probes: dict[str, Probe] = {}
    for where, probe in read_located_rows(path, Probe):
        fault = "its id is used twice" if probe.id in probes else _fault(probe)
        if fault:
            raise InputError(f"probe {probe.id!r}: {fault}", where=where, fix="correct this line")
        probes[probe.id] = probe
    if not probes:
        raise InputError("the file has no probes", where=str(path), fix="write one JSON object per line")
    return list(probes.values())
