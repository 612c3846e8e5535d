"""HTML: the readable text, headings as sections; scripts, styles and navigation are left out."""

import re
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

from mlx_ragtune.papers.dropped import Dropped, Reading
from mlx_ragtune.papers.plain_text import load_text
from mlx_ragtune.papers.sections import cover, is_references
from mlx_ragtune.records import Document

_UNREADABLE = {"script", "style", "noscript", "template", "svg", "math", "textarea", "select"}
_NAVIGATION = {"nav", "footer", "aside"}
_BLOCKS = {
    "address", "article", "aside", "blockquote", "body", "br", "dd", "div", "dl", "dt", "figcaption", "figure",
    "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol", "p", "pre",
    "section", "table", "td", "th", "tr", "ul",
}  # fmt: skip


class _Reader(HTMLParser):
    """Lines of text, which of them are headings, and what stood in navigation."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.lines: list[str] = [""]
        self.headings: list[int] = []
        self.navigation: list[str] = []
        self.title = ""
        self._inside: list[str] = []  # elements whose text is left out, innermost last
        self._in_title = self._in_heading = False

    def _break(self) -> None:
        if self.lines[-1].strip():
            self.lines.append("")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        if tag in _BLOCKS:
            self._break()
        if tag in _UNREADABLE | _NAVIGATION:
            self._inside.append(tag)
        elif tag == "title" and not self._inside and not self.title:
            self._in_title = True
        elif re.fullmatch("h[1-6]", tag) and not self._inside:
            self._in_heading = True

    def handle_endtag(self, tag: str) -> None:
        self._in_title = self._in_title and tag not in ("title", "head")
        if tag in self._inside:
            del self._inside[len(self._inside) - 1 - self._inside[::-1].index(tag) :]
        if re.fullmatch("h[1-6]", tag):
            self._in_heading = False
        if tag in _BLOCKS:
            self._break()

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data
        elif not self._inside:
            if self._in_heading and data.strip() and self.headings[-1:] != [len(self.lines) - 1]:
                self.headings.append(len(self.lines) - 1)
            self.lines[-1] += data
        elif not _UNREADABLE & set(self._inside) and data.strip():
            self.navigation.append(_plain(data))


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", " ".join(text.split()))


def read_html(path: Path, identifier: str) -> Reading:
    """The page's text, one block a line. Title: ``<title>``, else the first heading, else the file's name.

    Text of navigation, side notes and footers, and the references, are left out and listed.
    """
    reader = _Reader()
    reader.feed(load_text(path))
    reader.close()
    text, marks, out = "", [], [("navigation", line) for line in reader.navigation]
    for at, line in enumerate(map(_plain, reader.lines)):
        if not line:
            continue
        if at in reader.headings:
            if is_references(line) and text:
                rest = [_plain(later) for later in reader.lines[at:] if later.strip()]
                out.append(("references and what follows them", "\n".join(rest)))
                break
            marks.append((line, len(text)))
        text += line + "\n"
    title = _plain(reader.title) or next((name for name, _ in marks), path.stem)
    document = Document(identifier, path.name, title[:300], text, sections=cover(marks, len(text)))
    return Reading(document, tuple(Dropped(identifier, 1, reason, words) for reason, words in out))
