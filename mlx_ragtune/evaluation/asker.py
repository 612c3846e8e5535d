"""Asks both models the benchmark's questions as frozen: each answer is written down as soon as it is there.

Answers are keyed by model, prompt and options: going on after a stop asks nothing twice.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mlx_ragtune.artifact import Track, Tracker, digest_bytes
from mlx_ragtune.clients.ollama_http import ServerGoneError
from mlx_ragtune.clients.protocol import ChatBackend
from mlx_ragtune.clients.serving import open_served
from mlx_ragtune.errors import ToolError
from mlx_ragtune.evaluation.fairness import Conditions
from mlx_ragtune.evaluation.served_prompt import PromptGate, ServedPromptError, check_count, check_prompt
from mlx_ragtune.jsonl import read_rows, to_json
from mlx_ragtune.recipe import Recipe
from mlx_ragtune.records import Answer, ChatReply, ChatRequest, Message, Passage, Question, Sampling

Model = Literal["base", "tuned"]
MODELS: tuple[Model, ...] = ("base", "tuned")


@dataclass(frozen=True)
class Item:
    """One question as both models are asked it; ``trained`` is the prompt as training renders it."""

    question: Question
    passages: tuple[Passage, ...]
    messages: tuple[Message, ...]
    ranked_papers: tuple[str, ...]
    trained: str
    prompt_tokens: int
    once: bool = False
    """Asked with the first seed alone: what decides nothing by itself need not be repeated."""


class Asker:
    """Asks what is not yet in the answers file, one model served at a time."""

    def __init__(self, recipe: Recipe, inputs: Mapping[str, Path], path: Path) -> None:
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

    def ask_all(self, items: Sequence[Item], tracker: Tracker) -> None:
        """Base, tuned, tuned, base: neither model always comes first, when the machine is cool."""
        half = (len(items) + 1) // 2
        first, second = items[:half], items[half:]
        blocks: list[tuple[Model, Sequence[Item]]] = [
            ("base", first), ("tuned", first), ("tuned", second), ("base", second)
        ]  # fmt: skip
        with tracker("asking both models", 2 * sum(len(self._seeds(item)) for item in items)) as track:
            for model, part in blocks:
                asked = [(item, seed) for item in part for seed in self._seeds(item)]
                missing = [(item, seed) for item, seed in asked if self._key(model, item, seed) not in self._known]
                track.advance(len(asked) - len(missing))
                self._ask_block(model, missing, track)

    def _seeds(self, item: Item) -> tuple[int, ...]:
        seeds = self._recipe.evaluate.seeds
        return seeds[:1] if item.once else seeds

    def _ask_block(self, model: Model, missing: Sequence[tuple[Item, int]], track: Track) -> None:
        if not missing:
            return
        context = self._recipe.evaluate.sampling.context_tokens
        gguf = self._export / f"{model}.gguf"
        started = time.perf_counter()
        with (
            open_served(self._receipts[model], gguf, context_tokens=context) as backend,
            self._path.open("a", encoding="utf-8") as stream,
        ):
            opening: float | None = time.perf_counter() - started
            for item, seed in missing:
                if self._key(model, item, seed) in self._known:  # another question had the very same prompt
                    track.advance()
                    continue
                answer = self._ask(backend, model, item, seed)
                if opening is not None:
                    answer, opening = _cold(answer, opening), None
                self._known[answer.key] = answer
                if answer.error == "":  # a failed request is asked again by the next run
                    stream.write(to_json(answer) + "\n")
                    stream.flush()
                track.advance(note=f"{model}: {item.question.id}")

    def _ask(self, backend: ChatBackend, model: Model, item: Item, seed: int) -> Answer:
        """The reply as a record; what outlasts the backend's retries is an error of transport, not of the model.

        Raises ServedPromptError when the model is not asked as it was trained: then no answer means anything;
        ServerGoneError when nobody answers any more: what was answered is kept.
        """
        request = ChatRequest(item.messages, self._sampling(seed), think=self._think)
        known: dict[str, Any] = {
            "key": self._key(model, item, seed),
            "question_id": item.question.id,
            "model": model,
            "seed": seed,
        }
        try:
            name = item.question.id
            proven = check_prompt(backend, name, item.messages, item.trained, think=self._think)
            reply = backend.chat(request)
            check_count(reply, item.prompt_tokens, name)
        except (ServedPromptError, ServerGoneError):
            raise
        except ToolError as error:
            empty = ChatReply("", "error", 0, 0, 0.0)
            return Answer(**known, **asdict(empty), error=error.what)
        return Answer(**known, **asdict(reply), prompt_sha256=digest_bytes(item.trained.encode()) if proven else "")

    def answers(self, model: Model, items: Sequence[Item]) -> list[Answer]:
        """The model's answers in the order of questions and seeds."""
        return [
            replace(self._known[self._key(model, item, seed)], question_id=item.question.id)  # one prompt, one answer
            for item in items
            for seed in self._seeds(item)
        ]

    def gate(self, items: Sequence[Item]) -> PromptGate:
        """How many answers were given to a prompt that was seen to be the training render."""
        given = [one for model in MODELS for one in self.answers(model, items) if not one.error]
        return PromptGate(
            equal=sum(bool(one.prompt_sha256) for one in given), unproven=sum(not one.prompt_sha256 for one in given)
        )

    def conditions(self, model: Model, items: Sequence[Item]) -> Conditions:
        """All that must be the same for both models, as the server reports it."""
        receipt = self._receipts[model]
        return Conditions(
            quantization=receipt["type"],
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


def _cold(answer: Answer, opening: float) -> Answer:
    """The first answer after a load. Ollama loads in its first request, the embedded server in ``opening`` seconds."""
    if answer.load_seconds is not None or answer.error:
        return replace(answer, cold=True)
    first = None if answer.first_token_seconds is None else answer.first_token_seconds + opening
    return replace(
        answer,
        cold=True,
        load_seconds=opening,
        latency_seconds=answer.latency_seconds + opening,
        first_token_seconds=first,
    )
