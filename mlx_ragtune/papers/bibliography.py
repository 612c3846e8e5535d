"""Papers matched with the works of a catalog, which gives their titles, authors and years."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from rapidfuzz import fuzz

from mlx_ragtune.papers.arxiv_ids import arxiv_id_in_name
from mlx_ragtune.papers.bibtex import DOI, Catalog, Entry, normal_doi
from mlx_ragtune.papers.formats import bare_stem
from mlx_ragtune.papers.paper_reader import Paper
from mlx_ragtune.records import Document

LEAST_RATIO = 92
"""Two titles are one when their similarity (normalized indel, in percent) is at least this."""
LEAST_TITLE = 15
"""Letters and digits of the shortest title that is looked for in file names and in the text."""
_OPENING = 1500
"""Characters of a paper in which its own title stands."""
_FIRST_PAGE = 6000
"""Characters in which its own DOI stands."""


@dataclass(frozen=True)
class Match:
    """A paper and the entry of its work, and by what they were matched."""

    document_id: str
    key: str
    matched_by: str


@dataclass(frozen=True)
class Matches:
    """Which paper is which work; the papers without an entry, and the entries without a paper, each with a reason."""

    matches: tuple[Match, ...]
    without_entry: tuple[str, ...]
    unused: tuple[tuple[str, str], ...]


def _key(text: str) -> str:
    """Letters and digits in lower case, without accents."""
    return "".join(char for char in unicodedata.normalize("NFKD", text).casefold() if char.isalnum())


class _Index:
    """The entries of a catalog by what identifies them; the first of several is taken."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = tuple(entries)
        self.files: dict[str, Entry] = {}
        self.arxiv: dict[str, Entry] = {}
        self.dois: dict[str, Entry] = {}
        self.keys: dict[str, Entry] = {}
        self.titles: dict[str, Entry] = {}
        for entry in self.entries:
            for name in entry.files:
                self.files.setdefault(_file_key(name), entry)
            for value, index in (
                (entry.arxiv_id, self.arxiv),
                (entry.doi, self.dois),
                (_key(entry.title), self.titles),
            ):
                if value:
                    index.setdefault(value, entry)
            self.keys.setdefault(entry.key.casefold(), entry)

    def find(self, document: Document, name: str) -> tuple[Entry, str] | None:
        """The entry of a paper, and by what it was found."""
        base = name.rpartition("/")[2]
        stem = bare_stem(base)
        if entry := self.files.get(_file_key(base)):
            return entry, "file"
        for identifier in (document.arxiv_id, arxiv_id_in_name(stem)):
            if identifier and (entry := self.arxiv.get(identifier)):
                return entry, "arXiv id"
        if entry := self.keys.get(stem.casefold()):
            return entry, "file name"
        for match in DOI.finditer(document.text[:_FIRST_PAGE]):
            if entry := self.dois.get(normal_doi(match[0])):
                return entry, "DOI"
        return self._by_title(document, stem)

    def _by_title(self, document: Document, stem: str) -> tuple[Entry, str] | None:
        title = _key(document.title)
        if entry := self.titles.get(title):
            return entry, "title"
        near = max(self.titles, key=lambda other: fuzz.ratio(title, other), default="")
        if len(title) >= LEAST_TITLE and _digits(near) == _digits(title) and fuzz.ratio(title, near) >= LEAST_RATIO:
            return self.titles[near], "title"
        named, opening = _key(stem), _key(document.text[:_OPENING])
        for place, how in ((named, "file name"), (opening, "title in the text")):
            inside = [other for other in self.titles if len(other) >= LEAST_TITLE and other in place]
            if inside:
                return self.titles[max(inside, key=len)], how
        return None


def _digits(text: str) -> str:
    """The digits of a title: Llama 2 is not Llama 3."""
    return re.sub(r"\D", "", text)


def _file_key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def match_papers(catalog: Catalog, papers: Sequence[tuple[Document, str]]) -> Matches:
    """Each paper (document, name of its file) with its work: by file, arXiv id, file name, DOI, or title."""
    index = _Index(catalog.entries)
    matches: list[Match] = []
    without: list[str] = []
    for document, name in papers:
        hit = index.find(document, name)
        if hit:
            matches.append(Match(document.id, hit[0].key, hit[1]))
        else:
            without.append(document.id)
    used = {match.key for match in matches}
    return Matches(tuple(matches), tuple(without), tuple(_unused(index, used)))


def _unused(index: _Index, used: set[str]) -> Iterator[tuple[str, str]]:
    for entry in index.entries:
        if entry.key in used:
            continue
        same = index.titles.get(_key(entry.title))
        repeats = same is not None and same.key in used
        yield entry.key, f"the same title as '{same.key}'" if repeats and same else "no paper"


def with_entry(document: Document, entry: Entry) -> Document:
    """The paper with the title, authors and year of its entry, as far as that has them."""
    return replace(
        document,
        title=entry.title or document.title,
        authors=entry.authors or document.authors,
        year=entry.year or document.year,
        arxiv_id=document.arxiv_id or entry.arxiv_id,
    )


def described_as(paper: Paper, document: Document) -> Paper:
    """The paper as this document, which has the same text: its chunks get the document's title."""
    return replace(
        paper, document=document, chunks=tuple(replace(chunk, title=document.title) for chunk in paper.chunks)
    )
