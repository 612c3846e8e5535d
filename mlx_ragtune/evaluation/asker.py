"""Asks both models the benchmark's questions with fixed prompts; each answer is on disk as soon as it arrives.

Answers are keyed by model, prompt and options, and by nothing that names a recipe or a question. A run that was
stopped resumes without asking twice, and recipes that share a model share its answers.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mlx_ragtune.artifact import Track, Tracker, digest_bytes
from mlx_ragtune.clients.ollama_http import ServerGoneError
from mlx_ragtune.clients.protocol import ChatBackend, PromptOverflowError
from mlx_ragtune.clients.serving import open_served
from mlx_ragtune.errors import ToolError
from mlx_ragtune.evaluation.failed_requests import FailedRequests
from mlx_ragtune.evaluation.fairness import Conditions
from mlx_ragtune.evaluation.served_prompt import PromptGate, ServedPromptError, check_count, check_prompt
from mlx_ragtune.jsonl import RowLog, read_json
from mlx_ragtune.recipe import Recipe
from mlx_ragtune.records import Answer, ChatReply, ChatRequest, Message, Passage, Question, Sampling

Model = Literal["base", "tuned"]
MODELS: tuple[Model, ...] = ("base", "tuned")


@dataclass(frozen=True)
class Item:
    """One question with the prompt that both models get; ``trained`` is the prompt as training renders it."""

    question: Question
    passages: tuple[Passage, ...]
    messages: tuple[Message, ...]
    ranked_papers: tuple[str, ...]
    trained: str
    prompt_tokens: int
    once: bool = False
    """Asked with the first seed only: the question is not part of the verdict's statistics."""


class _Request(NamedTuple):
    """One request: a question, a seed, and the key of the answer."""

    item: Item
    seed: int
    key: str


class Asker:
    """Asks what the answers file does not contain yet, one model at a time.

    ``path`` is the only place where answers are looked up: with an empty or missing file everything is asked.
    Of several rows with one key the last one counts.
    """

    def __init__(self, recipe: Recipe, inputs: Mapping[str, Path], path: Path) -> None:
        self._recipe, self._path, self._export = recipe, path, inputs["export"]
        self._receipts: dict[str, Any] = read_json(inputs["register"] / "receipt.json")
        self._answers: dict[str, Answer] = {}
        self._think = recipe.dataset.thinking == "on"
        self.reused: dict[Model, int] = {"base": 0, "tuned": 0}
        """Different answers that were in the file before anything was asked."""

    def ask_all(self, items: Sequence[Item], tracker: Tracker) -> None:
        """Ask base, tuned, tuned, base, so that neither model always comes first on a cool machine.

        Every request is tried before failures are reported. Raises ToolError when any failed, with their number
        and reasons; ServedPromptError, at once, when a model is not asked as it was trained.
        """
        half = (len(items) + 1) // 2
        order: list[tuple[Model, Sequence[Item]]] = [
            ("base", items[:half]), ("tuned", items[:half]), ("tuned", items[half:]), ("base", items[half:])
        ]  # fmt: skip
        blocks = [(model, list(self._requests(model, part))) for model, part in order]
        failures = FailedRequests()
        with (
            RowLog(self._path) as log,
            tracker("asking both models", sum(len(requests) for _, requests in blocks)) as track,
        ):
            wanted = {request.key for _, requests in blocks for request in requests}
            self._answers = {answer.key: answer for answer in log.rows(Answer) if answer.key in wanted}
            for model in MODELS:
                keys = {request.key for asked, requests in blocks if asked == model for request in requests}
                self.reused[model] = len(keys & self._answers.keys())
            for model, requests in blocks:
                missing = [request for request in requests if request.key not in self._answers]
                track.advance(len(requests) - len(missing))
                if missing:
                    self._ask_block(model, missing, log, failures, track)
        failures.require_none()

    def _requests(self, model: Model, items: Sequence[Item]) -> Sequence[_Request]:
        return [_Request(item, seed, self._key(model, item, seed)) for item in items for seed in self._seeds(item)]

    def _seeds(self, item: Item) -> tuple[int, ...]:
        seeds = self._recipe.evaluate.seeds
        return seeds[:1] if item.once else seeds

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
        return digest_bytes(json.dumps(described, sort_keys=True, ensure_ascii=False).encode(errors="surrogatepass"))

    def _ask_block(
        self, model: Model, missing: Sequence[_Request], log: RowLog, failures: FailedRequests, track: Track
    ) -> None:
        context = self._recipe.evaluate.sampling.context_tokens
        started = time.perf_counter()
        with open_served(self._receipts[model], self._export / f"{model}.gguf", context_tokens=context) as backend:
            opening_seconds: float | None = time.perf_counter() - started
            for request in missing:
                if request.key not in self._answers:  # else another question has the very same prompt
                    answer = self._ask(backend, model, request, failures)
                    if answer is not None:
                        if opening_seconds is not None and not answer.error:
                            answer, opening_seconds = _cold(answer, opening_seconds), None
                        log.append(answer)
                        self._answers[request.key] = answer
                track.advance(note=f"{model}: {request.item.question.id}")

    def _ask(self, backend: ChatBackend, model: Model, request: _Request, failures: FailedRequests) -> Answer | None:
        """The answer; None when the request failed. A prompt that does not fit is an answer with an error.

        Raises ServedPromptError when the model is not asked as it was trained; ServerGoneError when the server
        no longer answers; ToolError when too many requests in a row fail.
        """
        item = request.item
        name = item.question.id
        known: dict[str, Any] = {"key": request.key, "question_id": name, "model": model, "seed": request.seed}
        try:
            proven = check_prompt(backend, name, item.messages, item.trained, think=self._think)
            reply = backend.chat(ChatRequest(item.messages, self._sampling(request.seed), think=self._think))
            check_count(reply, item.prompt_tokens, name)
        except (ServedPromptError, ServerGoneError):
            raise
        except PromptOverflowError as error:
            failures.succeeded()
            return Answer(**known, **asdict(ChatReply("", "error", 0, 0, 0.0)), error=error.what)
        except ToolError as error:
            failures.failed(error, example=f"question '{name}', {model} model")
            return None
        failures.succeeded()
        return Answer(**known, **asdict(reply), prompt_sha256=digest_bytes(item.trained.encode()) if proven else "")

    def answers(self, model: Model, items: Sequence[Item]) -> list[Answer]:
        """The model's answers in the order of items and seeds, once ``ask_all`` returned."""
        return [
            replace(self._answers[request.key], question_id=request.item.question.id, model=model)
            for request in self._requests(model, items)
        ]

    def gate(self, items: Sequence[Item]) -> PromptGate:
        """How many answers belong to a prompt that equals the training render."""
        given = [answer for model in MODELS for answer in self.answers(model, items) if not answer.error]
        proven = sum(bool(answer.prompt_sha256) for answer in given)
        return PromptGate(equal=proven, unproven=len(given) - proven)

    def conditions(self, model: Model, items: Sequence[Item]) -> Conditions:
        """Everything that must be the same for both models, as the server reports it."""
        receipt = self._receipts[model]
        return Conditions(
            quantization=receipt["type"],
            template_sha256=receipt["template_sha256"],
            context_tokens=self._recipe.evaluate.sampling.context_tokens,
            server=f"{receipt['server']} {receipt['version']}",
            sampling=asdict(self._sampling(0)),
            seeds=self._recipe.evaluate.seeds,
            prompts={
                answer.question_id: answer.prompt_sha256 for answer in self.answers(model, items) if not answer.error
            },
            parameters=receipt["parameters"],
            renderer=receipt["renderer"],
            parser=receipt["parser"],
            retrieval={"top_k": self._recipe.retrieval.top_k},
            thinking=self._recipe.dataset.thinking,
        )


def _cold(answer: Answer, opening_seconds: float) -> Answer:
    """The first answer after loading the model: Ollama loads in its first request, the embedded server on opening."""
    if answer.load_seconds is not None:
        return replace(answer, cold=True)
    first = None if answer.first_token_seconds is None else answer.first_token_seconds + opening_seconds
    return replace(
        answer,
        cold=True,
        load_seconds=opening_seconds,
        latency_seconds=answer.latency_seconds + opening_seconds,
        first_token_seconds=first,
    )
