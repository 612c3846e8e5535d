"""``ragtune doctor``: what this machine has and lacks, each finding with what to do about it."""

import importlib.metadata
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlx_ragtune.errors import RagtuneError

State = Literal["ok", "optional", "missing"]
SLOW_GFLOPS = 10.0
"""Reference BLAS reaches 1–2 GFLOP/s on two cores, OpenBLAS more than 100."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. ``missing`` means that the pipeline cannot run here."""

    what: str
    state: State
    found: str
    fix: str = ""

    @property
    def mark(self) -> str:
        """One character for the table."""
        return {"ok": "✓", "optional": "·", "missing": "✗"}[self.state]


def matmul_gflops(size: int = 1024) -> float:
    """Float32 GFLOP/s of one ``size × size`` matrix product in MLX, the best of three."""
    from mlx_ragtune.clients.runtime_mlx import mx

    a = mx.random.normal((size, size))
    mx.eval(a)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        mx.eval(a @ a)
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds) / 1e9


def _python() -> Finding:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    known = {("Darwin", "arm64"), ("Linux", "x86_64"), ("Linux", "aarch64")}
    if (platform.system(), platform.machine()) not in known:
        return Finding("Python", "missing", found, "use a Mac with Apple silicon, or Linux")
    return Finding("Python", "ok", found)


def _mlx() -> Finding:
    from mlx_ragtune.clients.runtime_mlx import mx

    version = importlib.metadata.version("mlx")
    return Finding("MLX", "ok", f"{version}, device {mx.default_device()}")


def _blas() -> Finding:
    speed = matmul_gflops()
    found = f"{speed:.0f} GFLOP/s in a float32 matrix product"
    if sys.platform == "linux" and speed < SLOW_GFLOPS:
        return Finding("matrix product", "missing", found, "pip install --force-reinstall scipy (OpenBLAS is not used)")
    return Finding("matrix product", "ok", found)


def memory_bytes() -> int:
    """Physical memory of this machine, in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _memory() -> Finding:
    gib = memory_bytes() / 2**30
    found = f"{gib:.0f} GiB"
    if gib < 6:
        return Finding("memory", "optional", found, "enough for the demo; a 4B model needs 16 GiB with 4-bit weights")
    return Finding("memory", "ok", found)


def _disk() -> Finding:
    gib = shutil.disk_usage(Path.cwd()).free / 2**30
    if gib < 3:
        return Finding("disk", "missing", f"{gib:.1f} GiB free", "the demo needs 3 GiB, Qwen3-4B about 35 GiB")
    return Finding("disk", "ok", f"{gib:.0f} GiB free")


def _ollama() -> Finding:
    import httpx

    host = os.environ.get("OLLAMA_HOST") or "http://127.0.0.1:11434"
    host = host if host.startswith("http") else f"http://{host}"
    try:
        version = httpx.get(f"{host}/api/version", timeout=2).json()["version"]
    except (httpx.HTTPError, ValueError, KeyError, OSError):
        return Finding("Ollama", "optional", f"no server at {host}", "only for `serve: ollama`: start `ollama serve`")
    return Finding("Ollama", "ok", f"{version} at {host}")


def _llama_quantize() -> Finding:
    found = shutil.which("llama-quantize")
    if found:
        return Finding("llama-quantize", "ok", found)
    return Finding("llama-quantize", "optional", "not on PATH; not needed, our own writer quantizes")


def _embedded_server() -> Finding:
    return Finding("embedded server", "ok", f"xllamacpp {importlib.metadata.version('xllamacpp')}")


CHECKS: tuple[Callable[[], Finding], ...] = (
    _python, _mlx, _blas, _memory, _disk, _embedded_server, _ollama, _llama_quantize,
)  # fmt: skip


def examine() -> list[Finding]:
    """All findings, in a fixed order; a check that fails is itself a finding."""
    return list(_examine())


def _examine() -> Iterator[Finding]:
    for check in CHECKS:
        try:
            yield check()
        except (RagtuneError, ImportError, OSError) as error:
            fix = error.fix if isinstance(error, RagtuneError) else "run `make setup` again"
            yield Finding(check.__name__.strip("_").replace("_", "-"), "missing", str(error).splitlines()[0], fix)
