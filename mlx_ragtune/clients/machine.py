"""Limits of this machine: its memory, and writes that fail because a disk is full or not writable."""

import errno
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlx_ragtune.errors import OutOfMemoryError, ToolError

SMALLER_BASE = "choose a smaller base model (`ragtune models --fit 16` lists those that fit into 16 GB)"
"""The fix where no setting lowers the memory that is needed."""
WIRED_SHARE = 0.85
"""Share of Metal's recommended working set; the rest is left to the window server and the page cache (mlx-lm#828)."""
PROCESS_BYTES = 2**29
"""Python with its libraries, and buffers that do not depend on the model."""
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


@dataclass(frozen=True)
class MemoryNeed:
    """The predicted peak memory of a stage in bytes, and what lowers it: a command, or an edit of the recipe."""

    bytes: int
    fix: str = SMALLER_BASE


def metal_bytes(memory: int) -> int:
    """The working set that Metal recommends on a Mac with so much memory, in bytes: the least of what it reports.

    Two thirds up to 32 GiB, three quarters above. ``sudo sysctl iogpu.wired_limit_mb`` raises it.
    """
    return memory * 2 // 3 if memory <= 32 * 2**30 else memory * 3 // 4


def usable_bytes(memory: int, *, platform: str = sys.platform) -> int:
    """Bytes that a stage may use on a machine with so much memory: all of it, on a Mac most of Metal's working set."""
    return int(metal_bytes(memory) * WIRED_SHARE) if platform == "darwin" else memory


def require_memory(stage: str, needed_bytes: int, *, fix: str) -> None:
    """Raise OutOfMemoryError when ``stage`` needs more memory than it may use; ``fix`` is the setting to change."""
    available = memory_bytes()
    if needed_bytes > usable_bytes(available):
        raise OutOfMemoryError(
            f"{stage} needs about {needed_bytes / 2**30:.1f} GiB of memory, "
            f"this machine has {available / 2**30:.1f} GiB{_usable_part(available)}",
            where=stage,
            fix=fix,
        )


def _usable_part(memory: int) -> str:
    usable = usable_bytes(memory)
    return f"; {usable / 2**30:.1f} GiB of it can be used" if usable < memory else ""


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
