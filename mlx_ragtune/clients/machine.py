"""Limits of this machine: its memory, and writes that fail because a disk is full or not writable."""

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mlx_ragtune.errors import OutOfMemoryError, ToolError

SMALLER_BASE = "choose a smaller base model, or run this recipe on a machine with more memory"
"""The fix where no setting lowers the memory that is needed."""
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_MLX_WRITE_ERRORS = ("Unable to write", "Failed to open file")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def is_launched(environment: Mapping[str, str]) -> bool:
    """Whether ``mlx.launch`` started this process as one of several."""
    return bool(environment.keys() & {"MLX_RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK"})


def memory_bytes() -> int:
    """Memory of this machine in bytes, or of its control group where that is less."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = _CGROUP_LIMIT.read_text(encoding="ascii").strip()
    except OSError:
        return physical
    return min(physical, int(limit)) if limit.isdecimal() else physical


def require_memory(stage: str, needed_bytes: int, *, fix: str) -> None:
    """Raise OutOfMemoryError when ``stage`` needs more memory than there is; ``fix`` is the setting to change."""
    available = memory_bytes()
    if needed_bytes > available:
        raise OutOfMemoryError(
            f"{stage} needs about {needed_bytes / 2**30:.1f} GiB of memory, "
            f"this machine has {available / 2**30:.1f} GiB",
            where=stage,
            fix=fix,
        )


def _free_bytes(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


@contextmanager
def disk_writes(target: Path, needed_bytes: int, *, partial: Path | None = None) -> Iterator[None]:
    """While writing ``target``: a failed write raises ToolError with the path, the space needed and the space free.

    ``partial`` is a temporary file that is removed when the block fails for any reason. MLX reports a failed
    write as RuntimeError; its out-of-memory errors pass through unchanged.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(text in str(error) for text in _MLX_WRITE_ERRORS):
            raise
        number = getattr(error, "errno", None)
        reason = os.strerror(number) if number else (str(error).splitlines() or ["the write failed"])[0]
        free = _free_bytes(target.parent)
        full = number in _FULL or free < needed_bytes or number is None
        size = f" ({needed_bytes / 2**20:.0f} MiB needed, {free / 2**20:.0f} MiB free)" if full else ""
        raise ToolError(
            f"cannot write the file: {reason}{size}",
            where=str(target),
            fix="free disk space, then run the same command again" if full else "make the folder writable",
        ) from None
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)
