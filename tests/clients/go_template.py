"""Enough of Go's text/template to render the chat templates that Ollama models carry."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

Scope = Mapping[str, Any]
Node = Callable[[Scope, Scope], str]  # (dot, root) -> text
_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|[()]|[^\s()]+')

_ACTION_END = re.compile(r'((?:"(?:\\.|[^"\\])*"|[^"])*?)}}', re.DOTALL)


class GoTemplateError(ValueError):
    """What the server calls ``template error``."""


def _pieces(source: str) -> list[tuple[bool, str]]:
    """Text and actions in turn, white space trimmed where an action asks for it with a dash."""
    pieces: list[tuple[bool, str]] = []
    trim = False
    while True:
        text, opened, source = source.partition("{{")
        if trim:
            text = text.lstrip()
        if not opened:
            return [*pieces, (False, text)]
        ending = _ACTION_END.match(source)
        action, closed, source = (ending[1], True, source[ending.end() :]) if ending else ("", False, "")
        if not closed:
            raise GoTemplateError("template: :1: unclosed action")
        if action.startswith("-"):
            action, text = action[1:], text.rstrip()
        trim = action.endswith("-")
        pieces += [(False, text), (True, action.removesuffix("-").strip())]


class _Parser:
    def __init__(self, source: str) -> None:
        self._pieces = _pieces(source)
        self._at = 0

    def block(self, *, inside: bool) -> tuple[list[Node], str]:
        """Nodes up to ``end`` or ``else``, and which of them it was."""
        nodes: list[Node] = []
        while self._at < len(self._pieces):
            is_action, content = self._pieces[self._at]
            self._at += 1
            word = content.split(" ", 1)[0] if is_action else ""
            if not is_action:
                nodes.append(_text(content))
            elif word in ("end", "else"):
                return nodes, content
            elif word == "range":
                nodes.append(self._range(content.removeprefix("range")))
            elif word == "if":
                nodes.append(self._if(content.removeprefix("if")))
            else:
                nodes.append(_print(expression(content)))
        if inside:
            raise GoTemplateError("template: :1: unexpected EOF")
        return nodes, ""

    def _range(self, over: str) -> Node:
        items, (body, _) = expression(over), self.block(inside=True)

        def node(dot: Scope, root: Scope) -> str:
            return "".join(part(item, root) for item in items(dot, root) for part in body)

        return node

    def _if(self, condition: str) -> Node:
        test = expression(condition)
        yes, ending = self.block(inside=True)
        no: list[Node] = []
        if ending.startswith("else if"):
            no = [self._if(ending.removeprefix("else if"))]
        elif ending == "else":
            no, _ = self.block(inside=True)

        def node(dot: Scope, root: Scope) -> str:
            return "".join(part(dot, root) for part in (yes if test(dot, root) else no))

        return node


def _text(content: str) -> Node:
    return lambda _dot, _root: content


def _print(value: Callable[[Scope, Scope], Any]) -> Node:
    return lambda dot, root: str(value(dot, root))


def expression(source: str) -> Callable[[Scope, Scope], Any]:
    """A value: ``.Name``, ``$.Name``, a string, a number, ``(…).Name``, or a function of FUNCTIONS of such."""
    return _call(_TOKEN.findall(source))


FUNCTIONS: dict[str, Callable[[list[Any]], Any]] = {
    "not": lambda values: not values[0],
    "eq": lambda values: values[0] == values[1],
    "ne": lambda values: values[0] != values[1],
    "index": lambda values: values[0][values[1]],
    "len": lambda values: len(values[0].encode()),
    "ge": lambda values: values[0] >= values[1],
    "slice": lambda values: values[0].encode()[values[1] : values[2]].decode(errors="replace"),
    "and": all,
    "or": any,
}


def _call(tokens: list[str]) -> Callable[[Scope, Scope], Any]:
    terms: list[Callable[[Scope, Scope], Any]] = []
    name = tokens.pop(0) if tokens and tokens[0] in FUNCTIONS else ""
    while tokens and tokens[0] != ")":
        token = tokens.pop(0)
        if token == "(":
            inner = _call(tokens)
            tokens.pop(0)
            named = tokens and tokens[0].startswith(".") and len(tokens[0]) > 1
            terms.append(_field(inner, tokens.pop(0)[1:]) if named else inner)
        else:
            terms.append(_term(token))
    if not name:
        return terms[0]
    return lambda dot, root: FUNCTIONS[name]([term(dot, root) for term in terms])


def _field(value: Callable[[Scope, Scope], Any], name: str) -> Callable[[Scope, Scope], Any]:
    return lambda dot, root: value(dot, root).get(name, "")


def _term(token: str) -> Callable[[Scope, Scope], Any]:
    if token.startswith('"'):
        text = json.loads(token)  # Go's escapes that occur here are JSON's
        return lambda _dot, _root: text
    if token.isdigit():
        return lambda _dot, _root: int(token)
    if token == ".":
        return lambda dot, _root: dot
    if token.startswith("$."):
        return lambda _dot, root: root.get(token[2:], "")
    if token.startswith("."):
        return lambda dot, _root: dot.get(token[1:], "")
    raise GoTemplateError(f'template: :1: function "{token}" not defined')


def check(source: str) -> None:
    """Raise GoTemplateError for a template that does not parse."""
    _Parser(source).block(inside=False)


def render(source: str, messages: list[dict[str, str]], *, think: bool | None) -> str:
    """The prompt that a Go template makes of chat messages."""
    nodes, _ = _Parser(source).block(inside=False)
    root = {
        "Messages": [{"Role": turn["role"], "Content": turn["content"]} for turn in messages],
        "System": "\n\n".join(turn["content"] for turn in messages if turn["role"] == "system"),
        "Prompt": next((turn["content"] for turn in reversed(messages) if turn["role"] == "user"), ""),
        "Think": bool(think),
        "IsThinkSet": think is not None,
    }
    return "".join(node(root, root) for node in nodes)
