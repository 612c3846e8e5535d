"""evaluate: both models answer the same frozen prompts through the served model; then scores and a verdict.

Answers are kept in ``answers.jsonl``, keyed by model, prompt and options, apart from the scores: scoring
again, or going on after a stop, asks nothing twice.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from mlx_ragtune.artifact import Draft, Track, digest_bytes
from mlx_ragtune.backends.protocol import ChatBackend
from mlx_ragtune.backends.serving import open_served
from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.pipeline import Inputs
from mlx_ragtune.recipe import Recipe
from mlx_ragtune.records import (
    Answer,
    ChatReply,
    ChatRequest,
    Document,
    Message,
    Passage,
    Question,
    Sampling,
    Score,
    read_rows,
    to_json,
    write_rows,
)
from mlx_ragtune.retrieval.prompt import build_messages
from mlx_ragtune.retrieval.retriever import open_retriever
from mlx_ragtune.scoring.fairness import Conditions, require_equal
from mlx_ragtune.scoring.retrieval import retrieval_metrics
from mlx_ragtune.scoring.score import score_answer
from mlx_ragtune.scoring.verdict import compare

Model = Literal["base", "tuned"]
RANKED = 10
"""Depth of the ranking that the retrieval metrics are computed on."""
MODELS: tuple[Model, ...] = ("base", "tuned")


@dataclass(frozen=True)
class Item:
    """One question as both models are asked it."""

    question: Question
    passages: tuple[Passage, ...]
    messages: tuple[Message, ...]
    ranked_papers: tuple[str, ...]


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
    asker.ask_all(items, draft)
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


class Asker:
    """Asks what is not yet in the answers file, one model served at a time."""

    def __init__(self, recipe: Recipe, inputs: Inputs, path: Path) -> None:
        self._recipe, self._path, self._export = recipe, path, inputs["export"]
        self._receipts = json.loads((inputs["register"] / "receipt.json").read_text(encoding="utf-8"))
        self._known = {one.key: one for one in read_rows(path, Answer)} if path.exists() else {}
        self._think = recipe.dataset.thinking == "on"

    def _sampling(self, seed: int) -> Sampling:
        return Sampling(seed=seed, **self._recipe.evaluate.sampling.model_dump())

    def _key(self, model: Model, item: Item, seed: int) -> str:
        receipt = self._receipts[model]
        described = {
            "model": [receipt[name] for name in ("server", "version", "digest", "gguf_sha256")],
            "messages": [asdict(message) for message in item.messages],
            "sampling": asdict(self._sampling(seed)),
            "think": self._think,
        }
        return digest_bytes(json.dumps(described, sort_keys=True, ensure_ascii=False).encode())

    def ask_all(self, items: Sequence[Item], draft: Draft) -> None:
        """Base, tuned, tuned, base: neither model always comes first, when the machine is cool."""
        half = (len(items) + 1) // 2
        first, second = items[:half], items[half:]
        blocks: list[tuple[Model, Sequence[Item]]] = [
            ("base", first), ("tuned", first), ("tuned", second), ("base", second)
        ]  # fmt: skip
        seeds = self._recipe.evaluate.seeds
        with draft.track("asking both models", 2 * len(items) * len(seeds)) as track:
            for model, part in blocks:
                missing = [(i, s) for i in part for s in seeds if self._key(model, i, s) not in self._known]
                track.advance(len(part) * len(seeds) - len(missing))
                self._ask_block(model, missing, track)

    def _ask_block(self, model: Model, missing: Sequence[tuple[Item, int]], track: Track) -> None:
        if not missing:
            return
        context = self._recipe.evaluate.sampling.context_tokens
        gguf = self._export / f"{model}.gguf"
        with (
            open_served(self._receipts[model], gguf, context_tokens=context) as backend,
            self._path.open("a", encoding="utf-8") as stream,
        ):
            for item, seed in missing:
                answer = self._ask(backend, model, item, seed)
                self._known[answer.key] = answer
                if answer.error == "":  # a failed request is asked again by the next run
                    stream.write(to_json(answer) + "\n")
                    stream.flush()
                track.advance(note=f"{model}: {item.question.id}")

    def _ask(self, backend: ChatBackend, model: Model, item: Item, seed: int) -> Answer:
        """The reply as a record; what outlasts the backend's retries is an error of transport, not of the model."""
        request = ChatRequest(item.messages, self._sampling(seed), think=self._think)
        known: dict[str, Any] = {
            "key": self._key(model, item, seed),
            "question_id": item.question.id,
            "model": model,
            "seed": seed,
        }
        try:
            rendered = backend.render(item.messages, think=self._think)
            reply = backend.chat(request)
        except ToolError as error:
            empty = ChatReply("", "error", 0, 0, 0.0)
            return Answer(**known, **asdict(empty), error=error.what)
        digest = "" if rendered is None else digest_bytes(rendered.encode())
        return Answer(**known, **asdict(reply), prompt_sha256=digest)

    def answers(self, model: Model, items: Sequence[Item]) -> list[Answer]:
        """The model's answers in the order of questions and seeds."""
        seeds = self._recipe.evaluate.seeds
        return [self._known[self._key(model, item, seed)] for item in items for seed in seeds]

    def conditions(self, model: Model, items: Sequence[Item]) -> Conditions:
        """All that must be the same for both models, as the server reports it."""
        receipt = self._receipts[model]
        return Conditions(
            quantisation=receipt["type"],
            template_sha256=receipt["template_sha256"],
            context_tokens=self._recipe.evaluate.sampling.context_tokens,
            server=f"{receipt['server']} {receipt['version']}",
            sampling=asdict(self._sampling(0)),
            seeds=self._recipe.evaluate.seeds,
            prompts={one.question_id: one.prompt_sha256 for one in self.answers(model, items) if not one.error},
            parameters=receipt["parameters"],
            renderer=receipt["renderer"],
            parser=receipt["parser"],
            retrieval={"top_k": self._recipe.retrieval.top_k},
            thinking=self._recipe.dataset.thinking,
        )
