"""Chat with a model that Ollama serves: every option sent, nothing cut silently, a broken stream is an error.

Always ``/api/chat``: ``/v1`` ignores ``num_ctx`` and ``think``, and ``/api/generate`` does not part thinking
from text.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from mlx_ragtune.clients.ollama_http import RENDERS_SINCE, Ollama, PassingError, parse_version
from mlx_ragtune.clients.ollama_registry import full_name, served_digest
from mlx_ragtune.errors import ToolError
from mlx_ragtune.records import ChatReply, ChatRequest, Message, Sampling

LOOP_TOKENS = 30
_NANO = 1e-9


@dataclass(frozen=True)
class Timings:
    """The server's own figures for one answer, in seconds; ``prompt_seconds`` leaves out cached tokens."""

    load_seconds: float
    prompt_seconds: float
    answer_seconds: float
    total_seconds: float


@dataclass
class _Stream:
    """What the lines of an answer add up to."""

    text: list[str] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    last: dict[str, Any] = field(default_factory=dict)
    first_token_at: float | None = None

    def add(self, line: dict[str, Any]) -> None:
        message = line.get("message", {})
        for name, pieces in (("content", self.text), ("thinking", self.thinking)):
            if message.get(name):
                pieces.append(message[name])
                self.first_token_at = self.first_token_at or time.perf_counter()
        if line.get("done"):
            self.last = line

    def looped(self) -> bool:
        """Whether it ends in one token over and over: the server's guard, which ends a stream without ``done``."""
        tail = [piece.strip() for piece in (self.text or self.thinking)[-LOOP_TOKENS:]]
        return len(tail) == LOOP_TOKENS and len(set(tail)) == 1


class OllamaChat:
    """One model at one Ollama. ``count_tokens`` counts a rendered prompt; with it, cut prompts are found.

    ``digest`` is the receipt's: entering raises ToolError when the server has another model of that name.
    Leaving unloads the model, so that the next one starts on a free machine.
    """

    def __init__(
        self,
        host: str,
        model: str,
        *,
        context_tokens: int,
        digest: str | None = None,
        count_tokens: Callable[[Sequence[Message], bool], int] | None = None,
        server: Ollama | None = None,
    ) -> None:
        self._server = server or Ollama(host)
        self._model, self._digest, self._context_tokens = model, digest, context_tokens
        self._count_tokens = count_tokens
        self._thinks = False
        self._window_seen = False

    def __enter__(self) -> Self:
        """Check server, model and digest; nothing is loaded yet."""
        try:
            self._check_model()
        except BaseException:
            self._server.close()
            raise
        return self

    def _check_model(self) -> None:
        server = self._server
        _ = server.era
        held = served_digest(server, self._model)
        if held is None or (self._digest and held != self._digest):
            what = "no longer holds" if held is None else "holds another model as"
            raise ToolError(f"Ollama {what} '{self._model}'", where=server.host, fix="ragtune register RECIPE --redo")
        self._digest = held
        shown = server.request("POST", "/api/show", {"model": self._model})
        self._thinks = "thinking" in shown.get("capabilities", ())

    def __exit__(self, *_exception: object) -> None:
        """Unload the model and close the connections."""
        with contextlib.suppress(ToolError):  # a server that is gone holds nothing
            self.unload()
        self._server.close()

    def unload(self) -> None:
        """Free the server's memory; the next answer is a cold one."""
        self._window_seen = False
        self._server.request("POST", "/api/generate", {"model": self._model, "keep_alive": 0, "stream": False})

    def _body(self, messages: Sequence[Message], sampling: Sampling, think: bool) -> dict[str, Any]:
        if think and not self._thinks:
            raise ToolError(f"'{self._model}' cannot think", where=self._server.host, fix="set 'dataset.thinking: off'")
        return {
            "model": self._model,
            "messages": [{"role": one.role, "content": one.content} for one in messages],
            "think": think,
            "truncate": False,
            "shift": False,
            "keep_alive": "15m",
            "options": {
                "temperature": sampling.temperature,
                "top_k": sampling.top_k,
                "top_p": sampling.top_p,
                "min_p": sampling.min_p,
                "repeat_penalty": sampling.repeat_penalty,
                "seed": sampling.seed,
                "num_predict": sampling.max_tokens,
                "num_ctx": sampling.context_tokens,
            },
        }

    def chat(self, request: ChatRequest) -> ChatReply:
        """The reply to one request. Raises PromptOverflowError, or ToolError for what did not heal."""
        return self.chat_timed(request)[0]

    def chat_timed(self, request: ChatRequest) -> tuple[ChatReply, Timings]:
        """The reply and the server's own times for it. Raises as ``chat``."""
        body = {**self._body(request.messages, request.sampling, request.think), "stream": True}
        if request.schema is not None:
            body["format"] = request.schema
        reply, timings = self._server.healing(lambda: self._ask(body))
        self._check_prompt(request, reply)
        self._check_window(request.sampling.context_tokens)
        return reply, timings

    def _ask(self, body: dict[str, Any]) -> tuple[ChatReply, Timings]:
        stream, started = _Stream(), time.perf_counter()
        for line in self._server.lines("/api/chat", body):
            stream.add(line)
        seconds = time.perf_counter() - started
        last = stream.last
        if not last and not stream.looped():
            raise PassingError("the answer ended before it was done", where=self._server.host)
        first = stream.first_token_at
        names = ("load_duration", "prompt_eval_duration", "eval_duration", "total_duration")
        timings = Timings(*(last.get(name, 0) * _NANO for name in names))
        reply = ChatReply(
            text="".join(stream.text),
            thinking="".join(stream.thinking),
            done_reason=str(last.get("done_reason", "stop")) if last else "loop",
            prompt_tokens=int(last.get("prompt_eval_count", 0)),
            answer_tokens=int(last.get("eval_count", len(stream.text) + len(stream.thinking))),
            latency_seconds=seconds,
            first_token_seconds=None if first is None else first - started,
            generate_seconds=timings.answer_seconds or None,
            load_seconds=timings.load_seconds if last else None,
        )
        return reply, timings

    def _check_prompt(self, request: ChatRequest, reply: ChatReply) -> None:
        """Raise ToolError when the server read another number of tokens than we count: cut, or another template."""
        if self._count_tokens is None or not reply.prompt_tokens:
            return
        ours = self._count_tokens(request.messages, request.think)
        if ours != reply.prompt_tokens:
            raise ToolError(
                f"Ollama read {reply.prompt_tokens} prompt tokens where there are {ours}: it cut the prompt, or "
                "uses another template",
                where=self._server.host,
                fix="ragtune register RECIPE --redo; see 'ollama show --template'",
            )

    def _check_window(self, wanted: int) -> None:
        """Raise ToolError when the loaded model has a smaller context than was asked for."""
        if self._window_seen:
            return
        for one in self._server.request("GET", "/api/ps")["models"] or ():
            if one["name"] == full_name(self._model) and "context_length" in one:
                self._window_seen = True
                if one["context_length"] < wanted:
                    raise ToolError(
                        f"Ollama loaded '{self._model}' with {one['context_length']} context tokens, not {wanted}",
                        where=self._server.host,
                        fix="lower 'context_tokens' to what the model and the machine allow",
                    )

    def render(self, messages: Sequence[Message], *, think: bool) -> str | None:
        """The prompt as the server renders it, or None where it cannot tell (below 0.11.5, or not said)."""
        if parse_version(self._server.version, where=self._server.host) < RENDERS_SINCE:
            return None
        sampling = Sampling(max_tokens=1, context_tokens=self._context_tokens)
        body = {**self._body(messages, sampling, think), "stream": False, "_debug_render_only": True}
        answer = self._server.request("POST", "/api/chat", body)
        rendered = answer.get("_debug_info", {}).get("rendered_template")
        return None if rendered is None else str(rendered)

    def same_length(self, messages: Sequence[Message], rendered: str, *, think: bool) -> bool:
        """Whether the served prompt has as many tokens as ``rendered`` sent raw: no proof, but a refutation.

        False also where the server does not count.
        """
        sampling = Sampling(max_tokens=1, context_tokens=self._context_tokens)
        served = {**self._body(messages, sampling, think), "stream": False}
        kept = {key: served[key] for key in ("model", "options", "keep_alive", "truncate", "shift", "stream")}
        raw = {**kept, "prompt": rendered, "raw": True}
        counts = [
            self._server.request("POST", path, body).get("prompt_eval_count", 0)
            for path, body in (("/api/chat", served), ("/api/generate", raw))
        ]
        return counts[0] == counts[1] > 0

    def identity(self) -> dict[str, str]:
        """``ollama``, its version, and its digest of the model."""
        return {"server": "ollama", "version": self._server.version, "digest": self._digest or ""}
