"""Requests in the form of OpenAI's chat completions: what is read, what is ignored and said so, what is refused.

Refused is what would change the answer and cannot be done here; ignored is what the trained prompt replaces.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlx_ragtune.answering.paper_answers import exchanges
from mlx_ragtune.clients.protocol import PromptOverflowError
from mlx_ragtune.errors import ArtifactError, InputError, RagtuneError, ToolError, printable
from mlx_ragtune.records import Arm, Message, Sampling

MAX_MESSAGES = 1000
MAX_QUESTION_CHARACTERS = 20_000
"""Longer than any question: what else a prompt holds comes from the papers."""
_MOST_TOKENS = 2**20
_MOST_NAMED = 20
"""So many unknown fields of a request are named at most."""
_READ = (
    "model", "messages", "stream", "stream_options", "n", "tool_choice", "function_call", "modalities",
    "response_format", "temperature", "top_p", "seed", "max_tokens", "max_completion_tokens", "strength",
    "append_sources",
)  # fmt: skip
_OFFERS = ("tools", "functions")
"""Tools that a client offers: chat programs offer theirs with every question, and a model may always call none."""
_CALL_A_TOOL = "no tools can be called: the model was trained to answer from passages"
_TASK, _TASK_MARK = "### Task:", "<chat_history>"
"""How Open WebUI's requests for titles, tags and follow-up questions begin, and what they hold."""
_REFUSED: Mapping[str, str] = {
    "audio": "only text is answered",
    "logit_bias": "logit_bias is not supported",
    "logprobs": "logprobs is not supported",
    "top_logprobs": "top_logprobs is not supported",
    "stop": "stop is not supported: the model ends its answers itself",
    "frequency_penalty": "frequency_penalty is not supported",
    "presence_penalty": "presence_penalty is not supported",
    "prediction": "prediction is not supported",
    "web_search_options": "only the papers are searched",
    "lora": "use 'strength' to change the strength of the adapter",
}


class ApiError(Exception):
    """A refusal in OpenAI's form: HTTP status, message, ``type``, ``code`` and the ``param`` at fault."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param

    def as_json(self) -> dict[str, Any]:
        """The body of the response, which is also the event of a stream that failed."""
        kinds = {401: "authentication_error", 403: "permission_error", 404: "invalid_request_error"}
        kind = kinds.get(self.status) or ("invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def api_error(error: RagtuneError) -> ApiError:
    """A failure of ours in OpenAI's form; ``where`` is left out, which may be a path of this machine."""
    what = error.what.removeprefix("prompt_overflow: ")
    message = printable(f"{what}; try: {error.fix}" if error.fix else what)
    if isinstance(error, PromptOverflowError):
        return ApiError(400, message, code="context_length_exceeded", param="messages")
    if isinstance(error, InputError):
        return ApiError(400, message, code="invalid_value", param=error.where or None)
    if isinstance(error, ArtifactError | ToolError):
        return ApiError(503, message, code="model_not_available")
    return ApiError(400, message)


@dataclass(frozen=True)
class ChatCall:
    """A request that can be answered. ``ignored`` names what of it changes nothing."""

    arm: Arm
    question: str
    turns: tuple[Message, ...]
    sampling: Sampling
    strength: float | None = None
    stream: bool = False
    include_usage: bool = False
    append_sources: bool = False
    ignored: tuple[str, ...] = ()


def parse_call(content: bytes, *, arms: Sequence[Arm], sampling: Sampling, turns: int, append: bool) -> ChatCall:
    """The call that a request body asks for; ``turns`` earlier exchanges are shown. Raises ApiError."""
    body = json_object(content)
    _refuse(body)
    arm = _arm(body.get("model"), arms)
    said, ignored = _conversation(body.get("messages"))
    earlier = said[:-1]
    hidden = sum(turn.role == "user" for turn in earlier) - min(turns, len(exchanges(earlier)))
    ignored += [f"{hidden} earlier question{'s' * (hidden > 1)}"] * (hidden > 0)
    ignored += [name for name in _OFFERS if body.get(name)]
    options = body.get("stream_options") or {}
    if not isinstance(options, dict):
        raise ApiError(400, "stream_options must be an object", param="stream_options")
    return ChatCall(
        arm,
        said[-1].content,
        tuple(earlier),
        _sampling(body, sampling),
        strength=_number(body, "strength", 0.0, 100.0),
        stream=_flag(body, "stream"),
        include_usage=_flag(options, "include_usage"),
        append_sources=append if body.get("append_sources") is None else _flag(body, "append_sources"),
        ignored=(*ignored, *_unknown(body)),
    )


def json_object(content: bytes) -> dict[str, Any]:
    """A request body that is a JSON object. Raises ApiError."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        value = json.loads(content.decode(), parse_constant=refuse)
    except (ValueError, RecursionError):
        raise ApiError(400, "the request is not JSON in UTF-8") from None
    if not isinstance(value, dict):
        raise ApiError(400, "the request is not a JSON object")
    return value


def _unknown(body: Mapping[str, Any]) -> list[str]:
    """The fields of a request that nothing reads."""
    known = (*_READ, *_REFUSED, *_OFFERS)
    names = [printable(name[:40]) for name in body if name not in known]
    more = len(names) - _MOST_NAMED
    return names if more <= 0 else [*names[:_MOST_NAMED], f"{more} more fields"]


def _refuse(body: Mapping[str, Any]) -> None:
    for name, message in _REFUSED.items():
        if body.get(name) not in (None, False, 0, [], {}, ""):
            raise ApiError(400, message, code="unsupported_parameter", param=name)
    if body.get("tool_choice") not in (None, "none", "auto") or body.get("function_call") not in (None, "none", "auto"):
        raise ApiError(400, _CALL_A_TOOL, code="unsupported_parameter", param="tool_choice")
    if body.get("n") not in (None, 1):
        raise ApiError(400, "only one answer is given: n must be 1", code="unsupported_value", param="n")
    if body.get("modalities") not in (None, ["text"]):
        raise ApiError(400, "only text is answered", code="unsupported_value", param="modalities")
    form = body.get("response_format")
    if form is not None and not (isinstance(form, dict) and form.get("type") == "text"):
        message = "only plain text is answered: the model was trained to write prose"
        raise ApiError(400, message, code="unsupported_parameter", param="response_format")


def _arm(model: object, arms: Sequence[Arm]) -> Arm:
    if not isinstance(model, str) or not model:
        raise ApiError(400, "you must provide a model parameter", param="model")
    for arm in arms:
        if model == arm:
            return arm
    raise ApiError(
        404,
        f"the model '{printable(model[:80])}' does not exist; there are {', '.join(arms)}",
        code="model_not_found",
        param="model",
    )


def _conversation(messages: object) -> tuple[list[Message], list[str]]:
    """The turns, which end with the question, and the kinds of messages that are ignored."""
    if not isinstance(messages, list) or not messages:
        raise ApiError(400, "messages must be a list with at least one message", param="messages")
    if len(messages) > MAX_MESSAGES:
        raise ApiError(400, f"more than {MAX_MESSAGES} messages", param="messages")
    turns, ignored = list[Message](), dict[str, None]()
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        if not isinstance(message, dict):
            raise ApiError(400, f"{where} is not an object", param=where)
        role = message.get("role")
        if role in ("system", "developer"):
            ignored["system message"] = None
        elif role in ("tool", "function"):
            ignored["messages of tools"] = None
        elif role == "user" or role == "assistant":
            turns.append(Message(role, _text(message.get("content"), where)))
        else:
            raise ApiError(400, f"{where} has no known role", code="invalid_value", param=f"{where}.role")
    if not turns or turns[-1].role != "user" or messages[-1].get("role") in ("tool", "function"):
        raise ApiError(400, "the last message must be the user's question", param="messages")
    _refuse_question(turns[-1].content)
    return turns, list(ignored)


def _refuse_question(question: str) -> None:
    if not question.strip():
        raise ApiError(400, "the question is empty", param="messages")
    if len(question) > MAX_QUESTION_CHARACTERS:
        message = f"the question has {len(question)} characters, and at most {MAX_QUESTION_CHARACTERS} are read"
        raise ApiError(400, message, code="context_length_exceeded", param="messages")
    if question.lstrip().startswith(_TASK) and _TASK_MARK in question:
        message = "chats are not given titles, tags or follow-up questions here; choose another task model"
        raise ApiError(400, message, code="unsupported_value", param="messages")


def _text(content: object, where: str) -> str:
    """The text of a message: a string, or parts that are all text."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ApiError(400, f"the content of {where} is not text", param=f"{where}.content")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in ("text", "input_text") or not isinstance(part.get("text"), str):
            shown = kind if isinstance(kind, str) else "unknown"
            message = f"a part of {where} is of type '{printable(shown[:40])}': only text is read"
            raise ApiError(400, message, code="unsupported_value", param=f"{where}.content")
        texts.append(part["text"])
    return "\n".join(texts)


def _sampling(body: Mapping[str, Any], recipe: Sampling) -> Sampling:
    """The recipe's options with those that the request gives."""
    changes: dict[str, Any] = {
        "temperature": _number(body, "temperature", 0.0, 2.0),
        "top_p": _number(body, "top_p", 0.0, 1.0),
        "seed": _whole(body, "seed", -(2**31), 2**31 - 1),
        "max_tokens": _whole(body, "max_completion_tokens", 1, _MOST_TOKENS)
        or _whole(body, "max_tokens", 1, _MOST_TOKENS),
    }
    if changes["top_p"] == 0:
        raise ApiError(400, "top_p must be above 0", code="invalid_value", param="top_p")
    return replace(recipe, **{name: value for name, value in changes.items() if value is not None})


def _number(body: Mapping[str, Any], name: str, least: float, most: float) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        message = f"{name} must be a number between {least:g} and {most:g}"
        raise ApiError(400, message, code="invalid_value", param=name)
    return float(value)


def _whole(body: Mapping[str, Any], name: str, least: int, most: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        message = f"{name} must be a whole number between {least} and {most}"
        raise ApiError(400, message, code="invalid_value", param=name)
    return value


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise ApiError(400, f"{name} must be true or false", code="invalid_value", param=name)
    return bool(value)
