"""The papers behind a corpus: which page a passage is on, and which papers are PDF files that can be shown."""

import bisect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlx_ragtune.artifact import Store
from mlx_ragtune.clients.arxiv_shelf import corpus_files
from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.papers.folder import document_ids
from mlx_ragtune.papers.formats import suffix_of
from mlx_ragtune.recipe import CorpusSettings
from mlx_ragtune.records import Chunk, Document


@dataclass(frozen=True)
class PaperFiles:
    """Titles, page starts and PDF files by the id of a paper. No other file is ever opened."""

    titles: Mapping[str, str]
    page_starts: Mapping[str, tuple[int, ...]]
    pdfs: Mapping[str, Path]

    def pages(self, chunk: Chunk) -> tuple[int, int] | tuple[None, None]:
        """The first and the last page of a passage, from 1; None where the paper has no pages."""
        starts = self.page_starts.get(chunk.document_id, ())
        if len(starts) < 2 and chunk.document_id not in self.pdfs:
            return None, None
        last = bisect.bisect_right(starts, max(chunk.start, chunk.end - 1)) if starts else chunk.page
        return chunk.page, max(chunk.page, last)

    def pdf(self, paper: str) -> Path | None:
        """The PDF file of a paper; None for another format, and for what is not a paper of the corpus."""
        return self.pdfs.get(paper)


def read_paper_files(corpus: Path, settings: CorpusSettings, runs: Path) -> PaperFiles:
    """The papers of a finished corpus in a folder; ``runs`` is the folder of the runs. Raises InputError."""
    titles, starts = {}, {}
    for document in read_rows(corpus / "documents.jsonl", Document):  # whose texts are not kept
        titles[document.id], starts[document.id] = document.title, document.page_starts
    files, _ = corpus_files(settings, Store(runs).root)
    ids = document_ids(file.name for file in files)
    pdfs = {ids[file.name]: file.path for file in files if not file.problem and suffix_of(file.name) == ".pdf"}
    return PaperFiles(titles, starts, {paper: path for paper, path in pdfs.items() if paper in starts})
