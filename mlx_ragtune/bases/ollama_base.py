"""The GGUF file of a model that Ollama already holds: by its manifest on disk, else by what the server says."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from mlx_ragtune.errors import InputError, RecipeError, ToolError

MODEL_LAYER = "application/vnd.ollama.image.model"
DEFAULT_HOST = "http://127.0.0.1:11434"
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Name:
    """``host/namespace/model:tag`` with what Ollama takes for granted filled in."""

    host: str
    namespace: str
    model: str
    tag: str


def parse_name(text: str) -> Name:
    """``qwen3:4b`` as registry.ollama.ai/library/qwen3:4b. Raises RecipeError for what is no model's name."""
    path, _, tag = text.partition(":")
    parts = path.split("/")
    if len(parts) > 3 or not all(_PART.fullmatch(one) for one in (*parts, tag or "latest")):
        raise RecipeError(f"'{text}' is no name of an Ollama model", where="base.model", fix="ollama:qwen3:4b")
    host, namespace, model = [*("registry.ollama.ai", "library")[: 3 - len(parts)], *parts]
    return Name(host, namespace, model, tag or "latest")


def models_folder() -> Path:
    """Where Ollama keeps its models: ``$OLLAMA_MODELS``, else ``~/.ollama/models``."""
    return Path(os.environ.get("OLLAMA_MODELS") or "~/.ollama/models").expanduser()


def ollama_gguf(text: str) -> tuple[Path, str]:
    """The model's GGUF file and its sha256.

    Raises ToolError when neither disk nor server knows the model, InputError for one whose weights are no
    single GGUF on this machine.
    """
    name = parse_name(text)
    manifest = models_folder() / "manifests" / name.host / name.namespace / name.model / name.tag
    if manifest.is_file():
        return _from_manifest(manifest)
    return _from_server(text)


def _from_manifest(manifest: Path) -> tuple[Path, str]:
    try:
        layers = json.loads(manifest.read_text(encoding="utf-8"))["layers"]
        digests = [str(one["digest"]) for one in layers if one["mediaType"] == MODEL_LAYER]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError("Ollama's manifest cannot be read", where=str(manifest), fix="ollama pull it again") from None
    if len(digests) != 1 or not re.fullmatch(r"sha256:[0-9a-f]{64}", digests[0]):
        raise InputError(
            f"{len(digests)} weight files, not one GGUF: Ollama holds this model for another engine",
            where=str(manifest),
            fix="name the model on the hub as base.model",
        )
    return _blob(models_folder() / "blobs" / digests[0].replace(":", "-")), digests[0].removeprefix("sha256:")


def _blob(path: Path) -> Path:
    if not path.is_file() or not os.access(path, os.R_OK):
        state = "may not be read" if path.exists() else "is not there"
        raise InputError(f"Ollama's file {state}", where=str(path), fix="ollama pull it again, as this user")
    return path


def _from_server(text: str) -> tuple[Path, str]:
    """By the ``FROM`` line of the modelfile: the server may keep its models elsewhere on this machine."""
    from mlx_ragtune.clients.ollama_http import Ollama

    with Ollama(os.environ.get("OLLAMA_HOST") or DEFAULT_HOST, attempts=1) as server:
        try:
            shown = server.request("POST", "/api/show", {"model": text})
        except ToolError as error:
            raise ToolError(
                f"Ollama has no '{text}': not under {models_folder()}, and at {server.host}: {error.what}",
                where="base.model",
                fix=f"ollama pull {text}",
            ) from None
    lines = [line[5:].strip() for line in str(shown.get("modelfile", "")).splitlines() if line.startswith("FROM ")]
    found = re.search(r"sha256-([0-9a-f]{64})$", lines[0]) if lines else None
    if found is None:
        raise InputError(f"Ollama does not say where '{text}' is", where="base.model", fix="set OLLAMA_MODELS")
    return _blob(Path(lines[0])), found[1]
