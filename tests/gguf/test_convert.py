"""Conversion in pieces and threads: exact casts, no NaN unnoticed, no disk error lost."""

import errno
import hashlib
import os
import random
import time
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

from mlx_ragtune.errors import ToolError
from mlx_ragtune.gguf import convert, writer
from mlx_ragtune.gguf.quantize import QuantType, f16_of_bf16
from mlx_ragtune.gguf.writer import write_gguf
from mlx_ragtune.models.weights import to_float32
from tests.toy_models import Written

PATTERNS = np.arange(2**16, dtype=np.uint32).astype(np.uint16)
"""Every value of a two-byte type."""


def test_every_bfloat16_becomes_the_float16_that_numpy_gives() -> None:
    finite = PATTERNS[np.isfinite(to_float32(PATTERNS))]
    halves = f16_of_bf16(finite, np.empty_like(finite))
    with np.errstate(over="ignore"):
        expected = to_float32(finite).astype(np.float16)
    assert np.array_equal(halves.view(np.uint16), expected.view(np.uint16))


@pytest.mark.parametrize("dtype", [np.uint16, np.float16])
def test_infinite_values_and_nan_of_two_bytes_are_noticed(dtype: type[np.generic]) -> None:
    values = PATTERNS.view(dtype)
    wide = to_float32(values)
    found = np.array([convert.is_finite(values[place : place + 1]) for place in range(values.size)])
    assert np.array_equal(found, np.isfinite(wide))


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan, -np.nan])
def test_one_bad_float_among_extremes_is_noticed(bad: float) -> None:
    largest = np.finfo(np.float32).max
    values = np.array([0.0, -0.0, largest, -largest, 1e-45, -1e-45], np.float32)
    assert convert.is_finite(values)
    assert not convert.is_finite(np.append(values, np.float32(bad)))


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_K_M"])
def test_small_pieces_in_many_threads_give_the_same_file(
    toys: Path, written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: QuantType
) -> None:
    monkeypatch.setattr(convert, "PIECE_VALUES", 300)
    monkeypatch.setattr(convert, "usable_cores", lambda: 5)
    monkeypatch.setattr(writer, "_HASHED_BYTES", 1000)
    report = write_gguf(toys / "llama", tmp_path / "a.gguf", type=kind, name="small")
    assert report.sha256 == hashlib.sha256((tmp_path / "a.gguf").read_bytes()).hexdigest()
    write_gguf(toys / "llama", tmp_path / "b.gguf", type=kind, name="small")
    monkeypatch.undo()
    write_gguf(toys / "llama", tmp_path / "c.gguf", type=kind, name="small")
    first, second, third = (tmp_path / f"{name}.gguf" for name in "abc")
    assert first.read_bytes() == second.read_bytes() == third.read_bytes()


def test_what_is_called_complete_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces end in any order; the offset never passes one that is not written, and reaches the end."""
    draw, write = random.Random(0), convert._convert

    def slow(file: Path, piece: convert._Piece) -> None:
        time.sleep(draw.random() / 200)
        write(file, piece)

    monkeypatch.setattr(convert, "_convert", slow)
    tensors = [convert.Tensor(str(at), Type.F32, (5,), 20 * at, values=(1.0,) * 5) for at in range(40)]
    file, offsets = tmp_path / "a.gguf", []
    file.write_bytes(bytes(800))

    def check(offset: int) -> None:
        offsets.append(offset)
        assert file.read_bytes()[:offset] == np.ones(offset // 4, np.float32).tobytes()

    convert.convert(draw.sample(tensors, 40), file, workers=8, complete_below=check)
    assert offsets == sorted(offsets)
    assert offsets[-1] == 800


def _tensor(rows: int) -> convert.Tensor:
    return convert.Tensor("rope_freqs.weight", Type.F32, (rows,), 0, values=(1.0,) * rows)


def test_a_disk_that_fails_while_the_file_grows_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel reports a failed write of a file once, maybe to the sync in between: the last sync then succeeds."""
    calls: list[int] = []

    def fail_once(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def wait(_done: int, _all: int) -> None:
        until = time.monotonic() + 5
        while not calls and time.monotonic() < until:
            time.sleep(0.001)

    monkeypatch.setattr(convert, "_SYNC_SECONDS", 0.001)
    monkeypatch.setattr(os, "fsync", fail_once)
    file = tmp_path / "a.gguf"
    file.write_bytes(bytes(40))
    with pytest.raises(ToolError, match="cannot write the file"):
        convert.convert([_tensor(10)], file, progress=wait)
    assert calls
