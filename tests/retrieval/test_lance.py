"""LanceDB finds what the exhaustive search finds, with the same scores and order."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("lancedb")

from mlx_ragtune.errors import ArtifactError
from mlx_ragtune.retrieval import lance
from mlx_ragtune.retrieval.vectors import VectorIndex

WIDTH = 32


class Rows:
    """An embedder that gives a row, disturbed a little."""

    name = "rows"

    def __init__(self, rows: NDArray[np.float32]) -> None:
        self.rows = rows

    def embed_query(self, query: str) -> NDArray[np.float32]:
        noise = np.random.default_rng(int(query)).normal(0, 0.05, WIDTH)
        return (self.rows[int(query)] + noise).astype(np.float32)[None]

    def embed_documents(self, documents: object) -> list[NDArray[np.float32]]:
        raise NotImplementedError


def written(folder: Path, count: int) -> Rows:
    rows = np.random.default_rng(1).normal(size=(count, WIDTH)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.save(folder / "v.npy", np.rint(rows * 127).astype(np.int8))
    ids = [f"{number:05}" for number in range(count)]
    (folder / "v.json").write_text(json.dumps({"embedder": "rows", "chunks": ids}))
    return Rows(rows)


def test_few_rows_are_compared_completely_through_links(tmp_path: Path) -> None:
    embedder = written(tmp_path, 500)
    lance.build_lance(tmp_path / "lance", tmp_path / "v.npy")
    links = tmp_path / "links"
    for file in [path for path in (tmp_path / "lance").rglob("*") if path.is_file()]:
        target = links / file.relative_to(tmp_path / "lance")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(file)
    near = lance.LanceIndex(tmp_path / "v.npy", embedder, links)
    exact = VectorIndex(tmp_path / "v.npy", embedder)
    for query in ("3", "77"):
        assert near.search(query, 20) == exact.search(query, 20)


def test_an_index_over_many_rows_misses_few_and_scores_all_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lance, "EXACT_ROWS", 1000)
    embedder = written(tmp_path, 3000)
    lance.build_lance(tmp_path / "lance", tmp_path / "v.npy")
    near = lance.LanceIndex(tmp_path / "v.npy", embedder, tmp_path / "lance")
    exact = VectorIndex(tmp_path / "v.npy", embedder)
    found, wanted = near.search("3", 10), exact.search("3", 10)
    assert found[0] == wanted[0]
    assert found == sorted(found, key=lambda hit: (-hit.score, hit.chunk_id))
    scores = {hit.chunk_id: hit.score for hit in exact.search("3", 3000)}
    assert all(hit.score == pytest.approx(scores[hit.chunk_id], abs=1e-6) for hit in found)


def test_a_table_of_other_vectors_is_refused(tmp_path: Path) -> None:
    embedder = written(tmp_path, 40)
    with pytest.raises(ArtifactError, match="not the LanceDB table of these vectors"):
        lance.LanceIndex(tmp_path / "v.npy", embedder, tmp_path / "absent")
    lance.build_lance(tmp_path / "lance", tmp_path / "v.npy")
    written(tmp_path, 41)
    with pytest.raises(ArtifactError, match="another number of rows"):
        lance.LanceIndex(tmp_path / "v.npy", embedder, tmp_path / "lance")
