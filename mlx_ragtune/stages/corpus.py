"""corpus: papers become documents, chunks, a full-text index, and vectors where the recipe has an embedding model."""

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlx_ragtune.artifact import Draft, Inputs, digest_json, link_file
from mlx_ragtune.errors import InputError
from mlx_ragtune.jsonl import write_rows
from mlx_ragtune.papers.folder import PaperFile, document_ids, list_papers, survey
from mlx_ragtune.papers.paper_reader import Paper, PaperReader
from mlx_ragtune.papers.token_counts import TokenizerFile
from mlx_ragtune.recipe import CorpusSettings, EmbeddingSettings, Recipe
from mlx_ragtune.records import Chunk, Document
from mlx_ragtune.retrieval.index import build_index
from mlx_ragtune.searching.opened import NAMES, VECTORS

LISTED = 20
"""How many ignored files are shown by name."""


def check(recipe: Recipe, _base: Path) -> None:
    """Raise InputError when there are no papers, or some that the recipe does not allow to be unreadable."""
    papers = list_papers(recipe.corpus.folder)
    unreadable = {paper.name: InputError(paper.problem) for paper in papers if paper.problem}
    _refuse_unreadable(recipe.corpus, papers, unreadable)
    if recipe.retrieval.embedding is not None:
        from mlx_ragtune.searching.encoders import require_embedding

        require_embedding(recipe.retrieval.embedding)


def corpus(recipe: Recipe, inputs: Inputs, draft: Draft) -> None:
    """Write documents, chunks, what was dropped or unreadable, ``index.sqlite``, and the embedding model's vectors."""
    settings = recipe.corpus
    files = list_papers(settings.folder)
    source = _source(inputs)
    papers, unreadable = _read(files, draft, settings, source.file)
    _refuse_unreadable(settings, files, unreadable)
    if not papers:
        listing = "\n".join(_described(name, error) for name, error in unreadable.items())
        raise InputError(
            f"none of the {len(files)} papers could be read:\n{listing}",
            where=str(settings.folder),
            fix="replace them",
        )
    _write(draft, papers, unreadable)
    _tell_counted(draft, papers, source)
    if recipe.retrieval.embedding is None:
        draft.say("retrieval is by full text alone: 'retrieval.embedding' names no embedding model")
    else:
        _write_vectors(recipe.retrieval.embedding, [chunk for paper in papers for chunk in paper.chunks], draft)
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
            where=str(settings.folder),
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
        for file in files:
            try:
                if file.problem:
                    raise InputError(file.problem)
                papers.append(reader.read(file.path, ids[file.name]))
            except InputError as error:
                unreadable[file.name] = error
            track.advance(note=file.name[:30])
    return papers, unreadable


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


def _write_vectors(settings: EmbeddingSettings, chunks: Sequence[Chunk], draft: Draft) -> None:
    """Link the chunks' vectors into the draft. They are computed once for the same chunks and the same model."""
    from mlx_ragtune.retrieval.vectors import VERSION, build_vectors
    from mlx_ragtune.searching.encoders import open_embedder

    with open_embedder(settings) as embedder:
        described = {
            "version": VERSION,
            "embedder": embedder.name,
            "chunks": digest_json([[chunk.id, chunk.title, chunk.text] for chunk in chunks]),
        }

        def build(folder: Path) -> None:
            with draft.track("embedding chunks", len(chunks)) as track:
                build_vectors(folder / VECTORS, chunks, embedder, advance=track.advance)

        folder = draft.part("vectors", described, build)
        for name in (VECTORS, NAMES):
            link_file(folder / name, draft / name)
        if embedder.parted:
            draft.say(f"{embedder.parted} chunks are longer than the embedding model's window: embedded in parts")


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
