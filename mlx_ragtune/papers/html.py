"""HTML: the readable text, with headings as sections and without scripts, styles and navigation."""

import re
import unicodedata
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

from mlx_ragtune.papers.dropped import Dropped, Reading
from mlx_ragtune.papers.plain_text import LONGEST_TITLE, check_length, load_text, removed_characters
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
    """Collects lines of text, the indices of headings among them, and the text of navigation."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.lines: list[str] = [""]
        self.headings: list[int] = []
        self.navigation: list[str] = []
        self.title = ""
        self._inside: list[str] = []  # open elements whose text is left out, innermost last
        self._open: Counter[str] = Counter()  # the same, counted by tag: no search however deep they are
        self._in_title = self._in_heading = False

    def _break(self) -> None:
        if self.lines[-1].strip():
            self.lines.append("")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        if tag in _BLOCKS:
            self._break()
        if tag in _UNREADABLE | _NAVIGATION:
            self._inside.append(tag)
            self._open[tag] += 1
        elif tag == "title" and not self._inside and not self.title:
            self._in_title = True
        elif re.fullmatch("h[1-6]", tag) and not self._inside:
            self._in_heading = True

    def handle_endtag(self, tag: str) -> None:
        self._in_title = self._in_title and tag not in ("title", "head")
        while self._open[tag]:
            innermost = self._inside.pop()
            self._open[innermost] -= 1
            if innermost == tag:
                break
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
        elif not any(self._open[tag] for tag in _UNREADABLE) and data.strip():
            self.navigation.append(_line(data))


def _line(text: str) -> str:
    return unicodedata.normalize("NFC", " ".join(text.split()))


def read_html(path: Path, identifier: str) -> Reading:
    """The page's text, one block per line. Title: ``<title>``, else the first heading, else the file's name.

    Text of navigation, asides and footers, and the references up to the next heading, are left out and listed.
    """
    loaded = load_text(path)
    reader = _Reader()
    reader.feed(loaded.text)
    reader.close()
    text, marks, left_out = "", [], [("navigation", line) for line in reader.navigation]
    headings, in_references = set(reader.headings), False
    for index, line in enumerate(map(_line, reader.lines)):
        if not line:
            continue
        if index in headings:
            in_references = is_references(line) and bool(text)
            if in_references:
                left_out.append(("references", ""))
        if in_references:
            left_out[-1] = ("references", f"{left_out[-1][1]}\n{line}".lstrip())
            continue
        if index in headings:
            marks.append((line, len(text)))
        text += line + "\n"
    check_length(len(text), path)
    title = _line(reader.title) or next((name for name, _ in marks), path.stem)
    document = Document(identifier, path.name, title[:LONGEST_TITLE], text, sections=cover(marks, len(text)))
    dropped = [Dropped(identifier, 1, reason, words) for reason, words in left_out]
    return Reading(document, (*dropped, *removed_characters(identifier, 1, loaded.removed)))
