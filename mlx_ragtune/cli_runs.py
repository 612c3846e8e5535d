"""Commands about many runs: a list of all, and a page that compares them."""

from pathlib import Path

import click

from mlx_ragtune.cli_options import AS_JSON, echo_json, say


@click.command()
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write them as one page, with plots.")
@AS_JSON
def runs(html: Path | None, as_json: bool) -> None:
    """List all runs, the newest first: what differs, losses, metrics, time, state.

    \b
    Examples:
      ragtune runs
      ragtune runs --html runs.html    loss curves, settings against scores
    """
    from mlx_ragtune.commands import runs as runs_command
    from mlx_ragtune.commands.models import runs_here
    from mlx_ragtune.pages.output_file import require_writable, write_page
    from mlx_ragtune.pages.run_rows import list_runs
    from mlx_ragtune.pages.runs_html import render_runs_html
    from mlx_ragtune.pages.runs_table import render_runs
    from mlx_ragtune.pipeline import STAGES

    if html:
        require_writable(html)
    rows = runs_command.read_runs(runs_here(), {stage.name: stage.needs for stage in STAGES})
    if as_json:
        echo_json(runs_command.as_json(rows))
    else:
        click.echo(render_runs(list_runs(rows)))
    if html:
        links = [runs_command.link_from(html, row.report) for row in rows]
        write_page(html, render_runs_html(list_runs(rows), links=links))
        say(f"page: {html}")
