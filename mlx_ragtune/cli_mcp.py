"""``ragtune mcp``: the papers of a recipe as tools of the Model Context Protocol."""

from pathlib import Path

import click

from mlx_ragtune.cli_options import RECIPE, open_run, say


@click.command()
@RECIPE
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="Serve by HTTP at http://127.0.0.1:PORT/mcp, instead of on standard input and output.",
)
def mcp(recipe: Path, port: int | None) -> None:
    """Offer the papers to an MCP client: the tools ask_papers and search_papers.

    The client starts this command and talks to it on standard input and output. Needs the extra `mcp`.

    \b
    Examples:
      ragtune mcp recipes/demo.yaml
      ragtune mcp recipes/demo.yaml --port 8643
    """
    from mlx_ragtune.commands.mcp_server import serve_mcp

    run = open_run(recipe, offline=True)
    try:
        serve_mcp(run, port=port, say=say)
    except KeyboardInterrupt:
        say("stopped")
