"""evaluate: both models answer the same frozen prompts through the served model; then scores and a verdict.

Answers are kept in ``answers.jsonl``, keyed by model, prompt and options, apart from the scores: scoring
again, or going on after a stop, asks nothing twice.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlx_ragtune.artifact import Draft
from mlx_ragtune.backends.asker import MODELS, Asker, Item
from mlx_ragtune.errors import InputError
from mlx_ragtune.pipeline import Inputs
from mlx_ragtune.recipe import Recipe
from mlx_ragtune.records import (
    Answer,
    Document,
    Question,
    Sampling,
    Score,
    read_rows,
    write_rows,
)
from mlx_ragtune.retrieval.prompt import build_messages
from mlx_ragtune.retrieval.retriever import open_retriever
from mlx_ragtune.scoring.fairness import require_equal
from mlx_ragtune.scoring.retrieval import retrieval_metrics
from mlx_ragtune.scoring.score import score_answer
from mlx_ragtune.scoring.verdict import compare

RANKED = 10
"""Depth of the ranking that the retrieval metrics are computed on."""


def check(recipe: Recipe, _base: Path) -> None:
    """Raise InputError for a benchmark with a broken row, without questions, or with an id twice."""
    path = recipe.benchmark
    seen: set[str] = set()
    for question in read_rows(path, Question):
        if question.id in seen:
            raise InputError(f"question id '{question.id}' twice", where=str(path), fix="give each its own id")
        seen.add(question.id)
    if not seen:
        raise InputError("no question in the benchmark", where=str(path), fix="see data/rag_notes/benchmark.jsonl")


def evaluate(recipe: Recipe, inputs: Inputs, draft: Draft) -> None:
    """Write the contexts, ``answers.jsonl`` (all known), ``used.jsonl``, ``scores.jsonl`` and ``verdict.json``."""
    items = list(_frozen(recipe, inputs["corpus"]))
    write_rows(
        draft / "contexts.jsonl",
        ({"question_id": one.question.id, "passages": one.passages} for one in items),
    )
    asker = Asker(recipe, inputs, draft / "answers.jsonl")
    asker.ask_all(items, draft.track)
    conditions = {model: asker.conditions(model, items) for model in MODELS}
    (draft / "conditions.json").write_text(_pretty({model: asdict(conditions[model]) for model in MODELS}))
    require_equal(conditions["base"], conditions["tuned"])
    answers = {model: asker.answers(model, items) for model in MODELS}
    titles = {one.id: one.title for one in read_rows(inputs["corpus"] / "documents.jsonl", Document)}
    scores = {model: list(_scores(items, answers[model], titles, recipe)) for model in MODELS}
    write_rows(draft / "used.jsonl", answers["base"] + answers["tuned"])
    write_rows(draft / "scores.jsonl", scores["base"] + scores["tuned"])
    verdict = compare(
        scores["base"],
        scores["tuned"],
        [item.question for item in items],
        margin=recipe.scoring.margin,
        alpha=recipe.scoring.alpha,
    )
    (draft / "verdict.json").write_text(verdict.to_json(), encoding="utf-8")
    (draft / "retrieval.json").write_text(_pretty(_retrieval(items)), encoding="utf-8")
    failed = [one.question_id for model in MODELS for one in answers[model] if one.error]
    draft.record(
        questions=len(items),
        answers=2 * len(answers["base"]),
        failed_requests=len(failed),
        verdict=verdict.verdict,
        headline=verdict.headline,
    )


def _retrieval(items: Sequence[Item]) -> dict[str, Any]:
    """How well the retriever did, once for both models: means over the questions that have gold papers."""
    rows = [
        retrieval_metrics(item.ranked_papers, item.question.papers)
        for item in items
        if item.question.papers and item.question.answerable
    ]
    names = sorted({name for row in rows for name in row})
    return {name: sum(row[name] for row in rows) / len(rows) for name in names} | {"questions": len(rows)}


def _pretty(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _frozen(recipe: Recipe, corpus: Path) -> Iterator[Item]:
    """Every question with the contexts and the prompt that both models get, byte for byte."""
    retriever = open_retriever(corpus / "index.sqlite", corpus / "chunks.jsonl")
    for question in read_rows(recipe.benchmark, Question):
        ranked = retriever.search(question.question, max(RANKED, recipe.retrieval.top_k))
        passages = tuple(ranked[: recipe.retrieval.top_k])
        papers = tuple(one.document_id for one in ranked)
        yield Item(question, passages, build_messages(passages, question.question), papers)


def _scores(
    items: Sequence[Item], answers: Sequence[Answer], titles: Mapping[str, str], recipe: Recipe
) -> Iterator[Score]:
    by_question = {item.question.id: item for item in items}
    sampling = Sampling(**recipe.evaluate.sampling.model_dump())
    for answer in answers:
        item = by_question[answer.question_id]
        yield score_answer(item.question, answer, item.passages, titles, sampling=sampling)
