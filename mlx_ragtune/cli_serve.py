"""The command that serves the papers of a recipe."""

import sys
import time
from pathlib import Path
from typing import Any

import click

from mlx_ragtune.cli_options import RECIPE, open_run, say


@click.command()
@RECIPE
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; others need a token.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8642, show_default=True, help="Port; 0 takes a free one."
)
@click.option("--preview", is_flag=True, help="Serve base and adapter, before fusing; its strength can be chosen.")
@click.option(
    "--turns",
    type=click.IntRange(0, 20),
    default=0,
    show_default=True,
    help="Earlier questions and answers that the model is shown.",
)
@click.option("--slots", type=click.IntRange(1, 64), help="Questions answered at a time [default: evaluate.slots].")
@click.option("--token", is_flag=True, help="Require a token on this machine too; RAGTUNE_SERVE_TOKEN sets it.")
@click.option(
    "--allow-host",
    "allow_hosts",
    multiple=True,
    metavar="NAME",
    help="Another name by which clients reach this server.",
)
@click.option("--append-sources", is_flag=True, help="List the sources at the end of each answer's text as well.")
@click.option("--no-open", is_flag=True, help="Print the addresses only.")
def serve(recipe: Path, no_open: bool, **options: Any) -> None:
    """Answer questions about the papers: a chat page, and an OpenAI-compatible endpoint for other programs.

    Each question gets the passages and the prompt that the model was trained with; answers come with their sources.
    The models are base, prompted (where evaluate.prompted is set) and tuned. Stop with Ctrl-C.

    \b
    Examples:
      ragtune serve recipes/demo.yaml
      ragtune serve recipes/demo.yaml --preview     strength of the adapter
      ragtune serve recipes/demo.yaml --host 0.0.0.0 --allow-host my-server
    """
    from mlx_ragtune.commands.serve import ServeOptions
    from mlx_ragtune.commands.serve import serve as served

    run = open_run(recipe)
    try:
        with served(run, ServeOptions(**options), say=say) as addresses:
            click.echo(addresses.page)
            say(f"OpenAI-compatible endpoint: {addresses.endpoint}   (models: {', '.join(addresses.models)})")
            if addresses.token:
                say("its API key is the token; stop with Ctrl-C")
            else:
                say("any API key is accepted on this machine; stop with Ctrl-C")
            if sys.stdout.isatty() and not no_open:
                click.launch(addresses.page)
            while True:
                time.sleep(3600)
    except KeyboardInterrupt:
        say("\nstopped")
        raise click.exceptions.Exit(130) from None
