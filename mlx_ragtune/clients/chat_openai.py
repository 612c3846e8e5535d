"""Chat with a model behind an OpenAI-compatible API (``/v1/chat/completions``).

The API has no context window, no digest of the model and no rendered prompt, so this client writes training pairs and
does not evaluate. Sent are temperature, top_p, seed and the length; other sampling options are the server's. What a
server does not accept, such as a JSON schema, is left out from then on, and that is said once.
"""

import contextlib
import hashlib
import json
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

from mlx_ragtune.clients.http_bounds import Limit
from mlx_ragtune.clients.http_retries import PassingError
from mlx_ragtune.clients.openai_http import OpenAiServer, RefusedRequestError
from mlx_ragtune.clients.protocol import TOKENS_PER_LOOK, require_unicode
from mlx_ragtune.errors import ToolError, printable
from mlx_ragtune.records import ChatReply, ChatRequest, Message

_LOADING_SECONDS = 1800.0
_SECONDS_PER_TOKEN = 10.0
_BYTES_PER_TOKEN = 4096
_MORE_BYTES = 2**20
_SHOWN_MODELS = 8
OPTIONAL = ("response_format", "chat_template_kwargs", "stream_options", "seed", "top_p")
"""Fields that a server may refuse, in the order in which they are left out where its message names none of them."""
_LOSSES = {
    "response_format": "replies are not held to a JSON schema; those that cannot be read are asked for again",
    "chat_template_kwargs": "thinking is not switched off",
    "stream_options": "tokens are counted here",
    "seed": "the same request may get another reply",
    "top_p": "top_p is the server's",
    "max_tokens": "its newer name is sent",
}


def _say(text: str) -> None:
    print(printable(text), file=sys.stderr, flush=True)


@dataclass
class _Stream:
    """The events of an answer, added up."""

    text: list[str] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    finish_reason: str = ""
    usage: Mapping[str, Any] = field(default_factory=dict)
    first_token_at: float | None = None

    def add(self, event: Mapping[str, Any]) -> None:
        usage, choices = event.get("usage"), event.get("choices")
        self.usage = usage if isinstance(usage, dict) else self.usage
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return
        delta = choice.get("delta") or choice.get("message") or {}
        names = (("content", self.text), ("reasoning_content", self.thinking), ("reasoning", self.thinking))
        for name, pieces in names if isinstance(delta, dict) else ():
            if isinstance(delta.get(name), str) and delta[name]:
                pieces.append(delta[name])
                self.first_token_at = self.first_token_at or time.perf_counter()
        reason = choice.get("finish_reason")
        self.finish_reason = reason if isinstance(reason, str) else self.finish_reason

    def stops(self, stop: Callable[[str], bool]) -> bool:
        """Whether ``stop`` is true of the text, looked at now and then, while the answer is being written."""
        if self.finish_reason or not self.text or (len(self.text) + len(self.thinking)) % TOKENS_PER_LOOK:
            return False
        if not stop("".join(self.text)):
            return False
        self.finish_reason = "loop"
        return True

    def count(self, name: str, otherwise: int) -> int:
        """A number of tokens from ``usage``, else ``otherwise``."""
        value = self.usage.get(name)
        return value if isinstance(value, int) and value >= 0 else otherwise


class OpenAiChat:
    """One model at one server. An answer ends, with ``done_reason`` ``loop``, as soon as ``stop`` is true of its text.

    Entering raises ToolError when the server does not list the model, or lists it with a smaller context than
    ``context_tokens``. ``say`` gets one line for each field that the server refuses.
    """

    def __init__(
        self,
        host: str,
        model: str,
        *,
        context_tokens: int,
        stop: Callable[[str], bool] | None = None,
        say: Callable[[str], None] = _say,
        server: OpenAiServer | None = None,
    ) -> None:
        self._server = server or OpenAiServer(host)
        self._model, self._context_tokens, self._stop, self._say = model, context_tokens, stop, say
        self._described: Mapping[str, Any] = {}
        self._left_out: set[str] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        """Check server and model."""
        try:
            self._described = self._find()
        except BaseException:
            self._server.close()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close the connections; the server keeps its model."""
        self._server.close()

    def _find(self) -> Mapping[str, Any]:
        listed = self._server.models()
        entry = next((row for row in listed if row["id"] == self._model), None)
        if entry is None:
            names = ", ".join(str(row["id"]) for row in listed[:_SHOWN_MODELS]) or "none"
            more = f" and {len(listed) - _SHOWN_MODELS} more" if len(listed) > _SHOWN_MODELS else ""
            raise ToolError(
                f"the server does not list the model '{self._model}'; it lists {names}{more}",
                where=self._server.url,
                fix="load the model there, or set dataset.generator.model to one of these names",
            )
        window = entry.get("max_model_len")
        if isinstance(window, int) and window < self._context_tokens:
            raise ToolError(
                f"the server has '{self._model}' with {window} context tokens, not {self._context_tokens}",
                where=self._server.url,
                fix=f"set dataset.generator.context_tokens: {window}, or start the server with a longer context",
            )
        return entry

    def _body(self, request: ChatRequest, left_out: Collection[str]) -> dict[str, Any]:
        require_unicode((message.content for message in request.messages), where="prompt")
        options = request.sampling
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": message.role, "content": message.content} for message in request.messages],
            "temperature": options.temperature,
            "top_p": options.top_p,
            "seed": options.seed,
            "max_completion_tokens" if "max_tokens" in left_out else "max_tokens": options.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
            "chat_template_kwargs": {"enable_thinking": request.think},
        }
        if request.schema is not None:
            schema = {"name": "answer", "schema": _closed(request.schema), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return {name: value for name, value in body.items() if name not in left_out}

    def chat(self, request: ChatRequest) -> ChatReply:
        """The reply to one request. Raises PromptOverflowError, or ToolError for what retries did not cure.

        A request that the server refuses is sent again without what it may not accept. If that helps, later
        requests are sent in that form too.
        """
        refused: dict[str, str] = {}
        first: RefusedRequestError | None = None
        while True:
            body = self._body(request, {*self._left_out, *refused})
            ask = partial(self._ask, body, request.sampling.max_tokens)
            try:
                reply = self._server.retrying(ask)
            except RefusedRequestError as error:
                first = first or error
                name = _refused_field(error.message, body)
                if name is None:
                    raise first from None
                refused[name] = error.message
            else:
                self._leave_out(refused)
                return reply

    def _leave_out(self, refused: Mapping[str, str]) -> None:
        with self._lock:
            new = {name: message for name, message in refused.items() if name not in self._left_out}
            self._left_out.update(new)
        for name, message in new.items():
            self._say(f"{self._server.url} refuses '{name}' ({message[:120]}): {_LOSSES[name]}")

    def _ask(self, body: Mapping[str, Any], max_tokens: int) -> ChatReply:
        stream, started = _Stream(), time.perf_counter()
        limit = Limit(_MORE_BYTES + _BYTES_PER_TOKEN * max_tokens, _LOADING_SECONDS + _SECONDS_PER_TOKEN * max_tokens)
        with contextlib.closing(self._server.events("/chat/completions", body, limit=limit)) as events:
            for event in events:
                stream.add(event)
                if self._stop is not None and stream.stops(self._stop):
                    break  # closing the connection ends the request
        if not stream.finish_reason:
            raise PassingError("the answer ended before it was done", where=self._server.url, fix="see its log")
        first = stream.first_token_at
        return ChatReply(
            text="".join(stream.text),
            thinking="".join(stream.thinking),
            done_reason=stream.finish_reason,
            prompt_tokens=stream.count("prompt_tokens", 0),
            answer_tokens=stream.count("completion_tokens", len(stream.text) + len(stream.thinking)),
            latency_seconds=time.perf_counter() - started,
            first_token_seconds=None if first is None else first - started,
        )

    def render(self, _messages: Sequence[Message], *, think: bool) -> str | None:  # noqa: ARG002 (the protocol's)
        """None: the API does not return prompts."""
        return None

    def identity(self) -> dict[str, str]:
        """The model's name, as servers state no digest, with what this one lists of its weights and size."""
        about = {name: self._described[name] for name in ("root", "meta", "max_model_len") if name in self._described}
        text = json.dumps([self._model, about], sort_keys=True)
        return {"server": "openai", "version": "", "digest": f"name:{hashlib.sha256(text.encode()).hexdigest()}"}


def _refused_field(message: str, body: Mapping[str, Any]) -> str | None:
    """What to leave out of a refused request: the field that the message names, else the next optional one."""
    if "max_completion_tokens" in message and "max_tokens" in body:
        return "max_tokens"
    sent = [name for name in OPTIONAL if name in body]
    return next((name for name in sent if name in message), sent[0] if sent else None)


def _closed(schema: Any) -> Any:
    """The same schema in which objects have no other keys, which strict servers require."""
    if isinstance(schema, dict):
        inner = {name: _closed(value) for name, value in schema.items()}
        return {**inner, "additionalProperties": False} if schema.get("type") == "object" else inner
    return [_closed(value) for value in schema] if isinstance(schema, list) else schema
