"""Model snapshots from the Hugging Face hub."""

import errno
import os
import re
from pathlib import Path

from mlx_ragtune.errors import InputError, RecipeError, ToolError
from mlx_ragtune.models.model_folder import PATTERNS, missing_files
from mlx_ragtune.recipe import BaseModelSettings

_HUB_TIMEOUT_SECONDS = 5.0
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST}


def snapshot_folder(settings: BaseModelSettings) -> Path | None:
    """Where an earlier download of the revision left its files, complete or not; None without one.

    Layout: huggingface.co/docs/huggingface_hub/guides/manage-cache.
    """
    from huggingface_hub import constants

    home = Path(constants.HF_HUB_CACHE) / f"models--{settings.model.replace('/', '--')}"
    try:
        commit = settings.revision
        if not re.fullmatch(r"[0-9a-f]{40}", commit):
            commit = (home / "refs" / settings.revision).read_text(encoding="utf-8").strip()
        folder = home / "snapshots" / commit
        inside = folder.parent == home / "snapshots" and commit not in ("", ".", "..")
        return folder if inside and folder.is_dir() else None
    except (OSError, ValueError):  # absent
        return None


def cached_snapshot(settings: BaseModelSettings) -> Path | None:
    """The hub's complete snapshot as an earlier download left it, or None. Nothing is downloaded."""
    folder = snapshot_folder(settings)
    try:
        return folder if folder and not missing_files(folder) else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # an index of the wrong shape
        return None


def cached_file(settings: BaseModelSettings, name: str) -> Path | None:
    """One file of the hub's snapshot as an earlier download left it, or None. Nothing is downloaded."""
    folder = snapshot_folder(settings)
    return folder / name if folder and (folder / name).is_file() else None


def hub_snapshot(settings: BaseModelSettings) -> Path:
    """The hub's snapshot, downloaded.

    Raises RecipeError for what is not a hub id, InputError for a model that the hub does not have or that is not
    complete, ToolError when the download fails.
    """
    import huggingface_hub
    from huggingface_hub import errors

    try:
        folder = Path(
            huggingface_hub.snapshot_download(
                settings.model,
                revision=settings.revision,
                allow_patterns=list(PATTERNS),
                etag_timeout=_HUB_TIMEOUT_SECONDS,
                endpoint=os.environ.get("HF_ENDPOINT") or None,
            )
        )
    except errors.HFValidationError as error:
        raise RecipeError(
            f"'{settings.model}' is not a hub id: {_first_line(error)}", where="base.model", fix="write OWNER/NAME"
        ) from None
    except Exception as error:  # the client's HTTP library has errors of its own, without a common base
        raise hub_file_error(error, f"{settings.model}@{settings.revision}", where="base.model") from None
    if missing := missing_files(folder):
        raise InputError(
            f"'{settings.model}' on the hub has no {', '.join(missing)}",
            where="base.model",
            fix="choose a model with safetensors weights",
        )
    return folder


def hub_file_error(error: Exception, name: str, *, where: str) -> InputError | ToolError:
    """What a failed download means. ``name`` is MODEL@REVISION."""
    from huggingface_hub import constants, errors

    model, _, revision = name.rpartition("@")
    if isinstance(error, errors.RepositoryNotFoundError | errors.RevisionNotFoundError):
        return InputError(
            f"the hub has no model '{model}' at revision '{revision}', or it is private or gated: {_first_line(error)}",
            where=where,
            fix="correct the id; for a gated model accept its terms on the hub, then: hf auth login",
        )
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        return ToolError(f"cannot store the download: {error.strerror} ({constants.HF_HUB_CACHE})", where=where)
    what = "the hub does not answer" if isinstance(error, OSError) else "the download from the hub failed"
    fix = "check the connection, then run the same command again"
    return ToolError(f"{what} ({_first_line(error)})", where=where, fix=fix)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
