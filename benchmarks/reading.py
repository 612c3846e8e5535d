"""How well PDFs are read: headings, titles, ligatures, hyphens and time, on a folder of real papers.

    python benchmarks/reading.py FOLDER
    python benchmarks/reading.py FOLDER --against ../other-checkout
    python benchmarks/reading.py FOLDER --tokens MODEL/tokenizer.json

The truth comes from the papers themselves: a PDF's outline, or its LaTeX, Sweave or R Markdown source of the same
name beside it. "Blind" hides the outline and the metadata from the reader. Line-end hyphens are judged by how all
papers of the folder together print the word inside a line.
"""

import argparse
import inspect
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pypdfium2 as pdfium
from rapidfuzz import fuzz

SOURCES = (".Rnw", ".rnw", ".Snw", ".Rtex", ".tex", ".ltx", ".Rmd", ".rmd")
USUAL = {
    "abstract",
    "references",
    "bibliography",
    "keywords",
    "acknowledgments",
    "acknowledgements",
    "introduction",
    "contents",
}
"""Headings that sources often do not write as sections: neither missed nor false."""
LIGATURES = {"\x0b": "ff", "\x0c": "fi", "\x0d": "fl", "\x0e": "ffi", "\x0f": "ffl"} | {
    chr(0x1B + index): letters for index, letters in enumerate(("ff", "fi", "fl", "ffi", "ffl"))
}
_LIGATURE_WORD = re.compile(r"[A-Za-z\x0b-\x0f\x1b-\x1f]*[\x0b-\x0f\x1b-\x1f][A-Za-z\x0b-\x0f\x1b-\x1f]*")
_BROKEN = re.compile("([A-Za-z]{2,})[\u0002\ufffe\u00ad](?:\r?\n)?([A-Za-z]{2,})")


WORDS_TOGETHER = 350


@dataclass(frozen=True)
class Truth:
    """What a paper's own files say about it."""

    headings: tuple[str, ...]
    has_outline: bool
    title: str
    raw: str
    pages: int


@dataclass
class Read:
    """What a reader made of a paper; ``error`` says why it could not read it."""

    title: str = ""
    headings: list[str] = field(default_factory=list)
    text: str = ""
    dropped: str = ""
    seconds: float = 0.0
    error: str = ""


@dataclass
class Tally:
    """Sums over the papers of a folder."""

    papers: int = 0
    pages: int = 0
    unreadable: int = 0
    outline: list[int] = field(default_factory=lambda: [0, 0])
    source: list[int] = field(default_factory=lambda: [0, 0])
    false: int = 0
    judged: int = 0
    titles: list[int] = field(default_factory=lambda: [0, 0])
    ligatures: list[int] = field(default_factory=lambda: [0, 0])
    hyphens: list[int] = field(default_factory=lambda: [0, 0])
    seconds_per_page: float = 0.0
    notes: list[str] = field(default_factory=list)


def key(text: str) -> str:
    """Letters and digits in lower case, without a leading number and without accents."""
    text = re.sub(
        r"^(?:(?:appendix|chapter)\s+)?(?:\d{1,2}|[A-Z]|[IVX]+)(?:\.\d{1,2})*[.:)]?\s+",
        "",
        text.strip(),
        flags=re.IGNORECASE,
    )
    return bare(text)


def is_same(wanted: str, read: str) -> bool:
    """Whether two headings are one, with or without what looks like a number before them."""
    pairs = [(first, second) for first in (key(wanted), bare(wanted)) for second in (key(read), bare(read))]
    return any(
        first == second
        or (min(len(first), len(second)) >= 6 and fuzz.ratio(first, second) >= 88)
        or (len(first) >= 8 and second.startswith(first))
        for first, second in pairs
    )


def bare(text: str) -> str:
    """Letters and digits in lower case, without accents."""
    return "".join(char for char in unicodedata.normalize("NFKD", text).casefold() if char.isalnum())


def plain(latex: str) -> str:
    """A LaTeX title as it is printed, nearly: arguments of commands are kept, commands are not."""
    latex = re.sub(r"\\(?:label|index|footnote|thanks|cite\w*)\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}", "", latex)
    latex = re.sub(r"\\(?:texorpdfstring)\{((?:[^{}]|\{[^{}]*\})*)\}\{[^{}]*\}", r"\1", latex)
    for _ in range(4):
        latex = re.sub(r"\\[a-zA-Z]+\*?(?:\[[^\]]*\])?\{([^{}]*)\}", r"\1", latex)
    latex = re.sub(r"\\[\"'`^~=.cvHu]\s*\{?(\w)\}?", r"\1", latex)
    return re.sub(r"\s+", " ", re.sub(r"\\[a-zA-Z]+\s?|[{}$~\\]", " ", latex)).strip()


def _arguments(text: str, command: str) -> Iterator[str]:
    """The argument of each use of a LaTeX command."""
    for match in re.finditer(rf"\\{command}\*?\s*(?:\[[^\]]*\])?\s*\{{", text):
        depth, at = 1, match.end()
        while at < len(text) and depth:
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            at += 1
        yield text[match.end() : at - 1]


def source_truth(path: Path) -> tuple[list[str], str]:
    """Headings and title in the paper's source beside it; empty without one."""
    source = next((path.with_suffix(suffix) for suffix in SOURCES if path.with_suffix(suffix).exists()), None)
    if source is None:
        return [], ""
    text = source.read_text(encoding="utf-8", errors="replace")
    if source.suffix.casefold() == ".rmd":
        body = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        titles = re.findall(r'^title:\s*["\']?(.*?)["\']?\s*$', text, re.MULTILINE)
        return [
            plain(re.sub(r"\{[^}]*\}|[`*]", "", line)) for line in re.findall(r"^#{1,3}\s+(.*)$", body, re.MULTILINE)
        ], (titles or [""])[0]
    text = re.sub(r"(?<!\\)%.*", "", text)
    headings = [
        plain(title)
        for command in ("chapter", "section", "subsection", "subsubsection")
        for title in _arguments(text, command)
    ]
    title = next((plain(title) for command in ("Plaintitle", "title") for title in _arguments(text, command)), "")
    return headings, title


def truth_of(path: Path) -> Truth:
    document = pdfium.PdfDocument(path)
    outline = [" ".join((bookmark.get_title() or "").split()) for bookmark in document.get_toc()]
    raw = "\n".join(page.get_textpage().get_text_range() for page in document)
    headings, title = source_truth(path)
    title = title or " ".join((document.get_metadata_value("Title") or "").split())
    has_outline = len(outline) >= 3
    chosen = [heading for heading in (outline if has_outline else headings) if len(key(heading)) >= 2]
    return Truth(tuple(chosen), has_outline, title, raw, len(document))


def read_all(paths: Sequence[Path], checkout: Path, *, blind: bool) -> list[Read]:
    """What the reader of a checkout makes of the papers, in one process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), "--worker", *(["--blind"] if blind else [])]
    done = subprocess.run(
        command,
        input="\n".join(map(str, paths)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(checkout.resolve())},
    )
    return [Read(**json.loads(line)) for line in done.stdout.splitlines()]


def work(paths: Iterable[Path], *, blind: bool) -> None:
    """Read papers and print one JSON line for each: what ``read_all`` starts."""
    from mlx_ragtune.errors import InputError
    from mlx_ragtune.papers.pdf import read_pdf

    reader: Callable[..., Any] = read_pdf
    options = {"use_outline": False} if blind and "use_outline" in inspect.signature(read_pdf).parameters else {}
    for path in paths:
        started = time.perf_counter()
        try:
            reading = reader(path, path.stem, **options)
            document = reading.document
            titles = [section.title for section in document.sections if section.title]
            dropped = "\n".join(drop.text for drop in reading.dropped)
            read = Read(document.title, titles, document.text, dropped)
        except InputError as error:
            read = Read(error=error.what)
        read.seconds = time.perf_counter() - started
        print(json.dumps(asdict(read)), flush=True)


def _score_headings(truth: Truth, read: Read, tally: Tally, name: str) -> None:
    wanted = [heading for heading in truth.headings if key(heading) not in USUAL]
    if len(wanted) < 3:
        return
    sums = tally.outline if truth.has_outline else tally.source
    for heading in wanted:
        hit = any(is_same(heading, other) for other in read.headings)
        sums[0] += hit
        sums[1] += 1
        if not hit:
            tally.notes.append(f"{name}: missed heading: {heading}")
    tally.judged += 1
    for heading in read.headings:
        if key(heading) not in USUAL and not any(is_same(other, heading) for other in wanted):
            tally.false += 1
            tally.notes.append(f"{name}: false heading: {heading}")


def _score_title(truth: Truth, read: Read, tally: Tally, name: str) -> None:
    wanted = key(truth.title)
    if len(wanted) < 6 or wanted[:20] not in key(truth.raw):
        return
    hit = fuzz.ratio(wanted, key(read.title)) >= 85 or wanted in key(read.title)
    tally.titles[0] += hit
    tally.titles[1] += 1
    if not hit:
        tally.notes.append(f"{name}: title {read.title!r} is not {truth.title!r}")


def _ligature_words(raw: str) -> Counter[str]:
    """The words with codes of TeX's ligatures, as they are printed. A code is T1 or OT1 by where most stand."""
    raw = raw.replace("\r\n", "\n")
    words = [match[0] for match in _LIGATURE_WORD.finditer(raw)]
    return Counter(
        "".join(LIGATURES.get(char, char) for char in word) for word in words if re.search("[A-Za-z]{2}", word)
    )


def _score_ligatures(truth: Truth, read: Read, tally: Tally, name: str) -> None:
    words = Counter(re.findall(r"[a-z]+", (read.text + " " + read.dropped).casefold()))
    joined = re.sub(r"[^a-z]", "", (read.text + read.dropped).casefold())
    for word, count in _ligature_words(truth.raw).items():
        got = words[word.casefold()] or joined.count(word.casefold())
        tally.ligatures[0] += min(got, count)
        tally.ligatures[1] += count
        if got < count:
            tally.notes.append(f"{name}: lost {count - got} × {word}")


class Printed:
    """How all papers together print words inside a line: whole, or with a hyphen."""

    def __init__(self, raws: Iterable[str]) -> None:
        self.words: Counter[str] = Counter()
        self.hyphenated: Counter[str] = Counter()
        for raw in raws:
            raw = _BROKEN.sub(" ", raw).casefold()
            self.words.update(re.findall(r"[a-z]+", raw))
            for first, second in re.findall(r"(?=\b([a-z]+)-([a-z]+))", raw):
                self.hyphenated[f"{first}-{second}"] += 1

    def right(self, first: str, second: str) -> str | None:
        """The word as it is printed elsewhere, or None where the papers do not say."""
        whole, apart = (first + second).casefold(), f"{first}-{second}".casefold()
        if self.words[whole] == self.hyphenated[apart]:
            return None
        return whole if self.words[whole] > self.hyphenated[apart] else apart


def _score_hyphens(truth: Truth, read: Read, printed: Printed, tally: Tally, name: str) -> None:
    text = (read.text + " " + read.dropped).casefold()
    for first, second in _BROKEN.findall(truth.raw):
        right = printed.right(first, second)
        wrong = {f"{first}-{second}".casefold(), (first + second).casefold()} - {right}
        if right is None:
            continue
        has_wrong = any(re.search(rf"(?<![a-z-]){re.escape(word)}(?![a-z])", text) for word in wrong)
        has_right = re.search(rf"(?<![a-z]){re.escape(right)}", text) is not None
        if not has_right and not has_wrong:
            continue  # dropped in pieces, or not a word
        tally.hyphens[1] += 1
        if not has_right:
            tally.hyphens[0] += 1
            tally.notes.append(f"{name}: hyphen: {first}|{second} is {right}")


def score(paths: Sequence[Path], truths: Sequence[Truth], reads: Sequence[Read]) -> Tally:
    """The sums of one reader over the folder."""
    tally = Tally(papers=len(paths), pages=sum(truth.pages for truth in truths))
    printed = Printed(truth.raw for truth in truths)
    for path, truth, read in zip(paths, truths, reads, strict=True):
        if read.error:
            tally.unreadable += 1
            tally.notes.append(f"{path.name}: unreadable: {read.error}")
            continue
        _score_headings(truth, read, tally, path.name)
        _score_title(truth, read, tally, path.name)
        _score_ligatures(truth, read, tally, path.name)
        _score_hyphens(truth, read, printed, tally, path.name)
    tally.seconds_per_page = statistics.median(
        read.seconds / truth.pages for read, truth in zip(reads, truths, strict=True)
    )
    return tally


def count_tokens(paths: Sequence[Path], tokenizer: Path) -> str:
    """How far words, and the estimate without a tokenizer, misjudge the tokens of 350 words in a row, as Markdown."""
    from mlx_ragtune.papers.token_counts import Estimate, TokenizerFile

    counter, estimate = TokenizerFile(tokenizer), Estimate()
    per_word: list[float] = []
    estimated: list[float] = []
    for read in read_all(paths, Path(__file__).resolve().parents[1], blind=False):
        ends, guessed = counter.ends(read.text), estimate.ends(read.text)
        places = [match.end() for match in re.finditer(r"\S+", read.text)][::WORDS_TOGETHER]
        for first, last in itertools.pairwise(places):
            tokens, guess = (int(at.searchsorted(last) - at.searchsorted(first)) for at in (ends, guessed))
            per_word.append(tokens / WORDS_TOGETHER)
            estimated.append(guess / tokens)
    lines = [
        f"| {len(per_word):,} pieces of {WORDS_TOGETHER} words | least | 5% | median | 95% | most |",
        "|---" * 6 + "|",
    ]
    for label, values in (("tokens a word", per_word), ("estimate ÷ tokens", estimated)):
        values.sort()
        chosen = [values[round(share * (len(values) - 1))] for share in (0, 0.05, 0.5, 0.95, 1)]
        lines.append(f"| {label} | {' | '.join(f'{value:.2f}' for value in chosen)} |")
    return "\n".join(lines)


def _share(sums: Sequence[int]) -> str:
    return f"{sums[0]:,} of {sums[1]:,}" + (f" ({100 * sums[0] / sums[1]:.1f}%)" if sums[1] else "")


def table(tallies: dict[str, Tally]) -> str:
    """The comparison as Markdown."""
    rows: list[tuple[str, Callable[[Tally], str]]] = [
        ("headings, papers with an outline", lambda tally: _share(tally.outline)),
        ("headings, others, by their source", lambda tally: _share(tally.source)),
        ("false headings", lambda tally: f"{tally.false} in {tally.judged} papers"),
        ("titles", lambda tally: _share(tally.titles)),
        ("words with ligature codes kept", lambda tally: _share(tally.ligatures)),
        ("line-end hyphens decided wrongly", lambda tally: _share(tally.hyphens)),
        ("papers unreadable", lambda tally: str(tally.unreadable)),
        ("seconds a page (median)", lambda tally: f"{tally.seconds_per_page:.3f}"),
    ]
    lines = [f"| | {' | '.join(tallies)} |", "|---" * (len(tallies) + 1) + "|"]
    lines += [f"| {label} | {' | '.join(show(tally) for tally in tallies.values())} |" for label, show in rows]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "folder", type=Path, nargs="?", help="folder of PDFs, with their sources beside them if you have them"
    )
    parser.add_argument("--against", type=Path, help="another checkout of this project, read in the same run")
    parser.add_argument(
        "--notes", action="store_true", help="list every missed and false heading, title, word and hyphen"
    )
    parser.add_argument("--tokens", type=Path, metavar="TOKENIZER", help="compare words and tokens instead")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--blind", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work((Path(line) for line in sys.stdin.read().splitlines()), blind=options.blind)
        return
    if options.folder is None or not (paths := sorted(options.folder.rglob("*.pdf"))):
        parser.error("name a folder with PDFs")
    if options.tokens:
        print(count_tokens(paths, options.tokens))
        return
    here = Path(__file__).resolve().parents[1]
    truths = [truth_of(path) for path in paths]
    readers = {"this reader": (here, False), "blind": (here, True)}
    if options.against:
        readers["the other reader"] = (options.against, False)
    tallies = {
        name: score(paths, truths, read_all(paths, checkout, blind=blind))
        for name, (checkout, blind) in readers.items()
    }
    if options.json:
        print(json.dumps({name: asdict(tally) for name, tally in tallies.items()}, indent=1))
        return
    pages = sum(truth.pages for truth in truths)
    print(f"{len(paths)} papers, {pages:,} pages, {sum(truth.has_outline for truth in truths)} with an outline\n")
    print(table(tallies))
    if options.notes:
        for name, tally in tallies.items():
            print(f"\n{name}:", *tally.notes, sep="\n  ")


if __name__ == "__main__":
    main()
