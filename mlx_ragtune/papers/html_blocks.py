"""HTML as blocks of text: headings, paragraphs, tables as Markdown rows, formulas as text.

Knows the markup of LaTeXML (arxiv.org/html, ar5iv): title, authors, footnotes, equations, bibliography. What is left
out, such as navigation, is a block with its reason.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser

from mlx_ragtune.papers.blocks import Block, one_line, table_blocks
from mlx_ragtune.papers.latex_math import readable_math
from mlx_ragtune.papers.mathml import MathNode, math_text, nodes

_UNREADABLE = {"script", "style", "noscript", "template", "svg", "textarea", "select"}
_NAVIGATION = {"nav", "footer", "aside", "button", "dialog"}
_REASONS = {
    "ltx_bibliography": "references",
    "ltx_biblist": "references",
    "ltx_TOC": "table of contents",
    "ltx_page_navbar": "navigation",
    "ltx_page_header": "navigation",
    "ltx_page_footer": "navigation",
    "ltx_pagination": "navigation",
    "ltx_ERROR": "error of LaTeXML",
    "ltx_note_mark": "",
    "ltx_tag_note": "",
    "ltx_tag_listingline": "",
    "ltx_listing_data": "",
    "ltx_rdf": "",
    "ar5iv-footer": "navigation",
    "desktop_header": "navigation",
    "mob_header": "navigation",
    "html-header-message": "navigation",
    "package-alerts": "navigation",
    "package-hover": "navigation",
    "infobar": "navigation",
    "keyboard-glossary": "navigation",
    "watermark-tr": "arXiv stamp",
    "license-tr": "navigation",
    "katex-html": "",
    "MathJax_Preview": "",
    "mjx-chtml": "",
    "doc-noteref": "",
    "doc-backlink": "",
    "footnote-back": "",
    "doc-toc": "table of contents",
}
"""Class, id or role of an element that is left out, and the reason; "" for what is written twice."""
_BLOCKS = {
    "address", "article", "aside", "blockquote", "body", "br", "dd", "div", "dl", "dt", "figcaption", "figure",
    "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol", "p", "pre",
    "section", "table", "td", "th", "tr", "ul", "caption",
}  # fmt: skip
_VOID = {
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr",
    "mspace", "mprescripts", "none", "malignmark", "maligngroup",
}  # fmt: skip
_NOT_HEADINGS = {"ltx_title_theorem", "ltx_title_proof", "ltx_title_paragraph", "ltx_title_subparagraph", "ltx_runin"}
_MOST_WATCHED = 100
_LAYOUT_WORDS = 120
"""A table with a cell of more words arranges a page rather than data."""
_ARXIV = re.compile(r"(?:arxiv[:./]|/(?:abs|html|pdf)/)\s*(\d{4}\.\d{4,5}|[a-z-]+(?:\.[A-Z]{2})?/\d{7})", re.IGNORECASE)


@dataclass
class _Table:
    """A table that is being read; ``first`` is the index of the block before which it started."""

    first: int
    is_equation: bool = False
    rows: list[list[str]] = field(default_factory=list)
    is_layout: bool = False


def _is_equation(mark: str) -> bool:
    return mark.startswith(("ltx_equation", "ltx_eqn"))


@dataclass
class _Skip:
    """An element that is left out: its name, how many of that name are open in it, and the reason."""

    tag: str
    reason: str
    depth: int = 1


@dataclass
class HtmlPage:
    """What a page holds. ``title`` is that of its head, ``heading`` its first heading or its LaTeXML title."""

    blocks: list[Block] = field(default_factory=list)
    title: str = ""
    heading: str = ""
    authors: list[str] = field(default_factory=list)
    arxiv_id: str | None = None
    date: str = ""
    is_latexml: bool = False


@dataclass
class _Watch:
    """An element whose end matters: its name, how many of that name are open in it, and what to do then."""

    tag: str
    at_end: Callable[[], None]
    depth: int = 1


class HtmlBlocks(HTMLParser):
    """Collects the blocks of a page. Elements that are never closed lose no text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.page = HtmlPage()
        self._line: list[str] = []
        self._skips: list[_Skip] = []
        self._skipped: Counter[str] = Counter()  # open skips by tag: no search however deep they are
        self._skipped_line: list[str] = []
        self._watched: list[_Watch] = []
        self._tables: list[_Table] = []
        self._math: list[MathNode] = []
        self._alttext: str | None = None
        self._heading = ""  # the tag of the heading that is open
        self._title: str | None = None  # text of <title> while it is open
        self._document_title: list[str] | None = None
        self._person: list[str] | None = None
        self._item = ""  # the mark of a list item, for the line that follows

    # Elements

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open an element."""
        tag = tag.removeprefix("m:").removeprefix("mml:")
        if self._skips:
            if tag in _BLOCKS:
                self._end_skipped_line()
            if tag == self._skips[-1].tag:
                self._skips[-1].depth += 1
                self._skipped[tag] += 1
            return
        if self._math and tag in _BLOCKS:  # a formula that was never closed
            self._end_math()
        if self._math or tag == "math":
            self._open_math(tag, attrs)
            return
        for watch in self._watched:
            watch.depth += watch.tag == tag
        attributes = {name: value or "" for name, value in attrs}
        marks = [*attributes.get("class", "").split(), attributes.get("id", ""), attributes.get("role", "")]
        self.page.is_latexml |= "ltx_document" in marks or "ltx_page_main" in marks
        if tag in _BLOCKS:
            self._break()
        reason = _reason(tag, marks, attributes)
        if reason is not None:
            self._skips.append(_Skip(tag, reason))
            self._skipped[tag] += 1
        elif tag == "meta":
            self._meta(attributes)
        elif tag == "title":
            self._title = "" if not self.page.title and self._title is None else self._title
        elif re.fullmatch("h[1-6]", tag):
            self._open_heading(tag, marks)
        elif self._tables and tag in ("tr", "td", "th"):
            self._open_cell(tag)
        else:
            self._open_other(tag, marks)

    def _open_other(self, tag: str, marks: list[str]) -> None:
        """A table, also one of LaTeXML's, which may be made of spans; exponents, notes, marks of items, authors."""
        if tag == "table":
            if self._tables:
                self._tables[-1].is_layout = True
            self._tables.append(_Table(len(self.page.blocks), is_equation=any(map(_is_equation, marks))))
        elif tag == "sup":
            start = len(self._line)
            self._watch(tag, lambda: self._raise(start))
        elif tag == "br" and self._person is not None:
            self._person.append("\n")
        elif "ltx_tabular" in marks and tag in ("span", "div"):
            self._break()
            self._tables.append(_Table(len(self.page.blocks)))
            self._watch(tag, self._close_table)
        elif self._tables and ("ltx_tr" in marks or "ltx_td" in marks):
            self._open_cell("tr" if "ltx_tr" in marks else "td")
        elif "ltx_note_outer" in marks:
            self._line.append(" (")
            self._watch(tag, lambda: self._line.append(")"))
        elif "ltx_tag_item" in marks:
            self._break()
            self._watch(tag, self._mark_item)
        elif "ltx_personname" in marks:
            self._person = []
            self._watch(tag, self._end_person)

    def _watch(self, tag: str, at_end: Callable[[], None]) -> None:
        if len(self._watched) < _MOST_WATCHED:
            self._watched.append(_Watch(tag, at_end))

    def handle_endtag(self, tag: str) -> None:
        """Close an element, and what is still open inside it."""
        tag = tag.removeprefix("m:").removeprefix("mml:")
        if tag in ("title", "head") and self._title is not None:
            self.page.title, self._title = one_line(self._title), None
        if self._skips:
            self._close_skip(tag)
            return
        if self._math:
            self._close_math(tag)
            return
        if tag in _BLOCKS:
            self._break()
        for watch in self._watched:
            watch.depth -= watch.tag == tag
        while self._watched and self._watched[-1].depth <= 0:
            self._watched.pop().at_end()
        if re.fullmatch("h[1-6]", tag):
            self._end_title()
            self._heading = ""
        if tag == "table" and self._tables:
            self._close_table()

    def close(self) -> None:
        """End the page: what was never closed ends here."""
        super().close()
        if self._title is not None:
            self.page.title = one_line(self._title)
        if self._math:
            self._end_math()
        self._end_skipped_line()
        while self._watched:
            self._watched.pop().at_end()
        self._break()
        self._end_title()
        while self._tables:
            self._close_table()

    # Text

    def handle_data(self, data: str) -> None:
        """Text of the innermost element."""
        if self._title is not None:
            self._title += data
        elif self._skips:
            self._skipped_line.append(data)
        elif self._math:
            self._math[-1].text += data
        else:
            self._write(data)

    def _write(self, text: str) -> None:
        self._line.append(text)
        if self._person is not None:
            self._person.append(text)

    def _break(self) -> None:
        """End the line; in a cell of a table it is part of the cell."""
        text = one_line("".join(self._line))
        self._line = []
        if not text:
            return
        if self._document_title is not None:
            self._document_title.append(text)
            return
        if self._item:
            text, self._item = f"{self._item} {text}", ""
        if self._heading and not self.page.heading:
            self.page.heading = text
        if self._tables:
            table = self._tables[-1]
            if table.rows and table.rows[-1]:
                table.rows[-1][-1] = f"{table.rows[-1][-1]} {text}".strip()
                table.is_layout |= len(table.rows[-1][-1].split()) > _LAYOUT_WORDS or bool(self._heading)
        self.page.blocks.append(Block(text, is_heading=bool(self._heading)))

    def _raise(self, start: int) -> None:
        """Mark an exponent: a number or a single letter that is raised behind a letter, a digit or a bracket."""
        before = next((part for part in reversed(self._line[max(0, start - 5) : start]) if part), "")
        raised = "".join(self._line[start:])
        behind = before[-1:].isalnum() or before[-1:] in (")", "]")
        if behind and re.fullmatch(r"[-−–+]?\s?(?:\d+(?:[.,]\d+)*|[A-Za-z])", raised.strip()):
            self._line[start:] = ["^", raised.strip()]

    def _mark_item(self) -> None:
        mark = one_line("".join(self._line))
        self._item, self._line = mark if (mark and mark[0].isalnum()) or mark[:1] == "(" else "-", []

    def _end_person(self) -> None:
        lines = map(one_line, "".join(self._person or []).split("\n"))
        self.page.authors += ["\n".join(filter(None, lines))]
        self._person = None

    def _open_heading(self, tag: str, marks: list[str]) -> None:
        if "ltx_title_document" in marks:
            self._document_title = []
        elif not _NOT_HEADINGS.intersection(marks):
            self._heading = tag

    def _end_title(self) -> None:
        """The title that LaTeXML marks as such is a line of the text, not a section."""
        if self._document_title is not None:
            title, self._document_title = " ".join(self._document_title), None
            self.page.heading = title
            self.page.blocks.append(Block(title))

    def _meta(self, attributes: dict[str, str]) -> None:
        name, content = attributes.get("name", "").lower(), attributes.get("content", "")
        if name == "citation_title" and not self.page.title:
            self.page.title = one_line(content)
        elif name == "citation_author":
            self.page.authors.append(one_line(content))
        elif name == "citation_arxiv_id":
            self.page.arxiv_id = content
        elif name in ("citation_date", "citation_publication_date", "dc.date"):
            self.page.date = self.page.date or content

    # What is left out

    def _close_skip(self, tag: str) -> None:
        if tag in _BLOCKS:
            self._end_skipped_line()
        while self._skipped[tag]:
            skip = self._skips[-1]
            if skip.tag == tag:
                skip.depth -= 1
                self._skipped[tag] -= 1
            else:
                self._skipped[skip.tag] -= skip.depth
                skip.depth = 0
            if skip.depth == 0:
                self._end_skipped_line()
                self._skips.pop()
            if skip.tag == tag:
                return

    def _end_skipped_line(self) -> None:
        text, self._skipped_line = one_line("".join(self._skipped_line)), []
        if text and self._skips and self._skips[-1].reason:
            self.page.blocks.append(Block(text, dropped=self._skips[-1].reason))

    # Tables

    def _open_cell(self, tag: str) -> None:
        self._break()
        table = self._tables[-1]
        if tag == "tr":
            table.rows.append([])
            return
        if not table.rows:
            table.rows.append([])
        table.rows[-1].append("")

    def _close_table(self) -> None:
        """Replace the lines of a table of data by Markdown rows; one that arranges a page stays lines."""
        self._break()
        table = self._tables.pop()
        if table.is_layout:
            if self._tables:
                self._tables[-1].is_layout = True
            return
        kept = [block for block in self.page.blocks[table.first :] if block.dropped]
        del self.page.blocks[table.first :]
        if table.is_equation:
            self.page.blocks += [Block(" ".join(filter(None, cells))) for cells in table.rows]
        else:
            self.page.blocks += [*table_blocks(table.rows), *kept]

    # Formulas

    def _open_math(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if not self._math:
            self._alttext = dict(attrs).get("alttext")
        node = MathNode(tag)
        if tag == "annotation" and "tex" in (dict(attrs).get("encoding") or ""):
            node.tag = "annotation tex"
        if self._math:
            self._math[-1].children.append(node)
        if tag not in _VOID:
            self._math.append(node)

    def _close_math(self, tag: str) -> None:
        if tag == "math":
            self._end_math()
        elif any(node.tag.split()[0] == tag for node in self._math[1:]):
            while len(self._math) > 1 and self._math.pop().tag.split()[0] != tag:
                pass

    def _end_math(self) -> None:
        """Write the formula: from its LaTeX source where there is one."""
        root, self._math = self._math[0], []
        source = self._alttext or next((node.text for node in nodes(root) if node.tag == "annotation tex"), "")
        self._write(readable_math(source) if source.strip() else " ".join(math_text(root).split()))


def _reason(tag: str, marks: list[str], attributes: dict[str, str]) -> str | None:
    """Why the element is left out: "" for what no reader sees, None for one that is read."""
    if tag in _UNREADABLE:
        return ""
    if tag in _NAVIGATION and "ltx_role_footnote" not in marks:
        return "table of contents" if "doc-toc" in marks or attributes.get("epub:type") == "toc" else "navigation"
    return next((_REASONS[mark] for mark in marks if mark in _REASONS), None)


def read_blocks(text: str) -> HtmlPage:
    """The page. Its arXiv id is that of its meta data, else of the first link or stamp that names one in LaTeXML."""
    parser = HtmlBlocks()
    parser.feed(text)
    parser.close()
    page = parser.page
    if page.arxiv_id is None and page.is_latexml and (match := _ARXIV.search(text)):
        page.arxiv_id = match[1]
    return page
