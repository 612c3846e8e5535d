"""evaluate: both models answer the same frozen prompts through the served model; then scores and a verdict.

Answers are kept in ``answers.jsonl``, keyed by model, prompt and options, apart from the scores: scoring
again, or going on after a stop, asks nothing twice.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlx_ragtune.artifact import Draft, Inputs
from mlx_ragtune.clients.ollama_registry import require_server
from mlx_ragtune.clients.serving import open_embedder, open_judge
from mlx_ragtune.errors import InputError
from mlx_ragtune.evaluation.asker import MODELS, Asker, Item, Model
from mlx_ragtune.evaluation.fairness import check_allowed, require_equal
from mlx_ragtune.evaluation.items import ItemMaker
from mlx_ragtune.evaluation.served_prompt import PromptGate
from mlx_ragtune.jsonl import read_rows, write_rows
from mlx_ragtune.models.prompts import load_tokenizer
from mlx_ragtune.recipe import JudgeSettings, Recipe
from mlx_ragtune.records import Answer, Document, Question, Sampling, Score
from mlx_ragtune.retrieval.retriever import open_retriever
from mlx_ragtune.scoring.answers.probes import passes, read_probes
from mlx_ragtune.scoring.answers.ranking import retrieval_metrics
from mlx_ragtune.scoring.answers.refusal import outcomes, refusal_table
from mlx_ragtune.scoring.answers.score import score_answer
from mlx_ragtune.scoring.answers.similarity import planted_rows
from mlx_ragtune.scoring.judge.model_judge import SAMPLING, Cache, Judge
from mlx_ragtune.scoring.judge.opinions import (
    Label,
    Opinion,
    add_opinion,
    by_judge,
    by_similarity,
    calibrated,
    family,
    good_answers,
)
from mlx_ragtune.scoring.judge.trust import check_judge, self_test
from mlx_ragtune.scoring.verdict.comparison import Guard
from mlx_ragtune.scoring.verdict.decision import compare
from mlx_ragtune.scoring.verdict.distractors import condition_rows
from mlx_ragtune.scoring.verdict.guards import forgetting_guard


def check(recipe: Recipe, _base: Path) -> None:
    """Raise InputError for a broken benchmark, probe, label or name to allow; ToolError for a judge that may not."""
    path = recipe.benchmark
    seen: set[str] = set()
    for question in read_rows(path, Question):
        if question.id in seen:
            raise InputError(f"question id '{question.id}' twice", where=str(path), fix="give each its own id")
        seen.add(question.id)
    if not seen:
        raise InputError("no question in the benchmark", where=str(path), fix="see data/rag_notes/benchmark.jsonl")
    check_allowed(recipe.evaluate.allow)
    if recipe.evaluate.probes is not None:
        read_probes(recipe.evaluate.probes)
    if recipe.scoring.judge is not None:
        _check_judge(recipe, recipe.scoring.judge)


def _check_judge(recipe: Recipe, judge: JudgeSettings) -> None:
    generator = recipe.dataset.generator
    check_judge(
        Path(judge.model).name if judge.backend == "llamacpp" else judge.model,
        contestants=[recipe.base.model],
        generator=Path(generator.model).name if generator else None,
    )
    if judge.backend == "ollama":
        require_server(judge.host)
    if judge.labels is not None:
        list(read_rows(judge.labels, Label))


def evaluate(recipe: Recipe, inputs: Inputs, draft: Draft) -> None:
    """Write the questions, contexts, ``answers.jsonl`` (all known), ``used.jsonl``, scores and ``verdict.json``."""
    maker = ItemMaker(
        open_retriever(inputs["corpus"] / "index.sqlite", inputs["corpus"] / "chunks.jsonl"),
        load_tokenizer(inputs["base"]),
        top_k=recipe.retrieval.top_k,
        thinking=recipe.dataset.thinking == "on",
    )
    items = list(maker.questions(recipe.benchmark))
    probes = list(maker.probes(read_probes(recipe.evaluate.probes))) if recipe.evaluate.probes else []
    variants = list(maker.variants(items)) if recipe.evaluate.distractors else []
    questions = [item.question for item in items]
    write_rows(draft / "questions.jsonl", questions)
    write_rows(
        draft / "contexts.jsonl",
        ({"question_id": one.question.id, "passages": one.passages} for one in items),
    )
    receipts = json.loads((inputs["register"] / "receipt.json").read_text(encoding="utf-8"))
    # one file for each base: recipes that tune the same base share its answers
    asker = Asker(recipe, inputs, draft.cache(f"answers-{receipts['base']['gguf_sha256'][:12]}.jsonl"))
    unasked = {model: asker.conditions(model, ()) for model in MODELS}
    require_equal(unasked["base"], unasked["tuned"], allow=recipe.evaluate.allow)  # before hours are spent
    asker.ask_all([*items, *variants, *probes], draft.track)
    gate = _fair(recipe, asker, items, draft)
    answers = {model: asker.answers(model, items) for model in MODELS}
    titles = {one.id: one.title for one in read_rows(inputs["corpus"] / "documents.jsonl", Document)}
    scores = {model: list(_scores(items, answers[model], titles, recipe)) for model in MODELS}
    _write_asides(recipe, asker, items, variants, scores, titles, draft)
    trusted = _opinions(recipe, inputs, items, answers, scores, draft)
    write_rows(draft / "used.jsonl", answers["base"] + answers["tuned"])
    write_rows(draft / "scores.jsonl", scores["base"] + scores["tuned"])
    verdict = compare(
        scores["base"],
        scores["tuned"],
        questions,
        margin=recipe.scoring.margin,
        alpha=recipe.scoring.alpha,
        family=family(judge_trusted=trusted),
        guards=_forgetting(recipe, asker, probes, draft),
    )
    (draft / "verdict.json").write_text(verdict.to_json(), encoding="utf-8")
    failed = [one.question_id for model in MODELS for one in answers[model] if one.error]
    draft.record(
        questions=len(items),
        answers=2 * len(answers["base"]),
        failed_requests=len(failed),
        served_prompts=str(gate),
        verdict=verdict.verdict,
        headline=verdict.headline,
    )


def _write_asides(
    recipe: Recipe,
    asker: Asker,
    items: Sequence[Item],
    variants: Sequence[Item],
    scores: Mapping[Model, Sequence[Score]],
    titles: Mapping[str, str],
    draft: Draft,
) -> None:
    """What decides nothing: retrieval, refusals as a table, what distractors do."""
    questions = [item.question for item in items]
    refusals = {model: asdict(refusal_table(outcomes(questions, scores[model]))) for model in MODELS}
    for name, value in (("retrieval.json", _retrieval(items)), ("refusals.json", refusals)):
        (draft / name).write_text(_pretty(value), encoding="utf-8")
    if variants:
        found = {model: list(_scores(variants, asker.answers(model, variants), titles, recipe)) for model in MODELS}
        asked = [item.question for item in variants]
        rows = condition_rows(found["base"], found["tuned"], asked, alpha=recipe.scoring.alpha)
        write_rows(draft / "distractors.jsonl", rows)


def _fair(recipe: Recipe, asker: Asker, items: Sequence[Item], draft: Draft) -> PromptGate:
    """Refuse unequal conditions; write what was equal, what was allowed, and whether prompts were proven."""
    conditions = {model: asker.conditions(model, items) for model in MODELS}
    (draft / "conditions.json").write_text(_pretty({model: asdict(conditions[model]) for model in MODELS}))
    allowed = require_equal(conditions["base"], conditions["tuned"], allow=recipe.evaluate.allow)
    gate = asker.gate(items)
    gates = {"allowed": [asdict(one) for one in allowed], "served_prompts": str(gate)}
    (draft / "gates.json").write_text(_pretty(gates), encoding="utf-8")
    return gate


def _forgetting(recipe: Recipe, asker: Asker, items: Sequence[Item], draft: Draft) -> list[Guard]:
    """What tuning cost on general probes; one whose request failed is left out for both models."""
    if recipe.evaluate.probes is None:
        return []
    probes = {f"probe:{probe.id}": probe for probe in read_probes(recipe.evaluate.probes)}
    given = {model: asker.answers(model, items) for model in MODELS}
    failed = {one.question_id for model in MODELS for one in given[model] if one.error}
    passed = {
        model: {
            one.question_id: passes(probes[one.question_id], one.text)
            for one in given[model]
            if one.question_id not in failed
        }
        for model in MODELS
    }
    rows = (
        {"id": probes[name].id, "category": probes[name].category, **{model: passed[model][name] for model in MODELS}}
        for name in passed["base"]
    )
    write_rows(draft / "probes.jsonl", rows)
    return [forgetting_guard(passed["base"], passed["tuned"], margin=recipe.scoring.margin, alpha=recipe.scoring.alpha)]


def _opinions(
    recipe: Recipe,
    inputs: Inputs,
    items: Sequence[Item],
    answers: Mapping[Model, Sequence[Answer]],
    scores: dict[Model, list[Score]],
    draft: Draft,
) -> bool:
    """Add similarity and judged metrics to the scores; whether a judge is trusted to decide."""
    questions = [item.question for item in items]
    context = recipe.evaluate.sampling.context_tokens

    def add(opinion: Opinion, what: str) -> None:
        with draft.track(what, sum(len(scores[model]) for model in MODELS)) as track:
            for model in MODELS:
                added = []
                for score in add_opinion(opinion, scores[model], answers[model], questions):
                    added.append(score)
                    track.advance()
                scores[model] = added

    if recipe.scoring.similarity is not None:
        base = inputs["export"] / "base.gguf"
        with open_embedder(recipe.scoring.similarity, base, context_tokens=context) as (embed, token_vectors):
            add(by_similarity(embed, token_vectors), "embedding answers")
            planted = [asdict(row) for row in planted_rows(embed, token_vectors)]
        (draft / "similarity.json").write_text(_pretty(planted), encoding="utf-8")
    if recipe.scoring.judge is None:
        return False
    contexts = {item.question.id: item.passages for item in items}
    with (
        open_judge(recipe.scoring.judge, context_tokens=SAMPLING.context_tokens) as backend,
        Cache(draft.cache("judge.sqlite")) as cache,
    ):
        judge = Judge(backend, backend.identity()["digest"], cache)
        trust = self_test(judge, good_answers(contexts, questions))
        add(by_judge(judge, contexts), "judging answers")
    found = {"model": recipe.scoring.judge.model, "summary": str(trust), **asdict(trust)}
    if recipe.scoring.judge.labels is not None:
        labels = list(read_rows(recipe.scoring.judge.labels, Label))
        estimate = calibrated(scores["base"], scores["tuned"], questions, labels)
        low, high = estimate.interval(1 - recipe.scoring.alpha)
        found["corrected"] = {"difference": estimate.mean, "low": low, "high": high, "labels": len(labels)}
    (draft / "judge.json").write_text(_pretty(found), encoding="utf-8")
    return trust.trusted


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


def _scores(
    items: Sequence[Item], answers: Sequence[Answer], titles: Mapping[str, str], recipe: Recipe
) -> Iterator[Score]:
    by_question = {item.question.id: item for item in items}
    sampling = Sampling(**recipe.evaluate.sampling.model_dump())
    for answer in answers:
        item = by_question[answer.question_id]
        yield score_answer(item.question, answer, item.passages, titles, sampling=sampling)
