"""What several commands share: their options, and how they open the run of a recipe."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mlx_ragtune.cli_group import RECIPE_KEY, RUN_KEY, STAGE_NAMES
from mlx_ragtune.cli_machines import follow_if_launched, lead_if_launched

SETTINGS_KEY = "mlx_ragtune.settings"
"""Where ``--set`` leaves what it sets, by dotted key."""

if TYPE_CHECKING:
    from mlx_ragtune.runner import Run

Command = TypeVar("Command", bound=Callable[..., Any])


def _remember_settings(context: click.Context, _parameter: click.Parameter, settings: tuple[str, ...]) -> None:
    if settings:
        from mlx_ragtune.recipe_layers import parse_settings

        context.meta[SETTINGS_KEY] = parse_settings(settings)


SET = click.option(
    "--set",
    multiple=True,
    metavar="KEY=VALUE",
    expose_value=False,
    callback=_remember_settings,
    help="Use another value than the recipe's: train.rank=8.",
)


def settings_here() -> dict[str, Any]:
    """What ``--set`` gives to the command that runs, by dotted key."""
    context = click.get_current_context(silent=True)
    return dict(context.meta.get(SETTINGS_KEY, {})) if context is not None else {}


def set_here(key: str, value: Any, *, option: str) -> None:
    """Set a recipe key for the command that runs, as ``--set`` does. Raises UsageError when ``--set`` sets it too."""
    settings = settings_here()
    if key in settings:
        raise click.UsageError(f"{option} and --set {key} say the same; give one of them")
    click.get_current_context().meta[SETTINGS_KEY] = {**settings, key: value}


def RECIPE(command: Command) -> Command:  # noqa: N802 (a decorator, like the options below)
    """The argument ``recipe`` and the option ``--set``, which ``open_run`` reads."""
    return click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False))(SET(command))


class FiniteRange(click.FloatRange):
    """Numbers of a range. ``nan`` is outside of every one, although no comparison says so."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, or a UsageError."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{number} is not in the range {self._describe_range()}.", param, ctx)
        return number


AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for a script.")
ALLOW = click.option(
    "--allow", multiple=True, metavar="NAME", help="Compare although this condition differs; every report says so."
)
REPLACE = click.option("--replace", is_flag=True, help="Replace models at Ollama that ragtune did not register.")
STRENGTH = click.option(
    "--strength",
    type=float,
    metavar="FACTOR",
    help="Export the trained adapter weaker (below 1): as --set fuse.strength=FACTOR.",
)
REDO = click.option(
    "--redo", multiple=True, type=click.Choice(STAGE_NAMES), help="Run this stage even if it is up to date."
)


def echo_json(value: Any) -> None:
    """Print JSON for a script; what is not valid Unicode, such as the name of a file, becomes an escape."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    click.echo(text.encode("utf-8", "backslashreplace").decode())


def say(text: str) -> None:
    """Print a line for people: to stderr, so that stdout holds only results."""
    click.echo(text, err=True)


def open_run(
    path: Path,
    *,
    allow: tuple[str, ...] = (),
    offline: bool = False,
    ask_servers: bool = False,
    replace_others: bool = False,
    missing_ok: tuple[str, ...] = (),
) -> "Run":
    """The run of a recipe as changed by ``--set``; ``allow`` adds to its ``evaluate.allow``.

    ``missing_ok`` is as in ``open_recipe``, the rest as in ``runner.Run``.
    """
    from mlx_ragtune.pages.progress import bar
    from mlx_ragtune.run_folders import recipe_arguments
    from mlx_ragtune.runner import open_recipe

    context, settings = click.get_current_context(silent=True), settings_here()
    if context is not None:
        follow_if_launched(context)
        context.meta[RECIPE_KEY] = recipe_arguments(path, settings)
    run = open_recipe(path, settings, missing_ok=missing_ok)
    if allow:
        evaluate = run.recipe.evaluate
        named = tuple(dict.fromkeys((*evaluate.allow, *allow)))
        run.recipe = run.recipe.model_copy(update={"evaluate": evaluate.model_copy(update={"allow": named})})
    run.track, run.say = bar, say
    run.offline, run.ask_servers, run.replace_others = offline, ask_servers, replace_others
    if context is not None:
        context.meta[RUN_KEY] = run
        lead_if_launched(context, run.recipe)
    return run
