"""The models that write pairs: checked before anything begins, and opened."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

from mlx_ragtune.clients.chat_ollama import OllamaChat
from mlx_ragtune.clients.file_digests import base_digest, cache_folder
from mlx_ragtune.clients.ollama_address import effective_host, pull_command
from mlx_ragtune.clients.ollama_registry import require_model
from mlx_ragtune.clients.openai_http import endpoint, is_loopback
from mlx_ragtune.clients.protocol import ChatBackend
from mlx_ragtune.clients.serving import require_embedded
from mlx_ragtune.errors import ToolError
from mlx_ragtune.recipe import BaseModelSettings, GeneratorSettings
from mlx_ragtune.synthesis.runaway import runs_away

TYPE: Literal["Q8_0"] = "Q8_0"
"""Quantization of a model folder that the embedded server is to read."""


def require_generator(settings: GeneratorSettings) -> None:
    """Raise an error unless each server that is to write pairs answers and has the model.

    ToolError for a server, InputError for a model file or folder. A local model is fetched if needed.
    """
    if settings.backend == "llamacpp":
        require_embedded(str(_gguf(settings)), settings.slots * settings.context_tokens)
    elif settings.backend == "mlx":
        _require_chat_model(_folder(settings))
    elif settings.backend == "openai":
        from mlx_ragtune.clients.chat_openai import OpenAiChat

        for host in settings.hosts:
            with OpenAiChat(host, settings.model, context_tokens=settings.context_tokens):
                pass
    else:
        for host in settings.hosts:
            require_model(host, settings.model)


def open_generators(settings: GeneratorSettings) -> list[AbstractContextManager[ChatBackend]]:
    """A backend for each server that is to write pairs, to be entered. A reply that runs in circles is ended early."""
    window = settings.context_tokens
    if settings.backend == "llamacpp":
        from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer

        slots, gguf = settings.slots, _gguf(settings)
        return [LlamaCppServer(gguf, context_tokens=window, slots=slots, stop=runs_away, keeps_prompts=True)]
    if settings.backend == "mlx":
        from mlx_ragtune.tuning.chat_mlx import MlxChat

        return [MlxChat(_folder(settings), context_tokens=window, slots=settings.slots, stop=runs_away)]
    if settings.backend == "openai":
        from mlx_ragtune.clients.chat_openai import OpenAiChat

        return [OpenAiChat(host, settings.model, context_tokens=window, stop=runs_away) for host in settings.hosts]
    hosts = [effective_host(host) for host in settings.hosts]
    return [OllamaChat(host, settings.model, context_tokens=window, stop=runs_away) for host in hosts]


def addresses(settings: GeneratorSettings) -> list[str]:
    """Where requests are sent, one address for each backend of ``open_generators``."""
    if settings.backend == "openai":
        return [endpoint(host) for host in settings.hosts]
    if settings.backend == "ollama":
        return [effective_host(host) for host in settings.hosts]
    return [settings.model]


def say_what_leaves(settings: GeneratorSettings, say: Callable[[str], None]) -> None:
    """Tell the user which servers outside this machine read the papers; nothing where there are none."""
    if settings.backend in ("ollama", "openai"):
        outside = [address for address in addresses(settings) if not is_loopback(address)]
        if outside:
            say(f"passages of the papers are sent to {', '.join(outside)}")


def common_digest(settings: GeneratorSettings, backends: Sequence[ChatBackend]) -> str:
    """The digest of the generating model. Raises ToolError when the hosts have different models under its name."""
    digests = [backend.identity()["digest"] for backend in backends]
    if len(set(digests)) > 1:
        named = zip(addresses(settings), digests, strict=True)
        listing = "\n".join(f"  {host}: {digest}" for host, digest in named)
        pulls = "; ".join(pull_command(host, settings.model) for host in addresses(settings))
        raise ToolError(
            f"the hosts have different models named '{settings.model}':\n{listing}",
            where="dataset.generator.hosts",
            fix=pulls if settings.backend == "ollama" else "serve the same model on each of them",
        )
    return digests[0]


def _folder(settings: GeneratorSettings) -> Path:
    """The model's folder: from a path, a GGUF file, a hub id or a name at Ollama, as ``base.model`` is."""
    from mlx_ragtune.bases.resolve import resolve_base
    from mlx_ragtune.gguf.reader import import_gguf

    return resolve_base(BaseModelSettings(model=settings.model, package=settings.package), import_gguf=import_gguf)


def _gguf(settings: GeneratorSettings) -> Path:
    """The model's GGUF file: the one it names, or the model folder as Q8_0, which is written once into the cache."""
    named = Path(settings.model).expanduser()
    if settings.model.endswith(".gguf") or named.is_file():
        return named
    folder = _folder(settings)
    _require_chat_model(folder)
    target = cache_folder() / "generators" / f"{base_digest(folder)[:16]}-{TYPE}.gguf"
    if not target.is_file():
        from mlx_ragtune.gguf.writer import write_gguf

        target.parent.mkdir(parents=True, exist_ok=True)
        write_gguf(folder, target, type=TYPE, name="generator")
    return target


def _require_chat_model(folder: Path) -> None:
    """Raise InputError for a model without a chat template that takes a system message."""
    from mlx_ragtune.models.model_folder import read_config
    from mlx_ragtune.models.prompts import check_template

    read_config(folder)
    check_template(folder, thinking=False)
