r"""LaTeX source as blocks of text: what a reader of the printed paper sees, in the order of the source."""

import re

from mlx_ragtune.papers import latex_commands as commands
from mlx_ragtune.papers.blocks import Block, table_blocks
from mlx_ragtune.papers.latex_labels import Label
from mlx_ragtune.papers.latex_math import cells_of
from mlx_ragtune.papers.latex_scan import Scanner
from mlx_ragtune.papers.latex_structure import LatexStructure

_ROW_SPACE = re.compile(r"^\s*\*?\s*\[[^\]]*\]")
_COLUMNS = re.compile(r"\\multicolumn\s*\{\s*(\d{1,2})\s*\}")
_NOT_NUMBERED = re.compile(r"\\(?:nonumber|notag)(?![A-Za-z])|\\tag\b")


class LatexText(LatexStructure):
    """Reads a paper's main file and what it includes; ``blocks`` holds the text, still with marks for references."""

    def _do_begin(self) -> None:
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
            self._formula_environment(name)
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
            text = self.text_of(
                re.sub(r"^\s*(?:\[(?:[^\[\]{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\])?\s*\{[^{}]*\}", "", entry)
            )
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

    def _formula_environment(self, name: str) -> None:
        plain = name.rstrip("*")
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
            kind = "displaymath" if name.endswith("*") else plain
            self._display(kind, source, rowwise=plain in commands.ROWWISE)

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
            text = self.math(row.replace("&", " ")) if rowwise else self.math(row)
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
