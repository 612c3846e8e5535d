"""Chunks by meaning: unit vectors as int8 in a memory-mapped ``.npy``, searched exhaustively by dot product.

A row is a unit vector times 127, rounded. The cosine of two rows is off by less than 0.01 at 384 dimensions,
at a quarter of the size of float32. A chunk that is longer than the model's window has several rows, one for each
part, and its score is that of the best part: nothing of it is left out.
"""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from mlx_ragtune.errors import ArtifactError
from mlx_ragtune.records import Chunk
from mlx_ragtune.retrieval.fusion import Hit

VERSION = 1
"""Raised when the same chunks and the same model would give other files."""
SCALE = 127.0
BATCH = 64
BLOCK = 16_384
"""Rows converted to float32 at once: bounds the memory of a search for any corpus."""
_REMEMBERED_QUERIES = 4096

_REBUILD = "ragtune corpus RECIPE --redo"


class Embedder(Protocol):
    """A model that turns texts into vectors of one length."""

    @property
    def name(self) -> str:
        """Identifies what the vectors of documents depend on: the model's digest, and what it reads before a text."""
        ...

    def embed_documents(self, documents: Sequence[tuple[str, str]]) -> list[NDArray[np.float32]]:
        """For each (title, text) the vectors of its parts, ``[parts, D]``; their length does not matter."""
        ...

    def embed_query(self, query: str) -> NDArray[np.float32]:
        """The vectors of the query's parts, ``[parts, D]``; a query that fits into the model's window has one."""
        ...


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1, ``[N, D]``; a row of zeros stays a row of zeros."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: NDArray[np.float32] = (rows / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return scaled


def _names(path: Path) -> Path:
    return path.with_suffix(".json")


class VectorCache:
    """Vectors of texts that were embedded before, by one embedder: a killed run goes on, a new paper costs only itself.

    One SQLite file for each embedder; a row is the sha256 of title and text, and int8 ``[parts, D]``.
    """

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, timeout=60)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS vector (key TEXT PRIMARY KEY, parts INTEGER NOT NULL, rows BLOB NOT NULL)"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._connection.close()

    def get(self, document: tuple[str, str]) -> NDArray[np.int8] | None:
        """The rows of a (title, text), ``[parts, D]``, or None."""
        found = self._connection.execute("SELECT parts, rows FROM vector WHERE key = ?", (_key(document),)).fetchone()
        return None if found is None else np.frombuffer(found[1], np.int8).reshape(found[0], -1)

    def put(self, documents: Sequence[tuple[str, str]], rows: Sequence[NDArray[np.int8]]) -> None:
        """Keep the rows of each document; they are on disk afterwards."""
        values = [(_key(document), len(own), own.tobytes()) for document, own in zip(documents, rows, strict=True)]
        with self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO vector VALUES (?, ?, ?)", values)


def _key(document: tuple[str, str]) -> str:
    return hashlib.sha256("\0".join(document).encode("utf-8", "surrogatepass")).hexdigest()


def build_vectors(
    path: Path,
    chunks: Sequence[Chunk],
    embedder: Embedder,
    *,
    cache: VectorCache,
    advance: Callable[[int], None] = lambda _count: None,
) -> None:
    """Write ``path`` (``.npy``, int8 ``[N, D]``) and next to it a ``.json`` with the chunk id of each row.

    What ``cache`` has is not embedded again. ``advance`` gets the number of chunks of each batch that is done.
    """
    parts: list[NDArray[np.int8]] = []
    for start in range(0, len(chunks), BATCH):
        batch = [(chunk.title, chunk.text) for chunk in chunks[start : start + BATCH]]
        known = {document: rows for document in batch if (rows := cache.get(document)) is not None}
        if new := [document for document in dict.fromkeys(batch) if document not in known]:
            rounded = [np.rint(unit(rows) * SCALE).astype(np.int8) for rows in embedder.embed_documents(new)]
            cache.put(new, rounded)
            known |= dict(zip(new, rounded, strict=True))
        parts += [known[document] for document in batch]
        advance(len(batch))
    np.save(path, np.concatenate(parts) if parts else np.zeros((0, 1), np.int8))
    ids = [chunk.id for chunk, own in zip(chunks, parts, strict=True) for _ in own]
    described = {"embedder": embedder.name, "chunks": ids}
    _names(path).write_text(json.dumps(described, ensure_ascii=False), encoding="utf-8")


class VectorIndex:
    """A read-only view of the vectors, for questions embedded by the same model.

    Raises ArtifactError when the files are missing, damaged, or from another model.
    """

    def __init__(self, path: Path, embedder: Embedder) -> None:
        self._rows, self._ids = read_vectors(path, embedder.name)
        self._embedder = embedder
        # a question is searched for at several depths, and with and without some papers
        self._scores = lru_cache(maxsize=_REMEMBERED_QUERIES)(self._best_rows)

    def _asked(self, query: str) -> NDArray[np.float32]:
        """The query's vectors, ``[parts, D]``, at length 1."""
        asked = unit(self._embedder.embed_query(query))
        if asked.shape[1] != self._rows.shape[1]:
            raise ArtifactError(
                f"the question has {asked.shape[1]} dimensions, the chunks {self._rows.shape[1]}", fix=_REBUILD
            )
        return asked

    def _best_rows(self, query: str, k: int) -> tuple[tuple[int, float], ...]:
        """At most ``k`` rows and their cosines, best first; ties by chunk id."""
        asked = self._asked(query)
        scores = np.concatenate([
            (self._rows[start : start + BLOCK].astype(np.float32) @ asked.T).max(axis=1)
            for start in range(0, len(self._ids), BLOCK)
        ])  # fmt: skip
        near = np.arange(len(scores))
        if k < len(scores):  # all rows that tie with the last one are kept, so that the order by id decides
            near = np.flatnonzero(scores >= np.partition(scores, -k)[-k])
        order = near[np.lexsort((self._ids[near], -scores[near]))][:k]
        return tuple((int(row), float(scores[row] / SCALE)) for row in order)

    def search(self, query: str, k: int) -> list[Hit]:
        """The ``k`` chunks nearest to the query, best first (score: cosine); ties by chunk id."""
        if k < 1 or not len(self._ids) or not query.strip():
            return []
        depth = k
        while True:
            rows = self._scores(query, depth)
            best: dict[str, float] = {}
            for row, score in rows:
                best.setdefault(str(self._ids[row]), score)
            if len(best) >= k or depth >= len(self._ids):
                return [Hit(name, score) for name, score in best.items()][:k]
            depth *= 2


def read_vectors(path: Path, embedder: str) -> tuple[NDArray[np.int8], NDArray[np.str_]]:
    """The rows, memory-mapped, and the chunk id of each. Raises ArtifactError, also for those of another embedder."""
    try:
        rows: NDArray[np.int8] = np.load(path, mmap_mode="r", allow_pickle=False)
        described = json.loads(_names(path).read_text(encoding="utf-8"))
        ids = np.array(described["chunks"], dtype=np.str_)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"not a vector index: {error}", where=str(path), fix=_REBUILD) from None
    if rows.ndim != 2 or rows.dtype != np.int8 or len(rows) != len(ids):
        raise ArtifactError(
            f"{rows.dtype} rows of shape {rows.shape} for {len(ids)} chunks", where=str(path), fix=_REBUILD
        )
    if described.get("embedder") != embedder:
        raise ArtifactError(
            f"vectors of '{described.get('embedder')}' cannot be searched with '{embedder}'",
            where=str(path),
            fix=_REBUILD,
        )
    return rows, ids
