"""evaluate: ask both models the same fixed prompts through the served model; then score and compare.

Answers are kept in a log of their own, keyed by model, prompt and options: scoring again, or resuming after a
stop, asks nothing twice. When requests failed the stage ends unfinished, and the next run sends only those.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mlx_ragtune.artifact import Draft, Inputs
from mlx_ragtune.clients.machine import require_memory
from mlx_ragtune.clients.serving import require_embedder, require_judge
from mlx_ragtune.errors import InputError
from mlx_ragtune.evaluation.asker import MODELS, Asker, Item, Model
from mlx_ragtune.evaluation.fairness import check_allowed, require_equal
from mlx_ragtune.evaluation.forgetting import probe_rows
from mlx_ragtune.evaluation.items import ItemMaker
from mlx_ragtune.evaluation.second_opinions import ScoredAnswers, add_judgements, add_similarity, judge_facts
from mlx_ragtune.evaluation.served_prompt import PromptGate
from mlx_ragtune.gguf.sizes import serve_memory
from mlx_ragtune.jsonl import read_json, read_located_rows, read_rows, write_rows
from mlx_ragtune.models.prompts import check_question_lengths, load_tokenizer
from mlx_ragtune.recipe import JudgeSettings, Recipe
from mlx_ragtune.records import Answer, Document, Question, Sampling, Score
from mlx_ragtune.retrieval.prompt import SYSTEM
from mlx_ragtune.retrieval.retriever import open_retriever
from mlx_ragtune.scoring.answers.language import require_supported_benchmark
from mlx_ragtune.scoring.answers.probes import Probe, read_probes
from mlx_ragtune.scoring.answers.ranking import mean_retrieval_metrics
from mlx_ragtune.scoring.answers.refusal import outcomes, refusal_table
from mlx_ragtune.scoring.answers.score import score_answer
from mlx_ragtune.scoring.judge.model_judge import SAMPLING
from mlx_ragtune.scoring.judge.opinions import Label, family
from mlx_ragtune.scoring.judge.trust import check_judge
from mlx_ragtune.scoring.verdict.comparison import Guard
from mlx_ragtune.scoring.verdict.decision import compare
from mlx_ragtune.scoring.verdict.distractors import condition_rows
from mlx_ragtune.scoring.verdict.guards import forgetting_guard
from mlx_ragtune.tuning.train_checks import check_window


def check(recipe: Recipe, base: Path) -> None:
    """Raise now what would fail after the answers.

    InputError: benchmark, probes, labels, ``evaluate.allow``. ToolError: the judge's family, and a judge or an
    embedding model that its server does not have, or too little memory.
    """
    questions = _check_benchmark(recipe.benchmark)
    require_supported_benchmark(recipe.benchmark)
    sampling = recipe.evaluate.sampling
    check_window(base, sampling=sampling)
    check_question_lengths(questions, base, window=sampling.context_tokens)
    if recipe.register.serve == "llamacpp":
        needed = serve_memory(base, recipe.export.type, context_tokens=sampling.context_tokens)
        require_memory(
            "evaluate", needed, fix="lower evaluate.sampling.context_tokens, or choose a smaller export.type"
        )
    check_allowed(recipe.evaluate.allow)
    if recipe.evaluate.probes is not None:
        read_probes(recipe.evaluate.probes)
    if recipe.scoring.judge is not None:
        _check_judge(recipe, recipe.scoring.judge)
    if recipe.scoring.similarity is not None:
        require_embedder(recipe.scoring.similarity, context_tokens=sampling.context_tokens)


def _check_benchmark(path: Path) -> list[tuple[str, str]]:
    """``file:line`` and text of each question. Raises InputError for a duplicate id or no question."""
    questions: list[tuple[str, str]] = []
    places: dict[str, str] = {}
    for where, question in read_located_rows(path, Question):
        if question.id in places:
            line = places[question.id].rsplit(":", 1)[-1]
            raise InputError(
                f"duplicate question id '{question.id}', first used in line {line}",
                where=where,
                fix="give each question its own id",
            )
        places[question.id] = where
        questions.append((where, question.question))
    if not places:
        raise InputError(
            "the benchmark has no questions", where=str(path), fix="for an example see data/rag_notes/benchmark.jsonl"
        )
    return questions


def _check_judge(recipe: Recipe, judge: JudgeSettings) -> None:
    generator = recipe.dataset.generator
    check_judge(judge.model, contestants=[recipe.base.model], generator=generator.model if generator else None)
    if judge.labels is not None:
        for _label in read_rows(judge.labels, Label):
            pass
    require_judge(judge, context_tokens=SAMPLING.context_tokens)


@dataclass(frozen=True)
class _Items:
    """Everything that is asked."""

    questions: list[Item]
    variants: list[Item]
    probes: list[Item]

    @property
    def all(self) -> list[Item]:
        return [*self.questions, *self.variants, *self.probes]


def evaluate(recipe: Recipe, inputs: Inputs, draft: Draft) -> None:
    """Write questions, contexts, ``used.jsonl`` (the answers), scores and ``verdict.json``.

    Raises ToolError when requests failed, or when the conditions of base and tuned differ.
    """
    probes = read_probes(recipe.evaluate.probes) if recipe.evaluate.probes is not None else []
    items = _items(recipe, inputs, probes)
    questions = [item.question for item in items.questions]
    write_rows(draft / "questions.jsonl", questions)
    contexts = ({"question_id": item.question.id, "passages": item.passages} for item in items.questions)
    write_rows(draft / "contexts.jsonl", contexts)
    asker = Asker(recipe, inputs, draft.cache(_answers_file(inputs)))
    unasked = {model: asker.conditions(model, ()) for model in MODELS}
    require_equal(unasked["base"], unasked["tuned"], allow=recipe.evaluate.allow)  # before hours are spent
    asker.ask_all(items.all, draft.track)
    gate = _check_fairness(recipe, asker, items.questions, draft)
    scorer = _Scorer(recipe, inputs, asker)
    scored = scorer.score(items.questions)
    _write_retrieval(items.questions, draft)
    _write_refusals(scored, draft)
    if items.variants:
        _write_distractors(scorer.score(items.variants), recipe.scoring.alpha, draft)
    guards = [_forgetting_guard(recipe, asker, probes, items.probes, draft)] if probes else []
    trusted = _second_opinions(recipe, inputs, scored, draft)
    write_rows(draft / "used.jsonl", [*scored.answers["base"], *scored.answers["tuned"]])
    write_rows(draft / "scores.jsonl", [*scored.scores["base"], *scored.scores["tuned"]])
    verdict = compare(
        scored.scores["base"],
        scored.scores["tuned"],
        questions,
        margin=recipe.scoring.margin,
        alpha=recipe.scoring.alpha,
        family=family(judge_trusted=trusted),
        guards=guards,
    )
    (draft / "verdict.json").write_text(verdict.to_json(), encoding="utf-8")
    draft.record(
        questions=len(questions),
        answers=sum(len(scored.answers[model]) for model in MODELS),
        served_prompts=str(gate),
        verdict=verdict.verdict,
        headline=verdict.headline,
    )


def _answers_file(inputs: Inputs) -> str:
    """One file for each base model, so that recipes that tune the same base share its answers."""
    receipts = read_json(inputs["register"] / "receipt.json")
    return f"answers-{receipts['base']['gguf_sha256'][:12]}.jsonl"


def _items(recipe: Recipe, inputs: Inputs, probes: Sequence[Probe]) -> _Items:
    maker = ItemMaker(
        open_retriever(inputs["corpus"] / "index.sqlite", inputs["corpus"] / "chunks.jsonl"),
        load_tokenizer(inputs["base"]),
        top_k=recipe.retrieval.top_k,
        thinking=recipe.dataset.thinking == "on",
    )
    questions = list(maker.questions(recipe.benchmark))
    variants = list(maker.variants(questions)) if recipe.evaluate.distractors else []
    return _Items(questions, variants, list(maker.probes(probes)))


def _check_fairness(recipe: Recipe, asker: Asker, items: Sequence[Item], draft: Draft) -> PromptGate:
    """Refuse unequal conditions; write the conditions, what was allowed, and whether prompts were checked."""
    conditions = {model: asker.conditions(model, items) for model in MODELS}
    _write_json(draft / "conditions.json", {model: asdict(conditions[model]) for model in MODELS})
    allowed = require_equal(conditions["base"], conditions["tuned"], allow=recipe.evaluate.allow)
    gate = asker.gate(items)
    gates = {
        "allowed": [asdict(difference) for difference in allowed],
        "served_prompts": str(gate),
        "reused_answers": asker.reused,
    }
    _write_json(draft / "gates.json", gates)
    return gate


class _Scorer:
    """Scores both models' answers to a list of items."""

    def __init__(self, recipe: Recipe, inputs: Inputs, asker: Asker) -> None:
        documents = read_rows(inputs["corpus"] / "documents.jsonl", Document)
        self._titles = {document.id: document.title for document in documents}
        self._sampling = Sampling(**recipe.evaluate.sampling.model_dump())
        self._asker = asker

    def score(self, items: Sequence[Item]) -> ScoredAnswers:
        """The answers to the items and their scores, in the order of items and seeds."""
        answers = {model: self._asker.answers(model, items) for model in MODELS}
        return ScoredAnswers(items, answers, {model: self._scores(model, items, answers) for model in MODELS})

    def _scores(self, model: Model, items: Sequence[Item], answers: dict[Model, list[Answer]]) -> list[Score]:
        by_id = {item.question.id: item for item in items}
        scores = []
        for answer in answers[model]:
            item = by_id[answer.question_id]
            score = score_answer(
                item.question, answer, item.passages, self._titles, sampling=self._sampling, system=SYSTEM
            )
            scores.append(score)
        return scores


def _write_retrieval(items: Sequence[Item], draft: Draft) -> None:
    """How well the retriever did on the answerable questions, once for both models."""
    rankings = [(item.ranked_papers, item.question.papers) for item in items if item.question.answerable]
    _write_json(draft / "retrieval.json", mean_retrieval_metrics(rankings))


def _write_refusals(scored: ScoredAnswers, draft: Draft) -> None:
    tables = {model: asdict(refusal_table(outcomes(scored.questions, scored.scores[model]))) for model in MODELS}
    _write_json(draft / "refusals.json", tables)


def _write_distractors(scored: ScoredAnswers, alpha: float, draft: Draft) -> None:
    rows = condition_rows(scored.scores["base"], scored.scores["tuned"], scored.questions, alpha=alpha)
    write_rows(draft / "distractors.jsonl", rows)


def _forgetting_guard(
    recipe: Recipe, asker: Asker, probes: Sequence[Probe], items: Sequence[Item], draft: Draft
) -> Guard:
    rows = probe_rows(probes, {model: asker.answers(model, items) for model in MODELS})
    write_rows(draft / "probes.jsonl", rows)
    base, tuned = {row.id: row.base for row in rows}, {row.id: row.tuned for row in rows}
    return forgetting_guard(base, tuned, margin=recipe.scoring.margin, alpha=recipe.scoring.alpha)


def _second_opinions(recipe: Recipe, inputs: Inputs, scored: ScoredAnswers, draft: Draft) -> bool:
    """Add similarity and judged metrics, as far as the recipe asks for them; whether a judge is trusted to decide."""
    if recipe.scoring.similarity is not None:
        planted = add_similarity(
            recipe.scoring.similarity,
            inputs["export"] / "base.gguf",
            scored,
            context_tokens=recipe.evaluate.sampling.context_tokens,
            tracker=draft.track,
        )
        _write_json(draft / "similarity.json", [asdict(row) for row in planted])
    if recipe.scoring.judge is None:
        return False
    trust = add_judgements(recipe.scoring.judge, draft.cache("judge.sqlite"), scored, tracker=draft.track)
    facts = judge_facts(recipe.scoring.judge, trust, scored, alpha=recipe.scoring.alpha)
    _write_json(draft / "judge.json", facts)
    return trust.trusted


def _write_json(path: Path, value: object) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(f"{text}\n", encoding="utf-8", errors="replace")
