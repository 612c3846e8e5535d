"""Models opened by what a recipe or a receipt says, and checked before anything expensive begins."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_ragtune.clients.chat_ollama import OllamaChat
from mlx_ragtune.clients.file_digests import file_digest
from mlx_ragtune.clients.gguf_header import require_gguf
from mlx_ragtune.clients.ollama_address import effective_host
from mlx_ragtune.clients.ollama_registry import require_model
from mlx_ragtune.clients.protocol import ChatBackend, StreamingBackend
from mlx_ragtune.errors import ArtifactError
from mlx_ragtune.recipe import JudgeSettings, SimilaritySettings
from mlx_ragtune.scoring.answers.similarity import Embed, TokenVectors


def require_judge(settings: JudgeSettings, *, context_tokens: int | None = None) -> None:
    """Raise ToolError or InputError unless the judge's server answers and has the model, or its GGUF can be served."""
    if settings.backend == "llamacpp":
        require_embedded(settings.model, context_tokens)
    else:
        require_model(settings.host, settings.model)


def require_embedder(settings: SimilaritySettings, *, context_tokens: int | None = None) -> None:
    """Raise ToolError or InputError unless the embedding model is there; the default, the exported base, passes."""
    if settings.backend == "ollama":
        require_model(settings.host, settings.model or "")
    elif settings.model is not None:
        require_embedded(settings.model, context_tokens)


def require_embedded(path: str, context_tokens: int | None) -> None:
    """Raise InputError unless the path is a GGUF file, ToolError when so many tokens do not fit into the memory."""
    gguf = Path(path)
    require_gguf(gguf)
    if context_tokens is not None:
        from mlx_ragtune.clients.serve_llamacpp import require_memory

        require_memory(gguf, context_tokens)


@dataclass(frozen=True)
class Engine:
    """What computes answers: its build, batch sizes, and default number of threads (0: the server chooses)."""

    build: str
    batch: str
    threads: int


def engine_of(receipt: Mapping[str, Any], gguf: Path) -> Engine:
    """What computes the answers of the model of a receipt. Ollama tells its version only."""
    if receipt["server"] == "ollama":
        return Engine(f"ollama {receipt['version']}", "the server's", 0)
    from mlx_ragtune.clients.serve_llamacpp import BATCH_TOKENS, UNIT_TOKENS, default_threads, engine_build

    return Engine(engine_build(), f"{BATCH_TOKENS}/{UNIT_TOKENS}, shared turns first", default_threads(gguf))


def open_served(
    receipt: Mapping[str, Any],
    gguf: Path,
    *,
    context_tokens: int,
    threads: int | None = None,
    slots: int = 1,
    stop: Callable[[str], bool] | None = None,
) -> AbstractContextManager[StreamingBackend]:
    """The backend that serves the model of a receipt, to be entered. ``gguf`` is the exported file.

    ``slots`` requests are answered at a time; how many Ollama takes is its own setting, OLLAMA_NUM_PARALLEL. An
    answer ends as soon as ``stop`` is true of its text. Raises ArtifactError when the file is not
    the one that was registered.
    """
    if receipt["route"] == "gguf" and receipt["gguf_sha256"] != file_digest(gguf):
        raise ArtifactError(
            f"this is not the file that was registered as '{receipt['name']}'",
            where=str(gguf),
            fix="ragtune register RECIPE --redo",
        )
    if receipt["server"] == "ollama":  # the very server where it was registered, whatever OLLAMA_HOST says now
        return OllamaChat(
            receipt["host"],
            receipt["name"],
            context_tokens=context_tokens,
            digest=receipt["digest"],
            version=receipt["version"],
            threads=threads,
            stop=stop,
        )
    from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer

    return LlamaCppServer(gguf, context_tokens=context_tokens, threads=threads, slots=slots, stop=stop)


def open_judge(settings: JudgeSettings, *, context_tokens: int) -> AbstractContextManager[ChatBackend]:
    """The backend of a judge, to be entered."""
    if settings.backend == "llamacpp":
        from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer

        return LlamaCppServer(Path(settings.model), context_tokens=context_tokens)
    return OllamaChat(effective_host(settings.host), settings.model, context_tokens=context_tokens)


@contextmanager
def open_embedder(
    settings: SimilaritySettings, base: Path, *, context_tokens: int
) -> Iterator[tuple[Embed, TokenVectors | None]]:
    """Functions for vectors of texts, and of tokens where the backend has them. ``base`` is the exported base."""
    if settings.backend == "llamacpp":
        from mlx_ragtune.clients.embed_llamacpp import LlamaCppEmbed

        with LlamaCppEmbed(Path(settings.model or base), context_tokens=context_tokens) as engine:
            yield engine.embed, engine.token_vectors
    else:
        from mlx_ragtune.clients.embed_ollama import OllamaEmbed

        assert settings.model is not None  # noqa: S101 (validated in the recipe)
        with OllamaEmbed(effective_host(settings.host), settings.model) as embedder:
            yield lambda texts: embedder.embed(texts, kind="document"), None
