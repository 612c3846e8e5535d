"""``ragtune generate --preview``: the first pairs of a recipe's generator, with quotes, and why others are rejected."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

from mlx_ragtune.artifact import OpenRun, Store
from mlx_ragtune.building.generators import common_digest, open_generators, require_generator, say_what_leaves
from mlx_ragtune.building.pair_sources import planned
from mlx_ragtune.errors import RecipeError, printable
from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.pages.tables import fill
from mlx_ragtune.records import Chunk, Document
from mlx_ragtune.searching.opened import open_retriever
from mlx_ragtune.synthesis.benchmark_file import read_resolved
from mlx_ragtune.synthesis.benchmark_view import held_out, view_of
from mlx_ragtune.synthesis.generate import Trial, try_out
from mlx_ragtune.synthesis.jobs import Jobs, Judged

SECONDS = 60.0
"""No call begins later; those that have begun are finished."""
SHOWN_REASONS = 5
MADE_LATER = "not shown: refusals that are made from kept questions (without_paper, wrong_section)"


def preview(run: OpenRun, *, count: int, say: Callable[[str], None]) -> dict[str, Any]:
    """``count`` pairs that pass all checks, or as many as there are after a minute, and those that were rejected.

    The corpus is built first if it is not up to date; no artifact of the data set is written. Finished calls are kept
    where the dataset stage finds them. Raises RecipeError for a recipe without a generator.
    """
    settings = run.recipe.dataset.generator
    if settings is None:
        raise RecipeError(
            "the recipe has no generator: its pairs are in dataset.pairs",
            where="dataset.generator",
            fix="name a generator instead of dataset.pairs",
        )
    require_generator(settings)
    run.bring("corpus")
    folder = run.artifact("corpus").folder
    documents = {document.id: document for document in read_rows(folder / "documents.jsonl", Document)}
    benchmark = view_of(read_resolved(run.recipe.benchmark, list(documents.values())))
    held = held_out(benchmark.papers, list(documents.values()))
    chunks = [chunk for chunk in read_rows(folder / "chunks.jsonl", Chunk) if chunk.document_id not in held.papers]
    table = Store(run.home.parent).cache_folder / "jobs.sqlite"
    table.parent.mkdir(parents=True, exist_ok=True)
    say_what_leaves(settings, say)
    with ExitStack() as stack:
        retriever = stack.enter_context(open_retriever(run.recipe.retrieval, folder))
        plan, sources = planned(run.recipe, chunks, retriever, benchmark=benchmark)
        backends = [stack.enter_context(backend) for backend in open_generators(settings)]
        started = time.monotonic()
        trial = try_out(
            plan,
            sources,
            backends=backends,
            jobs=stack.enter_context(Jobs(table)),
            settings=settings,
            model_digest=common_digest(settings, backends),
            wanted=count,
            until=lambda: time.monotonic() - started > SECONDS,
            progress=stack.enter_context(run.track("writing pairs", count)),
            say=say,
        )
    titles = {name: document.title for name, document in documents.items()}
    return {"model": settings.model, **_as_json(trial, titles, count), "seconds": round(time.monotonic() - started, 1)}


def _as_json(trial: Trial, titles: dict[str, str], count: int) -> dict[str, Any]:
    kept = [[_pair(task, item, titles) for item in items] for task, items in trial.kept.items()]
    rejected = [
        {**_pair(task, item, titles), "reason": item.reason}
        for task, outcome in trial.outcomes
        for item in outcome.judged
        if item.reason
    ]
    reasons: Counter[str] = Counter()
    for _, outcome in trial.outcomes:
        reasons.update(outcome.rejections())
    return {
        "pairs": list(itertools.islice(_in_turn(kept), count)),
        "rejected": rejected,
        "asked": sum(outcome.asked for _, outcome in trial.outcomes),
        "passed": sum(not item.reason for _, outcome in trial.outcomes for item in outcome.judged),
        "reasons": dict(reasons.most_common()),
        "calls": len(trial.outcomes),
        "requests": trial.requests,
    }


def _in_turn(lists: Iterable[list[dict[str, Any]]]) -> Iterable[dict[str, Any]]:
    """The first of each list, then the second of each, and so on."""
    return (item for layer in itertools.zip_longest(*lists) for item in layer if item is not None)


def _pair(task: str, item: Judged, titles: dict[str, str]) -> dict[str, Any]:
    pair = item.pair
    return {
        "task": task,
        "question": pair.question,
        "answer": pair.answer,
        "papers": [{"id": name, "title": titles.get(name, "")} for name in pair.papers],
        "evidence": [{"paper": evidence.paper, "quote": evidence.quote} for evidence in pair.evidence],
    }


def show(found: dict[str, Any]) -> str:
    """The preview as text of at most 80 columns; of rejected pairs one for each of the most frequent reasons."""
    lines: list[str] = []
    for number, pair in enumerate(found["pairs"], start=1):
        lines += [fill(f"{number}. {pair['task']}{_papers(pair)}"), *_body(pair), ""]
    examples = {pair["reason"]: pair for pair in reversed(found["rejected"])}
    for pair in sorted(examples.values(), key=lambda pair: -found["reasons"][pair["reason"]])[:SHOWN_REASONS]:
        lines += [fill(f"rejected: {pair['reason']} ({pair['task']}{_papers(pair)})"), *_body(pair), ""]
    asked, passed = found["asked"], found["passed"]
    share = f" ({passed / asked:.0%})" if asked else ""
    lines.append(f"{passed} of {asked} pairs{share} passed the checks; {found['calls']} calls, {found['seconds']} s")
    lines += [f"  {count} × {reason}" for reason, count in found["reasons"].items()]
    lines += [MADE_LATER, "finished calls are kept: 'ragtune dataset' does not make them again"]
    return printable("\n".join(lines))


def _papers(pair: dict[str, Any]) -> str:
    titles = [f'"{paper["title"]}"' if paper["title"] else paper["id"] for paper in pair["papers"]]
    return f", {' and '.join(titles)}" if titles else ""


def _body(pair: dict[str, Any]) -> list[str]:
    quotes = [f"Quote ({evidence['paper']}): {evidence['quote']}" for evidence in pair["evidence"]]
    return [
        fill(line, bullet="   ") for line in (f"Question: {pair['question']}", f"Answer: {pair['answer']}", *quotes)
    ]
