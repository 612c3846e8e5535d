"""Memory limits for MLX, advice when memory runs out, and keeping a Mac awake during a run.

On a Mac the GPU shares memory with all other programs: wiring the whole recommended working set makes the
machine swap (mlx-lm#828), so the limit stays below it. On Linux MLX's CPU backend wires nothing.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlx_ragtune.clients.machine import WIRED_SHARE, memory_bytes
from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.errors import OutOfMemoryError, RagtuneError
from mlx_ragtune.recipe import TrainSettings

CACHE_SHARE = 0.1
"""Share of the usable memory that MLX's cache of freed buffers may keep."""


@dataclass(frozen=True)
class Caps:
    """Limits in bytes. ``usable`` is the limit of the whole run; ``wired`` is 0 where nothing is wired."""

    usable: int
    wired: int
    cache: int


def decide(*, platform: str, available: int, recommended: int) -> Caps:
    """The limits for ``available`` free bytes (Linux) or a ``recommended`` working set in bytes (macOS)."""
    if platform == "darwin":
        usable = wired = int(recommended * WIRED_SHARE)
    else:
        usable, wired = int(available * 0.9), 0
    return Caps(usable, wired, int(usable * CACHE_SHARE))


def _available() -> int:
    """Available memory of a Linux machine in bytes, at most the limit of its control group."""
    free = memory_bytes()
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    return min(free, memory_bytes())


def caps_here() -> Caps:
    """The limits for this machine now."""
    if sys.platform == "darwin":
        info = mx.device_info()
        recommended = int(info["max_recommended_working_set_size"])
        return decide(platform="darwin", available=recommended, recommended=recommended)
    return decide(platform=sys.platform, available=_available(), recommended=0)


def apply_caps(caps: Caps) -> None:
    """Set the limits in MLX."""
    mx.set_cache_limit(caps.cache)
    if caps.wired:
        mx.set_wired_limit(caps.wired)


def next_setting(settings: TrainSettings) -> str:
    """The recipe change that saves most memory of those that are left."""
    step = settings.tokens_per_step
    if settings.engine == "shared-prefix" and step is not None and step > 1024:
        return f"lower train.tokens_per_step (now {step}) to {step // 2}"
    if settings.engine == "mlx-lm" and settings.batch_size > 1:
        return f"lower train.batch_size (now {settings.batch_size}) and raise train.accumulation"
    if not settings.grad_checkpoint:
        return "set train.grad_checkpoint: true"
    return "set base.precision: 4bit, or train fewer layers (train.layers)"


def is_out_of_memory(error: Exception) -> bool:
    """Whether MLX raised ``error`` because memory ran out."""
    return any(word in str(error).lower() for word in ("alloc", "insufficient memory", "out of memory"))


def shortage(error: RuntimeError, settings: TrainSettings) -> RagtuneError | RuntimeError:
    """An OutOfMemoryError that names the next setting if MLX ran out of memory; any other error unchanged."""
    if not is_out_of_memory(error):
        return error
    return OutOfMemoryError(f"out of memory: {str(error).splitlines()[0]}", where="train", fix=next_setting(settings))


@contextmanager
def awake() -> Iterator[None]:
    """Keep a Mac from sleeping inside the block."""
    tool = shutil.which("caffeinate") if sys.platform == "darwin" else None
    if tool is None:
        yield
        return
    watcher = subprocess.Popen([tool, "-i", "-m", "-w", str(os.getpid())])
    try:
        yield
    finally:
        watcher.terminate()
        watcher.wait()
