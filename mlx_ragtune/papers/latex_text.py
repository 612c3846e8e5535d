r"""LaTeX source as blocks of text: what a reader of the printed paper sees, in the order of the source.

Macros of the document are expanded. A command without a known meaning prints its arguments.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from mlx_ragtune.papers import latex_commands as commands
from mlx_ragtune.papers.blocks import Block, one_line, table_blocks
from mlx_ragtune.papers.latex_definitions import Definitions
from mlx_ragtune.papers.latex_files import LatexFiles, included_name, without_comments
from mlx_ragtune.papers.latex_labels import Label, Numbering, References
from mlx_ragtune.papers.latex_math import SYMBOLS, cells_of, readable_math
from mlx_ragtune.papers.latex_scan import Scanner
from mlx_ragtune.papers.latex_symbols import ACCENTS, LETTERS, QUOTES, with_accent

_MAX_DEPTH = 40
_SUPERSCRIPT = re.compile(r"[-−–+]?\d+(?:[.,]\d+)*|[A-Za-z∗*]")
_ROW_SPACE = re.compile(r"^\s*\*?\s*\[[^\]]*\]")
_COLUMNS = re.compile(r"\\multicolumn\s*\{\s*(\d{1,2})\s*\}")
_NOT_NUMBERED = re.compile(r"\\(?:nonumber|notag)(?![A-Za-z])|\\tag\b")
_LABEL = re.compile(r"\\label\s*\{([^{}]*)\}")
_PUNCTUATION = ".,;:!?')]}/-"


class LatexText:
    """Reads a paper's main file and what it includes; ``blocks`` holds the text, still with marks for references."""

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
        if symbol in ACCENTS and symbol != ".":
            self._accent(symbol)
        elif symbol == "." and self.scan.peek().isalpha():
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
        elif symbol in "-/!)]":
            pass
        elif symbol == "@":
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
        elif word in commands.AUTHORS:
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

    # Structure

    def _section(self, word: str) -> None:
        starred = self.scan.star()
        self.scan.option()
        title = self.text_of(self.scan.argument())
        if not self.in_body:
            return
        self._end_paragraph()
        self.numbering.has_chapters |= word == "chapter"
        if not starred:
            self._label = self.numbering.next_section(commands.SECTIONS[word])
        if title:
            self.blocks.append(Block(title, is_heading=True))

    def _run_in(self) -> None:
        self.scan.star()
        self.scan.option()
        title = self.text_of(self.scan.argument())
        self._end_paragraph()
        self._write(title + (" " if title[-1:] in ".:?!" else ". "))

    def _cite(self, word: str) -> None:
        self.scan.star()
        options = [option for option in (self.scan.option(), self.scan.option()) if option is not None]
        before, after = (self.text_of(option) for option in (["", *options] if len(options) < 2 else options)[-2:]) if options else ("", "")
        self._write(self.references.cite(word, self.scan.argument(), before, after))

    def _do_label(self) -> None:
        self.references.labels[self.scan.argument().strip()] = self._label

    def _do_caption(self) -> None:
        self._caption(self.scan)

    def _caption(self, scan: Scanner) -> None:
        scan.star()
        scan.option()
        source = scan.argument()
        kind = self._floats[-1] if self._floats else "figure"
        self._label = self.numbering.next(kind)
        self._end_paragraph()
        text = self.text_of(source)
        self.blocks.append(Block(f"{commands.FLOATS.get(kind, kind.title())} {self._label.number}: {text}"))
        self._end_paragraph()

    def _do_captionof(self) -> None:
        self._floats.append(self.scan.argument().strip())
        self._do_caption()
        self._floats.pop()

    def _do_footnote(self) -> None:
        self.scan.option()
        note = self.text_of(self.scan.argument())
        if note:
            self._notes.append(note)

    _do_footnotetext = _do_thanks = _do_footnote

    def _do_footnotemark(self) -> None:
        self.scan.option()

    def _do_input(self) -> None:
        self.scan.skip_spaces()
        if self.scan.peek() == "{":
            self._include(self.scan.argument())
        else:  # \input name, as plain TeX has it
            self._include(self.scan.until_text(re.compile(r"(?=[\s\\{}])")))

    _do_include = _do_subfile = _do_subfileinclude = _do_input

    def _do_import(self) -> None:
        self.scan.star()
        folder = self.scan.argument()
        self._include(self.scan.argument(), folder)

    def _do_subimport(self) -> None:
        self.scan.star()
        folder = self.scan.argument()
        here = self.scan.file.rpartition("/")[0]
        self._include(self.scan.argument(), f"{here}/{folder}" if here else folder)

    def _do_maketitle(self) -> None:
        self._end_paragraph()
        if self.title_at is None and self.in_body and self._depth == 0:
            self.title_at = len(self.blocks)

    def _do_date(self) -> None:
        self.date = self.scan.argument()

    def _do_appendix(self) -> None:
        self._end_paragraph()
        self.numbering.start_appendix()

    def _do_appendices(self) -> None:
        self._do_appendix()

    def _do_abstract(self) -> None:
        if self.scan.peek() == "{":
            source = self.scan.argument()
            with self._body():
                self.blocks.append(Block("Abstract", is_heading=True))
                self.blocks.append(Block(self.text_of(source)))

    def _do_keywords(self) -> None:
        with self._body():
            self.blocks.append(Block(f"Keywords: {self.text_of(self.scan.argument())}"))

    @contextmanager
    def _body(self) -> Iterator[None]:
        """Text of the body, also where a class has it before ``\\begin{document}``."""
        self._end_paragraph()
        before, self.in_body = self.in_body, True
        yield
        self.in_body = before

    def _do_includegraphics(self) -> None:
        self.scan.star()
        self.scan.option()
        self.scan.option()
        name = self.scan.argument()
        if self.in_body:
            self._drop("picture", name)

    _do_includesvg = _do_includepdf = _do_epsfbox = _do_includegraphics

    def _do_bibliography(self) -> None:
        self.scan.argument()

    def _do_printbibliography(self) -> None:
        self.scan.option()

    def _do_item(self) -> None:
        label = self.scan.option()
        self._end_paragraph()
        current = self._lists[-1] if self._lists else ["-", 0]
        if label is not None and label.strip():
            self._write(f"- {self.text_of(label)} ")
        elif current[0] == "1":
            current[1] = int(current[1]) + 1
            self._write(f"{current[1]}. ")
            self._label = Label("item", str(current[1]))
        else:
            self._write("- ")

    def _do_textsuperscript(self) -> None:
        text = self.text_of(self.scan.argument())
        before = "".join(self._line[-2:])[-1:]
        self._write(f"^{text}" if _SUPERSCRIPT.fullmatch(text) and (before.isalnum() or before in (")", "]")) else text)

    def _do_ensuremath(self) -> None:
        self._write(self.math(self.scan.argument()))

    def _do_verb(self) -> None:
        self.scan.star()
        mark = self.scan.peek()
        if mark:
            self.scan.until_text(re.compile(re.escape(mark)))
            self._write(self.scan.until_text(re.compile(re.escape(mark))))

    def _do_xspace(self) -> None:
        following = self.scan.peek()
        if following and not following.isspace() and following not in _PUNCTUATION + "\\~":
            self._write(" ")

    def _do_num(self) -> None:
        self.scan.option()
        self._write(self.scan.argument())

    def _do_SI(self) -> None:  # noqa: N802 (the command's name)
        self.scan.option()
        number, unit = self.scan.argument(), self.scan.argument()
        self._write(f"{number} {_unit(unit)}".strip())

    _do_qty = _do_SI

    def _do_si(self) -> None:
        self.scan.option()
        self._write(_unit(self.scan.argument()))

    _do_unit = _do_si

    def _do_makeatletter(self) -> None:
        self.scan.at_letter = True

    def _do_makeatother(self) -> None:
        self.scan.at_letter = False

    # Environments

    def _do_begin(self) -> None:  # noqa: PLR0912 (one branch for each kind)
        name = self.scan.argument().strip()
        plain = name.rstrip("*")
        if name == "document":
            self.in_body = True
            self._line = []
        elif plain in commands.VERBATIMS:
            self._verbatim(name)
        elif plain in commands.DRAWINGS or plain == "comment" or plain.startswith("filecontents"):
            end = re.compile(r"\\end\s*\{" + re.escape(name) + r"\}")
            content = self.scan.until_text(end)
            self._drop("comment" if plain == "comment" else "drawing", content)
        elif plain == "thebibliography":
            self._bibliography(name)
        elif plain in commands.DISPLAYS or plain == "math":
            self._formula_environment(plain)
        elif name in commands.TABULARS or plain in commands.TABULARS:
            self._tabular(name)
        elif name in self.definitions.environments:
            self._own_environment(name)
        elif plain in self.definitions.theorems:
            self._theorem(plain)
        else:
            self._environment(plain)

    def _environment(self, plain: str) -> None:
        self._end_paragraph()
        arguments = commands.ENVIRONMENTS.get(plain)
        if arguments is not None:
            self._arguments(arguments)
        else:
            self.scan.option()
        kind = plain.removeprefix("sideways").removeprefix("wrap").removeprefix("SC").removesuffix("2e")
        if kind in commands.FLOATS:
            self._floats.append(kind)
        elif plain == "algorithmic":
            self._floats.append("algorithm")
        elif plain in commands.LISTS:
            self._lists.append([commands.LISTS[plain], 0])
        elif plain in commands.NAMED_ENVIRONMENTS:
            self._opened.add(plain)
            with self._body():
                self.blocks.append(Block(commands.NAMED_ENVIRONMENTS[plain], is_heading=True))
            self.in_body = True
        elif plain in ("keywords", "keyword", "IEEEkeywords"):
            self._write("Keywords: ")
        elif plain in ("appendices", "subappendices"):
            self.numbering.start_appendix()
        elif plain == "proof":
            self._write("Proof. ")

    def _do_end(self) -> None:
        name = self.scan.argument().strip()
        plain = name.rstrip("*")
        own = self.definitions.environments.get(name)
        if own:
            self.scan.push(own.end)
            return
        self._end_paragraph()
        kind = plain.removeprefix("sideways").removeprefix("wrap").removeprefix("SC").removesuffix("2e")
        if (kind in commands.FLOATS or plain == "algorithmic") and self._floats:
            self._floats.pop()
        elif plain in commands.LISTS and self._lists:
            self._lists.pop()

    def _own_environment(self, name: str) -> None:
        """Push the beginning of an environment of the document; its end is pushed by ``\\end``."""
        self.scan.expand(self.definitions.environments[name].begin)

    def _theorem(self, name: str) -> None:
        self._end_paragraph()
        title, counter = self.definitions.theorems[name]
        option = self.scan.option()
        self._label = Label(title, self.numbering.next(counter).number)
        extra = f" ({self.text_of(option)})" if option else ""
        self._write(f"{title} {self._label.number}{extra}. ")

    def _verbatim(self, name: str) -> None:
        self._end_paragraph()
        self.scan.option()
        if name == "minted":
            self.scan.argument()
        content = self.scan.until_text(re.compile(r"\\end\s*\{" + re.escape(name) + r"\}"))
        lines = [line.rstrip() for line in content.split("\n") if line.strip()]
        self.blocks += [Block(line) for line in lines if self.in_body]

    def _bibliography(self, name: str) -> None:
        self._end_paragraph()
        self.scan.argument()
        content = self.scan.until_text(re.compile(r"\\end\s*\{" + re.escape(name) + r"\}"))
        self.references.read_works(content)
        self.add_references(content)

    def add_references(self, content: str) -> None:
        """List the entries of a list of references as left out."""
        for entry in re.split(r"\\bibitem\b", content)[1:]:
            text = self.text_of(re.sub(r"^\s*(?:\[(?:[^\[\]{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\])?\s*\{[^{}]*\}", "", entry))
            self._drop("references", text)

    def _until_end(self, name: str) -> str:
        """The source up to the end of the environment, with the document's macros expanded: they may hold the end."""
        depth, parts = 1, []
        while (token := self.scan.next()) is not None:
            word = token["word"] or ""
            macro = self.definitions.macro(word)
            if macro and not self._is_structural(word):
                self.scan.expand(macro)
                continue
            if word in ("begin", "end") and self.scan.peek() == "{":
                inner = self.scan.argument()
                depth += (inner.strip() == name) * (1 if word == "begin" else -1)
                if depth == 0:
                    break
                parts.append(f"\\{word}{{{inner}}}")
                continue
            parts.append(token[0])
        return "".join(parts)

    def _formula_environment(self, plain: str) -> None:
        starred_name = plain
        name = self._environment_name(plain)
        if plain == "subequations":
            return
        if plain in ("alignat", "xalignat"):
            self.scan.argument()
        elif plain == "IEEEeqnarray":
            self.scan.option()
            self.scan.argument()
        source = self._until_end(name)
        if plain == "math":
            self._write(self.math(source))
        else:
            self._display(starred_name if not name.endswith("*") else "displaymath", source, rowwise=plain in commands.ROWWISE)

    def _environment_name(self, plain: str) -> str:
        """The name as it was written: with its star, if it had one."""
        frame = self.scan.frames[-1] if self.scan.frames else None
        return f"{plain}*" if frame and frame.text[: frame.at].rstrip().endswith("*}") else plain

    def _display(self, kind: str, source: str, *, rowwise: bool = False) -> None:
        """Formulas on lines of their own, with the numbers that are printed beside them."""
        if not self.in_body:
            return
        self._end_line()
        numbered = kind != "displaymath"
        rows = ["&".join(cells) for cells in cells_of(source)] if rowwise else [source]
        for row in rows:
            row = _ROW_SPACE.sub("", row)
            has_number = numbered and row.strip() and not _NOT_NUMBERED.search(row)
            if has_number:
                self._label = self.numbering.next("equation")
            text = self.math(row.replace("&", " "))if rowwise else self.math(row)
            if text:
                self.blocks.append(Block(f"{text} ({self._label.number})" if has_number else text))

    def _tabular(self, name: str) -> None:
        self._end_paragraph()
        specification = commands.TABULARS.get(name, commands.TABULARS.get(name.rstrip("*"), "om"))
        self._arguments(specification)
        source = self._until_end(name)
        in_float = name.startswith("longtable") or name in ("xltabular", "longtabu")
        if in_float:
            self._floats.append("table")
        table: list[list[str]] = []
        for row in cells_of(source):
            if any(r"\caption" in cell for cell in row):
                before, _, caption = "&".join(row).partition(r"\caption")
                after = Scanner(self.scan.budget, frames=[])
                after.push(caption)
                self._caption(after)
                row = [before]
            cells: list[str] = []
            for cell in row:
                cells.append(self.text_of(_ROW_SPACE.sub("", cell)))
                span = _COLUMNS.search(cell)
                cells += [""] * (int(span[1]) - 1 if span else 0)
            if any(cells) and not (table and cells == table[0]):  # a long table repeats its head
                table.append(cells)
        if in_float:
            self._floats.pop()
        if self.in_body:
            self.blocks += table_blocks(table)


_UNITS = {
    "percent": "%", "degree": "°", "celsius": "°C", "degreeCelsius": "°C", "per": "/", "micro": "µ", "kilo": "k",
    "mega": "M", "giga": "G", "milli": "m", "centi": "c", "nano": "n", "second": "s", "meter": "m", "metre": "m",
    "gram": "g", "hertz": "Hz", "hour": "h", "minute": "min", "watt": "W", "volt": "V", "joule": "J", "byte": "B",
    "bit": "bit", "kilogram": "kg", "ohm": "Ω", "ampere": "A", "kelvin": "K", "mole": "mol", "newton": "N",
    "pascal": "Pa", "liter": "L", "litre": "L", "square": "", "squared": "^2", "cubed": "^3", "tera": "T", "day": "d",
}  # fmt: skip


def _unit(source: str) -> str:
    """The unit of siunitx: ``\\kilo\\metre`` as ``km``."""
    return re.sub(r"\\([A-Za-z]+)\s*", lambda match: _UNITS.get(match[1], match[1]), source).replace("{", "").replace("}", "")
