"""MLX on Linux multiplies with OpenBLAS, whatever path it is installed under."""

import ctypes
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from mlx_ragtune.clients import runtime_mlx
from mlx_ragtune.clients.runtime_mlx import (
    BLAS_FUNCTIONS,
    file_mappings,
    got_entries,
    mx,
    openblas_functions,
    use_openblas,
)
from mlx_ragtune.errors import ToolError

linux = pytest.mark.skipif(sys.platform != "linux", reason="only MLX's Linux wheel needs it")


@linux
def test_the_entries_of_mlx_point_to_openblas() -> None:
    mappings = [
        mapping
        for mapping in file_mappings(Path("/proc/self/maps").read_text())
        if mapping.path.name == "libmlx.so" and mapping.offset == 0
    ]
    entries, functions = got_entries(mappings[0].path, BLAS_FUNCTIONS), openblas_functions(BLAS_FUNCTIONS)
    assert set(entries) == set(functions) == set(BLAS_FUNCTIONS)
    for name, offset in entries.items():
        assert ctypes.c_void_p.from_address(mappings[0].start + offset).value == functions[name], name


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (64, 300, 129)])
@pytest.mark.parametrize("transposed", [False, True])
def test_products_are_those_of_numpy(shape: tuple[int, int, int], transposed: bool) -> None:
    rows, inner, columns = shape
    draw = np.random.default_rng(0)
    left = draw.normal(size=(rows, inner)).astype(np.float32)
    right = draw.normal(size=(columns, inner) if transposed else (inner, columns)).astype(np.float32)
    ours = mx.array(left) @ (mx.array(right).T if transposed else mx.array(right))
    np.testing.assert_allclose(np.array(ours), left @ (right.T if transposed else right), rtol=1e-4, atol=1e-4)


def test_complex_products_are_those_of_numpy() -> None:
    draw = np.random.default_rng(0)
    left, right = (draw.normal(size=(4, 4)) + 1j * draw.normal(size=(4, 4)) for _ in range(2))
    ours = mx.array(left.astype(np.complex64)) @ mx.array(right.astype(np.complex64))
    np.testing.assert_allclose(np.array(ours), left @ right, rtol=1e-4, atol=1e-4)


MAPS = """\
7f0000000000-7f0000001000 r--p 00000000 08:01 42                         /home/a person/my env/lib/libmlx.so
7f0000001000-7f0000003000 r-xp 00001000 08:01 42                         /home/a person/my env/lib/libmlx.so
7f0000003000-7f0000004000 rw-p 00000000 00:00 0
7f0000004000-7f0000005000 rw-p 00000000 00:00 0                          [heap]
7f0000005000-7f0000006000 r--p 00000000 08:01 43                         /memfd:x (deleted)
"""


def test_paths_with_spaces_are_read_whole_and_anonymous_memory_is_skipped() -> None:
    found = list(file_mappings(MAPS))
    assert [mapping.path.name for mapping in found] == ["libmlx.so", "libmlx.so", "memfd:x (deleted)"]
    assert str(found[1].path) == "/home/a person/my env/lib/libmlx.so"
    assert (found[1].start, found[1].end, found[1].offset) == (0x7F0000001000, 0x7F0000003000, 0x1000)
    assert found[1].permissions == "r-xp"


def elf(path: Path, relocations: list[tuple[int, int, int]], names: list[str]) -> Path:
    """A 64-bit ELF file with a string table, a symbol table and one relocation section.

    ``relocations``: (offset, relocation type, index of the symbol).
    """
    strings, offsets = b"\0", []
    for name in names:
        offsets.append(len(strings))
        strings += name.encode() + b"\0"
    symbols = bytes(24) + b"".join(struct.pack("<IBBHQQ", at, 0, 0, 0, 0, 0) for at in offsets)
    relas = b"".join(struct.pack("<QQq", offset, symbol << 32 | kind, 0) for offset, kind, symbol in relocations)
    at = 64
    body, sections = b"", [struct.pack("<IIQQQQIIQQ", *([0] * 10))]
    for kind, content, link in ((3, strings, 0), (11, symbols, 1), (4, relas, 2)):
        sections.append(struct.pack("<IIQQQQIIQQ", 0, kind, 0, 0, at + len(body), len(content), link, 0, 8, 0))
        body += content
    head = b"\x7fELF\2\1\1" + bytes(9) + bytes(24) + struct.pack("<Q", at + len(body)) + bytes(10)
    head += struct.pack("<HHH", 64, len(sections), 0)
    path.write_bytes(head + body + b"".join(sections))
    return path


@pytest.mark.parametrize(
    "kind", [6, 7, 1025, 1026], ids=["x86 GLOB_DAT", "x86 JUMP_SLOT", "arm GLOB_DAT", "arm JUMP_SLOT"]
)
def test_entries_are_found_by_the_relocations_of_both_processors(tmp_path: Path, kind: int) -> None:
    library = elf(tmp_path / "lib.so", [(0x10, 1, 1), (0x88, kind, 2), (0x90, kind, 1)], ["malloc", "cblas_sgemm"])
    assert got_entries(library, BLAS_FUNCTIONS) == {"cblas_sgemm": 0x88}


def test_relative_relocations_are_no_imports(tmp_path: Path) -> None:
    assert got_entries(elf(tmp_path / "lib.so", [(0x88, 8, 1)], ["cblas_sgemm"]), BLAS_FUNCTIONS) == {}


@linux
def test_an_mlx_without_a_blas_function_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_mlx, "BLAS_FUNCTIONS", ("cblas_sgemm", "cblas_xgemm"))
    with pytest.raises(ToolError, match=r"does not import cblas_xgemm") as caught:
        use_openblas()
    assert caught.value.where.endswith("libmlx.so")


@linux
def test_an_openblas_without_a_function_is_refused() -> None:
    with pytest.raises(ToolError, match="scipy_cblas_xgemm") as caught:
        openblas_functions(("cblas_xgemm",))
    assert "scipy" in caught.value.fix


@linux
def test_a_missing_scipy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(ToolError, match="SciPy's OpenBLAS is missing"):
        openblas_functions(BLAS_FUNCTIONS)


@linux
def test_a_library_that_is_not_loaded_is_named() -> None:
    with pytest.raises(ToolError, match="is not loaded"):
        use_openblas("libother.so")


def test_doctor_measures_the_product() -> None:
    from mlx_ragtune.commands.doctor import matmul_gflops

    assert matmul_gflops(64) > 0
