"""The command that drafts a benchmark."""

from pathlib import Path

import click

from mlx_ragtune.cli_options import AS_JSON, RECIPE, echo_json, open_run, say, settings_here
from mlx_ragtune.pages.interrupt import announce_interrupt


@click.command()
@RECIPE
@click.option("--papers", type=click.IntRange(1), help="How many papers to set aside [default: a third, 6 to 40].")
@click.option("--questions", type=click.IntRange(1), help="How many questions to draft [default: by the papers].")
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Other papers, questions."
)
@click.option("--model", help="Model that drafts [default: dataset.generator.model].")
@click.option("--backend", help="Its server: ollama, llamacpp, mlx or openai [default: dataset.generator.backend].")
@click.option("--host", multiple=True, help="Address of its server; repeat it for several [default: the generator's].")
@click.option("--redo", is_flag=True, help="Draft again; what a person wrote, reviewed or edited is kept.")
@AS_JSON
def draft(
    recipe: Path,
    papers: int | None,
    questions: int | None,
    seed: int,
    model: str | None,
    backend: str | None,
    host: tuple[str, ...],
    redo: bool,
    as_json: bool,
) -> None:
    """Write a benchmark with the generating model, on papers that are set aside first.

    The papers are drawn by seed, of all lengths, never those of your own pairs; near-duplicates count as one. Some
    questions name their method, some do not, some need two papers, and some cannot be answered. Each is checked: its
    quote stands in the paper, and its reference answer gets full marks. Ctrl-C loses nothing: the same command
    continues. Then review them: the report says how many were.

    \b
    Examples:
      ragtune draft recipes/mine.yaml
      ragtune draft recipes/mine.yaml --papers 8 --questions 60
      ragtune draft recipes/mine.yaml --redo --model qwen3:8b
    """
    from mlx_ragtune.commands.draft import ROWS, Request, describe, draft_benchmark, funnel_rows
    from mlx_ragtune.commands.draft import as_json as for_scripts
    from mlx_ragtune.errors import printable
    from mlx_ragtune.pages.tables import render_table
    from mlx_ragtune.run_folders import recipe_arguments

    run = open_run(recipe, missing_ok=("benchmark",))
    request = Request(papers, questions, seed, redo, model, backend, host)
    try:
        with announce_interrupt():
            result = draft_benchmark(run, request, say=say)
    except KeyboardInterrupt:
        say("stopped; every finished request is kept, and the same command continues")
        raise click.exceptions.Exit(130) from None
    if as_json:
        echo_json(for_scripts(result))
        return
    click.echo(printable(render_table(list(ROWS), funnel_rows(result.drafted, quoted=result.plan.quoted))))
    named = recipe_arguments(recipe, settings_here())
    click.echo(printable("\n".join(describe(result)).replace("RECIPE", named)))
