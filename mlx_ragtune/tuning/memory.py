"""Memory: how much a run may take, what to do when it was too much, and keeping a Mac awake.

On a Mac the GPU shares memory with everything else: wiring the whole recommended set makes the machine
swap (mlx-lm#828), so that the limit stays below it. On Linux MLX's CPU backend has nothing to wire.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.errors import RagtuneError, ToolError
from mlx_ragtune.recipe import TrainSettings

WIRED_SHARE = 0.85
"""Of the recommended working set; the rest is for the window server and the page cache."""
CACHE_SHARE = 0.1
"""Of the usable memory may lie in MLX's cache of freed buffers."""


@dataclass(frozen=True)
class Caps:
    """Bytes. ``usable`` is what a run may take in all; ``wired`` is 0 where nothing is wired."""

    usable: int
    wired: int
    cache: int


def decide(*, platform: str, available: int, recommended: int) -> Caps:
    """The caps for a machine with ``available`` bytes free (Linux) or a ``recommended`` working set (macOS)."""
    if platform == "darwin":
        usable = wired = int(recommended * WIRED_SHARE)
    else:
        usable, wired = int(available * 0.9), 0
    return Caps(usable, wired, int(usable * CACHE_SHARE))


def _available() -> int:
    """Free memory of a Linux machine, within its control group's limit if it has one."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text(encoding="ascii").strip() if limit.exists() else "max"
    return free if text == "max" else min(free, int(text))


def caps_here() -> Caps:
    """The caps for this machine now."""
    if sys.platform == "darwin":
        info = mx.device_info()
        recommended = int(info["max_recommended_working_set_size"])
        return decide(platform="darwin", available=recommended, recommended=recommended)
    return decide(platform=sys.platform, available=_available(), recommended=0)


def apply_caps(caps: Caps) -> None:
    """Tell MLX. Wiring is a Mac's alone."""
    mx.set_cache_limit(caps.cache)
    if caps.wired:
        mx.set_wired_limit(caps.wired)


def next_setting(settings: TrainSettings) -> str:
    """The recipe change that saves most memory of those not yet made."""
    if settings.engine == "shared-prefix" and settings.tokens_per_step > 1024:
        return f"lower train.tokens_per_step (now {settings.tokens_per_step}) to {settings.tokens_per_step // 2}"
    if settings.engine == "mlx-lm" and settings.batch_size > 1:
        return f"lower train.batch_size (now {settings.batch_size}) and raise train.accumulation"
    if not settings.grad_checkpoint:
        return "set train.grad_checkpoint: true"
    return "set base.precision: 4bit, or train fewer layers (train.layers)"


def shortage(error: RuntimeError, settings: TrainSettings) -> RagtuneError | RuntimeError:
    """A ToolError that names the next setting if MLX ran out of memory; any other error as it is."""
    text = str(error)
    if not any(word in text.lower() for word in ("alloc", "insufficient memory", "out of memory")):
        return error
    return ToolError(f"out of memory: {text.splitlines()[0]}", where="train", fix=next_setting(settings))


@contextmanager
def awake() -> Iterator[None]:
    """A Mac does not go to sleep while this lasts."""
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
