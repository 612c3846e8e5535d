"""``evaluate.engine: mlx``: the benchmark answered in MLX by the base with and without the adapter, for iterating.

Nothing is merged, exported or served. The prompts are the fixed ones of the served path, as tokens of their training
render. The weights are those of training and not the exported ones, so answers may differ from the served ones:
every page says so, and the verdict that counts is that of the served path.
"""

import importlib.metadata
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from mlx_ragtune.artifact import Track, Tracker, digest_bytes, digest_file
from mlx_ragtune.clients.file_digests import base_digest
from mlx_ragtune.clients.receipts import text_digest
from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.evaluation.asker import TWO, Progress
from mlx_ragtune.evaluation.asking_order import Block, Budget, make_schedule
from mlx_ragtune.evaluation.fairness import Conditions
from mlx_ragtune.evaluation.items import Item
from mlx_ragtune.evaluation.quick_path import SERVER
from mlx_ragtune.evaluation.served_prompt import PromptGate
from mlx_ragtune.jsonl import RowLog
from mlx_ragtune.models.prompts import text_tokens
from mlx_ragtune.models.vocabulary import chat_template
from mlx_ragtune.recipe import Recipe
from mlx_ragtune.records import ARMS, Answer, Arm, Sampling
from mlx_ragtune.scoring.answers.early_stop import repeats
from mlx_ragtune.tuning.adapters import BareModules, load_adapter
from mlx_ragtune.tuning.decode import MOST_AT_ONCE, MOST_TOKENS, Decoded, decode
from mlx_ragtune.tuning.load import Base, load_base
from mlx_ragtune.tuning.memory import apply_caps, caps_here

_THINK_BEGIN, _THINK_END = "<think>", "</think>"


class _Request(NamedTuple):
    """One arm is asked one item; ``key`` is that of the answer."""

    arm: Arm
    item: Item
    key: str


class QuickAsker:
    """Asks what the answers file does not contain yet; what ``Asker`` is for served models.

    Answers are keyed by base, adapter, precision, prompt, length and versions of MLX, so the base's answers serve
    all recipes that tune it. What is answered together is rounded together: answers may differ by it.
    """

    def __init__(self, recipe: Recipe, inputs: Mapping[str, Path], path: Path) -> None:
        self._recipe, self._base, self._adapter, self._path = recipe, inputs["base"], inputs["train"], path
        self._answers: dict[str, Answer] = {}
        self._think = recipe.dataset.thinking == "on"
        adapter = [digest_file(self._adapter / name) for name in ("adapters.safetensors", "adapter_config.json")]
        base = base_digest(self._base)
        self._strength = recipe.fuse.strength
        if self._strength is not None:
            adapter.append(f"strength {self._strength:g}")
        self._models: dict[Arm, list[str]] = {"base": [base], "prompted": [base], "tuned": [base, *adapter]}
        self.arms: tuple[Arm, ...] = ARMS if recipe.evaluate.prompted is not None else TWO
        self.progress = Progress()

    def ask_all(self, items: Sequence[Item], tracker: Tracker) -> None:
        """Ask all arms, within ``evaluate.budget`` as in ``Asker``."""
        minutes = self._recipe.evaluate.budget
        blocks: Sequence[Block] = (Block(tuple(items), self.arms),)
        if minutes is not None:
            blocks = make_schedule(items, seed=self._recipe.seed, slots=1, budget=True).blocks
        planned = [list(self._requests(block)) for block in blocks]
        keys = {request.key for block in planned for request in block}
        budget, asked = Budget(minutes), list[Item]()
        with RowLog(self._path) as log, tracker("answering in MLX", len(keys)) as track, ExitStack() as stack:
            self._answers = {answer.key: answer for answer in log.rows(Answer) if answer.key in keys}
            reused = self._reused(planned)
            track.advance(len(self._answers))
            model: _Model | None = None
            for block, wanted in zip(blocks, planned, strict=True):
                missing = {request.key: request for request in wanted if request.key not in self._answers}
                if missing and not budget.begins():
                    break
                if missing and model is None:
                    precision = self._recipe.base.precision
                    model = stack.enter_context(_Model(self._base, self._adapter, precision, self._strength))
                for arm in block.arms:
                    own = [request for request in missing.values() if request.arm == arm]
                    if own and model is not None:
                        self._answer(model, own, log, track)
                asked += block.items
        self.progress = Progress(tuple(asked), reused)

    def _answer(self, model: "_Model", requests: Sequence[_Request], log: RowLog, track: Track) -> None:
        loaded = model.of(requests[0].arm)
        prompts = [text_tokens(request.item.prompt(request.arm).trained, loaded.tokenizer) for request in requests]
        most = self._recipe.evaluate.sampling.max_tokens
        for index, decoded in decode(loaded.model, loaded.tokenizer, prompts, max_tokens=most, stop=repeats):
            request = requests[index]
            answer = self._row(request, decoded, len(prompts[index]))
            log.append(answer)
            self._answers[answer.key] = answer
            track.advance(note=f"{request.arm}: {request.item.question.id}")

    def _row(self, request: _Request, decoded: Decoded, prompt_tokens: int) -> Answer:
        text, thinking = split_thinking(decoded.text) if self._think else (decoded.text, "")
        return Answer(
            key=request.key,
            question_id=request.item.question.id,
            model=request.arm,
            seed=self._recipe.evaluate.seeds[0],
            text=text,
            thinking=thinking,
            done_reason=decoded.reason,
            prompt_tokens=prompt_tokens,
            answer_tokens=decoded.tokens,
            latency_seconds=0.0,
            prompt_sha256=digest_bytes(request.item.prompt(request.arm).trained.encode()),
            parallel=True,  # its times say nothing about the model
        )

    def _requests(self, block: Block) -> Iterator[_Request]:
        for arm in block.arms:
            for item in block.items:
                if arm != "prompted" or item.prompted is not None:
                    yield self._request(arm, item)

    def _request(self, arm: Arm, item: Item) -> _Request:
        described = {
            "model": [*self._models[arm], self._recipe.base.precision],
            "prompt": item.prompt(arm).trained,
            "max_tokens": self._recipe.evaluate.sampling.max_tokens,
            "think": self._think,
            "engine": [_build(), _batch()],
        }
        text = json.dumps(described, sort_keys=True, ensure_ascii=False)
        return _Request(arm, item, digest_bytes(text.encode(errors="surrogatepass")))

    def _reused(self, planned: Sequence[Sequence[_Request]]) -> dict[Arm, int]:
        keys = {arm: {request.key for block in planned for request in block if request.arm == arm} for arm in self.arms}
        return {arm: len(own & self._answers.keys()) for arm, own in keys.items()}

    def answers(self, arm: Arm, items: Sequence[Item]) -> list[Answer]:
        """The answers in the order of the items. Items that were not asked have none."""
        requests = (self._request(arm, item) for item in items if arm != "prompted" or item.prompted is not None)
        return [
            replace(self._answers[request.key], question_id=request.item.question.id, model=arm)
            for request in requests
            if request.key in self._answers
        ]

    def gate(self, items: Sequence[Item]) -> PromptGate:
        """All prompts are the training render: its tokens are what the model reads."""
        return PromptGate(equal=sum(len(self.answers(arm, items)) for arm in self.arms), unproven=0)

    def conditions(self, arm: Arm, items: Sequence[Item]) -> Conditions:
        """How the arm was asked, as in ``Asker``; ``server`` is ``SERVER``."""
        return Conditions(
            quantization=f"none ({self._recipe.base.precision} as in training)",
            template_sha256=text_digest(chat_template(self._base)),
            context_tokens=self._recipe.evaluate.sampling.context_tokens,
            server=SERVER,
            sampling=asdict(Sampling(seed=0, **self._recipe.evaluate.sampling.model_dump())),
            seeds=self._recipe.evaluate.seeds,
            prompts={answer.question_id: answer.prompt_sha256 for answer in self.answers(arm, items)},
            retrieval={"top_k": self._recipe.retrieval.top_k},
            thinking=self._recipe.dataset.thinking,
            batch=_batch(),
            engine=_build(),
        )


class _Model:
    """The base in memory, with the adapter on or off."""

    def __init__(self, base: Path, adapter: Path, precision: Any, strength: float | None) -> None:
        self._folder, self._adapter, self._precision, self._strength = base, adapter, precision, strength
        self._tuned = False

    def __enter__(self) -> "_Model":
        apply_caps(caps_here())
        self._loaded = load_base(self._folder, self._precision)
        self._bare = BareModules(self._loaded.model)
        self._bare.restore()
        return self

    def __exit__(self, *_exception: object) -> None:
        """Release the base."""
        del self._loaded, self._bare
        mx.clear_cache()

    def of(self, arm: Arm) -> Base:
        """The base as the arm: with the adapter for ``tuned``, without it for the others."""
        if (arm == "tuned") != self._tuned:
            self._bare.restore()
            self._tuned = arm == "tuned"
            if self._tuned:
                load_adapter(self._loaded.model, self._adapter, strength=self._strength)
        return self._loaded


def split_thinking(text: str) -> tuple[str, str]:
    """(answer, thinking) of a text that begins with a think block; without its end all of it is thinking."""
    if not text.lstrip().startswith(_THINK_BEGIN):
        return text, ""
    thinking, _, answer = text.lstrip().removeprefix(_THINK_BEGIN).partition(_THINK_END)
    return answer.strip(), thinking.strip()


def _build() -> str:
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("mlx", "mlx-lm")]
    return ", ".join([*versions, "CPU" if mx.default_device() == mx.Device(mx.cpu) else "GPU"])


def _batch() -> str:
    return f"up to {MOST_AT_ONCE} prompts and {MOST_TOKENS} tokens, shared turns first"
