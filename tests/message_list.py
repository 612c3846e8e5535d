"""Every text that a user may read, in one list: ``make messages`` writes it to tests/messages.txt.

The list is taken from the source, not from runs, so a message that is hard to provoke is on it too. Errors are
shown as the terminal shows them. ``{name}`` stands for a value, ``(a | b)`` for one text or the other.
"""

import ast
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mlx_ragtune"
SNAPSHOT = ROOT / "tests" / "messages.txt"
NOT_SHOWN = {
    "generator_prompts.py", "latex_commands.py", "sentences.py", "toy.py", "units.py", "number_words.py", "notation.py",
    *(path.name for path in PACKAGE.glob("scoring/answers/refusal_*.py")),
}  # fmt: skip
"""Modules whose texts users do not read: prompts, templates, and the words of other languages."""
PRINTING = {"say", "_say", "echo", "print", "track", "bar", "warn", "note"}
OTHER_ERRORS = {"ValueError", "UsageError", "BadParameter", "ClickException"}
KINDS = ("error", "printed", "help", "text")
_WORDS = re.compile(r"[A-Za-z]{2,}[,:;.]? +\(?[A-Za-z{'`]")
_SQL = r"^\s*(SELECT|INSERT|UPDATE|DELETE|CREATE|DROP|PRAGMA|BEGIN|WITH|ATTACH)\b"
_CODE = re.compile(_SQL + r"|\{%|\{\{|\\[bwsSd]|\(\?|^<[a-z]|-src '|charset=")
"""What marks a string as a query, a pattern, a template or markup."""


@dataclass(frozen=True, order=True)
class Text:
    """One text; ``kind`` is the heading that it stands under."""

    kind: str
    text: str


def render(node: ast.expr | None) -> str:
    """An expression as text, with placeholders for what is known at run time only."""
    match node:
        case None:
            return ""
        case ast.Constant(value=str(text)):
            return text.replace("\b\n", "")
        case ast.JoinedStr(values=parts):
            return "".join(render(part) for part in parts)
        case ast.FormattedValue(value=value):
            return render(value)
        case ast.BinOp(left=left, op=ast.Add(), right=right) if _has_text(node):
            return render(left) + render(right)
        case ast.BoolOp(values=values) if _has_text(node):
            return f"({' | '.join(render(value) for value in values)})"
        case ast.IfExp(body=body, orelse=other) if _has_text(node):
            return f"({' | '.join(render(part) for part in (body, other))})"
        case _:
            return f"{{{_placeholder(node)}}}"


def _has_text(node: ast.expr) -> bool:
    return any(isinstance(part, ast.Constant) and isinstance(part.value, str) for part in ast.walk(node))


def _placeholder(node: ast.expr) -> str:
    """A short name for a value, the same in every version of Python (``ast.unparse`` is not)."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name):
            return f"{_placeholder(value)}.{name}"
        case ast.Subscript(value=value):
            return f"{_placeholder(value)}[…]"
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(between)), attr="join"), args=[argument]):
            return f"{_placeholder(argument)}{between}…".replace("\n", " ")
        case ast.Call(func=ast.Name(id="str"), args=[argument]):
            return _placeholder(argument)
        case ast.Call(func=function, args=[argument]) if not isinstance(argument, ast.GeneratorExp | ast.ListComp):
            return f"{_placeholder(function)}({_placeholder(argument)})"
        case ast.Call(func=function):
            return f"{_placeholder(function)}(…)"
        case _:
            return "…"


def error_classes() -> set[str]:
    """RagtuneError and every class below it, by name."""
    bases = {
        node.name: {base.id for base in node.bases if isinstance(base, ast.Name)}
        for module in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    }
    names = {"RagtuneError"}
    while more := {name for name, above in bases.items() if above & names} - names:
        names |= more
    return names


class Collector(ast.NodeVisitor):
    """The texts of one module. Strings that are part of a listed text are not listed again on their own."""

    def __init__(self, errors: set[str]) -> None:
        self.errors, self.texts, self._seen = errors, set[Text](), set[int]()

    def collect(self, tree: ast.Module) -> set[Text]:
        """Every text of the module."""
        self._skip_docstrings(tree)
        self.visit(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr | ast.Constant) and id(node) not in self._seen:
                self._mark(node)
                text = render(node)
                if _WORDS.search(text) and not _CODE.search(text):
                    self._add("text", text)
        return self.texts

    def _add(self, kind: str, text: str) -> None:
        if re.search(r"[A-Za-z]{2}", re.sub(r"\{.*?\}", "", text)):
            self.texts.add(Text(kind, textwrap.dedent(text).strip()))

    def _mark(self, node: ast.AST) -> None:
        self._seen.update(id(part) for part in ast.walk(node) if isinstance(part, ast.JoinedStr | ast.Constant))

    def _skip_docstrings(self, tree: ast.Module) -> None:
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                self._seen.add(id(node.value))
            annotation = getattr(node, "annotation", None) or getattr(node, "returns", None)
            if isinstance(annotation, ast.AST):
                self._mark(annotation)

    def visit_Call(self, node: ast.Call) -> None:
        """List errors, printed texts and the help of options."""
        function = node.func
        name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
        if name in self.errors or name in OTHER_ERRORS:
            self._error(name, node)
        elif name in PRINTING and node.args:
            self._take("printed", node.args[0])
        for keyword in node.keywords:
            if keyword.arg in {"help", "short_help"}:
                self._take("help", keyword.value)
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """List the docstring of a command: it is its help."""
        decorators = [ast.dump(decorator) for decorator in node.decorator_list]
        if any("attr='command'" in text or "attr='group'" in text for text in decorators):
            self._add("help", (ast.get_docstring(node) or "").replace("\b\n", ""))
        self.generic_visit(node)

    def _take(self, kind: str, node: ast.expr) -> None:
        if _has_text(node):
            self._mark(node)
            self._add(kind, render(node))

    def _error(self, name: str, node: ast.Call) -> None:
        parts = {keyword.arg: keyword.value for keyword in node.keywords}
        what = node.args[0] if node.args else parts.get("what")
        for part in (what, parts.get("where"), parts.get("fix")):
            if part is not None:
                self._mark(part)
        where, fix = render(parts.get("where")), render(parts.get("fix"))
        text = f"{where}: {render(what)}" if where else render(what)
        self._add("error", f"{name}: {text}\n  try: {fix}" if fix else f"{name}: {text}")


class _PageText(HTMLParser):
    """The visible text of a Jinja template, one entry an element."""

    def __init__(self) -> None:
        super().__init__()
        self.texts, self._inside = set[Text](), ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        for name, value in attrs:
            if name in {"title", "alt", "aria-label", "placeholder"} and value:
                self.texts.add(Text("text", value))

    def handle_endtag(self, _tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        strings = re.findall(r"\"([^\"\n]*)\"|'([^'\n]*)'|`([^`]*)`", data) if self._inside == "script" else [(data,)]
        for string in strings if self._inside != "style" else []:
            text = " ".join("".join(string).split())
            if re.search(r"[A-Za-z]{2}", re.sub(r"\{.*?\}", "", text)) and (self._inside != "script" or " " in text):
                self.texts.add(Text("text", text))


def page_texts(template: str) -> set[Text]:
    """The texts of a Jinja template, with ``{name}`` for its expressions."""
    page = _PageText()
    page.feed(re.sub(r"\{\{-?\s*(.*?)\s*-?\}\}", r"{\1}", re.sub(r"\{[%#].*?[%#]\}", "", template, flags=re.DOTALL)))
    page.close()
    return page.texts


@cache
def message_list() -> str:
    """The whole list, by module and kind, in a fixed order."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    errors = error_classes()
    yield "# Every text that a user may read. Written by `make messages`; a test compares it."
    for file in sorted([*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.jinja")]):
        source = file.read_text(encoding="utf-8")
        if file.name in NOT_SHOWN:
            continue
        texts = page_texts(source) if file.suffix == ".jinja" else Collector(errors).collect(ast.parse(source))
        if not texts:
            continue
        yield f"\n## {file.relative_to(ROOT).as_posix()}"
        for kind in KINDS:
            chosen = sorted(text.text for text in texts if text.kind == kind)
            if chosen:
                yield f"\n{kind}:"
            yield from (textwrap.indent(text, "  ") for text in chosen)


if __name__ == "__main__":
    SNAPSHOT.write_text(message_list(), encoding="utf-8")
