"""Digests of large files, each read once, and the folder where downloaded models are cached."""

import hashlib
import json
import os
from pathlib import Path

from mlx_ragtune.errors import InputError
from mlx_ragtune.models.model_folder import PATTERNS

_LARGE_BYTES = 16 * 2**20


def cache_folder() -> Path:
    """The folder of downloaded and imported models: ``$RAGTUNE_CACHE``, else ``~/.cache/mlx-ragtune``."""
    return Path(os.environ.get("RAGTUNE_CACHE") or "~/.cache/mlx-ragtune").expanduser()


def is_offline() -> bool:
    """Whether downloads are switched off by ``RAGTUNE_OFFLINE`` or ``HF_HUB_OFFLINE``."""
    names = ("RAGTUNE_OFFLINE", "HF_HUB_OFFLINE")
    return any(os.environ.get(name, "").lower() in ("1", "true", "yes", "on") for name in names)


def sha256_file(path: Path) -> str:
    """sha256 of a file's bytes, as hexadecimal. Raises InputError for a file that cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(
            f"cannot read the file: {error.strerror}", where=str(path), fix="check that it exists and its permissions"
        ) from None


def base_digest(folder: Path) -> str:
    """sha256 over the model's file names and contents, in sorted order, as hexadecimal."""
    whole = hashlib.sha256()
    names = sorted({file.name for pattern in PATTERNS for file in folder.glob(pattern) if file.is_file()})
    for name in names:
        whole.update(f"{name}\0{file_digest(folder / name)}\n".encode())
    return whole.hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file as hexadecimal; that of a large one is remembered by path, size, inode and times.

    Raises InputError for a file that cannot be read.
    """
    digest = known_digest(path)
    if digest is None:
        digest = sha256_file(path)
        file = path.resolve()
        others = {key: value for key, value in _remembered().items() if not key.startswith(f"{file}:")}
        _remember({**others, _key(file): digest})
    return digest


def known_digest(path: Path) -> str | None:
    """As ``file_digest``, but None for a large file that was not read before."""
    try:
        file = path.resolve()
        if file.stat().st_size < _LARGE_BYTES:
            return sha256_file(file)
        return _remembered().get(_key(file))
    except OSError:
        return None


def _key(file: Path) -> str:
    about = file.stat()
    return f"{file}:{about.st_size}:{about.st_ino}:{about.st_mtime_ns}:{about.st_ctime_ns}"


def _remembered() -> dict[str, str]:
    try:
        known = json.loads((cache_folder() / "digests.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {key: digest for key, digest in known.items() if isinstance(digest, str)}


def _remember(known: dict[str, str]) -> None:
    """Write the digests; where the cache cannot be written, they are computed again next time."""
    path = cache_folder() / "digests.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        aside.write_text(json.dumps(known, indent=1), encoding="utf-8")
        aside.rename(path)
    except OSError:
        return
