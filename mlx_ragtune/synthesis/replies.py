"""JSON from a chat reply: from its text, or from its thinking if that is where it is."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from mlx_ragtune.records import ChatReply, ChatRequest
from mlx_ragtune.synthesis.generator_prompts import repair_request

Rows = TypeVar("Rows")


class Backend(Protocol):
    """A chat model. Raises ToolError when the server fails; called from several threads."""

    def chat(self, request: ChatRequest) -> ChatReply:
        """The reply to one request."""
        ...


@dataclass(frozen=True)
class Windowed:
    """A backend whose every request is given this context window, half of it at most for the answer."""

    backend: Backend
    context_tokens: int

    def chat(self, request: ChatRequest) -> ChatReply:
        """The reply to the request, fitted to the window."""
        most = min(request.sampling.max_tokens, self.context_tokens // 2)
        sampling = replace(request.sampling, max_tokens=most, context_tokens=self.context_tokens)
        return self.backend.chat(replace(request, sampling=sampling))


class UnusableReplyError(Exception):
    """A reply without the JSON that was asked for; the text is the reason, one of a few."""


def _objects(text: str) -> list[object]:
    """Every JSON object that begins at an outermost brace of the text, in order."""
    found: list[object] = []
    decoder = json.JSONDecoder()
    at = text.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except ValueError:
            end = at + 1
        else:
            found.append(value)
        at = text.find("{", end)
    return found


def json_list(reply: ChatReply, key: str) -> list[object]:
    """The list under ``key`` of the last JSON object that has one: of the text, else of the thinking.

    Raises UnusableReplyError with the reason.
    """
    for text in (re.sub(r"<think>.*?</think>", " ", reply.text, flags=re.DOTALL), reply.text, reply.thinking):
        for value in reversed(_objects(text)):
            if isinstance(value, dict) and isinstance(value.get(key), list):
                rows: list[object] = value[key]
                return rows
    if reply.done_reason == "length":
        where = "thinking" if not reply.text.strip() and reply.thinking else "the answer"
        raise UnusableReplyError(f"max_tokens used up by {where}")
    if not reply.text.strip() and not reply.thinking.strip():
        raise UnusableReplyError("empty reply")
    raise UnusableReplyError(f"no JSON object with a list '{key}'")


def ask(backend: Backend, request: ChatRequest, read: Callable[[ChatReply], Rows]) -> tuple[Rows, list[ChatReply]]:
    """What ``read`` makes of the reply, after one try at repair, and the replies that it took.

    Raises UnusableReplyError when the second reply cannot be used either; ToolError comes from the backend.
    """
    first = backend.chat(request)
    try:
        return read(first), [first]
    except UnusableReplyError as problem:
        second = backend.chat(repair_request(request, first.text, str(problem)))
        return read(second), [first, second]
