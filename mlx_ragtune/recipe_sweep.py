"""The ``sweep`` section of a recipe: the values of each key of its space, and what is wrong with them."""

import difflib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from mlx_ragtune.recipe import DatasetSettings, TrainSettings
from mlx_ragtune.recipe_yaml import SYNONYMS, Problems, Written, models_in

SECTIONS: Mapping[str, Any] = {"train": TrainSettings, "dataset": DatasetSettings}
"""The sections whose keys a sweep may vary."""
NOT_SHARED = {
    "dataset.pairs": "it changes the questions that all trials are compared on",
    "dataset.generator": "it changes the questions that all trials are compared on, and writes new pairs",
    "dataset.valid_share": "it changes the questions that all trials are compared on",
    "dataset.test_share": "it changes the papers that are held out",
    "dataset.thinking": "it changes the prompts of the base model too",
    "dataset.on_too_long": "it cannot change a result",
    "dataset.rehearsal.prompts": "it changes the answers that are held out of all trials",
    "dataset.rehearsal.count": "it changes the answers that are held out of all trials",
    "dataset.rehearsal.max_tokens": "it changes the answers that are held out of all trials",
    "dataset.split": "it changes the questions that all trials are compared on",
    "dataset.max_loss": "it cannot change a result",
    "train.report_to": "it cannot change a result",
    "train.from_adapter": "all trials start from the same adapter",
}
"""Keys of these sections that no sweep may vary, and why."""
SHAPE_KEYS = ("train.method", "train.rank", "train.target_modules", "train.layers")
"""Keys that are the shape of an adapter, which ``train.from_adapter`` fixes."""
RANGE_KEYS = ("low", "high", "step", "log")
MAX_VALUES = 1000
"""Most values of a list."""
MAX_COMBINATIONS = 100_000
"""Most combinations that a grid may have."""
STORAGE_VARIABLE = "RAGTUNE_SWEEP_STORAGE"
"""The environment variable with the address of the study, for an address with a password."""
Rules = Callable[[Written], Iterable[tuple[str, str]]]
"""Finds keys that contradict each other, each with a description."""


@dataclass(frozen=True)
class Choices:
    """A list of values."""

    values: tuple[Any, ...]

    @property
    def samples(self) -> tuple[Any, ...]:
        """Values that must fit the schema."""
        return self.values

    @property
    def grid(self) -> tuple[Any, ...] | None:
        """All values, or None where they are not finite."""
        return self.values


@dataclass(frozen=True)
class Range:
    """Every number from ``low`` to ``high``, both included; integers where both are. ``log``: by ratios."""

    low: float
    high: float
    step: float | None = None
    log: bool = False

    @property
    def is_integer(self) -> bool:
        """Whether the values are integers."""
        return isinstance(self.low, int) and isinstance(self.high, int) and not isinstance(self.step, float)

    @property
    def samples(self) -> tuple[Any, ...]:
        """Both ends and the first step: what lies between fits the schema when they do."""
        return (self.low, self.high) if self.step is None else (self.low, self.low + self.step, self.high)

    @property
    def grid(self) -> tuple[Any, ...] | None:
        """All values from ``low`` in steps, or None where they are not finite."""
        step = self.step or (1 if self.is_integer and not self.log else None)
        if step is None:
            return None
        # In decimals, because 3 × 0.1 is more than 0.3 in binary.
        low, exact = Decimal(str(self.low)), Decimal(str(step))
        count = min(int((Decimal(str(self.high)) - low) / exact) + 1, MAX_COMBINATIONS + 1)
        number = int if self.is_integer else float
        return tuple(number(low + index * exact) for index in range(count))


Dimension = Choices | Range


def read_dimension(written: Any) -> Dimension:
    """The values that a recipe gives for a key. Raises ValueError that says what is wrong with them."""
    if isinstance(written, list | tuple):
        return _choices(tuple(written))
    if isinstance(written, Mapping):
        return _range(written)
    raise ValueError(f"give a list or a range of values, such as [4, 8] or {{low: 4, high: 64}}, not {written!r:.60}")


def _choices(values: tuple[Any, ...]) -> Choices:
    if not values:
        raise ValueError("an empty list; give at least two values")
    if len(values) > MAX_VALUES:
        raise ValueError(f"a list of {len(values)} values; give at most {MAX_VALUES}, or a range")
    distinct = {repr(int(value) if isinstance(value, float) and value.is_integer() else value) for value in values}
    if len(distinct) < len(values):
        raise ValueError("a value is listed twice; give each value once")
    if len(values) == 1:
        raise ValueError("a single value is not a choice; give at least two values, or set the key itself")
    return Choices(values)


def _range(written: Mapping[str, Any]) -> Range:
    if unknown := sorted(set(written) - set(RANGE_KEYS)):
        raise ValueError(f"unknown key '{unknown[0]}' in a range (known: {', '.join(RANGE_KEYS)})")
    if missing := [key for key in ("low", "high") if key not in written]:
        raise ValueError(f"a range needs '{missing[0]}', as in {{low: 4, high: 64}}")
    low, high, step, log = written["low"], written["high"], written.get("step"), written.get("log", False)
    for name, number in (("low", low), ("high", high), ("step", step)):
        absent = name == "step" and number is None
        if not absent and (
            isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number)
        ):
            raise ValueError(f"'{name}' is not a number: {number!r:.60}")
    if not isinstance(log, bool):
        raise ValueError(f"'log' is true or false, not {log!r:.60}")
    if low >= high:
        raise ValueError(f"an empty range: 'low' ({low:g}) is not below 'high' ({high:g})")
    if log and step is not None:
        raise ValueError("'log' and 'step' exclude each other; remove one of them")
    if log and low <= 0:
        raise ValueError(f"a logarithmic range starts above 0, not at {low:g}")
    if step is not None and not 0 < step <= high - low:
        raise ValueError(f"'step' ({step:g}) is not between 0 and the length of the range ({high - low:g})")
    return Range(low, high, step, log)


def _keys_of(model: Any, at: str) -> Iterator[str]:
    """The dotted keys of the values below a section."""
    for name, info in model.model_fields.items():
        if inner := next(models_in(info.annotation), None):
            yield from _keys_of(inner, f"{at}.{name}")
        else:
            yield f"{at}.{name}"


def _closest_key(key: str) -> str | None:
    """The key of ``train`` or ``dataset`` that was meant, also by the name that another tool has for it."""
    known = [key for section, model in SECTIONS.items() for key in _keys_of(model, section)]
    parents, _, last = key.rpartition(".")
    name = SYNONYMS.get(last, last)
    same = [place for place in known if place.rpartition(".")[2] == name and parents in ("", place.rpartition(".")[0])]
    near = same or difflib.get_close_matches(f"{parents}.{name}" if parents else name, known, n=1, cutoff=0.75)
    return near[0] if near else None


def storage_problem(address: str) -> str | None:
    """What is wrong with ``sweep.storage``, or None. The text never holds the credentials of the address."""
    if address.startswith("journal:"):
        return (
            None if address.removeprefix("journal:").strip("/") else "a journal needs a path, as in journal:sweep.log"
        )
    if not re.match(r"[a-z][a-z0-9]*(\+[a-z0-9_]+)?://", address):
        return "not the address of a study; write postgresql://HOST/NAME, sqlite:///PATH or journal:PATH"
    try:
        parts = urlsplit(address)
        secret = parts.password or any("pass" in name.lower() for name, _ in parse_qsl(parts.query))
    except ValueError:
        return "not the address of a study; write postgresql://HOST/NAME, sqlite:///PATH or journal:PATH"
    if secret:
        return f"a password does not belong in a recipe; remove it, and set the environment variable {STORAGE_VARIABLE}"
    if parts.scheme.startswith("sqlite") and parts.path in ("", "/", "/:memory:"):
        return "a study in memory is lost when the sweep stops; write sqlite:///PATH, or remove it for the default"
    return None


def sweep_problems(written: Written, rules: Rules) -> Problems:
    """What is wrong with the section; ``rules`` are applied to the recipe with each value of each key."""
    if not isinstance(written.value.get("sweep"), dict):
        return []
    problems: Problems = []
    storage = written.get("sweep.storage")
    if isinstance(storage, str) and (problem := storage_problem(storage)):
        problems.append((written.origin("sweep.storage"), f"sweep.storage: {problem}"))
    space = written.get("sweep.space")
    if not isinstance(space, dict):
        if written.get("sweep.sampler") == "grid":
            problem = "the default space is not finite, as a grid must be; give 'sweep.space'"
            problems.append((written.origin("sweep.sampler"), f"sweep.sampler: {problem}"))
        return problems
    if not space:
        problem = "an empty space; list the keys to vary, or remove it for the default"
        problems.append((written.origin("sweep.space"), f"sweep.space: {problem}"))
    for key, value in space.items():
        origin = written.nearest(("sweep", "space", key))
        problems += [
            (origin, f"sweep.space: {key}: {problem}") for problem in _key_problems(written, key, value, rules)
        ]
    if not problems and written.get("sweep.sampler") == "grid":
        problems += [(written.origin("sweep.space"), problem) for problem in _grid_problems(space)]
    return problems


def _key_problems(written: Written, key: str, value: Any, rules: Rules) -> Iterator[str]:
    """What is wrong with one key of the space and its values."""
    section = key.partition(".")[0]
    barred = next((why for place, why in NOT_SHARED.items() if f"{key}.".startswith(f"{place}.")), None)
    if barred:
        yield f"cannot be swept: {barred}"
        return
    if key in SHAPE_KEYS and written.get("train.from_adapter") is not None:
        yield "cannot be swept with 'train.from_adapter', whose shape all trials have"
        return
    if section not in SECTIONS:
        if closest := _closest_key(key):
            yield f"unknown key, did you mean '{closest}'?"
        else:
            yield "cannot be swept: all trials share the rest of the recipe; vary keys of 'train' and 'dataset'"
        return
    info = _field_of(key)
    if key in SECTIONS:
        yield "a section cannot be swept; vary one of its keys"
        return
    if info is None:
        closest = _closest_key(key)
        yield f"unknown key, did you mean '{closest}'?" if closest else f"unknown key of '{section}'"
        return
    if inner := next(models_in(info.annotation), None):
        keys = ", ".join(f"{key}.{last}" for last in inner.model_fields)
        yield f"a section cannot be swept; vary one of its keys: {keys}"
        return
    parent = key.rpartition(".")[0]
    if parent != section and not isinstance(written.get(parent), dict):
        yield f"the recipe does not set '{parent}'; add it, or remove '{key}'"
        return
    try:
        dimension = read_dimension(value)
    except ValueError as error:
        yield str(error)
        return
    for sample in dimension.samples:
        yield from _value_problems(written, key, sample, rules)


def _field_of(key: str) -> FieldInfo | None:
    """The field of the schema that a dotted key names."""
    section, *names = key.split(".")
    model, info = SECTIONS[section], None
    for name in names:
        info = model.model_fields.get(name) if model else None
        model = next(models_in(info.annotation), None) if info else None
    return info


def _value_problems(written: Written, key: str, value: Any, rules: Rules) -> Iterator[str]:
    """What is wrong with one value: by the schema, and beside the other keys of the recipe."""
    *parents, name = key.split(".")
    field = _field_of(key)
    assert field is not None  # noqa: S101 (the caller has looked)
    annotated: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    try:
        TypeAdapter(annotated, config=ConfigDict(strict=True, allow_inf_nan=False)).validate_python(value)
    except ValidationError as error:
        messages = dict.fromkeys(detail["msg"].removeprefix("Value error, ") for detail in error.errors())
        text = " or ".join(messages)
        yield f"{text[0].lower()}{text[1:]}, not {value!r:.60}"
        return
    changed = deepcopy(written.value)
    target = changed
    for parent in parents:
        target = target.setdefault(parent, {})
        if not isinstance(target, dict):
            return  # reported elsewhere
    target[name] = value
    before = set(rules(written))
    for other, problem in rules(replace(written, value=changed)):
        if (other, problem) not in before:
            yield f"with {value!r:.60}: {other}: {problem}"


def _grid_problems(space: Mapping[str, Any]) -> Iterator[str]:
    total = 1
    for key, value in space.items():
        values = read_dimension(value).grid
        if values is None:
            yield f"sweep.space: {key}: 'sampler: grid' needs a list or a 'step', because a range has no end of values"
        else:
            total *= len(values)
    if total > MAX_COMBINATIONS:
        yield f"sweep.space: more than {MAX_COMBINATIONS:,} combinations; give fewer values, or 'sampler: tpe'"
