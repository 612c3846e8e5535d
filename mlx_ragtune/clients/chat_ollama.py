"""Chat with a model that Ollama serves: every option is sent, nothing is cut silently, a broken stream is an error.

Always ``/api/chat``: ``/v1`` ignores ``num_ctx`` and ``think``, and ``/api/generate`` does not separate thinking
from text.
"""

import contextlib
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from mlx_ragtune.clients.http_bounds import Limit
from mlx_ragtune.clients.http_retries import PassingError
from mlx_ragtune.clients.ollama_address import pull_command
from mlx_ragtune.clients.ollama_card import ollama_options
from mlx_ragtune.clients.ollama_http import Ollama
from mlx_ragtune.clients.ollama_replies import ChatLine, Rendered, check_reply
from mlx_ragtune.clients.protocol import TOKENS_PER_LOOK, Piece, drained, require_unicode
from mlx_ragtune.clients.registered import find_named
from mlx_ragtune.errors import ToolError
from mlx_ragtune.records import ChatReply, ChatRequest, Message, Sampling

LOOP_TOKENS = 30
_NANO = 1e-9
_LOADING_SECONDS = 1800.0
_SECONDS_PER_TOKEN = 10.0
_BYTES_PER_TOKEN = 4096
_MORE_BYTES = 2**20


@dataclass
class _Stream:
    """The lines of an answer, added up."""

    text: list[str] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    last: ChatLine | None = None
    first_token_at: float | None = None
    stopped: bool = False

    def add(self, line: ChatLine) -> None:
        for piece, pieces in ((line.message.content, self.text), (line.message.thinking, self.thinking)):
            if piece:
                pieces.append(piece)
                self.first_token_at = self.first_token_at or time.perf_counter()
        if line.done:
            self.last = line

    def stops(self, stop: Callable[[str], bool]) -> bool:
        """Whether ``stop`` is true of the text, looked at now and then, while the answer goes on."""
        pieces = len(self.text) + len(self.thinking)
        if self.last is not None or not self.text or pieces % TOKENS_PER_LOOK:
            return False
        self.stopped = stop("".join(self.text))
        return self.stopped

    def looped(self) -> bool:
        """Whether it ends in one repeated token: the server's guard ends such a stream without ``done``."""
        tail = [piece.strip() for piece in (self.text or self.thinking)[-LOOP_TOKENS:]]
        return len(tail) == LOOP_TOKENS and len(set(tail)) == 1


class OllamaChat:
    """One model at one Ollama.

    ``digest`` and ``version`` are the receipt's: entering raises ToolError when the server has another model of that
    name, or is another version by now. ``threads`` is the number of CPU threads (None: the server's choice; another
    number loads the model anew). An answer ends, with ``done_reason`` ``loop``, as soon as ``stop`` is true of its
    text. Leaving unloads the model, to free the machine for the next one.
    """

    def __init__(
        self,
        host: str,
        model: str,
        *,
        context_tokens: int,
        digest: str | None = None,
        version: str | None = None,
        threads: int | None = None,
        stop: Callable[[str], bool] | None = None,
        server: Ollama | None = None,
    ) -> None:
        # a registered model was accepted with its server
        self._server = server or Ollama(host, development_build=version is not None)
        self._model, self._digest, self._context_tokens = model, digest, context_tokens
        self._version, self._threads, self._stop = version, threads, stop
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
        if self._version not in (None, server.version):
            raise ToolError(
                f"'{self._model}' was registered with Ollama {self._version}, and the server is {server.version} now",
                where=server.host,
                fix="ragtune register RECIPE --redo; then run the same command again: all questions are asked anew",
            )
        digest = find_named(server.digests(), self._model)
        if self._digest and digest != self._digest:
            what = "no longer has" if digest is None else "has another model named"
            fix = "ragtune register RECIPE; then run the same command again to continue"
            raise ToolError(f"Ollama {what} '{self._model}'", where=server.host, fix=fix)
        if digest is None:
            raise ToolError(
                f"Ollama does not have the model '{self._model}'",
                where=server.host,
                fix=pull_command(server.host, self._model),
            )
        self._digest = digest
        self._thinks = "thinking" in (server.show(self._model).capabilities or ())

    def __exit__(self, *_exception: object) -> None:
        """Unload the model and close the connections."""
        with contextlib.suppress(ToolError):  # a server that is gone has nothing loaded
            self.unload()
        self._server.close()

    def unload(self) -> None:
        """Free the server's memory; the next answer is a cold one."""
        self._window_seen = False
        self._server.unload(self._model)

    def _body(self, messages: Sequence[Message], sampling: Sampling, think: bool) -> dict[str, Any]:
        if think and not self._thinks:
            raise ToolError(f"'{self._model}' cannot think", where=self._server.host, fix="set 'dataset.thinking: off'")
        require_unicode((message.content for message in messages), where="prompt")
        return {
            "model": self._model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "think": think,
            "truncate": False,
            "shift": False,
            "keep_alive": "15m",
            "options": {
                **ollama_options(sampling),
                "stop": [],  # an answer that goes on past its end must show
                **({} if self._threads is None else {"num_thread": self._threads}),
            },
        }

    def chat(self, request: ChatRequest) -> ChatReply:
        """The reply to one request. Raises PromptOverflowError, or ToolError for what retries did not cure."""
        body = self.chat_body(request)
        reply = self._server.retrying(lambda: drained(self._ask(body, request.sampling.max_tokens)))
        self._check_window(request.sampling.context_tokens)
        return reply

    def stream(self, request: ChatRequest) -> Generator[Piece, None, ChatReply]:
        """The pieces of the reply, and then the whole. Raises as ``chat``; retries until the first piece."""
        body = self.chat_body(request)
        pieces, first = self._server.retrying(lambda: self._begun(body, request.sampling.max_tokens))
        with contextlib.closing(pieces):
            if isinstance(first, ChatReply):
                reply = first
            else:
                yield first
                reply = yield from pieces
        self._check_window(request.sampling.context_tokens)
        return reply

    def _begun(
        self, body: dict[str, Any], max_tokens: int
    ) -> tuple[Generator[Piece, None, ChatReply], Piece | ChatReply]:
        """An answer that has begun, and its first piece; the whole reply when there is none."""
        pieces = self._ask(body, max_tokens)
        try:
            return pieces, next(pieces)
        except StopIteration as end:
            return pieces, end.value

    def chat_body(self, request: ChatRequest) -> dict[str, Any]:
        """The request as ``/api/chat`` takes it."""
        body = {**self._body(request.messages, request.sampling, request.think), "stream": True}
        return body if request.schema is None else {**body, "format": request.schema}

    def _ask(self, body: dict[str, Any], max_tokens: int) -> Generator[Piece, None, ChatReply]:
        stream, started = _Stream(), time.perf_counter()
        limit = Limit(_MORE_BYTES + _BYTES_PER_TOKEN * max_tokens, _LOADING_SECONDS + _SECONDS_PER_TOKEN * max_tokens)
        with contextlib.closing(self._server.lines("/api/chat", body, limit=limit)) as lines:
            for number, line in enumerate(lines):
                # one token can end a line of thinking and begin one of text
                if number > 2 * max_tokens + 2 * LOOP_TOKENS:
                    raise ToolError(
                        f"Ollama does not stop after the {max_tokens} tokens that were asked for",
                        where=self._server.host,
                        fix="update Ollama, or use another server",
                    )
                part = check_reply(ChatLine, line, where=self._server.host)
                stream.add(part)
                if part.message.content or part.message.thinking:
                    yield Piece(part.message.content or "", part.message.thinking or "")
                if self._stop is not None and stream.stops(self._stop):
                    break  # closing the connection ends the request
        return self._reply(stream, started, time.perf_counter() - started)

    def _reply(self, stream: _Stream, started: float, seconds: float) -> ChatReply:
        last = stream.last
        if last is None and not stream.stopped and not stream.looped():
            raise PassingError("the answer ended before it was done", where=self._server.host)
        last = last or ChatLine(done_reason="loop")
        first = stream.first_token_at
        pieces = len(stream.text) + len(stream.thinking)
        return ChatReply(
            text="".join(stream.text),
            thinking="".join(stream.thinking),
            done_reason=last.done_reason,
            prompt_tokens=last.prompt_eval_count,
            answer_tokens=pieces if last.eval_count is None else last.eval_count,
            latency_seconds=seconds,
            first_token_seconds=None if first is None else first - started,
            generate_seconds=last.eval_duration * _NANO or None,
            load_seconds=last.load_duration * _NANO if stream.last else None,
        )

    def _check_window(self, wanted: int) -> None:
        """Raise ToolError when the loaded model has a smaller context than was asked for."""
        if self._window_seen:
            return
        window = find_named(self._server.windows(), self._model)
        if window is None:
            return
        self._window_seen = True
        if window < wanted:
            raise ToolError(
                f"Ollama loaded '{self._model}' with {window} context tokens, not {wanted}",
                where=self._server.host,
                fix="lower 'context_tokens' to what the model and the machine allow",
            )

    def render(self, messages: Sequence[Message], *, think: bool) -> str | None:
        """The prompt as the server renders it, or None where it does not return it (before 0.11.5)."""
        if not self._server.renders:
            return None
        sampling = Sampling(max_tokens=1, context_tokens=self._context_tokens)
        body = {**self._body(messages, sampling, think), "stream": False, "_debug_render_only": True}
        return self._server.checked(Rendered, "/api/chat", body).debug.rendered_template

    def same_length(self, messages: Sequence[Message], rendered: str, *, think: bool) -> bool:
        """Whether the served prompt has as many tokens as ``rendered`` sent raw: necessary, not sufficient.

        False also where the server does not count.
        """
        sampling = Sampling(max_tokens=1, context_tokens=self._context_tokens)
        served = {**self._body(messages, sampling, think), "stream": False}
        kept = {key: served[key] for key in ("model", "options", "keep_alive", "truncate", "shift", "stream")}
        raw = {**kept, "prompt": rendered, "raw": True}
        counts = [
            self._server.checked(ChatLine, path, body).prompt_eval_count
            for path, body in (("/api/chat", served), ("/api/generate", raw))
        ]
        return counts[0] == counts[1] > 0

    def identity(self) -> dict[str, str]:
        """``ollama``, its version, and its digest of the model."""
        return {"server": "ollama", "version": self._server.version, "digest": self._digest or ""}
