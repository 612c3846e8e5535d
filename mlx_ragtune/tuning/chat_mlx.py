"""Chat with a model in MLX, for writing pairs: the requests of several threads are decoded in one batch.

MLX has no grammar for JSON. The reply to a request with a schema is begun for the model (``{"pairs": [``) and ends
with its object; what cannot be read is asked for again. Each request draws from its own seed, but what is computed
together is rounded together: the same request may get another reply in other company.
"""

import importlib.metadata
import json
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from mlx_ragtune.clients.file_digests import base_digest
from mlx_ragtune.clients.protocol import TOKENS_PER_LOOK, PromptOverflowError, require_unicode
from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.errors import OutOfMemoryError, ToolError
from mlx_ragtune.models.prompts import end_of_turn, load_tokenizer, prompt_text, text_tokens
from mlx_ragtune.records import ChatReply, ChatRequest, Message, Sampling
from mlx_ragtune.tuning.load import load_stored
from mlx_ragtune.tuning.memory import apply_caps, caps_here, is_out_of_memory

STEP_TOKENS = 512
"""Tokens of each prompt that go through the layers at once."""
_CLOSING_SECONDS = 60.0


@dataclass
class _Row:
    """A request that is being answered."""

    prompt: list[int]
    begun: str
    sampling: Sampling
    reply: "Future[ChatReply]"
    started: float
    most: int
    first_token_at: float | None = None
    tokens: list[int] = field(default_factory=list)


class MlxChat:
    """The model of a folder; at most ``slots`` requests are decoded at a time, each with ``context_tokens``.

    A text ends, with ``done_reason`` ``loop``, as soon as ``stop`` is true of it. Entering raises InputError for a
    folder that cannot be loaded, ToolError when the memory does not suffice.
    """

    def __init__(
        self, folder: Path, *, context_tokens: int, slots: int = 1, stop: Callable[[str], bool] | None = None
    ) -> None:
        self._folder, self._context_tokens, self._slots, self._stop = folder, context_tokens, slots, stop
        self._waiting: queue.SimpleQueue[_Row | None] = queue.SimpleQueue()
        self._rows: dict[int, _Row] = {}
        self._thread: threading.Thread | None = None
        self._tokenizer: Any = None
        self._digest = ""
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        """Load the model, in the thread that will use it."""
        self._digest = base_digest(self._folder)
        self._tokenizer = load_tokenizer(self._folder)
        self._failure = None
        loaded: Future[None] = Future()
        self._thread = threading.Thread(target=self._serve, args=(loaded,), daemon=True)
        self._thread.start()
        loaded.result()
        return self

    def __exit__(self, *_exception: object) -> None:
        """Free the model's memory; requests of other threads fail."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join(_CLOSING_SECONDS)
            self._thread = None

    def chat(self, request: ChatRequest) -> ChatReply:
        """The reply to one request; called from several threads. Raises PromptOverflowError, ToolError."""
        require_unicode((message.content for message in request.messages), where="prompt")
        begun = _beginning(request.schema)
        text = self.render(request.messages, think=request.think) + begun
        prompt = text_tokens(text, self._tokenizer)
        room = self._context_tokens - len(prompt)
        if room <= 0:
            raise PromptOverflowError(len(prompt), self._context_tokens, where=self._where())
        if self._failure is not None:
            raise self._failure
        reply: Future[ChatReply] = Future()
        most = min(request.sampling.max_tokens, room)
        self._waiting.put(_Row(prompt, begun, request.sampling, reply, time.perf_counter(), most))
        return reply.result()

    def render(self, messages: Sequence[Message], *, think: bool) -> str:
        """The prompt that the model's own template renders from the messages."""
        return prompt_text(messages, self._tokenizer, thinking=think)

    def identity(self) -> dict[str, str]:
        """Server, version, and the digest of the model's files."""
        return {"server": "mlx", "version": f"mlx-lm {importlib.metadata.version('mlx-lm')}", "digest": self._digest}

    def _where(self) -> str:
        return f"MLX, {self._folder}"

    def _serve(self, loaded: "Future[None]") -> None:
        """Work off requests until the end; the only thread that computes."""
        try:
            generator = self._generator()
        except BaseException as error:
            loaded.set_exception(error)
            mx.clear_streams()
            return
        loaded.set_result(None)
        try:
            while self._take(generator):
                for reply in generator.next_generated():
                    self._advance(generator, reply)
            self._fail(ToolError("the model is being closed", where=self._where()))
        except Exception as error:
            self._fail(self._described(error))
        finally:
            generator.close()
            del generator
            mx.clear_cache()
            mx.clear_streams()  # a stream of this thread that is still there at exit aborts the program

    def _generator(self) -> Any:
        from mlx_lm.generate import BatchGenerator

        model = load_stored(self._folder)
        model.eval()
        ends = {(int(self._tokenizer.eos_token_id),), tuple(end_of_turn(self._tokenizer))}
        generator = BatchGenerator(
            model,
            stop_tokens=sorted(map(list, ends)),
            completion_batch_size=self._slots,
            prefill_batch_size=self._slots,
            prefill_step_size=STEP_TOKENS,
        )
        apply_caps(caps_here())  # the generator has just wired the whole recommended working set (mlx-lm#828)
        return generator

    def _take(self, generator: Any) -> bool:
        """Queue what is waiting, up to ``slots`` at a time; wait where nothing is running. False at the end."""
        while len(self._rows) < self._slots:
            try:
                row = self._waiting.get(block=not self._rows)
            except queue.Empty:
                break
            if row is None:
                return False
            (uid,) = generator.insert([row.prompt], max_tokens=[row.most], samplers=[_sampler(row.sampling)])
            self._rows[uid] = row
        return True

    def _advance(self, generator: Any, response: Any) -> None:
        row = self._rows[response.uid]
        row.first_token_at = row.first_token_at or time.perf_counter()
        if response.finish_reason != "stop":
            row.tokens.append(int(response.token))
        reason = response.finish_reason
        if reason is None and len(row.tokens) % TOKENS_PER_LOOK == 0:
            text = self._text(row)
            reason = "stop" if row.begun and _ends(text) else "loop" if self._stop and self._stop(text) else None
            if reason is not None:
                generator.remove([response.uid])
        if reason is not None:
            del self._rows[response.uid]
            row.reply.set_result(self._reply(row, reason))

    def _text(self, row: _Row) -> str:
        """The text so far, without a last character that is not complete."""
        return row.begun + str(self._tokenizer.decode(row.tokens, skip_special_tokens=True)).rstrip("\ufffd")

    def _reply(self, row: _Row, reason: str) -> ChatReply:
        now = time.perf_counter()
        first = row.first_token_at or now
        return ChatReply(
            text=self._text(row),
            done_reason=reason,
            prompt_tokens=len(row.prompt),
            answer_tokens=len(row.tokens),
            latency_seconds=now - row.started,
            first_token_seconds=first - row.started,
            generate_seconds=now - first,
        )

    def _described(self, error: Exception) -> ToolError:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if is_out_of_memory(error):
            fix = "lower dataset.generator.slots or context_tokens, or choose a smaller model"
            return OutOfMemoryError(f"out of memory: {reason}", where=self._where(), fix=fix)
        return ToolError(f"MLX failed: {reason}", where=self._where(), fix="run the same command again to resume")

    def _fail(self, error: ToolError) -> None:
        """End every request with this error, those that come later too."""
        self._failure = error
        rows = list(self._rows.values())
        self._rows.clear()
        while not self._waiting.empty():
            row = self._waiting.get()
            rows += [row] if row is not None else []
        for row in rows:
            row.reply.set_exception(error)


def _beginning(schema: dict[str, Any] | None) -> str:
    """How every object of the schema begins, as far as its first list; empty for other schemas."""
    properties = (schema or {}).get("properties", {})
    key = next(iter(properties), None)
    return f"{{{json.dumps(key)}: [" if key and properties[key].get("type") == "array" else ""


def _ends(text: str) -> bool:
    """Whether a text that begins with an object holds all of it."""
    if "}" not in text[-8 * TOKENS_PER_LOOK :]:
        return False
    try:
        json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return False
    return True


def _sampler(sampling: Sampling) -> Callable[[Any], Any] | None:
    """A function of ``(1, vocabulary)`` log-probabilities that draws a token; None where the choice is greedy.

    Its random numbers depend on the seed and on the number of tokens drawn, not on other requests.
    """
    if sampling.temperature == 0:
        return None
    from mlx_lm.sample_utils import apply_min_p, apply_top_k, apply_top_p

    state = [mx.random.key(sampling.seed)]

    def draw(logprobs: Any) -> Any:
        if sampling.top_k:
            logprobs = apply_top_k(logprobs, sampling.top_k)
        if sampling.top_p < 1:
            logprobs = apply_top_p(logprobs, sampling.top_p)
        if sampling.min_p:
            logprobs = apply_min_p(logprobs, sampling.min_p)
        state[0], key = mx.random.split(state[0])
        return mx.random.categorical(logprobs / sampling.temperature, key=key)

    return draw
