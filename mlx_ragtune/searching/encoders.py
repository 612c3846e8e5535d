"""Embedding models and rerankers by what a recipe says: checked early, opened when needed."""

from collections.abc import Iterator
from contextlib import contextmanager

from mlx_ragtune.clients.embed_ollama import OllamaEmbed
from mlx_ragtune.clients.file_digests import file_digest
from mlx_ragtune.clients.gguf_header import read_header
from mlx_ragtune.clients.ollama_address import effective_host
from mlx_ragtune.clients.ollama_registry import require_model
from mlx_ragtune.clients.text_vectors import TextEmbedder, TextReranker
from mlx_ragtune.errors import InputError
from mlx_ragtune.recipe import EmbeddingSettings, RerankSettings, RetrievalSettings
from mlx_ragtune.retrieval.prefixes import Prefixes, family_prefixes
from mlx_ragtune.searching.encoder_files import DOCUMENT_PREFIX, QUERY_PREFIX, encoder_gguf


def require_encoders(settings: RetrievalSettings) -> None:
    """Raise an error unless the models of the recipe's retrieval are there, of the right kind, with known prefixes.

    ToolError for a server, InputError for a file.
    """
    if settings.embedding is not None:
        require_embedding(settings.embedding)
    if settings.rerank is not None:
        _require_gguf(settings.rerank.model, rank=True)


def require_embedding(settings: EmbeddingSettings) -> None:
    """As ``require_encoders``, for the embedding model."""
    if settings.backend == "ollama":
        require_model(settings.host, settings.model)
    else:
        _require_gguf(settings.model, rank=False)
    _prefixes(settings)


def _require_gguf(model: str, *, rank: bool) -> None:
    from mlx_ragtune.clients.encode_llamacpp import encoder_window
    from mlx_ragtune.clients.serve_llamacpp import require_memory

    gguf = encoder_gguf(model)
    require_memory(gguf, encoder_window(gguf, rank=rank))


def _prefixes(settings: EmbeddingSettings) -> Prefixes:
    """The recipe's prefixes, else those of the model's family. Raises InputError when neither is known."""
    given = (settings.query_prefix, settings.document_prefix)
    names = [settings.model]
    if settings.backend == "llamacpp":
        header = read_header(encoder_gguf(settings.model))
        if DOCUMENT_PREFIX in header:
            return _given(settings, Prefixes(str(header[QUERY_PREFIX]), str(header[DOCUMENT_PREFIX])))
        names += [str(header[key]) for key in ("general.name", "general.basename") if key in header]
    family = next((prefixes for name in names if (prefixes := family_prefixes(name))), None)
    if family is None and None in given:
        raise InputError(
            f"what '{names[0]}' reads before a question and before a passage is not known",
            where="retrieval.embedding",
            fix="give 'query_prefix' and 'document_prefix' as on the model's card; \"\" for none",
        )
    return _given(settings, family or Prefixes())


def _given(settings: EmbeddingSettings, known: Prefixes) -> Prefixes:
    """The recipe's own prefixes where it gives them, else the known ones."""
    return Prefixes(
        known.query if settings.query_prefix is None else settings.query_prefix,
        known.document if settings.document_prefix is None else settings.document_prefix,
    )


@contextmanager
def open_embedder(settings: EmbeddingSettings) -> Iterator[TextEmbedder]:
    """The recipe's embedding model, loaded. Raises as ``require_encoders``."""
    prefixes = _prefixes(settings)
    if settings.backend == "ollama":
        with OllamaEmbed(effective_host(settings.host), settings.model) as server:
            yield TextEmbedder(server.vectors, prefixes, digest=server.digest())
        return
    from mlx_ragtune.clients.encode_llamacpp import LlamaCppEncoder

    gguf = encoder_gguf(settings.model)
    with LlamaCppEncoder(gguf) as engine:
        yield TextEmbedder(engine.vectors, prefixes, digest=file_digest(gguf))


@contextmanager
def open_reranker(settings: RerankSettings) -> Iterator[TextReranker]:
    """The recipe's reranker, loaded. Raises as ``require_encoders``."""
    from mlx_ragtune.clients.encode_llamacpp import LlamaCppEncoder

    with LlamaCppEncoder(encoder_gguf(settings.model), rank=True) as engine:
        yield TextReranker(engine.score, depth=settings.depth)
