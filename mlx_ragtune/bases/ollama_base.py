"""The GGUF file of a model that Ollama has: by its manifest on disk, else by what the server says."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from mlx_ragtune.clients.ollama_address import effective_host, pull_command
from mlx_ragtune.errors import InputError, RecipeError, ToolError

MODEL_LAYER = "application/vnd.ollama.image.model"
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")


@dataclass(frozen=True)
class Name:
    """``host/namespace/model:tag`` with Ollama's defaults filled in."""

    host: str
    namespace: str
    model: str
    tag: str


def parse_name(text: str) -> Name:
    """``qwen3:4b`` as registry.ollama.ai/library/qwen3:4b. Raises RecipeError for what is not a model's name."""
    path, _, tag = text.partition(":")
    parts = path.split("/")
    if len(parts) > 3 or not all(_PART.fullmatch(part) for part in (*parts, tag or "latest")):
        raise RecipeError(
            f"'{text}' is not the name of an Ollama model", where="base.model", fix="write for example ollama:qwen3:4b"
        )
    host, namespace, model = [*("registry.ollama.ai", "library")[: 3 - len(parts)], *parts]
    return Name(host, namespace, model, tag or "latest")


def models_folder() -> Path:
    """Where Ollama keeps its models: ``$OLLAMA_MODELS``, else ``~/.ollama/models``."""
    return Path(os.environ.get("OLLAMA_MODELS") or "~/.ollama/models").expanduser()


def _manifest(text: str) -> Path:
    name = parse_name(text)
    return models_folder() / "manifests" / name.host / name.namespace / name.model / name.tag


def manifest_digest(text: str) -> str | None:
    """sha256 of the model's GGUF as its manifest says, or None without a readable manifest of one GGUF."""
    try:
        digests = _layer_digests(_manifest(text))
    except InputError:
        return None
    digest = _DIGEST.fullmatch(digests[0]) if len(digests) == 1 else None
    return digest[1] if digest else None


def ollama_gguf(text: str) -> tuple[Path, str]:
    """The model's GGUF file and its sha256.

    Raises ToolError when neither disk nor server has the model, InputError for one whose weights are not a
    single GGUF on this machine.
    """
    manifest = _manifest(text)
    if manifest.is_file():
        return _from_manifest(manifest, text)
    return _from_server(text)


def _layer_digests(manifest: Path) -> list[str]:
    """The digests of the layers with weights. Raises InputError for an unreadable manifest."""
    try:
        layers = json.loads(manifest.read_bytes())["layers"]
        return [str(layer["digest"]) for layer in layers if layer["mediaType"] == MODEL_LAYER]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise InputError(
            "cannot read Ollama's manifest of the model", where=str(manifest), fix="pull the model again: ollama pull"
        ) from None


def _from_manifest(manifest: Path, text: str) -> tuple[Path, str]:
    digests = _layer_digests(manifest)
    digest = _DIGEST.fullmatch(digests[0]) if len(digests) == 1 else None
    if digest is None:
        raise InputError(
            f"{len(digests)} weight files instead of one GGUF: Ollama has this model for another engine",
            where=str(manifest),
            fix="set 'base.model' to the model's hub id",
        )
    return _blob(models_folder() / "blobs" / f"sha256-{digest[1]}", text), digest[1]


def _blob(path: Path, text: str) -> Path:
    if not path.is_file() or not os.access(path, os.R_OK):
        state = "cannot be read by this user" if path.exists() else "is missing"
        raise InputError(f"Ollama's file {state}", where=str(path), fix=f"as this user: ollama pull {text}")
    return path


def _from_server(text: str) -> tuple[Path, str]:
    """By the ``FROM`` line of the modelfile: the server may keep its models elsewhere on this machine."""
    from mlx_ragtune.clients.ollama_http import Ollama

    with Ollama(effective_host(), attempts=1) as server:
        try:
            modelfile = server.show(text).modelfile
        except ToolError as error:
            raise ToolError(
                f"cannot load base model 'ollama:{text}': it is not in {models_folder()}, and {server.host} answers: "
                f"{error.what}",
                where="base.model",
                fix=pull_command(server.host, text),
            ) from None
    sources = [line[5:].strip() for line in modelfile.split("\n") if line.startswith("FROM ")]
    path = Path(sources[0]) if sources else Path()
    digest = _DIGEST.fullmatch(path.name)
    if digest is None:
        raise InputError(f"Ollama does not say which file holds '{text}'", where="base.model", fix="set OLLAMA_MODELS")
    return _blob(path, text), digest[1]
