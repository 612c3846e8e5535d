"""Settings of recipes side by side: which differ, and how they are written in few characters."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlx_ragtune.recipe import PROJECTIONS

MANY = 6
"""When more settings differ, a run shows only those that are not the most common value."""
UNKNOWN = object()
"""The value of a key that a run does not tell."""
NOT_SETTINGS = ("name", "extends", "sweep")
"""Top-level keys that say nothing about a result."""


def value_text(value: Any) -> str:
    """A setting as in a recipe, in few characters: ``0.00013``, ``q+v`` (projections), ``null``."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float) or (isinstance(value, int) and abs(value) >= 10**15):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        texts = [value_text(item) for item in value]
        if texts and all(text in PROJECTIONS for text in texts):
            texts = ["all"] if len(texts) == len(PROJECTIONS) else [text.removesuffix("_proj") for text in texts]
        return "+".join(texts) or "[]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {value_text(inner)}" for key, inner in value.items()) + "}"
    return str(value)


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Each dotted key's last part, with its section where two would have the same."""
    counts = Counter(key.rpartition(".")[2] for key in keys)
    return {key: name if counts[name := key.rpartition(".")[2]] == 1 else key for key in keys}


def settings_text(settings: Mapping[str, Any], names: Mapping[str, str] | None = None) -> str:
    """Settings in one line: ``learning_rate 0.0001, rank 8``; the section is named where names repeat."""
    names = names or short_names(list(settings))
    return ", ".join(f"{names.get(key, key)} {value_text(value)}" for key, value in settings.items())


def differing(runs: Iterable[Mapping[str, Any]]) -> list[str]:
    """The dotted keys of which not all runs that know them have the same value, in the order of the recipe.

    Where a run has no section, as with ``dataset.generator: null``, its keys are null.
    """
    runs = list(runs)
    every = dict.fromkeys(key for run in runs for key in run)
    keys = [key for key in every if key.partition(".")[0] not in NOT_SETTINGS]
    values = {key: {repr(value_of(run, key)) for run in runs if value_of(run, key) is not UNKNOWN} for key in keys}
    return [key for key in keys if len(values[key]) > 1]


def value_of(settings: Mapping[str, Any], key: str) -> Any:
    """A run's value of a dotted key, null below a section that it does not have, or ``UNKNOWN``."""
    while key not in settings and "." in key:
        key = key.rpartition(".")[0]
    return settings.get(key, UNKNOWN)


def what_differs(settings: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> dict[str, Any]:
    """What tells one run from the others: its values of ``keys``; of many only those that are not the most common."""
    own = {key: value for key in keys if (value := value_of(settings, key)) is not UNKNOWN}
    if len(keys) <= MANY:
        return own
    rare = {}
    for key, value in own.items():
        counts = Counter(repr(value_of(other, key)) for other in runs)
        if repr(value) != counts.most_common(1)[0][0]:
            rare[key] = value
    return rare
