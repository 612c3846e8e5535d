"""Commands about the models' answers: ask one, compare runs, compare blind."""

import sys
from functools import partial
from pathlib import Path

import click

from mlx_ragtune.cli_options import ALLOW, AS_JSON, RECIPE, FiniteRange, echo_json, open_run, say, settings_here


@click.command()
@RECIPE
@click.argument("question")
@click.option(
    "--model",
    type=click.Choice(["tuned", "base", "both"]),
    default="both",
    show_default=True,
    help="Which model answers.",
)
@click.option("--preview", is_flag=True, help="Use the adapter on the base right after training, before it is fused.")
@AS_JSON
def ask(recipe: Path, question: str, model: str, preview: bool, as_json: bool) -> None:
    """Answer one question from the papers, and show the passages used, with their pages.

    \b
    Examples:
      ragtune ask recipes/demo.yaml "What is QLoRA?" --model tuned
      ragtune ask recipes/demo.yaml "What is QLoRA?" --preview
    """
    from mlx_ragtune.commands.ask import answer

    try:
        question.encode()
    except UnicodeEncodeError:
        raise click.UsageError("the question is not valid UTF-8") from None
    write = None if as_json else partial(click.echo, nl=False)
    reply = answer(open_run(recipe), question, model=model, preview=preview, write=write)
    if as_json:
        echo_json(reply)


@click.command()
@RECIPE
@click.argument("question")
@click.option("--top-k", type=click.IntRange(1, 1000), help="Number of passages [default: the recipe's].")
@AS_JSON
def search(recipe: Path, question: str, top_k: int | None, as_json: bool) -> None:
    """Show which passages a question finds, and which index found each. Asks no model that answers.

    \b
    Examples:
      ragtune search recipes/demo.yaml "What is QLoRA?"
      ragtune search recipes/demo.yaml "What is QLoRA?" --top-k 10 --json
    """
    from mlx_ragtune.commands.search import search as found_by
    from mlx_ragtune.commands.search import show

    try:
        question.encode()
    except UnicodeEncodeError:
        raise click.UsageError("the question is not valid UTF-8") from None
    result = found_by(open_run(recipe, missing_ok=("benchmark",)), question, top_k=top_k)
    if as_json:
        echo_json(result)
    else:
        click.echo(show(result))


@click.command()
@click.argument("contestants", nargs=-1, required=True, metavar="FIRST OTHER...")
@click.option(
    "--benchmark",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The questions that the files answer.",
)
@click.option(
    "--margin",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="Differences smaller than this are equivalent.",
)
@click.option(
    "--alpha",
    type=FiniteRange(0, 0.5, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="Error rate of all tests together.",
)
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write the comparison of two as a page.")
@ALLOW
@AS_JSON
def compare(
    contestants: tuple[str, ...],
    benchmark: Path | None,
    margin: float,
    alpha: float,
    html: Path | None,
    allow: tuple[str, ...],
    as_json: bool,
) -> None:
    """Compare finished runs, or files of answers, with the first one.

    A run is a recipe or the name of its folder, followed by :base, :prompted or :tuned (default: tuned). A
    file has rows of {"question_id": ..., "text": ...}. A tuned model is also compared with the base with
    examples in its prompt, where its run asked that. More than two are one table: a row for each, with what
    differs between their recipes, validation loss, minutes, key metrics and the verdict.

    \b
    Examples:
      ragtune compare demo:base demo:tuned
      ragtune compare r8 r16 mine+train.rank=32   each with r8, Holm-adjusted
      ragtune compare a.jsonl b.jsonl --benchmark data/rag_notes/benchmark.jsonl
    """
    from mlx_ragtune.commands.compare import as_rows, compare_contestants, read_all, trained_runs
    from mlx_ragtune.pages.output_file import require_writable, write_page
    from mlx_ragtune.pages.report_html import render_html
    from mlx_ragtune.pages.report_many import render_many
    from mlx_ragtune.pages.report_sections import build_report
    from mlx_ragtune.pages.report_text import render_text
    from mlx_ragtune.pipeline import STAGES

    if len(contestants) < 2 or (html and len(contestants) > 2):
        raise click.UsageError(f"name {'two' if html else 'at least two'} runs or files")
    if html:
        require_writable(html)
    listed = read_all(contestants, benchmark)
    reports = compare_contestants(listed, allow=allow, margin=margin, alpha=alpha)
    trained = trained_runs(listed, {stage.name: stage.needs for stage in STAGES})
    if html:
        write_page(html, render_html(build_report(reports[0])))
    if as_json:
        echo_json(as_rows(reports, trained))
    else:
        many = len(reports) > 1
        click.echo(render_many(reports, trained) if many else render_text(build_report(reports[0])), nl=False)


@click.command()
@RECIPE
@click.option("-n", "count", type=click.IntRange(4), help="Number of comparisons [default: up to 50].")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on this machine [default: a free one].")
@click.option("--no-browser", is_flag=True, help="Print the address only.")
def ab(recipe: Path, count: int | None, port: int, no_browser: bool) -> None:
    """Compare the models' answers blind, on a local web page.

    Every vote is saved at once. Stop with Ctrl-C and continue with the same command. At the end the page
    shows which answers were preferred, and the next report includes the result.

    \b
    Example:
      ragtune ab recipes/demo.yaml -n 40
    """
    from mlx_ragtune.commands.ab import open_comparison, wait_for_result
    from mlx_ragtune.pages.ab_server import serve
    from mlx_ragtune.run_folders import recipe_arguments

    run = open_run(recipe, offline=True)
    session = open_comparison(run, count)
    say(f"{session.done} of {len(session.trials)} comparisons done; stop with Ctrl-C, continue with the same command")
    try:
        with serve(session, port=port) as address:
            click.echo(address)
            if sys.stdout.isatty() and not no_browser:
                click.launch(address)
            if headline := wait_for_result(session):
                click.echo(headline)
    except KeyboardInterrupt:
        say(f"\nstopped: {session.done} of {len(session.trials)} comparisons are saved; the same command continues")
        raise click.exceptions.Exit(130) from None
    say(f"next: ragtune report {recipe_arguments(recipe, settings_here())}   # includes the votes")
