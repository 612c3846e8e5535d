"""The group of all commands: their order in the help, and every failure as one message with an exit code."""

import os
import sqlite3
import sys
import traceback
from typing import Any, NoReturn

import click

from mlx_ragtune.artifact import STAGE_FOLDERS
from mlx_ragtune.errors import RagtuneError, of_machine

STAGE_NAMES = list(STAGE_FOLDERS)
RECIPE_KEY, RUN_KEY = "mlx_ragtune.recipe", "mlx_ragtune.run"
"""Where a command leaves the recipe as it is typed in a shell, with ``--set``, and its run: for error messages."""


class CommandGroup(click.Group):
    """Commands in pipeline order; every failure that a user can fix becomes one message and an exit code."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """``run`` and the stages in order, then all others by name."""
        rest = sorted(name for name in set(self.commands) - set(STAGE_NAMES) if not self.commands[name].hidden)
        return ["run", *STAGE_NAMES, *(name for name in rest if name != "run")]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Two sections: the pipeline, and the rest."""
        names = self.list_commands(ctx)
        for title, part in (
            ("Pipeline commands (each runs the stages before it too)", ["run", *STAGE_NAMES]),
            ("Other commands", [name for name in names if name not in {"run", *STAGE_NAMES}]),
        ):
            with formatter.section(title):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(58)) for name in part])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a failure is printed, and its exit code returned."""
        try:
            return super().invoke(ctx)
        except RagtuneError as error:
            _fail(ctx, error)
        except KeyboardInterrupt:
            click.echo(f"\n{_stopped(ctx)}", err=True)
            ctx.exit(130)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except (OSError, MemoryError, sqlite3.OperationalError) as error:
            _fail(ctx, of_machine(error))
        except Exception:
            traceback.print_exc()
            click.echo(
                "error: this is a bug in ragtune, not in your recipe. Please report it with the traceback above and "
                "the output of: ragtune doctor --json",
                err=True,
            )
            ctx.exit(70)


def _fail(ctx: click.Context, error: RagtuneError) -> NoReturn:
    """Print the error, with the recipe's real path in its hint, and exit."""
    if recipe := ctx.meta.get(RECIPE_KEY):
        error.fix = error.fix.replace("RECIPE", recipe)
    click.echo(f"error: {error}", err=True)
    ctx.exit(error.exit_code)


def _stopped(ctx: click.Context) -> str:
    """What was kept when the user pressed Ctrl-C."""
    run = ctx.meta.get(RUN_KEY)
    if run is None or not run.current:
        return "stopped"
    from mlx_ragtune.tuning.run import keeps_checkpoints

    if run.current == "train" and not keeps_checkpoints(run.recipe.train.engine):
        kept = "finished stages are kept; 'engine: mlx-lm' has no checkpoints, so training starts from the beginning"
    else:
        kept = "finished work is kept"
    return f"stopped in stage '{run.current}'; {kept}. Run the same command to continue"
