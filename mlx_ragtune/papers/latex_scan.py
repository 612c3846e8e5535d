r"""Tokens of LaTeX source with macro expansion: what TeX's mouth and gullet do, for documents rather than styles."""

import re
from dataclasses import dataclass, field

from mlx_ragtune.errors import InputError

MAX_EXPANSIONS = 100_000
"""Most macros that one paper may expand."""
MAX_EXPANDED = 30_000_000
"""Most characters that they may expand to, in total."""
MAX_FRAMES = 200
_TOKEN_PARTS = r"""
  \\(?P<word>%s+)(?:[ \t]*\n(?![ \t]*\n)[ \t]*|[ \t]+)?
 |\\(?P<symbol>.)
 |(?P<par>[ \t]*\n[ \t]*\n\s*)
 |(?P<space>[ \t\n]+)
 |(?P<math>\$\$?)
 |(?P<quote>---?|``|''|`|~)
 |(?P<brace>[{}])
 |(?P<plain>[^\\\n \t$~{}`'-]+|.)
"""
_TOKEN = re.compile(_TOKEN_PARTS % "[A-Za-z]", re.VERBOSE | re.DOTALL)
_TOKEN_AT = re.compile(_TOKEN_PARTS % "[A-Za-z@]", re.VERBOSE | re.DOTALL)
Token = re.Match[str]


@dataclass(frozen=True)
class Macro:
    """A definition: how many arguments, the default of an optional first one, and the replacement."""

    arguments: int
    body: str
    default: str | None = None


@dataclass
class _Frame:
    text: str
    at: int = 0
    name: str = ""


@dataclass
class Budget:
    """What is left of the expansions of a paper. Macros that expand without end use it up."""

    expansions: int = MAX_EXPANSIONS
    characters: int = MAX_EXPANDED

    def spend(self, characters: int) -> None:
        """Count one expansion. Raises InputError when there were too many."""
        self.expansions -= 1
        self.characters -= characters
        if self.expansions < 0 or self.characters < 0:
            raise InputError("its macros expand without end", fix="remove it, or correct its macros")


@dataclass
class Scanner:
    """Tokens from a stack of texts: a file, the files that it includes, and what macros expand to."""

    budget: Budget = field(default_factory=Budget)
    at_letter: bool = False
    """Whether ``@`` is a letter, as in styles."""
    frames: list[_Frame] = field(default_factory=list)

    def push(self, text: str, name: str = "") -> None:
        """Read this text next. Raises InputError for macros and files that nest too deeply."""
        while self.frames and self.frames[-1].at >= len(self.frames[-1].text) and not self.frames[-1].name:
            self.frames.pop()
        if len(self.frames) >= MAX_FRAMES:
            raise InputError("its macros or files nest too deeply", fix="remove it, or correct its macros")
        if text:
            self.frames.append(_Frame(text, name=name))

    @property
    def file(self) -> str:
        """The name of the file that is being read."""
        return next((frame.name for frame in reversed(self.frames) if frame.name), "")

    @property
    def open_files(self) -> list[str]:
        """The names of the files that are not read to their ends."""
        return [frame.name for frame in self.frames if frame.name]

    def _top(self) -> _Frame | None:
        while self.frames and self.frames[-1].at >= len(self.frames[-1].text):
            self.frames.pop()
        return self.frames[-1] if self.frames else None

    def next(self) -> Token | None:
        """The next token, or None at the end."""
        frame = self._top()
        if frame is None:
            return None
        match = (_TOKEN_AT if self.at_letter else _TOKEN).match(frame.text, frame.at)
        assert match is not None  # noqa: S101 (any character is a token)
        frame.at = match.end()
        return match

    def peek(self) -> str:
        """The next character, or "" at the end."""
        frame = self._top()
        return frame.text[frame.at] if frame else ""

    def skip_spaces(self) -> None:
        """Skip spaces and line ends before an argument."""
        while (char := self.peek()) and char in " \t\n":
            self.frames[-1].at += 1

    def star(self) -> bool:
        """Whether a star follows; it is skipped."""
        self.skip_blanks()
        if self.peek() == "*":
            self.frames[-1].at += 1
            return True
        return False

    def skip_blanks(self) -> None:
        """Skip spaces on the same line."""
        while (char := self.peek()) and char in " \t":
            self.frames[-1].at += 1

    def argument(self) -> str:
        """The source of the next argument: a group without its braces, a command, or a character."""
        self.skip_spaces()
        char = self.peek()
        if char in ("", "}"):
            return ""
        if char == "{":
            return self._balanced("{", "}")
        frame = self.frames[-1]
        if char != "\\":
            frame.at += 1
            return char
        token = self.next()
        return token[0] if token else ""

    def option(self) -> str | None:
        """The source of an argument in brackets, or None when there is none."""
        frame = self._top()
        if frame is None:
            return None
        match = re.compile(r"[ \t]*(?:\n(?![ \t]*\n)[ \t]*)?\[").match(frame.text, frame.at)
        if not match:
            return None
        frame.at = match.end() - 1
        return self._balanced("[", "]")

    def _balanced(self, opening: str, closing: str) -> str:
        """What stands between two marks on the top frame; up to its end when the closing one is missing."""
        frame = self.frames[-1]
        start = frame.at + 1
        depth = braces = 0
        for match in re.compile(r"\\.|[{}\[\]]", re.DOTALL).finditer(frame.text, frame.at):
            char = match[0]
            if char == opening and (opening == "{" or braces == 0):
                depth += 1
            elif char == closing and (opening == "{" or braces == 0):
                depth -= 1
                if depth == 0:
                    frame.at = match.end()
                    return frame.text[start : match.start()]
            elif char in "{}":
                braces += 1 if char == "{" else -1
                if braces < 0:
                    break
        if opening == "[":  # not an option: the bracket is text
            return ""
        frame.at = len(frame.text)
        return frame.text[start:]

    def until_text(self, end: re.Pattern[str]) -> str:
        """The source up to a match of ``end`` on the top frame, which is skipped; all of the frame without one."""
        frame = self._top()
        if frame is None:
            return ""
        match = end.search(frame.text, frame.at)
        content = frame.text[frame.at : match.start() if match else len(frame.text)]
        frame.at = match.end() if match else len(frame.text)
        return content

    def expand(self, macro: Macro) -> None:
        """Push what the macro expands to, with its arguments from the source."""
        values: list[str] = []
        if macro.default is not None:
            given = self.option()
            values.append(macro.default if given is None else given)
        while len(values) < macro.arguments:
            values.append(self.argument())
        body = macro.body
        if macro.arguments:
            body = re.sub(r"(?<!#)#([1-9])", lambda match: (values[int(match[1]) - 1 :] or [""])[0], body)
        self.budget.spend(len(body))
        self.push(body)
