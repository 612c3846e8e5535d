"""Where a quote stands: its passage, section and page, and the closest passages for what has no quote."""

import bisect
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rapidfuzz import fuzz

from mlx_ragtune.errors import InputError
from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.papers.formats import suffix_of
from mlx_ragtune.papers.page_image import PageImage, page_image
from mlx_ragtune.papers.paper_names import PaperNames
from mlx_ragtune.records import Chunk, Document, Question
from mlx_ragtune.retrieval.index import Index
from mlx_ragtune.reviewing.review_items import ReviewItem
from mlx_ragtune.synthesis.benchmark_file import resolved
from mlx_ragtune.synthesis.checks import QUOTE_RATIO, one_line, quote_in

CLOSEST = 2
"""So many passages are shown of each paper, or of all papers for an off-corpus question, where nothing is quoted."""
AROUND = 700
"""Characters of the passage that are shown before and after a quote at most."""
LEAST_AROUND = 200
"""Characters that are shown before and after a quote where it begins or ends its passage."""
_SEARCHED = 400


@dataclass(frozen=True)
class Place:
    """A passage to show: the text before, in and after the quote. ``quote`` is "" where nothing is quoted.

    ``problem`` says why a recorded quote is not shown in its passage. ``page`` counts from 1; None without pages.
    """

    paper: str
    title: str
    section: str
    page: int | None
    before: str
    quote: str
    after: str
    recorded: bool
    problem: str = ""
    pdf: bool = False


def find_quote(quote: str, text: str) -> tuple[int, int] | None:
    """The half-open span of the quote in the text, by the rule of ``checks.quote_in``; None where that rejects it.

    ``text`` is NFC, as the text of every document.
    """
    if quote_in(quote, text) is not None:
        return None
    words = [match.span() for match in re.finditer(r"\S+", text)]
    starts, at = [], 0  # of each word in the text with single spaces
    for start, end in words:
        starts.append(at)
        at += end - start + 1
    needle, hay = one_line(quote), one_line(text)
    first = hay.find(needle)
    last = first + len(needle)
    if first < 0:
        near = fuzz.partial_ratio_alignment(needle, hay, score_cutoff=QUOTE_RATIO)
        if near is None:
            return None
        first, last = near.dest_start, near.dest_end
    return _original(first, words, starts), _original(last - 1, words, starts) + 1


def _original(place: int, words: Sequence[tuple[int, int]], starts: Sequence[int]) -> int:
    """The place in the text of a place in the text with single spaces; that of a space is the end of its word."""
    number = bisect.bisect_right(starts, place) - 1
    start, end = words[number]
    return min(start + place - starts[number], end)


@dataclass
class Library:
    """The papers of a corpus: their texts, chunks and files. Only files of the corpus are ever opened."""

    documents: Mapping[str, Document]
    chunks: Mapping[str, Sequence[Chunk]]
    files: Mapping[str, Path] = field(default_factory=dict)
    index: Index | None = None

    def __post_init__(self) -> None:
        self._names = PaperNames.of_documents(self.documents.values())

    def known(self, item: ReviewItem) -> ReviewItem:
        """The item with the ids of its papers, which a benchmark may name by file or title."""
        return replace(item, row=resolved(item.row, self._names)) if isinstance(item.row, Question) else item

    def titles(self, item: ReviewItem) -> list[str]:
        """The titles of the item's papers; what is written where the corpus has no such paper."""
        papers = self.known(item).row.papers
        return [self.documents[paper].title if paper in self.documents else paper for paper in papers]

    def places(self, item: ReviewItem) -> list[Place]:
        """The passages of the recorded quotes; without any, the closest ones by words of the question and answer."""
        item = self.known(item)
        if item.evidence:
            return [self._quoted(evidence.paper, evidence.quote) for evidence in item.evidence]
        return [self._plain(chunk) for chunk in self._closest(item)]

    def _quoted(self, paper: str, quote: str) -> Place:
        document = self.documents.get(paper)
        if document is None:
            problem = f"the corpus has no paper '{paper}'"
            return Place(paper, paper, "", None, "", quote, "", recorded=True, problem=problem)
        span = find_quote(quote, document.text)
        if span is None:
            problem = quote_in(quote, document.text) or "evidence quote not in the text"
            return Place(paper, document.title, "", None, "", quote, "", True, problem=problem, pdf=self._is_pdf(paper))
        start, end = span
        chunks = [chunk for chunk in self.chunks.get(paper, ()) if chunk.start < end and chunk.end > start]
        text = document.text
        first, last = (
            min((chunk.start for chunk in chunks), default=start),
            max((chunk.end for chunk in chunks), default=end),
        )
        low = max(min(first, start - LEAST_AROUND), start - AROUND, 0)
        high = min(max(last, end + LEAST_AROUND), end + AROUND, len(text))
        return Place(
            paper,
            document.title,
            _section(document, start),
            self._page(document, start),
            _cut_before(text[low:start]) if low else text[:start],
            text[start:end],
            _cut_after(text[end:high]) if high < len(text) else text[end:].rstrip(),
            recorded=True,
            pdf=self._is_pdf(paper),
        )

    def _plain(self, chunk: Chunk) -> Place:
        document = self.documents[chunk.document_id]
        return Place(
            chunk.document_id,
            chunk.title,
            chunk.section,
            self._page(document, chunk.start),
            chunk.text,
            "",
            "",
            recorded=False,
            pdf=self._is_pdf(chunk.document_id),
        )

    def _closest(self, item: ReviewItem) -> list[Chunk]:
        """By full text, of the item's papers; of all papers where it names none."""
        if self.index is None:
            return []
        known = {chunk.id: chunk for chunks in self.chunks.values() for chunk in chunks}
        text = item.row.question if item.row.refusal_kind else f"{item.row.question} {item.answer}"
        hits = [known[hit.chunk_id] for hit in self.index.search(text, _SEARCHED) if hit.chunk_id in known]
        if not item.row.papers:
            return hits[:CLOSEST]
        return [
            chunk
            for paper in item.row.papers
            for chunk in [hit for hit in hits if hit.document_id == paper][: 1 if len(item.row.papers) > 1 else CLOSEST]
        ]

    def _is_pdf(self, paper: str) -> bool:
        return paper in self.files and suffix_of(self.files[paper].name) == ".pdf"

    def _page(self, document: Document, place: int) -> int | None:
        pages = len(document.page_starts) > 1 or self._is_pdf(document.id)
        return bisect.bisect_right(document.page_starts, place) if pages else None

    def image(self, place: Place, page: int | None = None) -> PageImage:
        """The page of the place, or another page of its paper, with the quote marked.

        Raises InputError where the paper is not a PDF, or cannot be rendered.
        """
        if not self._is_pdf(place.paper):
            raise InputError("this paper has no pages to show", where=place.paper)
        return page_image(self.files[place.paper], page or place.page or 1, place.quote)


def _cut_before(text: str) -> str:
    """The text from its first whole word on, after an ellipsis."""
    match = re.match(r"\S{0,40}\s+", text)
    return f"… {text[match.end() :] if match else text}"


def _cut_after(text: str) -> str:
    """The text up to its last whole word, before an ellipsis."""
    match = re.search(r"\s+\S{0,40}$", text)
    return f"{text[: match.start()] if match else text} …"


def _section(document: Document, place: int) -> str:
    return next((section.title for section in document.sections if section.start <= place < section.end), "")


def read_library(corpus: Path, files: Mapping[str, Path]) -> Library:
    """The papers of a finished corpus in a folder; ``files`` are the papers' own files by id."""
    documents: Iterable[Document] = read_rows(corpus / "documents.jsonl", Document)
    chunks: dict[str, list[Chunk]] = {}
    for chunk in read_rows(corpus / "chunks.jsonl", Chunk):
        chunks.setdefault(chunk.document_id, []).append(chunk)
    return Library({document.id: document for document in documents}, chunks, files, Index(corpus / "index.sqlite"))
