r"""The definitions of a LaTeX document: macros, environments, theorems and flags."""

import re
from dataclasses import dataclass, field

from mlx_ragtune.papers.latex_scan import Macro, Scanner

_DEFINERS = re.compile(
    r"\\(?:(?:re)?newcommand|providecommand|DeclareRobustCommand|def|gdef|DeclareMathOperator|DeclarePairedDelimiter|"
    r"newtheorem|newenvironment|renewenvironment|newif|NewDocumentCommand|RenewDocumentCommand)(?![A-Za-z])"
)
_MOST_ARGUMENTS = 9


@dataclass(frozen=True)
class Environment:
    """What ``\\begin`` and ``\\end`` of a document's own environment expand to."""

    begin: Macro
    end: str


@dataclass
class Definitions:
    """What the document has defined so far. Groups do not end definitions."""

    macros: dict[str, Macro] = field(default_factory=dict)
    environments: dict[str, Environment] = field(default_factory=dict)
    theorems: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Title and counter of each theorem-like environment."""
    flags: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Commands of ``\\newif``: ``test``, ``true`` or ``false``, and the name of the flag."""
    values: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in (("true", True), ("draft", False), ("pdf", True)):
            self.flags[f"if{name}"] = ("test", name)
            self.values[name] = value

    def macro(self, name: str) -> Macro | None:
        """The macro of that name, or None."""
        return self.macros.get(name) if name else None

    def read_style(self, text: str) -> None:
        """Take the definitions of a style that comes with the paper, without what its commands do."""
        for match in _DEFINERS.finditer(text):
            scan = Scanner(at_letter=True)
            scan.push(text[match.start() : match.start() + 20_000])
            token = scan.next()
            before = dict(self.macros)
            if token and token["word"]:
                self.define(token["word"], scan)
            for name in set(self.macros) - set(before):
                if "@" in name or "@" in self.macros[name].body:
                    del self.macros[name]

    def define(self, word: str, scan: Scanner) -> bool:
        """Read a definition if the command is one; whether it is."""
        if word in ("newcommand", "renewcommand", "providecommand", "DeclareRobustCommand", "newrobustcmd"):
            self._newcommand(scan, keep=word == "providecommand")
        elif word in ("def", "gdef", "edef", "xdef"):
            self._def(scan)
        elif word in ("long", "global", "protected", "outer"):
            pass
        elif word == "let":
            self._let(scan)
        elif word == "DeclareMathOperator":
            scan.star()
            name, body = _name(scan.argument()), scan.argument()
            self._add(name, Macro(0, f"\\operatorname{{{body}}}"))
        elif word == "DeclarePairedDelimiter":
            name, left, right = _name(scan.argument()), scan.argument(), scan.argument()
            self._add(name, Macro(1, f"{left} #1 {right}"))
        elif word in ("NewDocumentCommand", "RenewDocumentCommand", "DeclareDocumentCommand", "ProvideDocumentCommand"):
            self._document_command(scan)
        elif word in ("newenvironment", "renewenvironment"):
            self._newenvironment(scan)
        elif word == "newtheorem":
            self._newtheorem(scan)
        elif word == "newif":
            self._newif(scan)
        else:
            return False
        return True

    def _add(self, name: str, macro: Macro, *, keep: bool = False) -> None:
        calls_itself = re.search(rf"\\{re.escape(name)}(?![A-Za-z])", macro.body) if name else None
        if name and not calls_itself and macro.arguments <= _MOST_ARGUMENTS and not (keep and name in self.macros):
            self.macros[name] = macro

    def _newcommand(self, scan: Scanner, *, keep: bool) -> None:
        scan.star()
        name = _name(scan.argument())
        count, default = scan.option(), scan.option()
        self._add(name, Macro(_number(count), scan.argument(), default), keep=keep)

    def _def(self, scan: Scanner) -> None:
        """``\\def`` with plain parameters; one with delimiters is not a macro here."""
        name = _name(scan.argument())
        parameters = scan.until_text(re.compile(r"(?=\{)"))
        body = scan.argument()
        plain = re.fullmatch(r"\s*((?:#\d)*)\s*", parameters)
        if plain:
            self._add(name, Macro(len(plain[1]) // 2, body))

    def _let(self, scan: Scanner) -> None:
        name = _name(scan.argument())
        scan.skip_spaces()
        if scan.peek() == "=":
            scan.next()
        target = scan.argument()
        known = self.macros.get(_name(target))
        if known:
            self._add(name, known)
        elif target.startswith("\\"):
            self._add(name, Macro(0, target))

    def _document_command(self, scan: Scanner) -> None:
        name, arguments, body = _name(scan.argument()), scan.argument().replace(" ", ""), scan.argument()
        plain = re.fullmatch(r"(?:o|O\{([^{}]*)\})?(m*)", arguments)
        if plain:
            optional = arguments[:1] in ("o", "O")
            self._add(name, Macro(len(plain[2]) + optional, body, (plain[1] or "") if optional else None))

    def _newenvironment(self, scan: Scanner) -> None:
        scan.star()
        name = scan.argument().strip()
        count, default = scan.option(), scan.option()
        begin, end = scan.argument(), scan.argument()
        if f"{{{name}}}" not in begin:  # one that builds on the environment it redefines keeps its meaning
            self.environments[name] = Environment(Macro(_number(count), begin, default), re.sub(r"#\d", "", end))

    def _newtheorem(self, scan: Scanner) -> None:
        scan.star()
        name = scan.argument().strip()
        shared = scan.option()
        title = scan.argument()
        scan.option()
        counter = self.theorems[shared][1] if shared in self.theorems else shared or name
        self.theorems[name] = (re.sub(r"\\[A-Za-z]+|[{}]", "", title).strip(), counter)

    def _newif(self, scan: Scanner) -> None:
        name = _name(scan.argument()).removeprefix("if")
        self.flags |= {f"if{name}": ("test", name), f"{name}true": ("true", name), f"{name}false": ("false", name)}
        self.values.setdefault(name, False)


def _name(source: str) -> str:
    """The name of a command, without its backslash; "" for what is not a command of letters."""
    match = re.fullmatch(r"\s*\\([A-Za-z@]+)\s*", source)
    return match[1] if match else ""


def _number(source: str | None) -> int:
    return int(source) if source and source.strip().isdecimal() and len(source.strip()) == 1 else 0
