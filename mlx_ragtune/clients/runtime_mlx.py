"""The only import of MLX. On Linux it also makes MLX use OpenBLAS for matrix products.

MLX's Linux wheel links the reference BLAS, which is about 80 times slower. SciPy's wheel ships OpenBLAS with
kernels for every processor, under prefixed names (``scipy_cblas_sgemm``). After MLX is loaded, the three
BLAS entries in the global offset table (GOT) of ``libmlx.so`` are set to these functions.

Every other module writes ``from mlx_ragtune.clients.runtime_mlx import mx, nn`` (a test enforces it).
"""

import ctypes
import importlib.util
import mmap
import os
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mlx_ragtune.errors import ToolError

BLAS_FUNCTIONS = ("cblas_sgemm", "cblas_dgemm", "cblas_cgemm")
"""The BLAS functions that libmlx.so imports. Its LAPACK functions are not used in any hot path here."""
_RELA_SECTION = 4
_SYMBOL_RELOCATIONS = {6, 7, 1025, 1026}
"""R_X86_64_GLOB_DAT, R_X86_64_JUMP_SLOT, R_AARCH64_GLOB_DAT, R_AARCH64_JUMP_SLOT (ELF psABI supplements)."""
_REINSTALL_MLX = "pip install --force-reinstall mlx mlx-cpu"
_REINSTALL_SCIPY = "pip install --force-reinstall scipy"


@dataclass(frozen=True)
class Mapping:
    """One line of ``/proc/self/maps`` that maps a file: addresses, permissions, offset in the file, path."""

    start: int
    end: int
    permissions: str
    offset: int
    path: Path


def file_mappings(maps: str) -> Iterator[Mapping]:
    """The lines of ``/proc/self/maps`` that map a file. Paths may contain spaces."""
    for line in maps.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5].startswith("/"):
            start, end = (int(address, 16) for address in fields[0].split("-"))
            yield Mapping(start, end, fields[1], int(fields[2], 16), Path(fields[5]))


def got_entries(library: Path, names: Iterable[str]) -> dict[str, int]:
    """Offset from the load address of the GOT entry of each imported function that a 64-bit ELF file has.

    Reads the relocation sections (ELF-64 Object File Format, "Relocation"); functions not imported are left out.
    """
    image, wanted, entries = library.read_bytes(), set(names), {}
    (table,) = struct.unpack_from("<Q", image, 0x28)
    size, count = struct.unpack_from("<HH", image, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", image, table + index * size) for index in range(count)]
    for _, kind, _, _, start, length, link, *_ in sections:
        if kind != _RELA_SECTION:
            continue
        symbols = sections[link]
        strings = sections[symbols[6]][4]
        for offset, info, _ in struct.iter_unpack("<QQq", image[start : start + length]):
            if info & 0xFFFFFFFF in _SYMBOL_RELOCATIONS:
                (name_at,) = struct.unpack_from("<I", image, symbols[4] + 24 * (info >> 32))
                name = image[strings + name_at : image.index(b"\0", strings + name_at)].decode()
                if name in wanted:
                    entries[name] = offset
    return entries


def openblas_functions(names: Iterable[str]) -> dict[str, int]:
    """Address of each function in SciPy's OpenBLAS. Raises ToolError when the library or a function is missing."""
    scipy = importlib.util.find_spec("scipy")
    folder = Path(scipy.origin).parent.with_name("scipy.libs") if scipy and scipy.origin else Path("scipy.libs")
    libraries = sorted(folder.glob("libscipy_openblas-*.so*"))
    if not libraries:
        raise ToolError("SciPy's OpenBLAS is missing; MLX needs it on Linux", where=str(folder), fix=_REINSTALL_SCIPY)
    try:
        openblas = ctypes.CDLL(str(libraries[0]))
        return {name: ctypes.cast(getattr(openblas, f"scipy_{name}"), ctypes.c_void_p).value or 0 for name in names}
    except (OSError, AttributeError) as error:
        raise ToolError(
            f"cannot use SciPy's OpenBLAS: {error}", where=str(libraries[0]), fix=_REINSTALL_SCIPY
        ) from None


def _set_pointer(address: int, value: int, *, read_only: bool) -> None:
    """Write a pointer into memory, making its page writable while that takes."""
    libc = ctypes.CDLL(None, use_errno=True)
    page, size = ctypes.c_void_p(address & -mmap.PAGESIZE), ctypes.c_size_t(mmap.PAGESIZE)
    if libc.mprotect(page, size, mmap.PROT_READ | mmap.PROT_WRITE):
        reason = os.strerror(ctypes.get_errno())
        raise ToolError(f"cannot make MLX use OpenBLAS: mprotect: {reason}", fix="ragtune doctor")
    ctypes.c_void_p.from_address(address).value = value
    if read_only:
        libc.mprotect(page, size, mmap.PROT_READ)


def use_openblas(library_name: str = "libmlx.so") -> None:
    """Make a loaded library call SciPy's OpenBLAS. Raises ToolError when that is not possible."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape")
    mappings = [mapping for mapping in file_mappings(maps) if mapping.path.name == library_name]
    if not mappings:
        raise ToolError(f"{library_name} is not loaded", fix=_REINSTALL_MLX)
    base = next((mapping.start for mapping in mappings if mapping.offset == 0), mappings[0].start)
    entries = got_entries(mappings[0].path, BLAS_FUNCTIONS)
    if missing := sorted(set(BLAS_FUNCTIONS) - set(entries)):
        raise ToolError(
            f"{library_name} does not import {', '.join(missing)}; this version of MLX is not supported on Linux",
            where=str(mappings[0].path),
            fix="install the versions in constraints.txt",
        )
    functions = openblas_functions(BLAS_FUNCTIONS)
    for name, offset in entries.items():
        address = base + offset
        page = next((mapping for mapping in mappings if mapping.start <= address < mapping.end), None)
        _set_pointer(address, functions[name], read_only=page is not None and "w" not in page.permissions)


if sys.platform != "linux":
    # Metal's watchdog kills long steps while the display is on (mlx#3267); MLX reads this when it starts.
    os.environ.setdefault("AGX_RELAX_CDM_CTXSTORE_TIMEOUT", "1")

import mlx.core as mx  # noqa: E402
import mlx.nn as nn  # noqa: E402
import mlx.optimizers as optimizers  # noqa: E402
from mlx.utils import tree_flatten, tree_map, tree_unflatten  # noqa: E402

if sys.platform == "linux":
    use_openblas()

__all__ = ["mx", "nn", "optimizers", "tree_flatten", "tree_map", "tree_unflatten"]
