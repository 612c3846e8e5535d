"""Asks all arms the benchmark's questions with fixed prompts; each answer is on disk as soon as it arrives.

Answers are keyed by model, prompt, options and everything that changes roundings (threads, slots, batch sizes, the
engine's build, and whether others were answered beside it), and by nothing that names a recipe or a question. A run
that was stopped resumes without asking twice, and recipes that share a model share its answers.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from mlx_ragtune.artifact import Track, Tracker, digest_bytes
from mlx_ragtune.clients.protocol import ChatBackend, PromptOverflowError
from mlx_ragtune.clients.receipts import embedded_receipt
from mlx_ragtune.clients.serving import Engine, engine_of, open_served
from mlx_ragtune.evaluation.asking_order import Block, Budget, Schedule, make_schedule
from mlx_ragtune.evaluation.fairness import Conditions
from mlx_ragtune.evaluation.items import Item
from mlx_ragtune.evaluation.overlap import overlap
from mlx_ragtune.evaluation.sender import FILES, Request, Sender, Setting
from mlx_ragtune.evaluation.served_prompt import PromptGate, check_count, check_prompt
from mlx_ragtune.jsonl import RowLog, read_json
from mlx_ragtune.recipe import Recipe
from mlx_ragtune.records import ARMS, Answer, Arm, ChatReply, ChatRequest, Sampling
from mlx_ragtune.scoring.answers.early_stop import repeats

TWO: tuple[Arm, ...] = ("base", "tuned")
"""The arms that are asked what is not part of the verdict: the prompted base has the base's weights."""


@dataclass(frozen=True)
class Progress:
    """What ``ask_all`` did: items that every arm answered, and answers that were in the file before.

    ``overlap`` is how many answers the server generated at a time where several were asked for (``overlap.overlap``).
    """

    asked: tuple[Item, ...] = ()
    reused: Mapping[Arm, int] = field(default_factory=dict)
    overlap: float | None = None


def _asks(arm: Arm, item: Item) -> bool:
    """Whether the arm is asked this item."""
    return arm != "prompted" or item.prompted is not None


class Asker:
    """Asks what the answers file does not contain yet, one model at a time.

    ``path`` is the only place where answers are looked up: with an empty or missing file everything is asked.
    Of several rows with one key the last one counts. With ``evaluate.slots`` above 1 some questions are asked one by
    one, for their latency, and once more in parallel at temperature 0, to see whether that changes answers.
    """

    def __init__(self, recipe: Recipe, inputs: Mapping[str, Path], path: Path) -> None:
        self._recipe, self._path, self._export = recipe, path, inputs["export"]
        self._receipts: dict[str, Any] = read_json(inputs["register"] / "receipt.json")
        self._answers: dict[str, Answer] = {}
        self._think = recipe.dataset.thinking == "on"
        self._slots = recipe.evaluate.slots
        self._engines: dict[tuple[str, bool], Engine] = {}
        self._embedded: dict[str, dict[str, Any]] = {}
        self._usual = Setting(recipe.evaluate.threads)
        self._schedule = Schedule((), frozenset())
        self.arms: tuple[Arm, ...] = ARMS if recipe.evaluate.prompted is not None else TWO
        self.progress = Progress()

    def ask_all(self, items: Sequence[Item], tracker: Tracker) -> None:
        """Ask all arms, in the order of ``asking_order.make_schedule``.

        With ``evaluate.budget`` no block of questions begins that would not end in time, judged by the longest one
        so far in this call, unless all its answers are there already: those cost nothing. Every request is tried
        before failures are reported. Raises ToolError when any failed, with their number and reasons;
        ServedPromptError, at once, when a model is not asked as it was trained.
        """
        evaluate = self._recipe.evaluate
        limited = evaluate.budget is not None
        self._schedule = make_schedule(items, seed=self._recipe.seed, slots=self._slots, budget=limited)
        planned = [list(self._requests(block)) for block in self._schedule.blocks]
        requests = [request for block in planned for request in block]
        budget, asked = Budget(evaluate.budget), list[Item]()
        with RowLog(self._path) as log, tracker("asking", len({request.key for request in requests})) as track:
            self._read(log, requests)
            track.advance(len(self._answers))
            with self._sender(log, track) as sender:
                for block, wanted in zip(self._schedule.blocks, planned, strict=True):
                    missing = self._missing(wanted)
                    if missing and not budget.begins():
                        break
                    self._ask(sender, missing, block.arms)
                    asked += block.items
                sender.require_none_failed()
        reused = self.progress.reused
        together = overlap(sender.timed)
        self.progress = Progress(tuple(asked), reused, together)

    def ask_again(self, items: Sequence[Item], tracker: Tracker, setting: Setting) -> None:
        """Ask base and tuned some questions once more in another setting."""
        requests = [
            self._request(arm, item, seed, setting, parallel=self._slots > 1)
            for arm in TWO
            for item in items
            for seed in self._seeds(item)
        ]
        known = {request.key for request in requests}
        with RowLog(self._path) as log, tracker("measuring the noise", len(known)) as track:
            self._answers.update({answer.key: answer for answer in log.rows(Answer) if answer.key in known})
            track.advance(len(known & self._answers.keys()))
            with self._sender(log, track) as sender:
                self._ask(sender, self._missing(requests), TWO)
                sender.require_none_failed()

    def _sender(self, log: RowLog, track: Track) -> Sender:
        def keep(answer: Answer) -> None:
            log.append(answer)
            self._answers[answer.key] = answer

        return Sender(self.open, self._reply, keep, slots=self._slots, track=track)

    def _missing(self, requests: Sequence[Request]) -> list[Request]:
        """The requests without an answer, each key once: questions may have the very same prompt."""
        return list({request.key: request for request in requests if request.key not in self._answers}.values())

    def _ask(self, sender: Sender, missing: Sequence[Request], arms: Sequence[Arm]) -> None:
        for arm in arms:
            own = [request for request in missing if request.arm == arm]
            if own:
                sender.send(arm, own)

    def _read(self, log: RowLog, requests: Sequence[Request]) -> None:
        wanted = {request.key for request in requests}
        self._answers = {answer.key: answer for answer in log.rows(Answer) if answer.key in wanted}
        keys = {arm: {request.key for request in requests if request.arm == arm} for arm in self.arms}
        self.progress = Progress(reused={arm: len(keys[arm] & self._answers.keys()) for arm in self.arms})

    def _requests(self, block: Block) -> Iterator[Request]:
        for arm in block.arms:
            for item in block.items:
                for seed in self._seeds(item) if _asks(arm, item) else ():
                    yield self._scored_request(arm, item, seed)
                    if self._compares(item):
                        yield self._request(arm, item, seed, self._usual, parallel=True)

    def _compares(self, item: Item) -> bool:
        """Whether a question that is asked one by one is also asked beside others."""
        serial = item.question.id in self._schedule.serial
        return self._slots > 1 and serial and self._recipe.evaluate.sampling.temperature == 0

    def _seeds(self, item: Item) -> tuple[int, ...]:
        seeds = self._recipe.evaluate.seeds
        return seeds[:1] if item.once else seeds

    def _sampling(self, seed: int) -> Sampling:
        return Sampling(seed=seed, **self._recipe.evaluate.sampling.model_dump())

    def _scored_request(self, arm: Arm, item: Item, seed: int) -> Request:
        """The request whose answer is scored: one by one for some questions, else as parallel as the recipe says."""
        parallel = self._slots > 1 and item.question.id not in self._schedule.serial
        return self._request(arm, item, seed, self._usual, parallel=parallel)

    def _request(self, arm: Arm, item: Item, seed: int, setting: Setting, *, parallel: bool) -> Request:
        name = FILES[arm]
        receipt, engine = self._receipt(name, setting), self.engine(name, second=setting.second)
        described = {
            "model": [receipt[name] for name in ("server", "version", "digest", "gguf_sha256")],
            "messages": [asdict(message) for message in item.prompt(arm).messages],
            "sampling": asdict(self._sampling(seed)),
            "think": self._think,
            "engine": [engine.build, engine.batch, setting.threads or engine.threads, self._slots, parallel],
        }
        text = json.dumps(described, sort_keys=True, ensure_ascii=False)
        return Request(arm, item, seed, setting, parallel, digest_bytes(text.encode(errors="surrogatepass")))

    @property
    def has_second_engine(self) -> bool:
        """Whether the very files that are asked at Ollama can also be asked in the embedded server."""
        return all(receipt["server"] == "ollama" and receipt["route"] == "gguf" for receipt in self._receipts.values())

    def _receipt(self, name: str, setting: Setting) -> dict[str, Any]:
        if not setting.second:
            return cast(dict[str, Any], self._receipts[name])
        if name not in self._embedded:
            registered = self._receipts[name]["name"]
            self._embedded[name] = asdict(embedded_receipt(registered, self._export / f"{name}.gguf"))
        return self._embedded[name]

    def engine(self, name: str, *, second: bool = False) -> Engine:
        """What computes the answers of an exported model, ``base`` or ``tuned``, in the usual or the second engine."""
        if (name, second) not in self._engines:
            receipt = self._receipt(name, Setting(second=second))
            self._engines[name, second] = engine_of(receipt, self._export / f"{name}.gguf")
        return self._engines[name, second]

    def answers(self, arm: Arm, items: Sequence[Item]) -> list[Answer]:
        """The answers that are scored, in the order of the items and seeds. Items that were not asked have none."""
        asked = ((item, seed) for item in items if _asks(arm, item) for seed in self._seeds(item))
        return [
            self._own(request)
            for request in (self._scored_request(arm, item, seed) for item, seed in asked)
            if request.key in self._answers
        ]

    def answers_under(
        self, arm: Arm, items: Sequence[Item], setting: Setting | None = None, *, parallel: bool
    ) -> list[Answer]:
        """The answers of a question asked in another way than the one that is scored, as far as there are any."""
        setting = setting or self._usual
        asked = ((item, seed) for item in items if _asks(arm, item) for seed in self._seeds(item))
        requests = (self._request(arm, item, seed, setting, parallel=parallel) for item, seed in asked)
        return [self._own(request) for request in requests if request.key in self._answers]

    def _own(self, request: Request) -> Answer:
        """The answer under the name of its question and arm: another question, or recipe, may have the same prompt."""
        answer = self._answers[request.key]
        return replace(answer, question_id=request.item.question.id, model=request.arm)

    def serial_items(self) -> list[Item]:
        """The asked questions whose answers have a latency."""
        return [item for item in self.progress.asked if item.question.id in self._schedule.serial]

    def gate(self, items: Sequence[Item]) -> PromptGate:
        """How many answers to the items belong to prompts that equal the training render."""
        given = [answer for arm in self.arms for answer in self.answers(arm, items) if not answer.error]
        proven = sum(bool(answer.prompt_sha256) for answer in given)
        return PromptGate(equal=proven, unproven=len(given) - proven)

    def conditions(self, arm: Arm, items: Sequence[Item]) -> Conditions:
        """Everything that must be the same for all arms, as the server reports it; the prompted base's prompts differ.

        Of the prompts, those of the items are given.
        """
        receipt, engine = self._receipts[FILES[arm]], self.engine(FILES[arm])
        return Conditions(
            quantization=receipt["type"],
            template_sha256=receipt["template_sha256"],
            context_tokens=self._recipe.evaluate.sampling.context_tokens,
            server=f"{receipt['server']} {receipt['version']}",
            sampling=asdict(self._sampling(0)),
            seeds=self._recipe.evaluate.seeds,
            prompts={
                answer.question_id: answer.prompt_sha256 for answer in self.answers(arm, items) if not answer.error
            },
            parameters=receipt["parameters"],
            renderer=receipt["renderer"],
            parser=receipt["parser"],
            retrieval={"top_k": self._recipe.retrieval.top_k},
            thinking=self._recipe.dataset.thinking,
            threads=self._recipe.evaluate.threads or engine.threads,
            slots=self._slots,
            batch=engine.batch,
            engine=engine.build,
        )

    def open(self, name: str, setting: Setting) -> AbstractContextManager[ChatBackend]:
        """The backend of an exported model, to be entered."""
        return open_served(
            self._receipt(name, setting),
            self._export / f"{name}.gguf",
            context_tokens=self._recipe.evaluate.sampling.context_tokens,
            threads=setting.threads,
            slots=self._slots,
            stop=repeats,
        )

    def require_models(self) -> None:
        """Raise ToolError when a model is not there, although all its answers may be."""
        for name in sorted(set(FILES.values())):
            with self.open(name, self._usual):
                pass

    def _reply(self, backend: ChatBackend, request: Request) -> Answer:
        """The answer to one request. A prompt that does not fit is an answer with an error.

        Raises ServedPromptError when the model is not asked as it was trained; ToolError when the request fails.
        """
        prompt, name = request.item.prompt(request.arm), request.item.question.id
        known: dict[str, Any] = {
            "key": request.key,
            "question_id": name,
            "model": request.arm,
            "seed": request.seed,
            "parallel": request.parallel,
        }
        try:
            proven = check_prompt(backend, name, prompt.messages, prompt.trained, think=self._think)
            shared = len(prompt.messages) - 1
            sampling = self._sampling(request.seed)
            reply = backend.chat(ChatRequest(prompt.messages, sampling, think=self._think, shared_turns=shared))
            check_count(reply, prompt.tokens, name)
        except PromptOverflowError as error:
            return Answer(**known, **asdict(ChatReply("", "error", 0, 0, 0.0)), error=error.what)
        digest = digest_bytes(prompt.trained.encode()) if proven else ""
        if proven and not reply.prompt_tokens:  # an answer that was ended early: Ollama counts in its last line
            reply = replace(reply, prompt_tokens=prompt.tokens)
        return Answer(**known, **asdict(reply), prompt_sha256=digest)
