"""The command line: parse, call, print. Stage commands are made from ``pipeline.STAGES``.

Only click and the pipeline's table are imported here, so that ``--help`` is quick; a command loads what
it needs when it runs.
"""

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlx_ragtune import __version__
from mlx_ragtune.cli_group import RECIPE_KEY, RUN_KEY, STAGE_NAMES, CommandGroup
from mlx_ragtune.pages.interrupt import announce_interrupt
from mlx_ragtune.pipeline import STAGES, Stage

if TYPE_CHECKING:
    from mlx_ragtune.runner import Run


RECIPE = click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False))
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for a script.")


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ragtune")
def main() -> None:
    """Turn a folder of papers into a small model that answers from them, and test honestly whether it helped.

    \b
    Examples:
      ragtune run recipes/demo.yaml          all eight stages; again: up to date
      ragtune train recipes/demo.yaml        up to the adapter
      ragtune status recipes/demo.yaml       what would run, and why
      ragtune ask recipes/demo.yaml "What does FlashAttention speed up?"
      ragtune init ~/papers                  a recipe for your own papers
    """


def _say(text: str) -> None:
    click.echo(text, err=True)


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
    recipe = load_recipe(path)
    if allow:
        named = tuple(dict.fromkeys((*recipe.evaluate.allow, *allow)))
        recipe = recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"allow": named})})
    home = run_folder(path, runs_folder(path))
    run = Run(recipe.model_copy(update={"name": home.name}), home, path, track=bar, say=_say)
    run.offline, run.ask_servers, run.replace_others = offline, ask_servers, replace_others
    if context is not None:
        context.meta[RUN_KEY] = run
    return run


def _finish(run: "Run", until: str, redo: tuple[str, ...], as_json: bool) -> None:
    from mlx_ragtune.artifact import read_artifact

    with announce_interrupt():
        outcomes = run.run(until=until, redo=redo)
    if as_json:
        rows = [vars(outcome) | {"folder": str(outcome.folder)} for outcome in outcomes]
        click.echo(json.dumps({"recipe": run.recipe.name, "stages": rows}, indent=2))
        return
    last = outcomes[-1]
    if last.stage == "report":
        click.echo((last.folder / "summary.txt").read_text(encoding="utf-8"), nl=False)
        click.echo(f"\nreport: {last.folder / 'report.html'}")
    else:
        artifact = read_artifact(last.folder)
        for key, value in (artifact.facts if artifact else {}).items():
            if not isinstance(value, dict | list):
                click.echo(f"{key}: {value}")
        click.echo(f"{last.stage}: {last.folder}")


ALLOW = click.option(
    "--allow", multiple=True, metavar="NAME", help="Compare although this condition differs; every report says so."
)
REPLACE = click.option("--replace", is_flag=True, help="Replace models at Ollama that ragtune did not register.")
REDO = click.option(
    "--redo", multiple=True, type=click.Choice(STAGE_NAMES), help="Run this stage even if it is up to date."
)


@main.command()
@RECIPE
@REDO
@ALLOW
@REPLACE
@AS_JSON
def run(recipe: Path, redo: tuple[str, ...], allow: tuple[str, ...], replace: bool, as_json: bool) -> None:
    """Run all eight stages; those that are up to date are skipped.

    \b
    Examples:
      ragtune run recipes/demo.yaml
      ragtune run recipes/demo.yaml --redo evaluate
    """
    opened = open_run(recipe, allow=allow, ask_servers=True, replace_others=replace)
    _finish(opened, STAGE_NAMES[-1], redo, as_json)


def _stage_command(stage: Stage) -> click.Command:
    def command(recipe: Path, redo: bool, as_json: bool, allow: tuple[str, ...] = (), replace: bool = False) -> None:
        # a report needs no server: what was finished stays finished
        asks = stage.name in ("register", "evaluate")
        run = open_run(recipe, allow=allow, ask_servers=asks, replace_others=replace)
        _finish(run, stage.name, (stage.name,) if redo else (), as_json)

    decorated: Callable[..., Any] = click.option("--redo", is_flag=True, help="Run it even if it is up to date.")(
        command
    )
    if "evaluate" in (stage.name, *stage.needs):
        decorated = ALLOW(decorated)
    if stage.name in ("register", "evaluate"):
        decorated = REPLACE(decorated)
    return click.command(
        stage.name,
        help=f"{stage.does}.\n\n\b\nExample:\n  ragtune {stage.name} recipes/demo.yaml",
        short_help=stage.does,
    )(RECIPE(AS_JSON(decorated)))


for _stage in STAGES:
    main.add_command(_stage_command(_stage))


@main.command()
@RECIPE
@AS_JSON
def status(recipe: Path, as_json: bool) -> None:
    """Show which stages would run, and why, and whether Ollama still has the models. Changes nothing.

    \b
    Example:
      ragtune status recipes/demo.yaml --json
    """
    from mlx_ragtune.pages.tables import render_table

    rows = open_run(recipe, offline=True, ask_servers=True).plan()
    if as_json:
        click.echo(json.dumps([vars(row) for row in rows], indent=2))
        return
    click.echo(render_table(["stage", "state", "why"], [[row.stage, row.state, row.why] for row in rows]))
    for row in rows:
        if row.fix:
            click.echo(f"{row.stage}: {row.fix.replace('RECIPE', shlex.quote(str(recipe)))}")


@main.command()
@RECIPE
@AS_JSON
def plan(recipe: Path, as_json: bool) -> None:
    """Estimate rows, updates, memory and time of training from two real steps.

    \b
    Example:
      ragtune plan recipes/qwen3_4b_r16.yaml
    """
    from mlx_ragtune.commands import plan as preflight
    from mlx_ragtune.commands.outlook import outlook_json, outlook_text, verdict_outlook
    from mlx_ragtune.tuning.preflight import describe, require_fit

    run = open_run(recipe)
    with announce_interrupt():
        estimate = preflight.plan(run)
    found = verdict_outlook(run.recipe)
    if as_json:
        click.echo(json.dumps({**preflight.as_json(estimate), "verdict": outlook_json(found)}, indent=2))
    else:
        click.echo(f"{describe(estimate)}\n{outlook_text(found)}")
    require_fit(estimate, run.recipe.train)


@main.command()
@RECIPE
@click.option("--type", "types", multiple=True, help="GGUF type to measure, or 'all' [default: the recipe's].")
@AS_JSON
def parity(recipe: Path, types: tuple[str, ...], as_json: bool) -> None:
    """Compare adapter, fused model and GGUF on the same prompts.

    \b
    Examples:
      ragtune parity recipes/demo.yaml
      ragtune parity recipes/demo.yaml --type all    which types keep the effect
    """
    from mlx_ragtune.commands.parity import HEADERS, cells, measure
    from mlx_ragtune.pages.tables import render_table

    with announce_interrupt():
        rows, failed = measure(open_run(recipe), types)
    if as_json:
        click.echo(json.dumps([vars(row) for row in rows], indent=2))
    else:
        click.echo(render_table(HEADERS, [cells(row) for row in rows]))
    if failed:
        raise failed


@main.command()
@click.argument("recipes", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@AS_JSON
def validate(recipes: tuple[Path, ...], as_json: bool) -> None:
    """Check recipes without running anything; all errors are listed at once.

    \b
    Example:
      ragtune validate recipes/*.yaml
    """
    from mlx_ragtune.commands.validate import check_recipe
    from mlx_ragtune.errors import RecipeError

    checked = [check_recipe(path) for path in recipes]
    if as_json:
        click.echo(json.dumps([row.as_json() for row in checked], indent=2))
    else:
        for row in checked:
            click.echo(row.error or f"{row.recipe}: ok", err=row.error is not None)
            for line in row.warnings:
                click.echo(line, err=True)
    if any(row.error for row in checked):
        sys.exit(RecipeError.exit_code)


@main.command()
@AS_JSON
def doctor(as_json: bool) -> None:
    """Check this machine and say what to install.

    \b
    Example:
      ragtune doctor
    """
    from mlx_ragtune.commands.doctor import examine
    from mlx_ragtune.pages.tables import render_table

    findings = examine()
    if as_json:
        click.echo(json.dumps([vars(finding) for finding in findings], indent=2))
    else:
        click.echo(render_table(["", "what", "found"], [[row.mark, row.what, row.found] for row in findings]))
        for finding in findings:
            if finding.fix:
                click.echo(f"{finding.what}: {finding.fix}")
    if any(finding.state == "missing" for finding in findings):
        sys.exit(4)


@main.command()
@click.argument("folder", default="ragtune-demo", type=click.Path(path_type=Path, file_okay=False))
@AS_JSON
def demo(folder: Path, as_json: bool) -> None:
    """Run the whole pipeline on a small real model and the bundled papers.

    Copies the demo recipe, its papers and questions into FOLDER (default: ragtune-demo) and runs the recipe
    there. Files that are already there are kept, so a second call resumes.

    \b
    Examples:
      ragtune demo
      ragtune demo ~/ragtune-demo
    """
    from mlx_ragtune.commands.demo import prepare_demo

    recipe = prepare_demo(folder)
    _say(f"recipe: {recipe}")
    _finish(open_run(recipe), STAGE_NAMES[-1], (), as_json)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Recipe to write [recipes/NAME.yaml].")
@click.option("--base", default="Qwen/Qwen3-4B", show_default=True, help="Model to tune.")
def init(folder: Path, out: Path | None, base: str) -> None:
    """Write a recipe for a folder of your own papers.

    \b
    Example:
      ragtune init ~/papers --out recipes/mine.yaml
    """
    from mlx_ragtune.commands.init import next_steps, write_recipe

    click.echo(next_steps(write_recipe(folder, out=out, base=base)))


@main.command()
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
    """Answer one question from the papers, and show the passages used.

    \b
    Examples:
      ragtune ask recipes/demo.yaml "What is QLoRA?" --model tuned
      ragtune ask recipes/demo.yaml "What is QLoRA?" --preview
    """
    from mlx_ragtune.commands.ask import answer, show

    try:
        question.encode()
    except UnicodeEncodeError:
        raise click.UsageError("the question is not valid UTF-8") from None
    reply = answer(open_run(recipe), question, model=model, preview=preview)
    click.echo(json.dumps(reply, indent=2, ensure_ascii=False) if as_json else show(reply))


@main.command()
@click.argument("contestants", nargs=-1, required=True, metavar="FIRST OTHER...")
@click.option(
    "--benchmark",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The questions that the files answer.",
)
@click.option(
    "--margin",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="Differences smaller than this are equivalent.",
)
@click.option(
    "--alpha",
    type=click.FloatRange(0, 0.5, min_open=True, max_open=True),
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
    examples in its prompt, where its run asked that. More than two are shown in one table.

    \b
    Examples:
      ragtune compare demo:base demo:tuned
      ragtune compare r8 r16 r32                  each with r8, Holm-adjusted
      ragtune compare a.jsonl b.jsonl --benchmark data/rag_notes/benchmark.jsonl
    """
    from mlx_ragtune.commands.compare import as_rows, compare_contestants, read_all
    from mlx_ragtune.pages.output_file import require_writable, write_page
    from mlx_ragtune.pages.report_html import render_html
    from mlx_ragtune.pages.report_many import render_many
    from mlx_ragtune.pages.report_sections import build_report
    from mlx_ragtune.pages.report_text import render_text

    if len(contestants) < 2 or (html and len(contestants) > 2):
        raise click.UsageError(f"name {'two' if html else 'at least two'} runs or files")
    if html:
        require_writable(html)
    reports = compare_contestants(read_all(contestants, benchmark), allow=allow, margin=margin, alpha=alpha)
    if html:
        write_page(html, render_html(build_report(reports[0])))
    if as_json:
        click.echo(json.dumps(as_rows(reports), indent=2, ensure_ascii=False))
    else:
        many = len(reports) > 1
        click.echo(render_many(reports) if many else render_text(build_report(reports[0])), nl=False)


@main.command()
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

    run = open_run(recipe, offline=True)
    session = open_comparison(run, count)
    _say(f"{session.done} of {len(session.trials)} comparisons done; stop with Ctrl-C, continue with the same command")
    try:
        with serve(session, port=port) as address:
            click.echo(address)
            if sys.stdout.isatty() and not no_browser:
                click.launch(address)
            if headline := wait_for_result(session):
                click.echo(headline)
    except KeyboardInterrupt:
        _say(f"\nstopped: {session.done} of {len(session.trials)} comparisons are saved; the same command continues")
        raise click.exceptions.Exit(130) from None
    _say(f"next: ragtune report {recipe}   # includes the votes")


@main.group(invoke_without_command=True)
@click.pass_context
def models(ctx: click.Context) -> None:
    """List or remove the models that ragtune registered.

    \b
    Examples:
      ragtune models list
      ragtune models remove demo
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_models, as_json=False)


@models.command("list")
@AS_JSON
def list_models(as_json: bool) -> None:
    """List the names, servers and types of registered models, and whether Ollama still has them."""
    from mlx_ragtune.commands.models import listing, registered

    rows, damaged = registered(ask_servers=True)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        click.echo(listing(rows))
    for error in damaged[:-1]:
        click.echo(f"error: {error}", err=True)
    if damaged:
        raise damaged[-1]


@main.command()
@click.option("--yes", is_flag=True, help="Remove them; without it they are only listed.")
@AS_JSON
def prune(yes: bool, as_json: bool) -> None:
    """List or remove artifacts that no run uses any more.

    \b
    Examples:
      ragtune prune           what could be removed, and how much disk it uses
      ragtune prune --yes     remove it
    """
    from mlx_ragtune.artifact import Store, unused
    from mlx_ragtune.pages.tables import render_table
    from mlx_ragtune.recipe_load import runs_folder

    store = Store(runs_folder(Path.cwd() / "recipe"))
    artifacts = list(unused(store, remove=yes))
    if as_json:
        rows = [{"name": name, "bytes": size} for name, size in artifacts]
        click.echo(json.dumps({"removed": yes, "artifacts": rows}, indent=2))
        return
    total = sum(size for _, size in artifacts)
    if artifacts:
        click.echo(render_table(["unused", "MiB"], [[name, f"{size / 2**20:.1f}"] for name, size in artifacts]))
    click.echo(f"{total / 2**30:.2f} GiB {'removed' if yes else 'can be removed with: ragtune prune --yes'}")


@models.command("remove")
@click.argument("run_name")
def remove_models(run_name: str) -> None:
    """Remove both registered models of a run. Its other artifacts, and models of others, are kept."""
    from mlx_ragtune.commands.models import remove

    for line in remove(run_name):
        click.echo(line)


@main.command(hidden=True)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def reference(folder: Path) -> None:
    """Write recipe.md and commands.md: ``make docs``."""
    from mlx_ragtune.commands.reference import pages

    folder.mkdir(exist_ok=True)
    for name, text in pages(main).items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(prog_name="ragtune")
