"""HTML: the readable text, headings as sections; scripts, styles and navigation are left out."""

import re
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

from mlx_ragtune.papers.text import load_text
from mlx_ragtune.records import Document, Section

_SKIPPED = {"script", "style", "noscript", "template", "svg", "nav", "head"}
_BLOCKS = {
    "address", "article", "blockquote", "br", "dd", "div", "dl", "dt", "figcaption", "figure", "footer", "h1", "h2",
    "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "ol", "p", "pre", "section", "table", "td", "th", "tr", "ul",
}  # fmt: skip


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.title = ""
        self.marks: list[tuple[int, int]] = []  # a heading: index of its first part, and past its last
        self._skipping: list[str] = []
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "title":
            self._in_title = True
        elif tag in _SKIPPED:
            self._skipping.append(tag)
        if tag in _BLOCKS:
            self.parts.append("\n")
        if re.fullmatch("h[1-6]", tag):
            self.marks.append((len(self.parts), len(self.parts)))

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        elif self._skipping and tag == self._skipping[-1]:
            self._skipping.pop()
        if re.fullmatch("h[1-6]", tag) and self.marks:
            self.marks[-1] = (self.marks[-1][0], len(self.parts))
        if tag in _BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data
        elif not self._skipping:
            self.parts.append(re.sub(r"\s+", " ", data))


def read_html(path: Path, identifier: str) -> Document:
    """The page's text. Title: ``<title>``, else the first heading, else the file's name."""
    reader = _Reader()
    reader.feed(load_text(path))
    reader.close()
    text, starts = "", []
    for part in reader.parts:
        starts.append(len(text))
        if part == "\n":
            text = text.rstrip(" ")
            text += "\n" if text and not text.endswith("\n\n") else ""
        else:
            text += part.lstrip(" ") if not text or text.endswith(("\n", " ")) else part
    starts.append(len(text))
    text = unicodedata.normalize("NFC", text)
    marks = [
        (" ".join(text[starts[first] : starts[last]].split()), starts[first]) for first, last in reader.marks
    ]
    marks = [("", 0), *((title, start) for title, start in marks if title)]
    ends = [start for _, start in marks[1:]] + [len(text)]
    sections = tuple(
        Section(name, start, end) for (name, start), end in zip(marks, ends, strict=True) if end > start
    )
    title = " ".join(reader.title.split()) or next((name for name, _ in marks if name), path.stem)
    return Document(identifier, path.name, title, text, sections=sections)
