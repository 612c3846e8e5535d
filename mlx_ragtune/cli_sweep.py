"""The commands ``ragtune sweep RECIPE`` and ``ragtune sweep best RECIPE``."""

import json
import shlex
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlx_ragtune.cli_group import RUN_KEY
from mlx_ragtune.cli_options import AS_JSON, echo_json, open_run, say
from mlx_ragtune.pages.interrupt import announce_interrupt

if TYPE_CHECKING:
    from mlx_ragtune.commands.sweep import SweepResult
    from mlx_ragtune.errors import RagtuneError
    from mlx_ragtune.runner import Run
    from mlx_ragtune.sweeping.study import SweepStudy

RECIPE_ONLY = click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False))
"""A sweep takes no ``--set``: it would be a sweep of another recipe."""


class SweepGroup(click.Group):
    """``ragtune sweep RECIPE`` is ``ragtune sweep start RECIPE``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default command in front of anything that does not name a command."""
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["start", *args]
        return super().parse_args(ctx, args)


@click.group(cls=SweepGroup, no_args_is_help=True)
def sweep() -> None:
    """Try many training settings, and run the best to the report.

    The recipe's section 'sweep' says what is varied. Stop with Ctrl-C; the same command continues.

    \b
    Examples:
      ragtune sweep recipes/demo.yaml            run trials, then the finalists
      ragtune sweep recipes/demo.yaml --worker   one more worker on the study
      ragtune sweep best recipes/demo.yaml --write recipes/best.yaml
    """


@sweep.command()
@RECIPE_ONLY
@click.option("--worker", is_flag=True, help="Run trials of a study that other workers share, and nothing else.")
@AS_JSON
def start(recipe: Path, worker: bool, as_json: bool) -> None:
    """Run trials until the budget is spent; then the finalists.

    Workers on several machines share one study: sweep.storage, or RAGTUNE_SWEEP_STORAGE for an address with a
    password. One of them runs without --worker: it waits for the others and runs the finalists.

    \b
    Examples:
      ragtune sweep recipes/demo.yaml
      ragtune sweep recipes/demo.yaml --worker
    """
    from mlx_ragtune.commands import sweep as command
    from mlx_ragtune.commands.sweep_best import best_row

    run = _open(recipe)
    study: SweepStudy | None = None
    errors: dict[int, RagtuneError] = {}
    try:
        with announce_interrupt():
            study = command.open_sweep(run, recipe, open_variant=_opener(recipe), say=say)
            if worker and not study.is_shared:
                say("this study is a file on this machine: workers on other machines need sweep.storage")
            if not worker and study.settings.finalists:
                _check_later_stages(run)
            stopped = command.run_trials(run, study, _opener(recipe), say=say, wait=not worker)
            result = command.result_of(study, run.recipe, stopped=stopped)
            command.keep(result, run.home)
            if not worker:
                verdicts, errors = command.run_finalists(
                    study, run.recipe, _opener(recipe), until_report=_to_report, say=say
                )
                result = command.result_of(study, run.recipe, stopped=stopped, finalists=verdicts, errors=errors)
    except KeyboardInterrupt:
        if study is not None:
            command.keep(command.result_of(study, run.recipe, stopped=""), run.home)
        say("\nstopped; finished trials are kept. Run the same command to continue")
        raise click.exceptions.Exit(130) from None
    finally:
        if study is not None:
            study.close()
    path = command.keep(result, run.home)
    _show(result, run, recipe, as_json)
    say(f"results: {path}")
    if not worker:
        best_row(result)  # a sweep without one has failed
    for error in errors.values():
        raise error


@sweep.command()
@RECIPE_ONLY
@click.option("--write", type=click.Path(path_type=Path, dir_okay=False), help="Write a recipe with these settings.")
@AS_JSON
def best(recipe: Path, write: Path | None, as_json: bool) -> None:
    """Show the best trial, and write a recipe for it.

    \b
    Example:
      ragtune sweep best recipes/demo.yaml --write recipes/best.yaml
    """
    from mlx_ragtune.commands import sweep as command
    from mlx_ragtune.commands.sweep_best import best_row, require_new, write_best
    from mlx_ragtune.runner import open_recipe

    if write is not None:
        require_new(write)
    run = _open(recipe)
    opened = command.open_sweep(run, recipe, open_variant=_opener(recipe), say=say, only_read=True)
    with closing(opened) as study:
        row = best_row(command.result_of(study, run.recipe, stopped=""))
    written = write_best(recipe, row, write, reopen=open_recipe) if write else None
    if as_json:
        found = {"trial": row.number + 1, "settings": row.settings, "score": row.score, "valid_loss": row.valid_loss}
        click.echo(json.dumps({**found, "run": row.run, "written": str(written) if written else None}, indent=2))
        return
    click.echo(f"trial {row.number + 1}: score {row.score:.3f}, validation loss {row.valid_loss:.4f}")
    for key, value in row.settings.items():
        click.echo(f"  {key}: {json.dumps(value)}")
    if written:
        click.echo(f"next: ragtune run {shlex.quote(str(written))}")
    else:
        click.echo(f"next: ragtune sweep best {shlex.quote(str(recipe))} --write recipes/NAME.yaml")


def _open(recipe: Path) -> "Run":
    run = open_run(recipe)
    click.get_current_context().meta.pop(RUN_KEY, None)  # a stop is answered here
    return run


def _opener(recipe: Path) -> Any:
    """Opens the run of the recipe with other settings."""
    from mlx_ragtune.pages.progress import bar
    from mlx_ragtune.runner import open_recipe

    def open_variant(settings: Mapping[str, Any]) -> "Run":
        run = open_recipe(recipe, settings)
        run.track, run.say = bar, say
        return run

    return open_variant


def _check_later_stages(run: "Run") -> None:
    """Refuse before the first trial what would stop the finalists after the last one."""
    run.ask_servers = True
    run.check(step for step in run.plan() if step.stage not in ("corpus", "dataset", "train"))


def _to_report(run: "Run") -> None:
    run.ask_servers = True
    run.run()


def _show(result: "SweepResult", run: "Run", recipe: Path, as_json: bool) -> None:
    from mlx_ragtune.commands.sweep import sweep_settings
    from mlx_ragtune.commands.sweep_text import sweep_text

    if as_json:
        echo_json(result.as_json())
    else:
        click.echo(sweep_text(result, sweep_settings(run.recipe), recipe=shlex.quote(str(recipe))))
