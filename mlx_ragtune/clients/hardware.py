"""Which machine this is: processor, memory, system, and the device that MLX computes on."""

import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mlx_ragtune.clients.machine import memory_bytes

_CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Hardware:
    """``chip`` is the processor's name as the system gives it, ``device`` that of MLX, ``load`` the load average."""

    chip: str
    cores: int
    memory_gib: float
    system: str
    device: str
    load: float

    @property
    def busy(self) -> bool:
        """Whether other programs computed during the last minute: measured times then say little."""
        return self.load > 0.25 * self.cores


def _chip() -> str:
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return platform.machine()
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", _CPU_INFO.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine()


def this_machine() -> Hardware:
    """The machine that this process runs on, now."""
    from mlx_ragtune.clients.runtime_mlx import mx

    system, version = platform.system(), platform.release()
    if sys.platform == "darwin":
        system, version = "macOS", platform.mac_ver()[0]
    return Hardware(
        chip=_chip(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_gib=round(memory_bytes() / 2**30, 1),
        system=f"{system} {version}",
        device=str(mx.default_device().type).rpartition(".")[2],
        load=round(os.getloadavg()[0], 2),
    )
