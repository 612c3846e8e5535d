r"""LaTeX source token by token: text, accents, formulas in a line, macros, conditions, included files.

A command without a known meaning prints its arguments.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from mlx_ragtune.papers import latex_commands as commands
from mlx_ragtune.papers.blocks import Block, one_line
from mlx_ragtune.papers.latex_definitions import Definitions
from mlx_ragtune.papers.latex_files import LatexFiles, included_name, without_comments
from mlx_ragtune.papers.latex_labels import Label, Numbering, References
from mlx_ragtune.papers.latex_math import SYMBOLS, readable_math
from mlx_ragtune.papers.latex_scan import Scanner
from mlx_ragtune.papers.latex_symbols import ACCENTS, LETTERS, QUOTES, with_accent

_MAX_DEPTH = 40
_LABEL = re.compile(r"\\label\s*\{([^{}]*)\}")


class LatexReader(ABC):
    """Reads tokens, expands macros, and writes lines. What structures a paper is in the classes below it."""

    def __init__(self, files: LatexFiles, definitions: Definitions) -> None:
        self.files, self.definitions = files, definitions
        self.scan = Scanner()
        self.blocks: list[Block] = []
        self.references = References()
        self.numbering = Numbering()
        self.titles: list[str] = []
        self.authors: list[str] = []
        self.date = ""
        self.title_at: int | None = None
        self.in_body = True
        self._line: list[str] = []
        self._notes: list[str] = []
        self._depth = 0
        self._label = Label("section", "")
        self._floats: list[str] = []
        self._lists: list[list[str | int]] = []
        self._opened: set[str] = set()

    # The loop

    def read(self, name: str, text: str) -> None:
        """Read a file to its end."""
        self._push_file(name, text)
        self._run()
        self._end_paragraph()

    def _run(self) -> None:
        while (token := self.scan.next()) is not None:
            if token["word"]:
                self._command(token["word"])
            elif token["symbol"]:
                self._symbol(token["symbol"])
            elif token["par"]:
                self._end_paragraph()
            elif token["math"]:
                self._math_shift(token["math"])
            elif token["quote"]:
                self._write(QUOTES.get(token["quote"], token["quote"]))
            elif token["space"]:
                self._write(" ")
            elif token["plain"]:
                self._write(token["plain"])

    def _write(self, text: str) -> None:
        if self.in_body:
            self._line.append(text)

    def _drop(self, reason: str, text: str) -> None:
        if one_line(text):
            self.blocks.append(Block(one_line(text), dropped=reason))

    def _end_paragraph(self) -> None:
        self._end_line()
        if self.in_body:
            self.blocks += self.take_notes()

    def take_notes(self) -> list[Block]:
        """The footnotes since the last paragraph."""
        notes, self._notes = self._notes, []
        return [Block(f"Footnote: {note}") for note in notes]

    def text_of(self, source: str) -> str:
        """The source as one line of text. What it drops, such as comments, is listed; its notes follow later."""
        if self._depth >= _MAX_DEPTH:
            return one_line(source)
        with self._nested() as blocks:
            self.scan.push(source)
            self._run()
            self._end_line()
        self.blocks += [block for block in blocks if block.dropped]
        return one_line(" ".join(block.text for block in blocks if not block.dropped))

    def _end_line(self) -> None:
        text = one_line("".join(self._line))
        self._line = []
        if text and self.in_body:
            self.blocks.append(Block(text))

    @contextmanager
    def _nested(self) -> Iterator[list[Block]]:
        """A scanner and a list of blocks of its own."""
        outer = (self.scan, self.blocks, self._line, self.in_body)
        blocks: list[Block] = []
        self.scan = Scanner(outer[0].budget, outer[0].at_letter)
        self.blocks, self._line, self.in_body = blocks, [], True
        self._depth += 1
        try:
            yield blocks
        finally:
            self.scan, self.blocks, self._line, self.in_body = outer
            self._depth -= 1

    # Files

    def _push_file(self, name: str, text: str) -> None:
        source = without_comments(text)
        if source.comments:
            self.blocks.append(Block("\n".join(source.comments), dropped="comment"))
        body, end, rest = source.text.partition(r"\end{document}")
        if end and rest.strip():
            self._drop("after the end of the document", rest)
        self.scan.push(body + " ", name)

    def _include(self, name: str, folder: str = "") -> None:
        current = self.scan.file
        here = current.rpartition("/")[0]
        found = included_name(self.files, name, folders=(folder,) if folder else ("", here))
        if found is None:
            self._drop("missing or outside of the folder", name)
        elif found in self.scan.open_files:
            self._drop("includes itself", name)
        else:
            text = self.files.read(found)
            assert text is not None  # noqa: S101 (it was found)
            self._push_file(found, text)

    # Symbols

    def _symbol(self, symbol: str) -> None:
        if (symbol in ACCENTS and symbol != ".") or (symbol == "." and self.scan.peek().isalpha()):
            self._accent(symbol)
        elif symbol == "(":
            self._display_or_inline(r"\\\)", display=False)
        elif symbol == "[":
            self._display_or_inline(r"\\\]", display=True)
        elif symbol == "\\":
            self.scan.star()
            self.scan.option()
            self._line_break()
        elif symbol in commands.SPACES:
            self._write(" ")
        elif symbol in "-/!)]" or symbol == "@":
            pass
        else:
            self._write(symbol)

    def _line_break(self) -> None:
        self._write(" ")

    def _accent(self, command: str) -> None:
        letter = self.scan.argument()
        plain = LETTERS.get(letter.strip().lstrip("\\"), letter) if letter.startswith("\\") else letter
        self._write(with_accent(command, plain if not plain.startswith("\\") else self.text_of(plain)))

    def _display_or_inline(self, end: str, *, display: bool) -> None:
        source = self.scan.until_text(re.compile(end))
        if display:
            self._display("displaymath", source)
        else:
            self._write(self.math(source))

    def _math_shift(self, sign: str) -> None:
        source = self.scan.until_text(re.compile(r"(?<!\\)" + re.escape(sign)))
        if sign == "$$":
            self._display("displaymath", source)
        else:
            self._write(self.math(source))

    def math(self, source: str) -> str:
        """A formula as text, with the document's macros expanded."""
        for label in _LABEL.findall(source):
            self.references.labels[label] = self._label
        return readable_math(_LABEL.sub("", self._expanded(source)))

    def _expanded(self, source: str) -> str:
        """The source with all macros of the document expanded."""
        scan = Scanner(self.scan.budget, self.scan.at_letter)
        scan.push(source)
        parts: list[str] = []
        while (token := scan.next()) is not None:
            macro = self.definitions.macro(token["word"] or "")
            if macro:
                scan.expand(macro)
                if token[0][-1:].isspace():
                    parts.append(" ")
            else:
                parts.append(token[0])
        return "".join(parts)

    # Commands

    def _command(self, word: str) -> None:
        if word in self.definitions.flags and self._conditional(word):
            return
        macro = self.definitions.macro(word)
        if macro and not self._is_structural(word):
            self.scan.expand(macro)
            return
        if self.definitions.define(word, self.scan):
            return
        handler = getattr(self, f"_do_{word}", None)
        if handler:
            handler()
        elif word in commands.SECTIONS:
            self._section(word)
        elif word in commands.CITES:
            self._cite(word)
        elif word in commands.REFS:
            self.scan.star()
            self.scan.option()
            self._write(self.references.refer(word, self.scan.argument()))
        elif word in commands.GOBBLED:
            self._arguments(commands.GOBBLED[word])
        elif word in commands.KEPT:
            self._keep_last(word)
        elif word.startswith("if") or word in ("else", "fi", "or"):
            self._branch(word)
        else:
            self._print(word)

    def _is_structural(self, word: str) -> bool:
        """Whether the command has a meaning here that a document's own definition only arranges."""
        return (
            hasattr(self, f"_do_{word}")
            or word in commands.SECTIONS
            or word in commands.CITES
            or word in commands.REFS
            or word in commands.TITLES
            or word in commands.AUTHORS
        )

    def _print(self, word: str) -> None:
        """A command that prints something, or one without a known meaning."""
        lower = word.casefold()
        if word in commands.TITLES:
            self.scan.option()
            self.titles.append(self.scan.argument())
        elif word in commands.AUTHORS and self._depth == 0:
            self.scan.option()
            self.authors.append(self.scan.argument())
            if word == "icmlauthor":
                self.scan.argument()
        elif word in commands.RUN_IN:
            self._run_in()
        elif word in commands.NOTES:
            self._drop("note of the authors", self._arguments(commands.NOTES[word])[-1])
        elif word in ACCENTS:
            self._accent(word)
        elif word in LETTERS or word in SYMBOLS:
            self._write(LETTERS.get(word, SYMBOLS.get(word, "")))
        elif word in commands.NEWLINES:
            self._end_paragraph() if word in commands.PARAGRAPHS else self._write(" ")
        elif word in commands.SPACES:
            self._write(" ")
        elif "algorithm" in self._floats and lower in commands.ALGORITHMIC:
            self._end_paragraph()
            self._write(commands.ALGORITHMIC[lower] + " ")
        else:
            self._unknown()

    def _unknown(self) -> None:
        """Skip the option of a command without a known meaning; its arguments are printed as text."""
        if self.scan.peek() == "[":
            option = self.scan.option()
            if option and self.scan.peek() != "{" and len(option) > 20:
                self._write(f"[{option}]")

    def _arguments(self, specification: str) -> list[str]:
        """The sources of the arguments in the specification that are there."""
        values: list[str] = []
        for kind in specification:
            if kind == "s":
                self.scan.star()
            elif kind == "o":
                self.scan.option()
            elif kind == "p":
                self.scan.skip_blanks()
                if self.scan.peek() == "(":
                    self.scan.until_text(re.compile(r"\)"))
            else:
                values.append(self.scan.argument())
        return values or [""]

    def _keep_last(self, word: str) -> None:
        last = self._arguments(commands.KEPT[word])[-1]
        if word in ("url", "path", "nolinkurl", "lstinline", "mintinline"):
            self._write(re.sub(r"\\([%#&_{}~])", r"\1", last))
        else:
            self.scan.push(last)

    # Conditionals

    def _conditional(self, word: str) -> bool:
        """Set a flag, or read the branch that it selects."""
        kind, name = self.definitions.flags[word]
        if kind == "test":
            if not self.definitions.values.get(name, False):
                self._skip_branch(listed=True)
            return True
        self.definitions.values[name] = kind == "true"
        return True

    def _branch(self, word: str) -> None:
        """Conditions that cannot be evaluated: the first branch is read, and the other one is listed."""
        if word == "iffalse":
            self._skip_branch(listed=True)
        elif word == "else":
            self._skip_branch(listed=True, at_else=False)
        elif word == "ifthenelse":
            self.scan.argument()
            first = self.scan.argument()
            self._drop("branch not taken", self.scan.argument())
            self.scan.push(first)

    def _skip_branch(self, *, listed: bool, at_else: bool = True) -> None:
        """Skip to the ``\\fi`` that belongs to it, or to its ``\\else``."""
        depth, parts = 1, []
        while depth and (token := self.scan.next()) is not None:
            word = token["word"] or ""
            if word == "fi":
                depth -= 1
            elif word == "else" and depth == 1 and at_else:
                break
            elif word.startswith("if") and word not in ("iff", "ifthenelse"):
                depth += 1
            parts.append(token[0])
        if listed and self.in_body:
            self._drop("branch not taken", re.sub(r"\\fi\s*$", "", "".join(parts)))

    # What structures a paper

    @abstractmethod
    def _section(self, word: str) -> None:
        """A command for a heading."""

    @abstractmethod
    def _run_in(self) -> None:
        """A heading in the line of its text."""

    @abstractmethod
    def _cite(self, word: str) -> None:
        """A citation."""

    @abstractmethod
    def _display(self, kind: str, source: str, *, rowwise: bool = False) -> None:
        """Formulas on lines of their own."""
