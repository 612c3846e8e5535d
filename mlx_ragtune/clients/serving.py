"""A registered model, opened by its receipt, whichever server it was registered with."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from mlx_ragtune.clients.chat_ollama import OllamaChat
from mlx_ragtune.clients.file_digests import file_digest
from mlx_ragtune.clients.protocol import ChatBackend
from mlx_ragtune.errors import ArtifactError
from mlx_ragtune.recipe import GeneratorSettings, JudgeSettings, SimilaritySettings
from mlx_ragtune.scoring.answers.similarity import Embed, TokenVectors


def open_served(receipt: Mapping[str, Any], gguf: Path, *, context_tokens: int) -> AbstractContextManager[ChatBackend]:
    """The backend that serves the model of a receipt, to be entered. ``gguf`` is the exported file.

    Raises ArtifactError when the file is not the one that was registered.
    """
    if receipt["route"] == "gguf" and receipt["gguf_sha256"] != file_digest(gguf):
        raise ArtifactError(
            f"not the file that was registered as '{receipt['name']}'",
            where=str(gguf),
            fix="ragtune register RECIPE --redo",
        )
    if receipt["server"] == "ollama":
        return OllamaChat(receipt["host"], receipt["name"], context_tokens=context_tokens, digest=receipt["digest"])
    from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer

    return LlamaCppServer(gguf, context_tokens=context_tokens)


def open_generators(settings: GeneratorSettings) -> list[AbstractContextManager[ChatBackend]]:
    """A backend for each server that writes pairs, to be entered."""
    if settings.backend == "llamacpp":
        from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer

        return [LlamaCppServer(Path(settings.model), context_tokens=settings.context_tokens)]
    return [OllamaChat(host, settings.model, context_tokens=settings.context_tokens) for host in settings.hosts]


def open_judge(settings: JudgeSettings, *, context_tokens: int) -> AbstractContextManager[ChatBackend]:
    """The backend of a judge, to be entered."""
    if settings.backend == "llamacpp":
        from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer

        return LlamaCppServer(Path(settings.model), context_tokens=context_tokens)
    return OllamaChat(settings.host, settings.model, context_tokens=context_tokens)


@contextmanager
def open_embedder(
    settings: SimilaritySettings, base: Path, *, context_tokens: int
) -> Iterator[tuple[Embed, TokenVectors | None]]:
    """What embeds texts, and what gives token vectors where the backend can. ``base`` is the exported base."""
    if settings.backend == "llamacpp":
        from mlx_ragtune.clients.embed_llamacpp import LlamaCppEmbed

        with LlamaCppEmbed(Path(settings.model or base), context_tokens=context_tokens) as engine:
            yield engine.embed, engine.token_vectors
    else:
        from mlx_ragtune.clients.embed_ollama import OllamaEmbed

        assert settings.model is not None  # noqa: S101 (validated in the recipe)
        with OllamaEmbed(settings.host, settings.model) as embedder:
            yield lambda texts: embedder.embed(texts, kind="document"), None
