"""Nearest neighbors of a million chunks by LanceDB: an approximate index finds candidates, exact cosines order them.

The vectors stay in the ``.npy`` of ``vectors.py``. LanceDB holds them a second time, as inverted lists (IVF, Sivic &
Zisserman 2003, doi:10.1109/ICCV.2003.1238663) of 8-bit codes; a question reads some of the lists instead of every row.
What is found has the score and the order of the exhaustive search; what is missed is measured by
``benchmarks/retrieval.py --chunks``.
"""

import importlib
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlx_ragtune.errors import ArtifactError, ToolError
from mlx_ragtune.retrieval.vectors import BLOCK, SCALE, Embedder, VectorIndex, unit

VERSION = 1
"""Raised when the same vectors would give another index."""
TABLE = "rows"
EXACT_ROWS = 20_000
"""Up to so many rows LanceDB compares all of them: a search takes milliseconds, and an index would only lose some."""
LISTS_READ = 1 / 6
"""Share of the lists that a question reads."""
CANDIDATES = 2
"""Candidates for each hit that is asked for: their codes are rounded, the cosines that order them are not."""


def _lancedb() -> Any:
    try:
        return importlib.import_module("lancedb")
    except ImportError:
        raise ToolError(
            "'retrieval.store: lancedb' needs LanceDB, which is not installed",
            where="retrieval.store",
            fix="pip install 'mlx-ragtune[lancedb]'",
        ) from None


def require_lancedb() -> None:
    """Raise ToolError when LanceDB is not installed."""
    _lancedb()


def build_lance(folder: Path, vectors: Path) -> None:
    """Write a LanceDB table of the rows of a vector file into a folder, with an index when there are many."""
    lancedb, arrow = _lancedb(), importlib.import_module("pyarrow")
    rows = np.load(vectors, mmap_mode="r", allow_pickle=False)
    width = int(rows.shape[1])
    schema = arrow.schema([("row", arrow.int64()), ("vector", arrow.list_(arrow.float32(), width))])

    def batches() -> Any:
        for start in range(0, len(rows), BLOCK):
            block = unit(rows[start : start + BLOCK].astype(np.float32))
            values = arrow.FixedSizeListArray.from_arrays(arrow.array(block.reshape(-1)), width)
            numbers = arrow.array(np.arange(start, start + len(block)))
            yield arrow.RecordBatch.from_arrays([numbers, values], schema=schema)

    table = lancedb.connect(folder).create_table(TABLE, batches(), schema=schema)
    if len(rows) > EXACT_ROWS:
        index = importlib.import_module("lancedb.index")
        table.create_index("vector", config=index.IvfSq(distance_type="cosine", num_partitions=_lists(len(rows))))


def _lists(rows: int) -> int:
    """So many lists that finding the nearest lists costs as much as reading one; each needs 256 rows to be trained."""
    return max(1, min(math.isqrt(rows), rows // 256))


class LanceIndex(VectorIndex):
    """As ``VectorIndex``, but only the candidates of LanceDB's index are compared."""

    def __init__(self, path: Path, embedder: Embedder, folder: Path) -> None:
        super().__init__(path, embedder)
        try:
            self._table = _lancedb().connect(folder).open_table(TABLE)
            if self._table.count_rows() != len(self._ids):
                raise ValueError("another number of rows")
        except (OSError, ValueError, RuntimeError) as error:
            raise ArtifactError(
                f"not the LanceDB table of these vectors: {str(error).splitlines()[0][:200]}",
                where=str(folder),
                fix="ragtune corpus RECIPE --redo",
            ) from None

    def _near(self, asked: NDArray[np.float32], k: int) -> NDArray[np.intp]:
        found = [
            self._table.search(query, vector_column_name="vector")
            .distance_type("cosine")
            .nprobes(max(1, round(LISTS_READ * _lists(len(self._ids)))))
            .select(["row", "_distance"])
            .limit(min(len(self._ids), CANDIDATES * k))
            .to_arrow()["row"]
            .to_numpy()
            for query in asked
        ]
        return np.unique(np.concatenate(found)).astype(np.intp)

    def _best_rows(self, query: str, k: int) -> tuple[tuple[int, float], ...]:
        asked = self._asked(query)
        rows = self._near(asked, k)
        scores = (self._rows[rows].astype(np.float32) @ asked.T).max(axis=1)
        order = np.lexsort((self._ids[rows], -scores))[:k]
        return tuple((int(rows[at]), float(scores[at] / SCALE)) for at in order)
