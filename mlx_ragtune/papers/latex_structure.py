r"""What structures a LaTeX paper: headings, captions, footnotes, citations, included files, items of lists."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from mlx_ragtune.papers import latex_commands as commands
from mlx_ragtune.papers.blocks import Block
from mlx_ragtune.papers.latex_labels import Label
from mlx_ragtune.papers.latex_reader import LatexReader
from mlx_ragtune.papers.latex_scan import Scanner

_SUPERSCRIPT = re.compile(r"[-−–+]?\d+(?:[.,]\d+)*|[A-Za-z∗*]")
_PUNCTUATION = ".,;:!?')]}/-"


class LatexStructure(LatexReader):
    """The commands that a paper is structured by; ``_do_NAME`` is called for ``\\NAME``."""

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
        before, after = (
            (self.text_of(option) for option in (["", *options] if len(options) < 2 else options)[-2:])
            if options
            else ("", "")
        )
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
        current: list[str | int] = self._lists[-1] if self._lists else ["-", 0]
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


def _unit(source: str) -> str:
    """The unit of siunitx: ``\\kilo\\gram`` as ``kg``."""
    return (
        re.sub(r"\\([A-Za-z]+)\s*", lambda match: commands.UNITS.get(match[1], match[1]), source)
        .replace("{", "")
        .replace("}", "")
    )
