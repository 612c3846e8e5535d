"""JSON from a chat reply: from its text, or else from its thinking; of half a reply, the items that are whole."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from mlx_ragtune.records import ChatReply, ChatRequest
from mlx_ragtune.synthesis.generator_prompts import THOUGHT_TOO_LONG, repair_request

Rows = TypeVar("Rows")
_ITEM = re.compile(r"[\s,]*(?=[\[{\"])")


class Backend(Protocol):
    """A chat model. Raises ToolError when the server fails; called from several threads."""

    def chat(self, request: ChatRequest) -> ChatReply:
        """The reply to one request."""
        ...


@dataclass(frozen=True)
class Windowed:
    """A backend that sends every request with this context window, at most half of it for the answer."""

    backend: Backend
    context_tokens: int

    def chat(self, request: ChatRequest) -> ChatReply:
        """The reply to the request, fitted to the window."""
        most = min(request.sampling.max_tokens, self.context_tokens // 2)
        sampling = replace(request.sampling, max_tokens=most, context_tokens=self.context_tokens)
        return self.backend.chat(replace(request, sampling=sampling))


class UnusableReplyError(Exception):
    """A reply without the JSON that was asked for. The text is the reason, one of a fixed few."""


def _objects(text: str) -> list[object]:
    """Every JSON object that begins at an outermost brace of the text, in order."""
    objects: list[object] = []
    decoder = json.JSONDecoder()
    start = text.find("{")
    while start >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
        except ValueError:
            end = start + 1
        except RecursionError:
            raise UnusableReplyError("JSON nested too deeply") from None
        else:
            objects.append(value)
        start = text.find("{", end)
    return objects


def _whole_items(text: str, key: str) -> list[object]:
    """The items that are complete in a list ``"key": […`` that breaks off, or is not JSON after them."""
    decoder = json.JSONDecoder()
    best: list[object] = []
    for match in re.finditer(rf'"{re.escape(key)}"\s*:\s*\[', text):
        items: list[object] = []
        position = match.end()
        while found := _ITEM.match(text, position):
            try:
                value, position = decoder.raw_decode(text, found.end())
            except (ValueError, RecursionError):
                break
            items.append(value)
        best = items or best
    return best


def json_list(reply: ChatReply, key: str) -> list[object]:
    """The list under ``key`` of the last JSON object that has one: of the text, else of the thinking.

    Where no object is complete, as in a reply that was cut off, the items before the break are returned. Raises
    UnusableReplyError with the reason.
    """
    texts = (re.sub(r"<think>.*?</think>", " ", reply.text, flags=re.DOTALL), reply.text, reply.thinking)
    for text in texts:
        for value in reversed(_objects(text)):
            if isinstance(value, dict) and isinstance(value.get(key), list):
                rows: list[object] = value[key]
                return rows
    for text in texts:
        if items := _whole_items(text, key):
            return items
    if reply.done_reason == "length":
        thought = not reply.text.strip() and reply.thinking
        raise UnusableReplyError(THOUGHT_TOO_LONG if thought else "max_tokens used up by the answer")
    if reply.done_reason == "loop":
        raise UnusableReplyError("a reply that repeats itself was cut off")
    if not reply.text.strip() and not reply.thinking.strip():
        raise UnusableReplyError("empty reply")
    raise UnusableReplyError(f"no JSON object with a list '{key}'")


def ask(backend: Backend, request: ChatRequest, read: Callable[[ChatReply], Rows]) -> tuple[Rows, list[ChatReply]]:
    """What ``read`` returns for the reply, or for a second one after a request to repair it; and all replies.

    Raises UnusableReplyError when the second reply cannot be used either; the backend raises ToolError.
    """
    first = backend.chat(request)
    try:
        return read(first), [first]
    except UnusableReplyError as problem:
        second = backend.chat(repair_request(request, first.text, str(problem)))
        return read(second), [first, second]
