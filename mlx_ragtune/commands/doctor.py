"""``ragtune doctor``: what this machine has and what it lacks, each finding with what to do about it."""

import importlib.metadata
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from mlx_ragtune import __version__
from mlx_ragtune.clients.machine import memory_bytes
from mlx_ragtune.errors import RagtuneError

State = Literal["ok", "optional", "missing"]
SLOW_GFLOPS = 10.0
"""Reference BLAS reaches 1–2 GFLOP/s on two cores, OpenBLAS more than 100."""
TIMED_SECONDS = 0.5
SPINNING = 1.5
"""All threads together are at least as fast as one on an idle machine; beside other work they were 20 times slower."""
SUPPORTED_PYTHON = ((3, 11), (3, 13))
"""First and last version, as in ``requires-python``."""
PACKAGES = ("mlx", "mlx-lm", "transformers", "numpy", "scipy", "gguf", "xllamacpp", "ollama")
"""Packages whose versions a bug report needs."""
ENVIRONMENT = (
    "RAGTUNE_RUNS", "RAGTUNE_CACHE", "RAGTUNE_OFFLINE", "HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE",
    "OLLAMA_HOST", "OLLAMA_MODELS", "OPENBLAS_NUM_THREADS", "NO_COLOR",
)  # fmt: skip
"""Variables that change what ragtune does and hold no secret."""


@dataclass(frozen=True)
class Finding:
    """The result of one check. ``missing`` means that the pipeline cannot run on this machine."""

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

    matrix = mx.random.normal((size, size))
    mx.eval(matrix)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        mx.eval(matrix @ matrix)
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds) / 1e9


def _python() -> Finding:
    found = f"{platform.python_version()}, {sys.executable}"
    first, last = (".".join(map(str, version)) for version in SUPPORTED_PYTHON)
    if not SUPPORTED_PYTHON[0] <= sys.version_info[:2] <= SUPPORTED_PYTHON[1]:
        return Finding("Python", "missing", found, f"install Python {first} to {last}")
    return Finding("Python", "ok", found)


def _system() -> Finding:
    system, machine = platform.system(), platform.machine()
    version = platform.mac_ver()[0] if system == "Darwin" else platform.release()
    found = f"{system} {version} {machine}, {os.cpu_count()} processors"
    if (system, machine) not in {("Darwin", "arm64"), ("Linux", "x86_64"), ("Linux", "aarch64")}:
        return Finding("system", "missing", found, "use a Mac with Apple silicon, or Linux")
    return Finding("system", "ok", found)


def _packages() -> Finding:
    versions = [f"{package} {importlib.metadata.version(package)}" for package in PACKAGES]
    return Finding("packages", "ok", ", ".join([f"mlx-ragtune {__version__}", *versions]))


def _mlx() -> Finding:
    from mlx_ragtune.clients.runtime_mlx import mx

    device = mx.device_info().get("device_name", "") if mx.metal.is_available() else ""
    found = f"{mx.default_device()} {device}".strip()
    if sys.platform == "darwin" and not mx.metal.is_available():
        return Finding("MLX device", "missing", found, "update macOS: MLX does not find Metal")
    return Finding("MLX device", "ok", found)


def _matrix_product() -> Finding:
    speed = matmul_gflops()
    found = f"{speed:.0f} GFLOP/s in float32"
    if sys.platform == "linux":
        found += ", OpenBLAS of SciPy"
        if speed < SLOW_GFLOPS:
            slow = f"{speed:.0f} GFLOP/s in float32: MLX does not use OpenBLAS"
            return Finding("matrix product", "missing", slow, "pip install --force-reinstall scipy")
    return Finding("matrix product", "ok", found)


def tokens_per_second(model: Path, threads: int) -> float:
    """How fast the embedded server writes with so many threads; measured for about a second at most."""
    from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer
    from mlx_ragtune.records import ChatRequest, Message, Sampling

    with LlamaCppServer(model, context_tokens=512, threads=threads) as server:
        speed = 0.0
        for tokens in (2, 8, 32, 128):
            sampling = Sampling(max_tokens=tokens, context_tokens=512)
            started = time.perf_counter()
            reply = server.chat(ChatRequest((Message("user", "a"),), sampling))
            seconds = time.perf_counter() - started
            speed = reply.answer_tokens / seconds
            if seconds > TIMED_SECONDS:
                break
    return speed


def _threads() -> Finding:
    """Speed with one thread and with all: threads wait for each other by spinning, so one busy core delays all."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    if cores < 2:
        return Finding("threads", "ok", "1 processor")
    with TemporaryDirectory() as folder:
        model = _timed_model(Path(folder))
        speeds = {threads: tokens_per_second(model, threads) for threads in (1, cores)}
    measured = ", ".join(f"{speed:.3g} with {threads}" for threads, speed in speeds.items())
    found = f"tokens/s of a small model by threads: {measured}; load {os.getloadavg()[0]:.1f}"
    if speeds[1] > SPINNING * speeds[cores]:
        fix = (
            f"end other programs, or set 'evaluate.threads: 1' while they run: {cores} threads are "
            f"{speeds[1] / speeds[cores]:.0f} times slower now"
        )
        return Finding("threads", "optional", found, fix)
    return Finding("threads", "ok", found)


def _timed_model(folder: Path) -> Path:
    """A model whose arithmetic is worth several threads."""
    from mlx_ragtune.gguf.writer import write_gguf
    from mlx_ragtune.models.toy import write_toy_model

    write_toy_model(folder / "toy", hidden=512, layers=4)
    write_gguf(folder / "toy", folder / "toy.gguf", type="F16", name="toy")
    return folder / "toy.gguf"


def _memory() -> Finding:
    gib = memory_bytes() / 2**30
    if gib < 6:
        fix = "run small models only: a 4B model needs 16 GiB with 4-bit weights"
        return Finding("memory", "optional", f"{gib:.0f} GiB", fix)
    return Finding("memory", "ok", f"{gib:.0f} GiB")


def _disk() -> Finding:
    from mlx_ragtune.recipe_load import runs_folder

    runs = runs_folder(Path.cwd() / "recipe").absolute()
    existing = next(folder for folder in (runs, *runs.parents) if folder.exists())
    gib = shutil.disk_usage(existing).free / 2**30
    found = f"{gib:.0f} GiB free for {runs}"
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        return Finding("disk", "missing", f"cannot write to {existing}", "set RAGTUNE_RUNS to another folder")
    if gib < 3:
        fix = "free disk space, or set RAGTUNE_RUNS to a folder on another disk; the demo needs 3 GiB, Qwen3-4B 35 GiB"
        return Finding("disk", "missing", found, fix)
    return Finding("disk", "ok", found)


def _ollama() -> Finding:
    import httpx

    from mlx_ragtune.clients.ollama_address import credentials_for, effective_host, start_command

    url = effective_host()
    try:
        version = httpx.get(f"{url}/api/version", timeout=2, auth=credentials_for(url)).json()["version"]
    except (httpx.HTTPError, ValueError, TypeError, LookupError, OSError):
        fix = f"{start_command(url)} (needed only for `serve: ollama` and `backend: ollama`)"
        return Finding("Ollama", "optional", f"no server at {url}", fix)
    return Finding("Ollama", "ok", f"{version} at {url}")


def _embedded_server() -> Finding:
    return Finding("embedded server", "ok", f"xllamacpp {importlib.metadata.version('xllamacpp')}")


def _environment() -> Finding:
    settings = [f"{name}={_public(os.environ[name])}" for name in ENVIRONMENT if name in os.environ]
    return Finding("environment", "ok", " ".join(settings) or "no variable is set")


def _public(value: str) -> str:
    """A value without the ``user:password@`` of an address."""
    scheme, separator, rest = value.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if "@" in rest else value


CHECKS: dict[str, Callable[[], Finding]] = {
    "Python": _python,
    "system": _system,
    "packages": _packages,
    "MLX device": _mlx,
    "matrix product": _matrix_product,
    "threads": _threads,
    "memory": _memory,
    "disk": _disk,
    "embedded server": _embedded_server,
    "Ollama": _ollama,
    "environment": _environment,
}


def examine() -> list[Finding]:
    """All findings, in a fixed order. A check that fails is a finding too; nothing is raised."""
    return list(_examine())


def _examine() -> Iterator[Finding]:
    for name, check in CHECKS.items():
        try:
            yield check()
        except RagtuneError as error:
            yield Finding(name, "missing", error.what, error.fix)
        except importlib.metadata.PackageNotFoundError as error:
            yield Finding(name, "missing", f"the package {error.name} is not installed", "make setup")
        except Exception as error:
            first_line = (str(error).splitlines() or [""])[0]
            yield Finding(name, "missing", f"the check failed: {type(error).__name__}: {first_line}", "make setup")
