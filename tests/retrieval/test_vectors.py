"""Vectors: near means near, in a quarter of the size, and never those of another model."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mlx_ragtune.errors import ArtifactError
from mlx_ragtune.retrieval.vectors import BATCH, VectorCache, VectorIndex, build_vectors
from tests.retrieval.made import CHUNKS, WordEmbedder, chunk


def built(folder: Path, embedder: WordEmbedder | None = None) -> Path:
    path = folder / "vectors.npy"
    build_vectors(path, CHUNKS, embedder or WordEmbedder(), cache=VectorCache(folder / "cache.sqlite"))
    return path


def test_the_nearest_chunk_comes_first_with_its_cosine(tmp_path: Path) -> None:
    one = VectorIndex(built(tmp_path), WordEmbedder())
    hits = one.search("a graph of layers finds neighbours of a vector", 2)
    assert hits[0].chunk_id == "hnsw"
    assert 0.5 < hits[0].score <= 1
    assert hits[1].score < hits[0].score


def test_int8_rows_keep_the_cosine_within_a_hundredth(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    directions = generator.normal(size=(200, 384)).astype(np.float32)

    class Fixed(WordEmbedder):
        def rows(self, texts: Sequence[str]) -> NDArray[np.float32]:
            return np.stack([directions[int(text.split()[-1])] for text in texts])

    path = tmp_path / "v.npy"
    build_vectors(
        path, [chunk(f"{at:03}", str(at)) for at in range(200)], Fixed(), cache=VectorCache(tmp_path / "cache.sqlite")
    )
    hits = VectorIndex(path, Fixed()).search("like 7", 200)
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    exact = unit @ unit[7]
    assert max(abs(hit.score - exact[int(hit.chunk_id)]) for hit in hits) < 0.01
    assert np.load(path).dtype == np.int8


def test_chunks_are_embedded_in_batches_with_their_titles(tmp_path: Path) -> None:
    embedder = WordEmbedder()
    build_vectors(
        tmp_path / "v.npy",
        [chunk(str(at), "words") for at in range(BATCH + 1)],
        embedder,
        cache=VectorCache(tmp_path / "cache.sqlite"),
    )
    assert embedder.asked == [BATCH, 1]


def test_equal_scores_are_in_the_order_of_ids(tmp_path: Path) -> None:
    build_vectors(
        tmp_path / "v.npy",
        [chunk(name, "same", title="t") for name in "cab"],
        WordEmbedder(),
        cache=VectorCache(tmp_path / "cache.sqlite"),
    )
    hits = VectorIndex(tmp_path / "v.npy", WordEmbedder()).search("same t", 3)
    assert [hit.chunk_id for hit in hits] == ["a", "b", "c"]


def test_nothing_is_found_for_nothing(tmp_path: Path) -> None:
    one = VectorIndex(built(tmp_path), WordEmbedder())
    assert one.search("  ", 3) == one.search("words", 0) == []
    build_vectors(tmp_path / "none.npy", [], WordEmbedder(), cache=VectorCache(tmp_path / "cache.sqlite"))
    assert VectorIndex(tmp_path / "none.npy", WordEmbedder()).search("words", 3) == []


def test_vectors_of_another_model_are_refused(tmp_path: Path) -> None:
    path = built(tmp_path)
    with pytest.raises(ArtifactError, match="vectors of 'words-1' cannot be searched with 'words-2'"):
        VectorIndex(path, WordEmbedder(name="words-2"))
    with pytest.raises(ArtifactError, match="32 dimensions, the chunks 64"):
        VectorIndex(path, WordEmbedder(32)).search("words", 1)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not a vector index"):
        VectorIndex(tmp_path / "vectors.npy", WordEmbedder())
    path = built(tmp_path)
    names = path.with_suffix(".json")
    names.write_text(json.dumps({"embedder": "words-1", "chunks": ["only one"]}))
    with pytest.raises(ArtifactError, match=r"int8 rows of shape \(5, 64\) for 1 chunks"):
        VectorIndex(path, WordEmbedder())
    path.write_bytes(b"junk")
    with pytest.raises(ArtifactError, match="not a vector index"):
        VectorIndex(path, WordEmbedder())


def test_a_text_is_embedded_once_and_a_killed_run_goes_on(tmp_path: Path) -> None:
    class Killed(WordEmbedder):
        def embed_documents(self, documents: Sequence[tuple[str, str]]) -> list[NDArray[np.float32]]:
            if len(self.asked) == 2:
                raise KeyboardInterrupt
            return super().embed_documents(documents)

    chunks = [chunk(f"{at:03}", f"word{at}") for at in range(3 * BATCH)]
    with VectorCache(tmp_path / "cache.sqlite") as cache, pytest.raises(KeyboardInterrupt):
        build_vectors(tmp_path / "v.npy", chunks, Killed(), cache=cache)
    embedder = WordEmbedder()
    more = [*chunks, chunk("new", "another")]
    with VectorCache(tmp_path / "cache.sqlite") as cache:
        build_vectors(tmp_path / "v.npy", more, embedder, cache=cache)
    assert embedder.asked == [BATCH, 1]
    with VectorCache(tmp_path / "empty.sqlite") as cache:
        build_vectors(tmp_path / "at_once.npy", more, WordEmbedder(), cache=cache)
    assert (tmp_path / "v.npy").read_bytes() == (tmp_path / "at_once.npy").read_bytes()
