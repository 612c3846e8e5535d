"""``ragtune init``: a recipe for a folder of the user's own papers."""

import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import yaml

from mlx_ragtune.bundled import bundled
from mlx_ragtune.commands.init_choices import (
    Choices,
    Machine,
    Wishes,
    asking_section,
    base_section,
    choose,
    generator_section,
    look_around,
    retrieval_section,
    train_section,
    valid_share,
)
from mlx_ragtune.errors import InputError, RecipeError, ToolError, printable
from mlx_ragtune.papers.folder import list_papers
from mlx_ragtune.recipe_load import load_recipe
from mlx_ragtune.recipe_yaml import CONTROL, path_problem, project_folder

Say = Callable[[str], None]
TEMPLATE = """\
# {count} from {shown}.
#
{commands}
#
{reasons}base:
  model: {base}
{more_base}
benchmark: {benchmark}

corpus:
  folder: {folder}
{chunks}{bibliography}  on_unreadable: skip

retrieval:
{retrieval}
dataset:
{dataset}{valid_share}{no_passages}  max_tokens: 2048

train:
{train}
export:
  type: Q8_0

register:
  serve: {serve}
{evaluate}"""
PROBES = "data/probes/general.jsonl"
"""The general questions that come with the package."""

PROMPTED = "{examples: 3, tokens: 400}"
"""Examples in the prompt of the base: what tuning has to beat."""

AUTHORED = "  pairs: {pairs}\n"
NO_PASSAGES = (
    "  no_passages: 0.1  # `ollama run` asks without passages, which is to be refused, not answered from memory\n"
)
SMALL_CHUNKS = "  chunk_tokens: 200  # short passages: a small model answers better from them, and sooner\n"


def write_recipe(
    folder: Path, *, out: Path | None, wishes: Wishes, machine: Machine | None = None, say: Say = lambda _line: None
) -> Path:
    """Write a checked recipe for the papers in ``folder``; returns its path. An existing file is not overwritten.

    It is written for a machine, this one by default: ``init_choices``; ``say`` is told what was chosen and why.

    Pairs and questions in the folder or next to it (``pairs*.jsonl``, ``benchmark*.jsonl``) are used, and its only
    ``*.bib`` file for titles, authors and years; without pairs the recipe generates them, and without questions it
    names the file that ``ragtune draft`` will write. Raises InputError for a folder without papers, RecipeError for an
    ``out`` or ``wishes`` that cannot be used, ToolError when the file cannot be written. After an error there is no
    recipe.
    """
    folder = folder.expanduser().resolve()
    papers = list_papers(folder)
    recipe = _target(folder, out)
    choices = choose(wishes, machine or look_around())
    text = _recipe_text(folder, recipe, wishes.base, choices=choices, papers=len(papers))
    draft = recipe.with_name(f"{recipe.stem}.partial-{os.getpid()}")  # the same stem, which names the run
    try:
        draft.write_text(text, encoding="utf-8")
        load_recipe(draft, missing_ok=("benchmark",))
        draft.rename(recipe)
    except RecipeError as error:
        option = "--base ORGANIZATION/NAME" if "base.model: " in error.what else "--out recipes/NAME.yaml"
        raise RecipeError(
            error.what.replace(str(draft), str(recipe)), fix=f"ragtune init {_quoted(folder)} {option}"
        ) from None
    except OSError as error:
        raise ToolError(
            f"the recipe cannot be written: {error.strerror}",
            where=str(recipe),
            fix=f"ragtune init {_quoted(folder)} --out FILE, in a folder that you can write to",
        ) from None
    finally:
        draft.unlink(missing_ok=True)
    for reason in choices.reasons:
        say(reason)
    return recipe


def next_steps(recipe: Path) -> str:
    """The commands to run after ``write_recipe``, ready to paste into a shell."""
    drafted = not load_recipe(recipe, missing_ok=("benchmark",)).benchmark.exists()
    listing = "".join(f"\n  {command}" for command in _commands(_quoted(recipe), drafted=drafted))
    return f"wrote {recipe}\nnext:{listing}"


def _commands(recipe: str, *, drafted: bool) -> list[str]:
    """The commands from a recipe to a report."""
    first = [f"ragtune draft {recipe}", f"ragtune review {recipe}"] if drafted else [f"ragtune validate {recipe}"]
    return [*first, f"ragtune run {recipe}"]


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _target(folder: Path, out: Path | None) -> Path:
    """The file to write. Raises RecipeError for an existing one, and for a missing folder."""
    name = re.sub(r"[^a-z0-9_-]+", "-", folder.name.lower()).strip("-_")[:64] or "papers"
    again = f"ragtune init {_quoted(folder)} --out recipes/ANOTHER.yaml"
    try:
        recipe = (out or Path("recipes") / f"{name}.yaml").expanduser().resolve()
        if recipe.is_dir():
            raise RecipeError(
                "a directory, expected a file", where=str(recipe), fix=again.replace("recipes", str(recipe))
            )
        if recipe.exists():
            raise RecipeError("already exists", where=str(recipe), fix=again)
        if out is None:
            recipe.parent.mkdir(exist_ok=True)
        elif not recipe.parent.is_dir():
            raise RecipeError("no such folder", where=str(recipe.parent), fix=f"mkdir -p {_quoted(recipe.parent)}")
    except (OSError, ValueError, RuntimeError) as error:
        problem = error.strerror if isinstance(error, OSError) else error
        raise RecipeError(
            f"the recipe cannot be written: {problem}",
            where=str(out or "recipes"),
            fix=f"ragtune init {_quoted(folder)} --out FILE, in a folder that you can write to",
        ) from None
    return recipe


def _recipe_text(folder: Path, recipe: Path, base: str, *, choices: Choices, papers: int) -> str:
    pairs = _beside(folder, "pairs*.jsonl")
    questions = _beside(folder, "benchmark*.jsonl")
    works = _beside(folder, "*.bib")
    writer = _model_value(choices.generator, recipe)
    generated = generator_section(choices, writer, papers=papers)
    probes, name = bundled(PROBES), _one_line(shlex.quote(os.path.relpath(recipe)))
    evaluate = f"\nevaluate:\n  probes: {_path_value(probes, recipe)}\n  prompted: {PROMPTED}\n"
    return TEMPLATE.format(
        count=f"{papers} paper{'s' * (papers != 1)}",
        shown=_one_line(folder.name),
        commands="\n".join(f"#   {command}" for command in _commands(name, drafted=not questions)),
        reasons="".join(f"# {_one_line(line)}\n" for line in choices.reasons),
        base=_model_value(base, recipe),
        more_base=base_section(choices),
        folder=_path_value(folder, recipe),
        chunks=SMALL_CHUNKS if choices.small else "",
        retrieval=retrieval_section(choices),
        dataset=AUTHORED.format(pairs=_path_value(pairs[0], recipe)) if pairs else generated,
        valid_share=valid_share(papers),
        no_passages=NO_PASSAGES if choices.serve == "ollama" else "",
        train=train_section(choices),
        serve=choices.serve,
        benchmark=_path_value(questions[0] if questions else _to_draft(recipe), recipe),
        bibliography=f"  bibliography: {_path_value(works[0], recipe)}\n" if len(works) == 1 else "",
        evaluate=evaluate + asking_section(choices),
    )


def _model_value(model: str, recipe: Path) -> str:
    """A model's name or path as it is written into the recipe."""
    if model.startswith((".", "~")) and Path(model).expanduser().exists():
        return _path_value(Path(model).expanduser().resolve(), recipe)
    return _yaml_text(model)


def _beside(folder: Path, pattern: str) -> list[Path]:
    """The files of that name in the folder, then next to it."""
    return sorted(path for place in (folder, folder.parent) for path in place.glob(pattern) if path.is_file())


def _to_draft(recipe: Path) -> Path:
    """Where the benchmark will be: beside the recipe. Not an existing file, which would not be overwritten."""
    path = recipe.with_name(f"{recipe.stem}.benchmark.jsonl")
    number = 1
    while path.exists():
        number += 1
        path = recipe.with_name(f"{recipe.stem}.benchmark-{number}.jsonl")
    return path


def _relative(path: Path, recipe: Path) -> str | None:
    """The path from the recipe's folder, or None where a recipe may not use a relative path."""
    written = os.path.relpath(path, recipe.parent)
    project = project_folder(recipe).resolve()
    near = path if path.exists() else path.parent  # a file that will be written
    shown = os.path.relpath(near, recipe.parent)
    problem = path_problem(shown, folder=recipe.parent, project=project, kind="model")  # a file or a folder
    return None if problem else written


def _path_value(path: Path, recipe: Path) -> str:
    """A path as it is written into the recipe: relative where that is allowed, else absolute."""
    if control := CONTROL.search(str(path)):
        raise InputError(
            f"the name contains the character U+{ord(control[0]):04X}, which a recipe cannot hold",
            where=str(path),
            fix="rename the file or the folder",
        )
    written = _relative(path, recipe) or str(path)
    return _yaml_text(written if written.startswith((".", "/")) else f"./{written}")  # neither a hub id nor ~


def _yaml_text(text: str) -> str:
    """The text as a YAML value: plain where it can only be read as text, else in double quotes."""
    if "/" in text and re.fullmatch(r"[A-Za-z0-9._/-]+", text):
        return text
    quoted: str = yaml.safe_dump(text, default_style='"', allow_unicode=True, width=2**31)
    return quoted.rstrip("\n")


def _one_line(text: str) -> str:
    """The text as it may stand in a comment."""
    return " ".join(printable(text).split())
