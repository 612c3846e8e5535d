"""JSON from a chat reply: from its text, or else from its thinking; of half a reply, the items that are whole.

What a model gets wrong without changing what it says is read all the same: line breaks in strings, commas before a
closing bracket, the backslashes of LaTeX, keys with capitals, numbers for texts, a list or an only item without its
object. Nothing is completed.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from mlx_ragtune.records import ChatReply, ChatRequest
from mlx_ragtune.synthesis.generator_prompts import THOUGHT_TOO_LONG, repair_request

Rows = TypeVar("Rows")
_DECODER = json.JSONDecoder(strict=False, parse_int=str, parse_float=str, parse_constant=str)
"""Numbers stay as they are written, and strings may hold line breaks."""
_ITEM = re.compile(r"[\s,]*(?=[\[{\"])")
_OPENS = re.compile(r"[{\[]")
_STRING_OR_COMMA = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|,(?=\s*[}\]])', re.DOTALL)
_BACKSLASH = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})|(\\)')


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


def _values(text: str) -> list[object]:
    """Every JSON object and list that begins at an outermost bracket of the text, in order."""
    values: list[object] = []
    start = _OPENS.search(text)
    while start:
        try:
            value, end = _DECODER.raw_decode(text, start.start())
        except ValueError:
            end = start.end()
        except RecursionError:
            raise UnusableReplyError("JSON nested too deeply") from None
        else:
            values.append(value)
        start = _OPENS.search(text, end)
    return values


def _mended(text: str) -> str:
    """The text without commas before a closing bracket, and with backslashes doubled that JSON does not know."""

    def mend(match: re.Match[str]) -> str:
        doubled = _BACKSLASH.sub(lambda found: "\\\\" if found[1] else found[0], match[0])
        return doubled if match[0].startswith('"') else ""

    return _STRING_OR_COMMA.sub(mend, text)


def _row(value: object) -> object:
    """An item with its keys in lower case; a list of one text counts as the text."""
    if not isinstance(value, dict):
        return value
    cells = {str(name).strip().lower(): cell for name, cell in value.items()}
    return {name: cell[0] if isinstance(cell, list) and len(cell) == 1 else cell for name, cell in cells.items()}


def _under(key: str, value: object) -> list[object] | None:
    """The items under a key of an object: a list, an object of numbered items, or the only item; None without any."""
    if not isinstance(value, dict):
        return None
    under = next((cell for name, cell in value.items() if str(name).strip().lower() == key), None)
    if isinstance(under, dict) and under:
        under = list(under.values()) if all(isinstance(cell, dict) for cell in under.values()) else [under]
    return under if isinstance(under, list) else None


def _bare_rows(values: Sequence[object]) -> list[object]:
    """Items without the object around them: the last list of items, or else all of them."""
    listed = [value for value in values if isinstance(value, list) and value and all(map(_is_flat, value))]
    return listed[-1] if listed else [value for value in values if _is_flat(value)]


def _is_flat(value: object) -> bool:
    cells = value.values() if isinstance(value, dict) else ()
    return len(cells) > 1 and not any(isinstance(cell, dict) for cell in cells)


def _whole_items(text: str, key: str) -> list[object]:
    """The items that are complete in a list ``"key": […`` that breaks off, or is not JSON after them."""
    best: list[object] = []
    for match in re.finditer(rf'"\s*{re.escape(key)}\s*"\s*:\s*\[', text, re.IGNORECASE):
        items: list[object] = []
        position = match.end()
        while found := _ITEM.match(text, position):
            try:
                value, position = _DECODER.raw_decode(text, found.end())
            except (ValueError, RecursionError):
                break
            items.append(value)
        best = items or best
    return best


def _rows_of(texts: Sequence[str], key: str) -> list[object] | None:
    """The items under the key in the first text that has some, whole ones before half ones; None without any."""
    mended = [_mended(text) for text in texts]
    for pair in zip(texts, mended, strict=True):
        for text in pair:
            objects = [item for value in _values(text) for item in (value if isinstance(value, list) else [value])]
            found = (_under(key, value) for value in reversed(objects))
            if (rows := next((rows for rows in found if rows is not None), None)) is not None:
                return rows
    for text in mended:
        if rows := _whole_items(text, key):
            return rows
    return next(filter(None, (_bare_rows(_values(text)) for text in mended)), None)


def json_list(reply: ChatReply, key: str) -> list[object]:
    """The list under ``key`` of the last JSON object that has one: of the text, else of the thinking.

    Where no object is complete, as in a reply that was cut off, the items before the break are returned; where no
    object has the key, the bare items. Keys are in lower case, and numbers are texts. Raises UnusableReplyError with
    the reason.
    """
    texts = (re.sub(r"<think>.*?</think>", " ", reply.text, flags=re.DOTALL), reply.text, reply.thinking)
    if (rows := _rows_of(texts, key)) is not None:
        return [_row(row) for row in rows]
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
