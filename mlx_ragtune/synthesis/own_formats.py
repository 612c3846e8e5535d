"""The formats of rows that people already have: detected by the keys of the first row, one row read into fields.

    pairs    id, kind, question, answer, papers, evidence      checked against the papers, contexts are retrieved
    chat     messages [{role, content}]                        trained as it is
    prompt   prompt, completion                                trained as it is
    rag      question, contexts, answer                        the contexts of the row, in the served prompt

``columns`` of the recipe names the columns of other files: ``{question: prompt, answer: response}``. A dot goes into
an object: ``answers.text``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mlx_ragtune.records import Kind, Message
from mlx_ragtune.synthesis.checks import is_blank

Format = Literal["pairs", "chat", "prompt", "rag"]
Field = Literal["id", "kind", "question", "answer", "context", "messages"]

NAMES: Mapping[Field, tuple[str, ...]] = {
    "id": ("id", "_id"),
    "kind": ("kind",),
    "messages": ("messages", "conversations"),
    "question": ("question", "query", "user_input", "prompt", "instruction"),
    "answer": ("answer", "response", "completion", "output", "ground_truth", "reference"),
    "context": ("contexts", "context", "documents", "passages", "retrieved_contexts", "input"),
}
"""Field → the names that its column may have without ``columns``, the first that a row has."""
PROMPTS = ("prompt", "instruction")
"""Columns of a whole prompt. A question under another name needs a context, or ``dataset.format: prompt``."""
TITLES = ("title", "name")
TEXTS = ("text", "content", "page_content", "passage", "body", "contents")
ROLES: Mapping[str, Literal["system", "user", "assistant"]] = {
    "system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant",
    "model": "assistant", "developer": "system",
}  # fmt: skip
FORMATS: Mapping[Format, str] = {
    "pairs": "id, kind, question, answer, papers, evidence",
    "chat": "messages: [{role, content}, …]",
    "prompt": "prompt, completion",
    "rag": "question, contexts, answer",
}
KIND_NAMES: tuple[Kind, ...] = ("grounded", "synthesis", "refusal")


@dataclass(frozen=True)
class OwnPassage:
    """A passage that a row brings; the title is empty when it has none."""

    title: str
    text: str


@dataclass(frozen=True)
class Fields:
    """One row. ``messages`` is what is trained as it is (chat, prompt), else question and passages make the prompt."""

    id: str
    kind: Kind | None
    question: str
    answer: str
    messages: tuple[Message, ...] = ()
    passages: tuple[OwnPassage, ...] = ()


def detect(row: Mapping[str, Any], columns: Mapping[Field, str]) -> Format | None:
    """The format that a row's keys belong to, or None."""
    if not columns and "evidence" in row and "papers" in row:
        return "pairs"
    if (
        not columns
        and row.keys() >= {"id", "kind", "question", "answer"}
        and column_of("context", row, columns) is None
    ):
        return "pairs"
    if column_of("messages", row, columns):
        return "chat"
    asks, context = column_of("question", row, columns), column_of("context", row, columns)
    if not asks or not column_of("answer", row, columns):
        return None
    if context and not (context == "input" and asks in PROMPTS):
        return "rag"
    return "prompt" if asks in PROMPTS or "question" in columns else None


def column_of(field: Field, row: Mapping[str, Any], columns: Mapping[Field, str]) -> str | None:
    """The column of a field in a row, or None when the row has none."""
    if field in columns:
        return columns[field] if _at(row, columns[field]) is not None else None
    return next((name for name in NAMES[field] if row.get(name) is not None), None)


def _at(row: object, path: str) -> object:
    """The value of a column; a dot goes into an object or into the objects of a list. None where there is none."""
    if isinstance(row, Mapping) and path in row:
        return row[path]
    first, _, rest = path.partition(".")
    inner = row.get(first) if isinstance(row, Mapping) else None
    if not rest or inner is None:
        return None
    return [_at(item, rest) for item in inner] if isinstance(inner, list) else _at(inner, rest)


def read_fields(
    kind: Format, row: Mapping[str, Any], columns: Mapping[Field, str], *, name: str, problems: list[str]
) -> Fields | None:
    """The fields of a row, or None with what is wrong added to ``problems``; ``name`` stands for a missing id."""
    before = len(problems)
    identifier = _text("id", row, columns, problems) if column_of("id", row, columns) else name
    given = column_of("kind", row, columns)
    known = next((item for item in KIND_NAMES if given and _at(row, given) == item), None)
    if given and not known and "kind" in columns:
        problems.append(f"{given} is {_at(row, given)!r:.40}, known: {', '.join(KIND_NAMES)}")
    if kind == "chat":
        messages = _messages(row, columns, problems)
        fields = Fields(identifier, known, _last(messages, "user"), _last(messages, "assistant"), messages)
    else:
        question, answer = (_text(field, row, columns, problems) for field in ("question", "answer"))
        if kind == "prompt":
            question = _with_input(question, row, columns)
            turns = (Message("user", question), Message("assistant", answer))
            fields = Fields(identifier, known, question, answer, turns)
        else:
            fields = Fields(identifier, known, question, answer, (), _passages(row, columns, problems))
    return fields if len(problems) == before else None


def _last(messages: Sequence[Message], role: str) -> str:
    return next((message.content for message in reversed(messages) if message.role == role), "")


def _with_input(prompt: str, row: Mapping[str, Any], columns: Mapping[Field, str]) -> str:
    """The prompt with the text that it is about, as Alpaca rows have it (``instruction``, ``input``, ``output``)."""
    extra = row.get("input") if "instruction" in row and "context" not in columns else None
    return f"{prompt}\n\n{extra}" if isinstance(extra, str) and not is_blank(extra) else prompt


def _text(field: Field, row: Mapping[str, Any], columns: Mapping[Field, str], problems: list[str]) -> str:
    column = column_of(field, row, columns)
    value = _at(row, column) if column else None
    if isinstance(value, list) and value:
        value = value[0]  # the first of several accepted answers
    if isinstance(value, int) and field == "id":
        value = str(value)
    if column is None:
        problems.append(f"no {field}: expected {columns.get(field) or ' or '.join(NAMES[field])}")
    elif not isinstance(value, str):
        problems.append(f"{column} is not a text: {value!r:.60}")
    elif is_blank(value):
        problems.append(f"{column} is empty")
    else:
        return value
    return ""


def _messages(row: Mapping[str, Any], columns: Mapping[Field, str], problems: list[str]) -> tuple[Message, ...]:
    """The turns: at most one system turn first, then user and assistant in turn, the answer last."""
    column = column_of("messages", row, columns)
    if column is None:
        problems.append(f"no messages: expected {columns.get('messages') or ' or '.join(NAMES['messages'])}")
        return ()
    if row.get("tools") or row.get("functions"):
        problems.append("tools: conversations with tools are not supported")
        return ()
    turns = _at(row, column)
    if not isinstance(turns, list) or not turns:
        problems.append(f"{column} is not a list of messages")
        return ()
    messages: list[Message] = []
    for number, turn in enumerate(turns, start=1):
        said = turn if isinstance(turn, Mapping) else {}
        role, content = said.get("role", said.get("from")), _said(said.get("content", said.get("value")))
        if not isinstance(role, str) or role.lower() not in ROLES:
            problems.append(f"{column}: message {number} has the role {role!r:.40}, known: {', '.join(ROLES)}")
            return ()
        if said.get("tool_calls") or said.get("function_call"):
            problems.append(f"{column}: message {number} calls a tool, which is not supported")
            return ()
        if not isinstance(content, str) or is_blank(content):
            problems.append(f"{column}: message {number} has no text")
            return ()
        messages.append(Message(ROLES[role.lower()], content))
    if said.get("weight") == 0:
        problems.append(f"{column}: the last message has the weight 0, but it is the one that is trained")
    roles = [message.role for message in messages if message.role != "system"]
    if any(message.role == "system" for message in messages[1:]):
        problems.append(f"{column}: a system message that is not the first message")
    elif len(roles) % 2 or any(role != ("user", "assistant")[at % 2] for at, role in enumerate(roles)):
        problems.append(f"{column}: expected user and assistant in turn, the answer last, found {', '.join(roles)}")
    return tuple(messages)


def _said(content: object) -> object:
    """The text of a message; parts as ``[{"type": "text", "text": …}]`` are joined if all of them are text."""
    if not isinstance(content, list):
        return content
    parts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
    texts = [part for part in parts if isinstance(part, str)]
    return "\n".join(texts) if len(texts) == len(parts) else None


def _passages(row: Mapping[str, Any], columns: Mapping[Field, str], problems: list[str]) -> tuple[OwnPassage, ...]:
    column = column_of("context", row, columns)
    if column is None:
        problems.append(f"no context: expected {columns.get('context') or ' or '.join(NAMES['context'])}")
        return ()
    value = _at(row, column)
    found = list(_each_passage(value if isinstance(value, list) else [value]))
    if not found or any(passage is None for passage in found):
        problems.append(f"{column} is not a text, a list of texts, or a list of {{title, text}}: {value!r:.60}")
        return ()
    return tuple(passage for passage in found if passage is not None)


def _each_passage(values: Sequence[object]) -> Iterator[OwnPassage | None]:
    for value in values:
        title, text = "", value
        if isinstance(value, Mapping):
            title = next((str(value[name]) for name in TITLES if isinstance(value.get(name), str)), "")
            text = next((value[name] for name in TEXTS if name in value), None)
        yield OwnPassage(title, text) if isinstance(text, str) and not is_blank(text) else None


def unknown_format(row: Mapping[str, Any], columns: Mapping[Field, str]) -> tuple[str, str]:
    """(what, fix) for a first row of no known format, or without a column that the recipe names."""
    keys = ", ".join(list(row)[:12]) or "(none)"
    for field, column in columns.items():
        if _at(row, column) is None:
            return (
                f"dataset.columns.{field} names '{column}', which the first row does not have; it has: {keys}",
                f"name the column of the {field} as the file has it",
            )
    known = "\n".join(f"  {name}: {columns}" for name, columns in FORMATS.items())
    return (
        f"the first row has the keys {keys}, which no format has:\n{known}",
        "name the columns, for example dataset.columns: {question: ask, answer: reply, context: passages}; "
        "to train on questions without a context, set dataset.format: prompt",
    )
