"""corpus: papers become documents, chunks, a full-text index, and vectors where the recipe has an embedding model."""

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_ragtune.artifact import Draft, Inputs, Store, digest_file, digest_json, link_file
from mlx_ragtune.clients.arxiv_shelf import ArxivRecord, corpus_files
from mlx_ragtune.clients.ocr import ocr_problem, with_text
from mlx_ragtune.errors import InputError
from mlx_ragtune.jsonl import write_rows
from mlx_ragtune.papers.bibliography import described_as, match_papers, with_entry
from mlx_ragtune.papers.bibtex import Entry, read_catalog
from mlx_ragtune.papers.folder import PaperFile, document_ids, list_papers, survey
from mlx_ragtune.papers.paper_reader import Paper, PaperReader
from mlx_ragtune.papers.pdf import NO_TEXT, OCR_FIX
from mlx_ragtune.papers.token_counts import TokenizerFile
from mlx_ragtune.recipe import CorpusSettings, EmbeddingSettings, Recipe
from mlx_ragtune.records import Chunk, Document
from mlx_ragtune.retrieval.index import build_index
from mlx_ragtune.searching.opened import LANCE, NAMES, VECTORS

LISTED = 20
"""How many ignored files are shown by name."""


def check(recipe: Recipe, _base: Path) -> None:
    """Raise InputError when there are no papers, some that may not be unreadable, or no readable bibliography."""
    if recipe.corpus.bibliography:
        read_catalog(recipe.corpus.bibliography)
    papers = list_papers(recipe.corpus.folder) if recipe.corpus.folder else []
    _refuse_problems(recipe.corpus, papers)
    if recipe.retrieval.embedding is not None:
        from mlx_ragtune.searching.encoders import require_embedding

        require_embedding(recipe.retrieval.embedding)
    if recipe.retrieval.store == "lancedb":
        from mlx_ragtune.retrieval.lance import require_lancedb

        require_lancedb()


def check_store(recipe: Recipe, store: Store, *, replace_others: bool) -> None:  # noqa: ARG001 (every stage's)
    """As ``check``, for the papers of arXiv."""
    _refuse_problems(recipe.corpus, corpus_files(recipe.corpus, store.root)[0])


def _refuse_problems(settings: CorpusSettings, papers: Sequence[PaperFile]) -> None:
    _refuse_unreadable(settings, papers, {paper.name: InputError(paper.problem) for paper in papers if paper.problem})


def corpus(recipe: Recipe, inputs: Inputs, draft: Draft) -> None:
    """Write documents, chunks, what was dropped or unreadable, ``index.sqlite``, and the embedding model's vectors.

    With a bibliography also ``bibliography.jsonl``.
    """
    settings = recipe.corpus
    files, records = corpus_files(settings, draft.store.root if draft.store else None)
    source = _source(inputs)
    papers, unreadable = _read(files, draft, settings, source.file)
    _refuse_unreadable(settings, files, unreadable)
    if not papers:
        listing = "\n".join(_described(name, error) for name, error in unreadable.items())
        raise InputError(
            f"none of the {len(files)} papers could be read:\n{listing}",
            where=str(settings.folder or "corpus.arxiv"),
            fix="replace them",
        )
    papers = _with_records(papers, files, records)
    if settings.bibliography:
        papers = _with_bibliography(papers, files, settings.bibliography, draft)
    _write(draft, papers, unreadable)
    _tell_counted(draft, papers, source)
    if recipe.retrieval.embedding is None:
        draft.say("retrieval is by full text alone: 'retrieval.embedding' names no embedding model")
    else:
        chunks = [chunk for paper in papers for chunk in paper.chunks]
        _write_vectors(recipe.retrieval.embedding, chunks, draft, store=recipe.retrieval.store)
    if settings.folder:
        _tell_ignored(draft, survey(settings.folder).ignored)
    _tell_left_out(draft, papers, unreadable)
    for warning in same_titles(paper.document for paper in papers):
        draft.say(f"warning: {warning}")


def _described(name: str, error: InputError) -> str:
    """A line that says why a paper cannot be read, and what helps."""
    return f"  {name}: {error.what}" + (f"; {error.fix}" if error.fix else "")


def _refuse_unreadable(
    settings: CorpusSettings, papers: Sequence[PaperFile], unreadable: dict[str, InputError]
) -> None:
    if unreadable and settings.on_unreadable == "fail":
        listing = "\n".join(_described(name, error) for name, error in unreadable.items())
        raise InputError(
            f"{len(unreadable)} of {len(papers)} papers cannot be used:\n{listing}",
            where=str(settings.folder or "corpus.arxiv"),
            fix="remove them, or set corpus.on_unreadable: skip",
        )


@dataclass(frozen=True)
class _Source:
    """What counts tokens: the ``tokenizer.json`` of a model, or an estimate for the reason given in ``problem``."""

    file: Path | None
    model: str = ""
    problem: str = ""


def _source(inputs: Inputs) -> _Source:
    """The tokenizer among the inputs. Raises InputError for a file that is not one."""
    folder = inputs.get("tokenizer")
    if folder is None:
        return _Source(None)
    source = json.loads((folder / "source.json").read_text(encoding="utf-8"))
    file = folder / "tokenizer.json"
    if not file.exists():
        return _Source(None, source["model"], source["problem"])
    try:
        TokenizerFile(file)
    except ValueError as error:
        raise InputError(
            f"cannot read the tokenizer of '{source['model']}': {error!s:.200}",
            where="base.model",
            fix="fetch the model again, or choose another one",
        ) from None
    return _Source(file, source["model"])


def _tell_counted(draft: Draft, papers: Sequence[Paper], source: _Source) -> None:
    """Record what counted the tokens, and how many the chunks have; say so where they are estimated."""
    sizes = [size for paper in papers for size in paper.tokens]
    by = f"tokenizer of {source.model}" if source.file else "estimate"
    draft.record(
        tokens_counted_by=by,
        chunk_tokens={"min": min(sizes), "mean": round(statistics.mean(sizes), 1), "max": max(sizes)},
    )
    if not source.file and source.model:
        draft.record(tokenizer_missing=f"{source.model}: {source.problem}")
        draft.say(
            f"warning: tokens of chunks are estimated, without the tokenizer of '{source.model}': {source.problem}; "
            "a run that has it will split the papers again"
        )


def _read(
    files: Sequence[PaperFile], draft: Draft, settings: CorpusSettings, tokenizer: Path | None
) -> tuple[list[Paper], dict[str, InputError]]:
    """The papers that can be read, and the error of each of the others by its name."""
    ids = document_ids(file.name for file in files)
    papers: list[Paper] = []
    unreadable: dict[str, InputError] = {}
    with (
        draft.track("reading papers", len(files)) as track,
        PaperReader(
            chunk_tokens=settings.chunk_tokens, overlap_tokens=settings.overlap_tokens, tokenizer=tokenizer
        ) as reader,
    ):
        scans = _Scans(reader, settings.ocr_languages)
        for file in files:
            try:
                if file.problem:
                    raise InputError(file.problem)
                papers.append(scans.read(file, ids[file.name]))
            except InputError as error:
                unreadable[file.name] = error
            track.advance(note=file.name[:30])
    if settings.ocr_languages:
        draft.record(read_by_ocr=scans.read_by_ocr, without_ocr=scans.without_ocr)
    if scans.without_ocr:
        draft.say(f"warning: {scans.without_ocr} papers have pages without text that OCR would read: {ocr_problem()}")
    return papers, unreadable


class _Scans:
    """Reads papers, and those without text by OCR where the recipe says so. Counts both."""

    def __init__(self, reader: PaperReader, languages: str) -> None:
        self._reader, self._languages = reader, languages
        self.read_by_ocr = self.without_ocr = 0

    def read(self, file: PaperFile, identifier: str) -> Paper:
        """The paper. Raises InputError when it cannot be read, ToolError when OCR cannot run as the recipe says."""
        try:
            paper = self._reader.read(file.path, identifier)
        except InputError as error:
            if not self._languages or not error.fix.startswith(OCR_FIX):
                raise
            if problem := ocr_problem():
                self.without_ocr += 1
                raise InputError(f"{error.what}; no OCR: {problem}", where=error.where, fix=error.fix) from None
            return self._by_ocr(file, identifier, replace_text="--force-ocr" in error.fix)
        if self._languages and any(drop.reason == NO_TEXT for drop in paper.dropped):
            if not ocr_problem():
                return self._by_ocr(file, identifier, replace_text=False)
            self.without_ocr += 1
        return paper

    def _by_ocr(self, file: PaperFile, identifier: str, *, replace_text: bool) -> Paper:
        copy = with_text(file.path, digest_file(file.path), languages=self._languages, replace_text=replace_text)
        paper = self._reader.read(copy, identifier)
        self.read_by_ocr += 1
        return paper


def _with_records(
    papers: Sequence[Paper], files: Sequence[PaperFile], records: Mapping[str, ArxivRecord]
) -> list[Paper]:
    """The papers, those of arXiv with the title, authors and year that it gives."""
    ids = document_ids(file.name for file in files)
    by_id = {ids[name]: record for name, record in records.items()}
    described = []
    for paper in papers:
        record = by_id.get(paper.document.id)
        if record:
            entry = Entry(record.paper, record.title, record.authors, record.year, arxiv_id=record.requested.id)
            paper = described_as(paper, with_entry(paper.document, entry))
        described.append(paper)
    return described


def _with_bibliography(papers: Sequence[Paper], files: Sequence[PaperFile], path: Path, draft: Draft) -> list[Paper]:
    """The papers as their entries describe them. Lists what was matched by what, and what was not."""
    catalog = read_catalog(path)
    names = {identifier: name for name, identifier in document_ids(file.name for file in files).items()}
    matches = match_papers(catalog, [(paper.document, names[paper.document.id]) for paper in papers])
    entries = {entry.key: entry for entry in reversed(catalog.entries)}
    keys = {match.document_id: match.key for match in matches.matches}
    write_rows(
        draft / "bibliography.jsonl",
        [
            *({"paper": match.document_id, "entry": match.key, "by": match.matched_by} for match in matches.matches),
            *({"paper": identifier, "entry": None, "by": "no entry"} for identifier in matches.without_entry),
            *({"paper": None, "entry": key, "by": reason} for key, reason in matches.unused),
            *({"paper": None, "entry": None, "by": problem} for problem in catalog.problems),
        ],
    )
    draft.say(f"{path.name}: {len(matches.matches)} of {len(papers)} papers have an entry, see bibliography.jsonl")
    unused = [key if reason == "no paper" else f"{key} ({reason})" for key, reason in matches.unused]
    for what, listed in (
        ("papers without an entry", matches.without_entry),
        ("entries without a paper", unused),
        ("entries that cannot be read", catalog.problems),
    ):
        if listed:
            more = f", and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
            draft.say(f"{path.name}: {len(listed)} {what}: {', '.join(listed[:LISTED])}{more}")
    draft.record(with_entry=len(matches.matches), without_entry=len(matches.without_entry))
    return [
        described_as(paper, with_entry(paper.document, entries[keys[paper.document.id]]))
        if paper.document.id in keys
        else paper
        for paper in papers
    ]


def _write(draft: Draft, papers: Sequence[Paper], unreadable: dict[str, InputError]) -> None:
    chunks = [chunk for paper in papers for chunk in paper.chunks]
    write_rows(draft / "documents.jsonl", (paper.document for paper in papers))
    write_rows(draft / "chunks.jsonl", chunks)
    write_rows(draft / "dropped.jsonl", (drop for paper in papers for drop in paper.dropped))
    write_rows(
        draft / "unreadable.jsonl",
        ({"path": name, "reason": error.what, "fix": error.fix} for name, error in unreadable.items()),
    )
    build_index(draft / "index.sqlite", chunks)
    draft.record(
        documents=len(papers),
        chunks=sum(len(paper.chunks) for paper in papers),
        words=sum(len(chunk.text.split()) for paper in papers for chunk in paper.chunks),
        unreadable=len(unreadable),
        dropped=dict(Counter(drop.reason for paper in papers for drop in paper.dropped)),
    )


def _write_vectors(settings: EmbeddingSettings, chunks: Sequence[Chunk], draft: Draft, *, store: str) -> None:
    """Link the chunks' vectors into the draft. They are computed once for the same chunks and the same model."""
    from mlx_ragtune.retrieval.vectors import VERSION, VectorCache, build_vectors
    from mlx_ragtune.searching.encoders import open_embedder

    with open_embedder(settings) as embedder:
        described = {
            "version": VERSION,
            "embedder": embedder.name,
            "chunks": digest_json([[chunk.id, chunk.title, chunk.text] for chunk in chunks]),
        }

        def build(folder: Path) -> None:
            name = f"vectors-{digest_json([VERSION, embedder.name])[:16]}.sqlite"
            with draft.track("embedding chunks", len(chunks)) as track, VectorCache(draft.cache(name)) as cache:
                build_vectors(folder / VECTORS, chunks, embedder, cache=cache, advance=track.advance)

        folder = draft.part("vectors", described, build)
        for name in (VECTORS, NAMES):
            link_file(folder / name, draft / name)
        if store == "lancedb":
            _write_lance(described, draft)
        if embedder.parted:
            draft.say(f"{embedder.parted} chunks are longer than the embedding model's window: embedded in parts")


def _write_lance(described: Mapping[str, Any], draft: Draft) -> None:
    """Link the LanceDB table of the draft's vectors into the draft."""
    from mlx_ragtune.retrieval import lance

    def build(folder: Path) -> None:
        with draft.track("writing the LanceDB table", 0):
            lance.build_lance(folder, draft / VECTORS)

    folder = draft.part("lance", {**described, "lance": lance.VERSION}, build)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        target = draft / LANCE / file.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        link_file(file, target)


def _tell_ignored(draft: Draft, ignored: Sequence[tuple[str, str]]) -> None:
    """Show the files that are not papers. They are in no file of the artifact, since they must not change it."""
    for name, reason in ignored[:LISTED]:
        draft.say(f"ignored {name}: {reason}")
    if len(ignored) > LISTED:
        draft.say(f"ignored {len(ignored) - LISTED} more files")


def _tell_left_out(draft: Draft, papers: Sequence[Paper], unreadable: dict[str, InputError]) -> None:
    """Show the papers that were skipped, and how many parts of the others are in no chunk, by their reasons."""
    for name, error in unreadable.items():
        draft.say(f"skipped{_described(name, error)[1:]}")
    counts = Counter(drop.reason for paper in papers for drop in paper.dropped)
    if counts:
        listing = ", ".join(f"{count:,} × {reason}" for reason, count in counts.most_common())
        draft.say(f"left out, listed in dropped.jsonl: {listing}")


def same_titles(documents: Iterable[Document]) -> list[str]:
    """A warning for each title that several papers have, since an answer cites papers by title."""
    ids: dict[str, list[str]] = defaultdict(list)
    titles: dict[str, str] = {}
    for document in documents:
        folded = " ".join(document.title.casefold().split())
        titles.setdefault(folded, document.title)
        ids[folded].append(document.id)
    return [
        f"{', '.join(same)} have the same title '{titles[title]}': a citation cannot tell them apart"
        for title, same in ids.items()
        if len(same) > 1
    ]
