"""What several commands share: their options, and how they open the run of a recipe."""

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlx_ragtune.cli_group import RECIPE_KEY, RUN_KEY, STAGE_NAMES
from mlx_ragtune.clients.machine import is_launched

if TYPE_CHECKING:
    from mlx_ragtune.recipe import Recipe
    from mlx_ragtune.runner import Run

MACHINES_KEY = "mlx_ragtune.machines"
"""Where a command leaves its ranks, if ``mlx.launch`` started it."""
RECIPE = click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False))
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for a script.")
ALLOW = click.option(
    "--allow", multiple=True, metavar="NAME", help="Compare although this condition differs; every report says so."
)
REPLACE = click.option("--replace", is_flag=True, help="Replace models at Ollama that ragtune did not register.")
REDO = click.option(
    "--redo", multiple=True, type=click.Choice(STAGE_NAMES), help="Run this stage even if it is up to date."
)


def say(text: str) -> None:
    """Print a line for people: to stderr, so that stdout holds only results."""
    click.echo(text, err=True)


def _follow_if_launched(context: click.Context) -> None:
    """With ``mlx.launch``: every rank but the first helps it train, then exits. The first releases them at the end."""
    if not is_launched(os.environ) or MACHINES_KEY in context.meta:
        return
    from mlx_ragtune.bases.resolve import resolve_base
    from mlx_ragtune.runner import import_gguf
    from mlx_ragtune.tuning.follow import follow, release
    from mlx_ragtune.tuning.ranks import find_ranks

    signal.signal(signal.SIGTERM, _terminated)
    context.meta[MACHINES_KEY] = find_ranks()
    if context.meta[MACHINES_KEY].first:
        context.call_on_close(release)
        return
    try:
        follow(lambda model: resolve_base(model, import_gguf=import_gguf, say=say))
    except KeyboardInterrupt as stopped:
        if stopped.args:  # else rank 0 was stopped as well, and says what was kept
            say(f"rank {context.meta[MACHINES_KEY].rank}: {stopped}. Run the same command to continue")
        context.exit(130)
    context.exit(0)


def _terminated(_signal: int, _frame: object) -> None:
    """``mlx.launch`` ends all ranks when one of them ends with an error."""
    raise KeyboardInterrupt("stopped, because another rank ended")


def _lead_if_launched(context: click.Context, recipe: "Recipe") -> None:
    """With ``mlx.launch``: tell the other ranks the base model."""
    if MACHINES_KEY in context.meta:
        from mlx_ragtune.tuning.follow import lead

        lead(recipe.base)


def open_run(
    path: Path,
    *,
    allow: tuple[str, ...] = (),
    offline: bool = False,
    ask_servers: bool = False,
    replace_others: bool = False,
) -> "Run":
    """The run of a recipe; ``allow`` adds to its ``evaluate.allow``, the rest is as in ``runner.Run``."""
    from mlx_ragtune.pages.progress import bar
    from mlx_ragtune.recipe_load import load_recipe, runs_folder
    from mlx_ragtune.runner import Run, run_folder

    context = click.get_current_context(silent=True)
    if context is not None:
        context.meta[RECIPE_KEY] = path
        _follow_if_launched(context)
    recipe = load_recipe(path)
    if allow:
        named = tuple(dict.fromkeys((*recipe.evaluate.allow, *allow)))
        recipe = recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"allow": named})})
    home = run_folder(path, runs_folder(path))
    run = Run(recipe.model_copy(update={"name": home.name}), home, path, track=bar, say=say)
    run.offline, run.ask_servers, run.replace_others = offline, ask_servers, replace_others
    if context is not None:
        context.meta[RUN_KEY] = run
        _lead_if_launched(context, recipe)
    return run
