"""The only import of MLX. On Linux it also points MLX's matrix products at OpenBLAS.

MLX's Linux wheel links the reference BLAS, which is about 80 times slower. SciPy's wheel ships OpenBLAS with
kernels for every processor, under names with a prefix (``scipy_cblas_sgemm``). After MLX is loaded, its three
BLAS entries in the global offset table of ``libmlx.so`` are set to those functions.

Every other module writes ``from mlx_ragtune.clients.runtime_mlx import mx, nn`` (a test enforces it).
"""

import ctypes
import importlib.metadata
import mmap
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from mlx_ragtune.errors import ToolError

BLAS_FUNCTIONS = ("cblas_sgemm", "cblas_dgemm", "cblas_cgemm")
"""The BLAS functions that libmlx.so imports; its LAPACK functions are not on any hot path here."""
_RELA = 4
_SYMBOL_RELOCATIONS = {6, 7, 1025, 1026}
"""R_X86_64_GLOB_DAT, R_X86_64_JUMP_SLOT, R_AARCH64_GLOB_DAT, R_AARCH64_JUMP_SLOT (ELF psABI supplements)."""


def wheel_library(package: str, prefix: str) -> Path:
    """Path of the shared library of ``package`` whose file name starts with ``prefix``. Raises ToolError if absent."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name.startswith(prefix):
            return Path(str(file.locate())).resolve()
    raise ToolError(
        f"{prefix}*.so of the package '{package}' is missing; MLX on Linux needs it",
        fix=f"pip install --force-reinstall {package}",
    )


def _loaded_library(name: str) -> tuple[Path, int, set[int]]:
    """Path of a loaded library, its load address, and the addresses of its read-only pages."""
    path, base, read_only = None, 0, set[int]()
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        span, permissions, *_, file = line.split(maxsplit=5) if line.count(" ") >= 5 else (*line.split(), "")
        if Path(file).name != name:
            continue
        start, end = (int(part, 16) for part in span.split("-"))
        if path is None:
            path, base = Path(file), start
        if "w" not in permissions:
            read_only.update(range(start, end, mmap.PAGESIZE))
    if path is None:
        raise ToolError(f"{name} is not loaded", fix="pip install --force-reinstall mlx mlx-cpu")
    return path, base, read_only


def _offset_table_entries(library: Path, names: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    """(function, offset of its entry from the load address) for each imported function of a 64-bit ELF file."""
    image = library.read_bytes()
    (table,) = struct.unpack_from("<Q", image, 0x28)
    size, count = struct.unpack_from("<HH", image, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", image, table + index * size) for index in range(count)]
    for _, kind, _, _, start, length, link, *_ in sections:
        if kind != _RELA:
            continue
        symbols = sections[link]
        text = sections[symbols[6]][4]
        for offset, info, _ in struct.iter_unpack("<QQq", image[start : start + length]):
            if info & 0xFFFFFFFF in _SYMBOL_RELOCATIONS:
                (name_at,) = struct.unpack_from("<I", image, symbols[4] + 24 * (info >> 32))
                name = image[text + name_at : image.index(b"\0", text + name_at)].decode()
                if name in names:
                    yield name, offset


def _set_pointer(address: int, value: int, *, read_only: bool) -> None:
    """Write a pointer into memory, making its page writable for as long as that takes."""
    libc = ctypes.CDLL(None, use_errno=True)
    page = ctypes.c_void_p(address & -mmap.PAGESIZE)
    size = ctypes.c_size_t(mmap.PAGESIZE)
    if libc.mprotect(page, size, mmap.PROT_READ | mmap.PROT_WRITE):
        raise ToolError(f"cannot link MLX to OpenBLAS: {os.strerror(ctypes.get_errno())}", fix="ragtune doctor")
    ctypes.c_void_p.from_address(address).value = value
    if read_only:
        libc.mprotect(page, size, mmap.PROT_READ)


def _use_openblas() -> None:
    openblas = ctypes.CDLL(str(wheel_library("scipy", "libscipy_openblas")))
    library, base, read_only = _loaded_library("libmlx.so")
    linked = set()
    for name, offset in _offset_table_entries(library, BLAS_FUNCTIONS):
        address = base + offset
        function = ctypes.cast(getattr(openblas, f"scipy_{name}"), ctypes.c_void_p).value
        _set_pointer(address, function or 0, read_only=address & -mmap.PAGESIZE in read_only)
        linked.add(name)
    if missing := sorted(set(BLAS_FUNCTIONS) - linked):
        raise ToolError(
            f"libmlx.so does not import {', '.join(missing)}; this version of MLX is not supported on Linux",
            where=str(library),
            fix="install the versions in constraints.txt",
        )


if sys.platform != "linux":
    # Metal's watchdog kills long steps while the display is on (mlx#3267); MLX reads this when it starts.
    os.environ.setdefault("AGX_RELAX_CDM_CTXSTORE_TIMEOUT", "1")

import mlx.core as mx  # noqa: E402
import mlx.nn as nn  # noqa: E402
import mlx.optimizers as optimizers  # noqa: E402
from mlx.utils import tree_flatten, tree_map, tree_unflatten  # noqa: E402

if sys.platform == "linux":
    _use_openblas()

__all__ = ["mx", "nn", "optimizers", "tree_flatten", "tree_map", "tree_unflatten"]
