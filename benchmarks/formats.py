"""How well LaTeX, DOCX, EPUB and HTML papers are read: words, headings and time, on a folder of real papers.

    python benchmarks/formats.py FOLDER [--notes]

A word counts as kept when it is in the text, and as listed when it is among what was left out. The truth comes from the
markup of the papers themselves, read in a cruder way: tags and commands are cut out, headings are what is marked so.
"""

import argparse
import re
import sys
import time
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path

from reading import is_same, key, plain

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.folder import survey
from mlx_ragtune.papers.formats import suffix_of
from mlx_ragtune.papers.reading import open_paper

LEAST_LETTERS = 4
"""Shorter words are often parts of markup."""
_NOT_TEXT = re.compile(
    r"\\(?:label|(?:eq|auto|page|c|C)?ref|\w*cite\w*|includegraphics|[vh]space|begin|end|bibliography\w*|input|include|hypertarget|hyperlink"
    r"|setlength|color|newcommand|renewcommand|def)\*?\s*(?:\[[^\]]*\])*\s*\{[^{}]*\}"
)
_HIDDEN = re.compile(r"<(script|style|svg|math|head)\b.*?</\1>", re.DOTALL | re.IGNORECASE)


@dataclass
class Tally:
    """Sums over the papers of a format."""

    papers: int = 0
    unreadable: int = 0
    words: int = 0
    kept: int = 0
    listed: int = 0
    headings: list[int] = field(default_factory=lambda: [0, 0])
    seconds: float = 0.0


def words(text: str) -> Counter[str]:
    """The words of at least ``LEAST_LETTERS`` plain letters."""
    return Counter(re.findall(rf"[A-Za-z]{{{LEAST_LETTERS},}}", text))


def _without_tags(markup: str) -> str:
    return unescape(re.sub(r"<[^>]*>", " ", _HIDDEN.sub(" ", markup)))


def _headings_of(markup: str) -> list[str]:
    titles = re.findall(r"<h[1-6]\b[^>]*>(.*?)</h[1-6]>", markup, re.DOTALL | re.IGNORECASE)
    return [" ".join(_without_tags(title).split()) for title in titles]


def truth_of(path: Path, parts: Iterable[Path]) -> tuple[str, list[str]]:
    """The words of a paper's markup as one text, and its headings."""
    kind = suffix_of(path.name)
    if kind in (".tex", ".ltx"):
        sources = [
            part.read_text(encoding="utf-8", errors="replace") for part in parts if part.suffix in (".tex", ".ltx")
        ]
        source = re.sub(r"(?<!\\)%.*", "", "\n".join(sources))
        body = source.partition(r"\begin{document}")[2] or source
        titles = re.findall(r"\\(?:sub)*section\*?\s*(?:\[[^\]]*\])?\s*\{((?:[^{}]|\{[^{}]*\})*)\}", body)
        return re.sub(r"\\[A-Za-z]+", " ", _NOT_TEXT.sub(" ", body)), [plain(title) for title in titles]
    if kind in (".docx", ".epub"):
        with zipfile.ZipFile(path) as archive:
            pages = [
                archive.read(name).decode("utf-8", "replace")
                for name in archive.namelist()
                if name.endswith((".xhtml", ".html", ".htm", "word/document.xml")) and "nav" not in name
            ]
        return " ".join(map(_without_tags, pages)), [title for page in pages for title in _headings_of(page)]
    markup = path.read_text(encoding="utf-8", errors="replace")
    return _without_tags(markup), _headings_of(markup)


def measure(folder: Path, *, notes: bool) -> dict[str, Tally]:
    """The sums by format."""
    tallies: dict[str, Tally] = defaultdict(Tally)
    for paper in survey(folder).papers:
        kind = suffix_of(paper.name)
        if paper.problem or kind in (".pdf", ".md", ".txt", ".gz", ".tgz", ".tar", ".tar.gz"):
            continue
        tally = tallies[kind]
        tally.papers += 1
        started = time.perf_counter()
        try:
            reading = open_paper(paper.path, id="x")
        except InputError as error:
            tally.unreadable += 1
            if notes:
                print(f"{paper.name}: {error.what}", file=sys.stderr)
            continue
        tally.seconds += time.perf_counter() - started
        raw, titles = truth_of(paper.path, paper.parts or (paper.path,))
        wanted, text = words(raw), words(reading.document.text)
        left = wanted - text
        lost = left - words(" ".join(drop.text for drop in reading.dropped))
        tally.words += wanted.total()
        tally.kept += (wanted - left).total()
        tally.listed += (left - lost).total()
        found = [section.title for section in reading.document.sections]
        titles = [
            title for title in titles if len(key(title)) >= 2 and key(title) not in ("references", "bibliography")
        ]
        hits = sum(any(is_same(title, other) for other in found) for title in titles)
        tally.headings[0] += hits
        tally.headings[1] += len(titles)
        if notes and (lost or hits < len(titles)):
            missed = [title for title in titles if not any(is_same(title, other) for other in found)]
            print(f"{paper.name}: lost {lost.most_common(8)}, headings {missed[:8]}", file=sys.stderr)
    return tallies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="folder of papers in these formats")
    parser.add_argument("--notes", action="store_true", help="list lost words and missed headings, by paper")
    options = parser.parse_args()
    if options.folder is None:
        print("give a folder of LaTeX, DOCX, EPUB and HTML papers: nothing to measure")
        return
    print("| | papers | unreadable | words | in the text | listed | headings | seconds a paper |")
    print("|---" * 8 + "|")
    for kind, tally in sorted(measure(options.folder, notes=options.notes).items()):
        count = max(1, tally.words)
        print(
            f"| {kind} | {tally.papers} | {tally.unreadable} | {tally.words:,} | {100 * tally.kept / count:.1f}% | "
            f"{100 * tally.listed / count:.1f}% | {tally.headings[0]} of {tally.headings[1]} | "
            f"{tally.seconds / max(1, tally.papers - tally.unreadable):.3f} |"
        )


if __name__ == "__main__":
    main()
