"""The command with which a person reviews questions and pairs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlx_ragtune.cli_options import AS_JSON, RECIPE, echo_json, open_run, say, settings_here
from mlx_ragtune.pages.interrupt import announce_interrupt

if TYPE_CHECKING:
    from mlx_ragtune.commands.review import What
    from mlx_ragtune.reviewing.review_items import Part
    from mlx_ragtune.reviewing.review_session import Session
    from mlx_ragtune.runner import Run


@click.command()
@RECIPE
@click.option(
    "--what",
    type=click.Choice(["benchmark", "pairs", "votes", "both"]),
    default="both",
    show_default=True,
    help="Review benchmark questions, training pairs, or served answers with votes; both: all there are.",
)
@click.option("--sample", type=click.IntRange(1), help="How many of each to review [default: 30, or as last time].")
@click.option("--all", "everything", is_flag=True, help="Review all of them.")
@click.option("--apply", "applies", is_flag=True, help="Write the reviews into the files; keep a copy of each.")
@click.option(
    "--export",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the reviewed rows to this file only.",
)
@click.option("--reviewer", default="", help="Name that is kept with each review.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on this machine [default: a free one].")
@click.option("--no-open", is_flag=True, help="Print the address only.")
@AS_JSON
def review(
    recipe: Path,
    what: "What",
    sample: int | None,
    everything: bool,
    applies: bool,
    target: Path | None,
    reviewer: str,
    port: int,
    no_open: bool,
    as_json: bool,
) -> None:
    """Read questions and pairs on a local page, each with its quote in the paper; accept, reject or edit them.

    A sample of 30 shows how many of all are defective, with an interval. Every decision is saved at once: stop with
    Ctrl-C and continue with the same command. The files change only with --apply or --export. Without a terminal,
    or with --json, the command prints what the reviews say so far.

    \b
    Examples:
      ragtune review recipes/mine.yaml
      ragtune review recipes/mine.yaml --what benchmark --all
      ragtune review recipes/mine.yaml --apply
      ragtune review recipes/mine.yaml --what pairs --export reviewed.jsonl
    """
    from mlx_ragtune.commands.review import as_json as state
    from mlx_ragtune.commands.review import describe, export, open_review
    from mlx_ragtune.reviewing.review_estimate import EVERYTHING

    if target is not None and what == "both":
        raise click.UsageError("--export writes one file: add --what benchmark, --what pairs or --what votes")
    if sum((applies, target is not None, sample is not None or everything)) > 1 or (sample and everything):
        raise click.UsageError("use one of --sample, --all, --apply and --export")
    run = open_run(recipe)
    session = open_review(run, what, reviewer=reviewer, say=say)
    if sample or everything:
        session.plan(EVERYTHING if everything else sample)
    if target is not None:
        click.echo(export(session, target).text)
    elif applies:
        _apply(session, run, recipe, as_json=as_json)
    elif as_json:
        echo_json(state(session))
    elif sys.stdout.isatty() or no_open:
        _serve(session, run, recipe, port=port, opens=not no_open)
    else:
        click.echo(describe(session))


def _apply(session: "Session", run: "Run", recipe: Path, *, as_json: bool) -> None:
    """Write the reviews of every part that has some."""
    from mlx_ragtune.commands.review import apply, next_step
    from mlx_ragtune.errors import InputError
    from mlx_ragtune.run_folders import recipe_arguments

    parts: list[Part] = [part for part in session.items if _has_reviews(session, part)]
    if not parts:
        raise InputError("there are no reviews to apply", where=str(session.log.path), fix="ragtune review RECIPE")
    written = [apply(session, run, recipe, part) for part in parts]
    if as_json:
        rows = [{**vars(one), "path": str(one.path), "backup": one.backup and str(one.backup)} for one in written]
        echo_json(rows)
        return
    for one in written:
        click.echo(one.text)
        step = next_step(one, run.recipe).replace("RECIPE", recipe_arguments(recipe, settings_here()))
        say(f"next: {step}")


def _has_reviews(session: "Session", part: "Part") -> bool:
    summary = session.summary(part)
    return bool(summary.accepted + summary.rejected + summary.edited)


def _serve(session: "Session", run: "Run", recipe: Path, *, port: int, opens: bool) -> None:
    """Show the page until the reviewer ends it there, or by Ctrl-C; then print what the reviews say."""
    from mlx_ragtune.commands.review import apply, describe, next_step, read_papers, wait_until_finished
    from mlx_ragtune.pages.review_server import serve
    from mlx_ragtune.run_folders import recipe_arguments

    with announce_interrupt():
        session.library = read_papers(run)
    session.plan(None)
    named = recipe_arguments(recipe, settings_here())
    session.apply = lambda part: apply(session, run, recipe, part)
    session.next_step = lambda applied: next_step(applied, run.recipe).replace("RECIPE", named)
    say("every decision is saved at once; stop with Ctrl-C, continue with the same command")
    try:
        with serve(session, port=port) as address:
            click.echo(address)
            if opens:
                click.launch(address)
            wait_until_finished(session)
    except KeyboardInterrupt:
        say(f"\nstopped; the same command continues\n{describe(session)}")
        raise click.exceptions.Exit(130) from None
    say(describe(session))
    if any(session.summary(part).pending for part in session.items):
        say(f"next: ragtune review {named} --apply")
