"""``ragtune init``: a recipe for a folder of the user's own papers."""

import os
import re
from pathlib import Path

from mlx_ragtune.errors import InputError, RecipeError
from mlx_ragtune.papers.folder import list_papers
from mlx_ragtune.recipe import load_recipe, project_folder

TEMPLATE = """\
# {count} papers from {shown}.
#
#   ragtune validate {recipe}
#   ragtune run {recipe}
base:
  model: {base}

benchmark: {benchmark}

corpus:
  folder: {folder}
  on_unreadable: skip

dataset:
{dataset}
  max_tokens: 2048

train:
  rank: 16
  alpha: 32
  dropout: 0.05
  epochs: 2
  batch_size: 2
  accumulation: 8
  learning_rate: 1e-4
  patience: 2

export:
  type: Q8_0

register:
  serve: ollama
{evaluate}"""
PROBES = Path(__file__).parents[2] / "data" / "probes" / "general.jsonl"
"""The project's general questions, where the package runs from its project."""

AUTHORED = "  pairs: {pairs}"
GENERATED = """\
  generator:
    backend: ollama
    model: qwen3:4b-instruct
    pairs: {pairs}"""


def _benchmark(folder: Path) -> Path:
    found = sorted({*folder.glob("benchmark*.jsonl"), *folder.parent.glob("benchmark*.jsonl")})
    if not found:
        raise InputError(
            "no benchmark*.jsonl there: without questions of your own nothing can be compared",
            where=str(folder),
            fix="write 30 or more questions as in data/rag_notes/benchmark.jsonl, on papers left out of training",
        )
    return found[0]


def write_recipe(folder: Path, *, out: Path | None, base: str) -> Path:
    """Write a checked recipe for the papers in ``folder``; an existing file is never overwritten.

    Pairs and questions found beside the papers (``pairs*.jsonl``, ``benchmark*.jsonl``) are used; without
    pairs the recipe generates them. Raises InputError for a folder with no readable kind of file.
    """
    folder = folder.expanduser().resolve()
    papers = list_papers(folder)
    name = re.sub(r"[^a-z0-9_-]+", "-", folder.name.lower()).strip("-_") or "papers"
    recipe = (out or Path("recipes") / f"{name}.yaml").resolve()
    if recipe.exists():
        raise RecipeError("already exists", where=str(recipe), fix=f"ragtune init {folder} --out ANOTHER.yaml")
    pairs = sorted({*folder.glob("pairs*.jsonl"), *folder.parent.glob("pairs*.jsonl")})

    def relative(path: Path) -> str:
        return os.path.relpath(path, recipe.parent)

    home = project_folder(recipe).resolve(), Path.home().resolve()
    probed = PROBES.exists() and any(PROBES.is_relative_to(folder) for folder in home)
    dataset = AUTHORED.format(pairs=relative(pairs[0])) if pairs else GENERATED.format(pairs=15 * len(papers))
    text = TEMPLATE.format(
        count=len(papers), shown=folder.name, recipe=os.path.relpath(recipe), base=base, folder=relative(folder),
        dataset=dataset, benchmark=relative(_benchmark(folder)),
        evaluate=f"\nevaluate:\n  probes: {relative(PROBES)}\n" if probed else "",
    )  # fmt: skip
    recipe.parent.mkdir(parents=True, exist_ok=True)
    recipe.write_text(text, encoding="utf-8")
    load_recipe(recipe)
    return recipe
