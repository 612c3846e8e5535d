"""A recipe from its layers: the recipes that it extends, its own file, and what is set on the command line.

A later layer overrides an earlier one key by key. A section, such as ``train`` or ``evaluate.sampling``, is merged;
any other value, also a list or ``dataset.shares``, is replaced as a whole. ``null`` takes an earlier value back, so
that the default applies; where ``null`` is a value of its own, as in ``train.clip_norm``, it is that value. A relative
path starts at the folder of the file that it stands in, and on the command line at the folder of the recipe.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from mlx_ragtune.artifact import digest_json
from mlx_ragtune.errors import RecipeError
from mlx_ragtune.recipe import Recipe
from mlx_ragtune.recipe_yaml import (
    CONTROL,
    Origin,
    Origins,
    Place,
    Written,
    absolute_path,
    is_plain_text,
    models_in,
    path_problem,
    project_folder,
    read_recipe,
    read_value,
    without_credentials,
)

MAX_NAME = 100
"""Longest name of a variant."""
_MAX_VALUE = 40
_EXACT = 2.0**53
"""Below it every integer is a float, and is written with all of its digits."""
_COMMAND_LINE = -1


def read_layers(path: Path, overrides: Mapping[str, Any]) -> Written:
    """The recipe in a file, over the recipes that it extends, under the overrides by dotted key.

    Raises RecipeError for a file that cannot be read or parsed; all else is in ``problems``.
    """
    layers = [read_recipe(path)]
    while base := _extended(layers):
        layers.append(base)
    written, *others = reversed([*_override_layer(layers[0], overrides), *layers])
    for layer in others:
        written = _merged(written, layer)
    return replace(written, start=layers[0].start)


def _extended(layers: list[Written]) -> Written | None:
    """The recipe that the last layer extends, if any; what is wrong with ``extends`` is noted in that layer."""
    last = layers[-1]
    if "extends" not in last.value:
        return None
    origin, written = last.origin("extends"), last.value.pop("extends")
    if not isinstance(written, str):
        if ("extends",) not in last.broken:
            last.problems.append((origin, "extends: input should be the path of a recipe"))
        return None
    folder = origin.source.parent
    project = project_folder(origin.source).resolve()
    if problem := path_problem(written, folder=folder, project=project, kind="file"):
        last.problems.append((origin, f"extends: {problem}"))
        return None
    target = absolute_path(written, folder)
    if target.resolve() in [layer.start.source for layer in layers]:
        chain = " → ".join([*(layer.start.where for layer in layers), written])
        last.problems.append((origin, f"extends: the recipes extend each other: {chain}"))
        return None
    relative = not (Path(written).is_absolute() or Path(last.start.where).is_absolute())
    return read_recipe(target, shown=os.path.relpath(target) if relative else str(target), layer=len(layers))


def _merged(under: Written, over: Written) -> Written:
    """One layer over another."""
    replaced: set[Place] = set()
    value = _overlay(under, over, Recipe, (), replaced)

    def kept(place: Place) -> bool:
        return not any(place[: len(gone)] == gone for gone in replaced)

    origins: Origins = {place: origin for place, origin in under.origins.items() if kept(place)}
    for place, origin in over.origins.items():
        if origin.layer != _COMMAND_LINE or place not in origins or not isinstance(_at(value, place), dict):
            origins[place] = origin
    broken = {place for place in under.broken if kept(place)} | over.broken
    return Written(over.start, value, origins, [*under.problems, *over.problems], broken)


def _overlay(under: Written, over: Written, model: Any, at: Place, replaced: set[Place]) -> dict[str, Any]:
    """The merged section at a place; notes the places whose earlier value is gone."""
    below, above = _at(under.value, at), _at(over.value, at)
    section = dict(below)
    for name, value in above.items():
        place = (*at, name)
        info = model.model_fields.get(name)
        inner = next(models_in(info.annotation), None) if info else None
        if inner and isinstance(value, dict) and isinstance(section.get(name), dict):
            section[name] = _overlay(under, over, inner, place, replaced)
            continue
        replaced.add(place)
        section[name] = value
        if value is None and info and place not in over.broken and NoneType not in get_args(info.annotation):
            del section[name]
    return section


def _at(value: Any, place: Place) -> Any:
    for part in place:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _override_layer(recipe: Written, overrides: Mapping[str, Any]) -> Iterator[Written]:
    """What is set on the command line, as a layer; none without overrides."""
    if not overrides:
        return
    start = replace(recipe.start, layer=_COMMAND_LINE, where="--set", line=0)
    layer = Written(start)
    gathered = _gathered(overrides)
    for leaf, value in gathered.values.items():
        origin = replace(start, where=f"--set {_shown(*gathered.options[leaf])}")
        if leaf == "extends":
            layer.problems.append((origin, "extends: can only be written in a recipe file"))
        else:
            _put(layer, leaf, value, origin)
    for leaf, option, other in gathered.twice:
        origin = replace(start, where=f"--set {_shown(*option)}")
        layer.problems.append((origin, f"'{leaf}' is set twice, also by '--set {_shown(*other)}'"))
    yield layer


Option = tuple[str, Any]
"""A dotted key with its value, as it was given."""


@dataclass
class _Set:
    """What overrides set: ``values`` by dotted key and the option that set each; ``twice`` are conflicts.

    A key below a value that is no section, such as ``dataset.shares.refusal``, becomes part of that whole value.
    """

    values: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Option] = field(default_factory=dict)
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    twice: list[tuple[str, Option, Option]] = field(default_factory=list)

    def add(self, key: str, value: Any, option: Option) -> None:
        """Set a dotted key, unless another option has set it."""
        whole, below = _whole_value(key)
        if taken := self._taken(whole, below):
            self.twice.append((key, option, taken))
            return
        self.options.setdefault(whole, option)
        if below:
            self.parts.setdefault(whole, {})[below] = value
        self.values[whole] = self.parts[whole] if below else value

    def _taken(self, whole: str, below: str) -> Option | None:
        for other, option in self.options.items():
            if other == whole:
                if not below or below in self.parts.get(whole, {below: None}):
                    return option
            elif f"{whole}.".startswith(f"{other}.") or other.startswith(f"{whole}."):
                return option
        return None


def _gathered(overrides: Mapping[str, Any]) -> _Set:
    """What overrides set, key by key."""
    gathered = _Set()
    for key, value in overrides.items():
        for leaf, inner in _leaves(key, value):
            gathered.add(leaf, inner, (key, value))
    return gathered


def _whole_value(key: str) -> tuple[str, str]:
    """A dotted key as the key of a value in the schema, and what stands below it, or ""."""
    model: Any = Recipe
    names = key.split(".")
    for depth, name in enumerate(names, start=1):
        info = model.model_fields.get(name)
        inner = next(models_in(info.annotation), None) if info else None
        if inner is None:
            return (".".join(names[:depth]), ".".join(names[depth:])) if info else (key, "")
        model = inner
    return key, ""


def _put(layer: Written, key: str, value: Any, origin: Origin) -> None:
    """Set a dotted key in a layer."""
    *parents, last = key.split(".")
    section = layer.value
    for depth, parent in enumerate(parents, start=1):
        section = section.setdefault(parent, {})
        layer.origins.setdefault(tuple(parents[:depth]), origin)
    section[last] = _frozen(value)
    place = tuple(key.split("."))
    layer.origins[place] = origin
    if any(CONTROL.search(text) for text in _texts(value)):
        layer.refuse(place, 0, f"{key}: control characters are not allowed")


def _frozen(value: Any) -> Any:
    """A value with tuples instead of lists, as a recipe is read."""
    if isinstance(value, dict):
        return {str(name): _frozen(inner) for name, inner in value.items()}
    return tuple(_frozen(inner) for inner in value) if isinstance(value, list | tuple) else value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for inner in [*value, *value.values()] if isinstance(value, dict) else value:
            yield from _texts(inner)


def _section_at(key: str) -> Any:
    """The settings class at a dotted key, or None where no section is."""
    model: Any = Recipe
    for name in key.split("."):
        info = model.model_fields.get(name) if model else None
        model = next(models_in(info.annotation), None) if info else None
    return model


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The dotted keys that a value sets: one, or those of a whole section."""
    if isinstance(value, Mapping) and value and _section_at(key):
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}", inner)
    else:
        yield key, value


def setting_text(key: str, value: Any) -> str:
    """A setting as ``parse_settings`` reads it: ``train.rank=8``, ``train.target_modules=[q_proj,v_proj]``."""
    text = _flow(value)
    try:
        same = read_value(text, where="") == _frozen(value)
    except RecipeError:
        same = False
    return f"{key}={text if same else json.dumps(value, ensure_ascii=False, default=str)}"


def _flow(value: Any) -> str:
    """A value in one line of YAML, with as few quotes as a reader expects."""
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_flow, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_flow(inner)}" for name, inner in value.items()) + "}"
    plain = isinstance(value, str) and is_plain_text(value)
    return str(value) if plain else json.dumps(value, ensure_ascii=False, default=str)


def _shown(key: str, value: Any) -> str:
    """A setting in a message: at most about 100 characters, without the user and the password of a URL."""
    text = without_credentials(setting_text(key, value))
    return text if len(text) <= 100 else f"{text[:99]}…"


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """The overrides of ``--set KEY=VALUE`` options, with YAML values. Raises RecipeError for what is not a setting."""
    overrides: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip()
        if not equals or not key:
            raise RecipeError(
                "a setting needs a key and a value",
                where=f"--set {without_credentials(setting):.80}",
                fix="--set train.rank=8",
            )
        if key in overrides:
            raise RecipeError(
                f"'{key}' is set twice", where=f"--set {without_credentials(setting):.80}", fix="give each key once"
            )
        overrides[key] = read_value(text, where=f"--set {without_credentials(setting):.80}", key=key)
    return overrides


def recorded(overrides: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    """The overrides as plain JSON by dotted key, sorted, and equal for equal settings.

    ``recipe`` is the checked variant. The result can be given to ``load_recipe`` again.
    """
    values = _gathered(overrides).values
    return {key: _recorded(key, values[key], recipe) for key in sorted(values)}


def _recorded(key: str, given: Any, recipe: Recipe) -> Any:
    if given is None or given == {}:
        return given
    value: Any = recipe
    for name in key.split("."):
        value = getattr(value, name)
    if isinstance(value, Path):  # absolute by now
        return Path(given).as_posix()
    return given if isinstance(value, str) else _plain(value)


def _plain(value: Any) -> Any:
    """A checked value as plain JSON; 2.0 and 2 are equal."""
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in sorted(value.items())}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT else value


def variant_name(name: str, settings: Mapping[str, Any]) -> str:
    """The name of a recipe with ``recorded`` settings: ``mine+train.rank=8``, or ``name`` without settings.

    It has at most ``MAX_NAME`` letters, digits and ``._,+=-``. A digest of the settings ends a name that had to leave
    something out. No recipe file has such a name.
    """
    if not settings:
        return name
    parts, whole = [name], True
    for key, value in settings.items():
        text = _label(value)
        safe = re.sub(r"[^A-Za-z0-9._,-]+", "-", text).strip("-")[:_MAX_VALUE]
        whole &= safe == text and (not isinstance(value, str) or is_plain_text(value))
        parts.append(f"{key}={safe}")
    joined = "+".join(parts)
    if whole and len(joined) <= MAX_NAME:
        return joined
    return f"{joined[: MAX_NAME - 9].rstrip('.,+=-')}-{digest_json(settings)[:8]}"


def _label(value: Any) -> str:
    """A value as it stands in a name; what is not a plain value or a list of them has characters that are not safe."""
    if isinstance(value, list) and value and all(isinstance(item, str | int | float) for item in value):
        return ",".join(_label(item).replace(",", ";") for item in value)
    return value if isinstance(value, str) else json.dumps(value).replace("e+", "e")
