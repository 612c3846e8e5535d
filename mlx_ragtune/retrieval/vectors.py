"""Chunks by meaning: unit vectors as int8 in a memory-mapped ``.npy``, searched exhaustively by dot product.

A row is a unit vector times 127, rounded. The cosine of two rows is off by less than 0.01 at 384 dimensions,
at a quarter of the size of float32.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mlx_ragtune.errors import ArtifactError
from mlx_ragtune.records import Chunk
from mlx_ragtune.retrieval.fusion import Hit

SCALE = 127.0
BATCH = 64
BLOCK = 16_384
"""Rows converted to float32 at once: bounds the memory of a search for any corpus."""

_REBUILD = "ragtune corpus RECIPE --redo"


class Embedder(Protocol):
    """A model that turns texts into vectors of one length."""

    @property
    def name(self) -> str:
        """Identifies the model, including its digest."""
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row for each text, ``[len(texts), D]``; their length does not matter."""
        ...


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1, ``[N, D]``; a row of zeros stays a row of zeros."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (rows / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return unit


def _names(path: Path) -> Path:
    return path.with_suffix(".json")


def build_vectors(path: Path, chunks: Sequence[Chunk], embedder: Embedder) -> None:
    """Write ``path`` (``.npy``, int8 ``[N, D]``) and next to it a ``.json`` with the chunk ids and the model."""
    batches = [
        embedder.embed([f"{chunk.title}\n{chunk.text}" for chunk in chunks[start : start + BATCH]])
        for start in range(0, len(chunks), BATCH)
    ]
    rows = np.concatenate(batches) if batches else np.zeros((0, 1), np.float32)
    np.save(path, np.rint(_unit(rows) * SCALE).astype(np.int8))
    described = {"embedder": embedder.name, "chunks": [chunk.id for chunk in chunks]}
    _names(path).write_text(json.dumps(described, ensure_ascii=False), encoding="utf-8")


class VectorIndex:
    """A read-only view of the vectors, for questions embedded by the same model.

    Raises ArtifactError when the files are missing, damaged, or from another model.
    """

    def __init__(self, path: Path, embedder: Embedder) -> None:
        try:
            self._rows = np.load(path, mmap_mode="r", allow_pickle=False)
            described = json.loads(_names(path).read_text(encoding="utf-8"))
            self._ids = np.array(described["chunks"], dtype=np.str_)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"not a vector index: {error}", where=str(path), fix=_REBUILD) from None
        if self._rows.ndim != 2 or self._rows.dtype != np.int8 or len(self._rows) != len(self._ids):
            raise ArtifactError(
                f"{self._rows.dtype} rows of shape {self._rows.shape} for {len(self._ids)} chunks",
                where=str(path),
                fix=_REBUILD,
            )
        if described.get("embedder") != embedder.name:
            raise ArtifactError(
                f"vectors of '{described.get('embedder')}' cannot be searched with '{embedder.name}'",
                where=str(path),
                fix=_REBUILD,
            )
        self._embedder = embedder

    def search(self, query: str, k: int) -> list[Hit]:
        """The ``k`` chunks nearest to the query, best first (score: cosine); ties by chunk id."""
        if k < 1 or not len(self._ids) or not query.strip():
            return []
        asked = _unit(self._embedder.embed([query]))[0]
        if asked.shape != self._rows.shape[1:]:
            raise ArtifactError(
                f"the question has {asked.size} dimensions, the chunks {self._rows.shape[1]}", fix=_REBUILD
            )
        scores = np.concatenate([
            self._rows[start : start + BLOCK].astype(np.float32) @ asked for start in range(0, len(self._ids), BLOCK)
        ])  # fmt: skip
        order = np.lexsort((self._ids, -scores))[:k]
        return [Hit(str(self._ids[row]), float(scores[row] / SCALE)) for row in order]
