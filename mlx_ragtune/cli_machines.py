"""How a command runs on several machines with ``mlx.launch``: rank 0 runs it, the others help it train."""

import os
import signal
from functools import partial
from typing import TYPE_CHECKING

import click

from mlx_ragtune.clients.machine import is_launched

if TYPE_CHECKING:
    from mlx_ragtune.recipe import Recipe

MACHINES_KEY = "mlx_ragtune.machines"
"""Where a command leaves its ranks, if ``mlx.launch`` started it."""


def follow_if_launched(context: click.Context) -> None:
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
        follow(lambda model: resolve_base(model, import_gguf=import_gguf, say=partial(click.echo, err=True)))
    except KeyboardInterrupt as stopped:
        if stopped.args:  # else rank 0 was stopped as well, and says what was kept
            click.echo(f"rank {context.meta[MACHINES_KEY].rank}: {stopped}. Run the same command to continue", err=True)
        context.exit(130)
    context.exit(0)


def _terminated(_signal: int, _frame: object) -> None:
    """``mlx.launch`` ends all ranks when one of them ends with an error."""
    raise KeyboardInterrupt("stopped, because another rank ended")


def lead_if_launched(context: click.Context, recipe: "Recipe") -> None:
    """With ``mlx.launch``: tell the other ranks the base model."""
    if MACHINES_KEY in context.meta:
        from mlx_ragtune.tuning.follow import lead

        lead(recipe.base)
