"""docs/recipe.md and docs/commands.md, written from the schema's docstrings and from ``--help``: ``make docs``."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from mlx_ragtune.recipe import Recipe, Settings

WRITTEN = "<!-- written by `make docs`; edit the docstrings instead -->"


def _kind(annotation: Any) -> str:
    """A type as the writer of a recipe would say it."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(inner[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (Union, UnionType):
        return " or ".join(_kind(part) for part in inner)
    if origin is tuple:
        return f"list of {_kind(inner[0])}"
    if origin is dict:
        return f"{_kind(inner[1])} for each of {_kind(inner[0])}"
    names = {int: "integer", float: "number", str: "text", bool: "`true`, `false`", Path: "path", NoneType: "`null`"}
    return "value" if annotation is Any else names.get(annotation, "section")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if isinstance(value, Settings):
        return ""
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    if isinstance(value, dict):
        return "`{" + ", ".join(f"{key}: {item}" for key, item in value.items()) + "}`"
    return f"`{json.dumps(value)}`" if value is None or isinstance(value, bool) else f"`{value}`"


def _section(annotation: Any) -> type[Settings] | None:
    """The settings class in an annotation, if it is one."""
    inner = [annotation, *get_args(annotation)]
    return next((part for part in inner if isinstance(part, type) and issubclass(part, Settings)), None)


def _sections(model: type[Settings], at: str) -> Iterator[str]:
    """A table for a section, then its own sections."""
    rows, below = [], []
    for name, field in model.model_fields.items():
        place = f"{at}.{name}" if at else name
        if place == "name":  # the file's name
            continue
        if section := _section(field.annotation):
            below.append((section, place))
        else:
            cells = (f"`{name}`", _kind(field.annotation), _default(field), field.description)
            rows.append("| " + " | ".join(" ".join(str(cell).split()).replace("|", "\\|") for cell in cells) + " |")
    yield f"## {at}\n\n{model.__doc__}" if at else "## Top level"
    yield "| key | value | default | |\n|---|---|---|---|\n" + "\n".join(rows)
    for section, place in below:
        yield from _sections(section, place)


def recipe_page() -> str:
    """Every key of a recipe with its default and meaning, as Markdown."""
    intro = (
        "A recipe is one YAML file; its file name names the run. Paths are relative to its folder. "
        "Unknown keys are errors, and `ragtune validate RECIPE` reports all of them at once."
    )
    layers = (
        "A recipe with `extends: OTHER.yaml` holds only what differs, and `--set KEY=VALUE` changes one key for a "
        "command. Sections are merged key by key; every other value replaces the earlier one as a whole, also a list "
        "or `dataset.shares`. `null` takes an earlier value back, so that the default applies. A relative path starts "
        "at the folder of the file that it stands in, with `--set` at the folder of the recipe. Recipes may extend "
        "others that extend others. An error names the file and the line, or the option, that the value came from."
    )
    return "\n\n".join([WRITTEN, "# The recipe", intro, layers, *_sections(Recipe, "")]) + "\n"


def _commands(command: click.Command, name: str, parent: click.Context | None) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent, terminal_width=80, **command.context_settings)
    yield f"## {context.command_path}\n\n```\n{command.get_help(context)}\n```"
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            yield from _commands(command.commands[child], child, context)


def commands_page(main: click.Command) -> str:
    """The help of every command, as Markdown."""
    return "\n\n".join([WRITTEN, "# The commands", *_commands(main, "ragtune", None)]) + "\n"


def pages(main: click.Command) -> dict[str, str]:
    """Both pages by file name."""
    return {"recipe.md": recipe_page(), "commands.md": commands_page(main)}
