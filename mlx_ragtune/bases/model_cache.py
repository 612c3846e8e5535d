"""Model folders in the cache: each is built aside under a lock and renamed, so it is complete or absent."""

import shutil
from collections.abc import Callable
from pathlib import Path

from mlx_ragtune.clients.file_digests import cache_folder
from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.models.model_folder import missing_files


def is_complete(folder: Path) -> bool:
    """Whether a folder has all files of a model; False also for one that cannot be read."""
    try:
        return folder.is_dir() and not missing_files(folder)
    except (InputError, OSError):  # InputError: a damaged index file
        return False


def cached_model(name: str) -> Path | None:
    """The complete folder ``name`` of the cache, or None."""
    folder = cache_folder() / name
    return folder if is_complete(folder) else None


def build_model(name: str, fill: Callable[[Path], None]) -> Path:
    """The cache folder ``name``, filled where it is not there yet; a second process waits for the first.

    Raises ToolError when the cache cannot be written, InputError when ``fill`` leaves an incomplete model.
    """
    folder = cached_model(name)
    if folder is not None:
        return folder
    from filelock import FileLock

    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        with FileLock(cache_folder() / f".{name}.lock"):
            return cached_model(name) or _filled(cache_folder() / name, fill)
    except OSError as error:
        raise ToolError(
            f"cannot store the model: {error.strerror or error}",
            where=str(cache_folder()),
            fix="free disk space, or set RAGTUNE_CACHE to a folder that can be written",
        ) from error


def _filled(target: Path, fill: Callable[[Path], None]) -> Path:
    aside = target.with_name(f".{target.name}.partial")
    for stale in (aside, target):
        if stale.exists():
            shutil.rmtree(stale)
    try:
        fill(aside)
        if missing := missing_files(aside):
            raise InputError(f"the model has no {', '.join(missing)}", where=target.name, fix="choose another base")
        return aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
