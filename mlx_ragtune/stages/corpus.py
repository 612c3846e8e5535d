"""corpus: papers become documents, chunks and a full-text index."""

from collections import Counter
from pathlib import Path

from mlx_ragtune.artifact import Draft, Inputs, Track
from mlx_ragtune.errors import InputError
from mlx_ragtune.jsonl import write_rows
from mlx_ragtune.papers.chunks import split
from mlx_ragtune.papers.folder import document_ids, list_papers
from mlx_ragtune.papers.reading import read_paper
from mlx_ragtune.recipe import Recipe
from mlx_ragtune.records import Chunk, Document
from mlx_ragtune.retrieval.index import build_index


def check(recipe: Recipe, _base: Path) -> None:
    """Raise InputError when there is no paper to read."""
    list_papers(recipe.corpus.folder)


def corpus(recipe: Recipe, _inputs: Inputs, draft: Draft) -> None:
    """Write ``documents.jsonl``, ``chunks.jsonl``, ``dropped.jsonl``, ``unreadable.jsonl`` and ``index.sqlite``."""
    settings = recipe.corpus
    paths = list_papers(settings.folder)
    documents: list[Document] = []
    unreadable: list[dict[str, str]] = []
    with draft.track("reading papers", len(paths)) as track:
        for path, identifier in document_ids(paths, settings.folder).items():
            _read(path, identifier, documents, unreadable, track)
    if unreadable and settings.on_unreadable == "fail":
        listing = "\n".join(f"  {one['path']}: {one['reason']}" for one in unreadable)
        raise InputError(
            f"{len(unreadable)} of {len(paths)} papers cannot be used:\n{listing}",
            where=str(settings.folder),
            fix="remove them, or set corpus.on_unreadable: skip",
        )
    if not documents:
        raise InputError(
            "no paper could be read",
            where=str(settings.folder),
            fix="see the reasons with on_unreadable: fail",
        )
    _write(draft, documents, unreadable, settings.chunk_words)


def _read(
    path: Path, identifier: str, documents: list[Document], unreadable: list[dict[str, str]], track: Track
) -> None:
    try:
        documents.append(read_paper(path, id=identifier))
    except InputError as error:
        unreadable.append({"path": path.name, "reason": error.what})
    track.advance(note=path.name[:30])


def _write(draft: Draft, documents: list[Document], unreadable: list[dict[str, str]], words: int) -> None:
    chunks: list[Chunk] = []
    dropped = []
    for document in documents:
        made, left = split(document, words=words)
        chunks += made
        dropped += left
    write_rows(draft / "documents.jsonl", documents)
    write_rows(draft / "chunks.jsonl", chunks)
    write_rows(draft / "dropped.jsonl", dropped)
    write_rows(draft / "unreadable.jsonl", unreadable)
    build_index(draft / "index.sqlite", chunks)
    draft.record(
        documents=len(documents),
        chunks=len(chunks),
        words=sum(len(chunk.text.split()) for chunk in chunks),
        unreadable=len(unreadable),
        dropped_words=dict(Counter(one.reason for one in dropped)),
    )
