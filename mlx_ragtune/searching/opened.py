"""The retriever over a finished corpus, by the recipe's settings."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.recipe import RetrievalSettings
from mlx_ragtune.records import Chunk
from mlx_ragtune.retrieval.index import Index
from mlx_ragtune.retrieval.retriever import Retriever, Searcher

VECTORS, NAMES = "vectors.npy", "vectors.json"
"""The chunks' vectors in a corpus, and the chunk of each row."""
LANCE = "vectors.lance"
"""The LanceDB folder of the same vectors."""


@contextmanager
def open_retriever(settings: RetrievalSettings, corpus: Path) -> Iterator[Retriever]:
    """The retriever over the corpus in a folder; the models that the recipe names are loaded until the end.

    Raises ArtifactError when the corpus has vectors of another model than the one that is there now.
    """
    with ExitStack() as stack:
        vectors: Searcher | None = None
        if settings.embedding is not None:
            from mlx_ragtune.retrieval.vectors import VectorIndex
            from mlx_ragtune.searching.encoders import open_embedder

            embedder = stack.enter_context(open_embedder(settings.embedding))
            if settings.store == "lancedb":
                from mlx_ragtune.retrieval.lance import LanceIndex

                vectors = LanceIndex(corpus / VECTORS, embedder, corpus / LANCE)
            else:
                vectors = VectorIndex(corpus / VECTORS, embedder)
        reranker = None
        if settings.rerank is not None:
            from mlx_ragtune.searching.encoders import open_reranker

            reranker = stack.enter_context(open_reranker(settings.rerank))
        yield Retriever(
            Index(corpus / "index.sqlite"),
            read_rows(corpus / "chunks.jsonl", Chunk),
            vectors=vectors,
            reranker=reranker,
            dedup=settings.dedup,
        )
