"""``ragtune review``: a person reads benchmark questions and training pairs on a local page."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from mlx_ragtune.artifact import STAGE_FOLDERS, OpenRun, Store
from mlx_ragtune.commands.voted_pairs import voted_items, votes_file
from mlx_ragtune.errors import ArtifactError, InputError
from mlx_ragtune.papers.folder import document_ids
from mlx_ragtune.recipe import Recipe
from mlx_ragtune.reviewing.review_apply import Applied, record, write_reviewed
from mlx_ragtune.reviewing.review_items import (
    Part,
    ReviewItem,
    authored_items,
    benchmark_items,
    generated_items,
)
from mlx_ragtune.reviewing.review_log import ReviewLog
from mlx_ragtune.reviewing.review_places import Library, read_library
from mlx_ragtune.reviewing.review_session import Session
from mlx_ragtune.reviewing.review_summary import NOUNS, Summary

What = Literal["benchmark", "pairs", "votes", "both"]
LOG = "reviews.jsonl"
"""The file of reviews in a run's folder; nothing ever removes it."""


def _generated(run: OpenRun) -> Path:
    return run.home / STAGE_FOLDERS["dataset"] / "generated.jsonl"


def _pairs(run: OpenRun) -> list[ReviewItem]:
    """The recipe's pairs, or those of its generator. Raises ArtifactError where none are generated yet."""
    if run.recipe.dataset.pairs:
        return authored_items(run.recipe.dataset.pairs)
    path = _generated(run)
    if not path.exists():
        raise ArtifactError("no pairs are generated yet", where=str(path.parent), fix="ragtune dataset RECIPE")
    return generated_items(path)


def open_review(
    run: OpenRun, what: What, *, reviewer: str = "", say: Callable[[str], None] = lambda _text: None
) -> Session:
    """The session on the recipe's questions and pairs, with what was decided before, without the papers.

    Where both are wanted and there are no pairs to read, it says so. Raises ArtifactError, or InputError for a file
    that cannot be read.
    """
    items: dict[Part, list[ReviewItem]] = {}
    if what in ("benchmark", "both"):
        items["benchmark"] = _items(run, "benchmark")
    if what in ("pairs", "both"):
        try:
            items["pairs"] = _pairs(run)
        except (ArtifactError, InputError) as error:
            if what == "pairs":
                raise
            say(f"pairs are left out: {error.what}")
    try:
        voted = voted_items(run) if what in ("votes", "both") else []
    except ArtifactError as error:
        if what == "votes":
            raise
        say(f"served answers are left out: {error.what}")
        voted = []
    if voted:
        items["votes"] = voted
    elif what == "votes":
        raise ArtifactError("no answer got a vote yet", where=str(run.home), fix="ragtune serve RECIPE")
    made = Session(run.recipe.name, items, ReviewLog(run.home / LOG, reviewer=reviewer), run.recipe.seed)
    made.read = lambda: {part: _items(run, part) for part in items}
    return made


def _items(run: OpenRun, part: Part) -> list[ReviewItem]:
    if part == "votes":
        return voted_items(run)
    return benchmark_items(run.recipe.benchmark) if part == "benchmark" else _pairs(run)


def _written(items: Sequence[ReviewItem], part: Part, log: ReviewLog) -> list[ReviewItem]:
    """What may be written of a part: of served answers only those that were reviewed."""
    if part != "votes":
        return list(items)
    return [item for item in items if (review := log.reviews.current(item)) and review.action != "skip"]


def _target(run: OpenRun, recipe_path: Path, part: Part) -> Path:
    if part == "votes":
        return votes_file(run.recipe, recipe_path)
    return run.recipe.benchmark if part == "benchmark" else pairs_file(run.recipe, recipe_path)


def read_papers(run: OpenRun) -> Library:
    """The papers of the recipe; the corpus stage runs first where it is not up to date."""
    from mlx_ragtune.clients.arxiv_shelf import corpus_files  # slow to load, and not needed to print the state

    try:
        corpus = run.artifact("corpus")
    except ArtifactError:
        run.bring("corpus")
        corpus = run.artifact("corpus")
    files, _ = corpus_files(run.recipe.corpus, Store(run.home.parent).root)
    ids = document_ids(file.name for file in files)
    return read_library(corpus.folder, {ids[file.name]: file.path for file in files if not file.problem})


def pairs_file(recipe: Recipe, recipe_path: Path) -> Path:
    """The file that reviewed pairs are written to: the recipe's own, or a new one beside the recipe."""
    return recipe.dataset.pairs or recipe_path.resolve().with_name(f"{recipe.name}-pairs.jsonl")


def apply(session: Session, run: OpenRun, recipe_path: Path, part: Part) -> Applied:
    """Write the reviews of a part into the recipe's file, and note that in the log.

    The file is read again, so that what changed meanwhile is kept. Raises InputError and ToolError.
    """
    items = _written(_items(run, part), part, session.log)
    applied = write_reviewed(items, session.log.reviews, _target(run, recipe_path, part))
    record(applied, items, session.log)
    return applied


def next_step(applied: Applied, recipe: Recipe) -> str:
    """The command after ``apply``."""
    if applied.part == "benchmark":
        return "ragtune validate RECIPE"
    if applied.part == "votes":
        return f"add the rows of {applied.path.name} to the file of dataset.pairs, then: ragtune dataset RECIPE"
    if recipe.dataset.pairs:
        return "ragtune dataset RECIPE"
    return f"set dataset.pairs: ./{applied.path.name} instead of dataset.generator, then: ragtune dataset RECIPE"


def export(session: Session, path: Path) -> Applied:
    """Write the rows that remain after the reviews of the only part to a file; the recipe's file stays as it is."""
    ((part, items),) = session.items.items()
    return write_reviewed(_written(items, part, session.log), session.log.reviews, path)


def describe(session: Session) -> str:
    """What the reviews say, for the terminal."""
    return "\n".join(line for part in session.items for line in _lines(session.summary(part)))


def _lines(summary: Summary) -> list[str]:
    many = NOUNS[summary.part][1]
    counts = [f"{summary.accepted} accepted", f"{summary.rejected} rejected", f"{summary.edited} edited"]
    counts += [f"{summary.skipped} skipped"] if summary.skipped else []
    counts += [f"{summary.changed} changed since their review"] if summary.changed else []
    lines = [f"{many}: {summary.done} of {summary.sampled} reviewed ({', '.join(counts)})", f"  {summary.text}"]
    return [*lines, f"  {summary.next}"] if summary.next else lines


def as_json(session: Session) -> dict[str, Any]:
    """The state of the reviews, by part."""
    return {
        "recipe": session.name,
        "reviews": str(session.log.path),
        "parts": {part: session.summary(part).as_json() for part in session.items},
    }


def wait_until_finished(session: Session) -> None:
    """Wait until the reviewer ends the session on the page."""
    while not session.finished.wait(0.3):
        pass
    time.sleep(0.5)  # the last answer is on its way
