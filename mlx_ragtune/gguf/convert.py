"""Converts weights into a GGUF file in parallel, a few rows at a time; the result does not depend on the order.

Each piece knows its rows in the source and its offset in the target, so threads pass no data and never hold a whole
tensor. Reading, casting, quantizing and writing release the GIL. Each thread uses its buffers again for every piece,
because fresh memory costs a page fault for each page.
"""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as Type

from mlx_ragtune.clients.machine import disk_writes
from mlx_ragtune.errors import InputError
from mlx_ragtune.gguf.quantize import encode, f16_of_bf16
from mlx_ragtune.models.stored_layout import AnyWeight
from mlx_ragtune.models.weights import Floats, to_float32

PIECE_VALUES = 2**20
"""Values in one piece: 4 MiB as float32; a thread needs about four times that."""
_SYNC_SECONDS = 0.5


@dataclass(frozen=True)
class ValueHeads:
    """The order of Qwen3.5's value heads along an axis, from ``start`` on: by key head here, in turn in llama.cpp.

    ``key_heads`` × ``per_key`` heads of ``width`` rows (or columns) each.
    """

    axis: int
    start: int
    key_heads: int
    per_key: int
    width: int

    def tiled(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """``values`` with head (k, v) at v · key_heads + k instead of k · per_key + v."""
        rows = np.moveaxis(values, self.axis, 0)
        heads = rows[self.start :].reshape(self.key_heads, self.per_key, self.width, *rows.shape[1:])
        tiled = heads.swapaxes(0, 1).reshape(rows[self.start :].shape)
        return np.moveaxis(np.concatenate([rows[: self.start], tiled]), 0, self.axis)


@dataclass(frozen=True)
class Tensor:
    """A tensor of the target: its type, the offset of its bytes, and the source of its values.

    ``values`` replaces a stored source. ``heads`` > 0: rows are put into interleaved rotary order, head by
    head. ``shift`` is added to every value. ``order``: value heads are put into llama.cpp's order. ``decay``: the
    values are logarithms, and -exp(value) is stored.
    """

    name: str
    type: Type
    shape: tuple[int, ...]
    offset: int
    source: AnyWeight | None = None
    values: tuple[float, ...] = ()
    heads: int = 0
    shift: float = 0.0
    order: ValueHeads | None = None
    decay: bool = False

    @property
    def bytes(self) -> int:
        """Size in the file, without padding."""
        block, block_bytes = GGML_QUANT_SIZES[self.type]
        return prod(self.shape) // block * block_bytes


@dataclass(frozen=True)
class _Piece:
    tensor: Tensor
    first: int
    count: int

    @property
    def start(self) -> int:
        """Offset of its first byte in the file."""
        return self.tensor.offset + self.tensor.bytes // self.tensor.shape[0] * self.first

    @property
    def end(self) -> int:
        """Offset behind its last byte."""
        return self.tensor.offset + self.tensor.bytes // self.tensor.shape[0] * (self.first + self.count)


def interleave(rows: npt.NDArray[np.generic], heads: int) -> npt.NDArray[np.generic]:
    """Rows of complete q or k heads, reordered from half-split to interleaved rotary order (llama.cpp's layout).

    Row j of a head's first half moves to 2j, row j of its second half to 2j + 1. Shape [rows, ...] stays.
    """
    rest = rows.shape[1:]
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rest).swapaxes(1, 2).reshape(rows.shape)


def deinterleave(rows: Floats, heads: int) -> Floats:
    """The inverse of ``interleave``."""
    rest = rows.shape[1:]
    return rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rest).swapaxes(1, 2).reshape(rows.shape)


def _pieces(tensor: Tensor) -> Iterator[_Piece]:
    if len(tensor.shape) == 1 or tensor.order:
        yield _Piece(tensor, 0, tensor.shape[0])
        return
    rows = tensor.shape[0]
    step = rows // tensor.heads if tensor.heads else 1
    size = max(1, PIECE_VALUES // (prod(tensor.shape[1:]) * step)) * step
    for first in range(0, rows, size):
        yield _Piece(tensor, first, min(size, rows - first))


class _Buffers(threading.local):
    """Memory of one thread by purpose; it grows to the largest request and is used again."""

    def __init__(self) -> None:
        self._held: dict[str, npt.NDArray[np.uint8]] = {}

    def take(self, purpose: str, size: int) -> npt.NDArray[np.uint8]:
        """``size`` bytes with the content of their last use."""
        held = self._held.get(purpose)
        if held is None or held.size < size:
            held = self._held[purpose] = np.empty(size, np.uint8)
        return held[:size]


_BUFFERS = _Buffers()


def _convert(file: Path, piece: _Piece) -> None:
    data = np.ascontiguousarray(_encoded(piece)).view(np.uint8).reshape(-1)
    handle = os.open(file, os.O_WRONLY)
    try:
        done = 0
        while done < data.size:
            done += os.pwrite(handle, data[done:].data, piece.start + done)
    finally:
        os.close(handle)


def _stored(tensor: Tensor, source: AnyWeight, piece: _Piece) -> npt.NDArray[Any]:
    """The piece's rows as stored, in the target's order. Raises InputError for NaN and infinite values."""
    size = source.bytes // source.shape[0] * piece.count
    raw = source.raw(piece.first, piece.count, into=_BUFFERS.take("stored", size))
    if not is_finite(raw):
        raise InputError(
            f"'{source.name}' contains NaN or infinite values",
            where=str(source.file),
            fix="train again with a lower train.learning_rate, or fetch the base again",
        )
    if tensor.order:
        return np.ascontiguousarray(tensor.order.tiled(raw))
    return interleave(raw, tensor.heads * piece.count // tensor.shape[0]) if tensor.heads else raw


def _encoded(piece: _Piece) -> npt.NDArray[np.generic]:
    """The piece's values in the target's type; they are in this thread's buffers until the next piece."""
    tensor = piece.tensor
    if tensor.source is None:
        return np.array(tensor.values, dtype=np.float32)
    raw = _stored(tensor, tensor.source, piece)
    if raw.dtype == np.uint16 and tensor.type == Type.BF16 and not tensor.shift:
        return raw
    if raw.dtype == np.uint16 and tensor.type == Type.F16 and not tensor.shift:
        halves = f16_of_bf16(raw, _BUFFERS.take("coded", raw.nbytes).view(np.uint16).reshape(raw.shape))
        return _checked_halves(halves, raw, tensor)
    values = to_float32(raw, into=_BUFFERS.take("float32", 4 * raw.size).view(np.float32).reshape(raw.shape))
    if tensor.shift:
        values = values + np.float32(tensor.shift)
    if tensor.decay:
        values = -np.exp(values)
    coded = encode(values, tensor.type, into=_BUFFERS.take("coded", 4 * raw.size))
    return _checked_halves(coded, values, tensor) if tensor.type == Type.F16 else coded


def _checked_halves(
    halves: npt.NDArray[np.generic], source: npt.NDArray[Any], tensor: Tensor
) -> npt.NDArray[np.generic]:
    """``halves``; raises InputError when a value of ``source`` became infinite."""
    if not is_finite(halves):
        raise InputError(
            f"'{tensor.name}' has values up to {np.abs(to_float32(source)).max():.3g}, more than F16's maximum 65504",
            where=str(tensor.source.file if tensor.source else ""),
            fix="set export.type to BF16 or Q8_0",
        )
    return halves


_INFINITY: dict["np.dtype[Any]", tuple[Any, Any, int]] = {
    np.dtype(np.uint16): (np.uint16, np.int16, 0x7F80),
    np.dtype(np.float16): (np.uint16, np.int16, 0x7C00),
    np.dtype(np.float32): (np.uint32, np.int32, 0x7F800000),
}
"""Unsigned and signed integers of a type's width, and the bits of infinity; uint16 is bfloat16 (IEEE 754)."""


def is_finite(values: npt.NDArray[np.generic]) -> bool:
    """Whether every value is finite; uint16 holds bfloat16.

    As signed integers, positive values are ordered by size with infinity and NaN on top; as unsigned integers, negative
    values are above all positive ones. So two maxima decide, and nothing is allocated.
    """
    unsigned, signed, infinity = _INFINITY[values.dtype]
    bits = np.ascontiguousarray(values)
    negative = infinity + (1 << 8 * values.dtype.itemsize - 1)
    return bool(bits.view(signed).max() < infinity and bits.view(unsigned).max() < negative)


def usable_cores() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _synced(file: Path) -> Iterator[None]:
    """While the block writes ``file``, what is written goes to the disk, so that little is left at the end.

    Raises OSError when that fails, for example because the disk is full.
    """
    stop, handle = threading.Event(), os.open(file, os.O_WRONLY)
    failed: list[OSError] = []

    def sync() -> None:
        while not stop.wait(_SYNC_SECONDS):
            try:
                os.fsync(handle)
            except OSError as error:  # the kernel reports a failed write once: it must not get lost here
                failed.append(error)
                return

    thread = threading.Thread(target=sync, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        os.close(handle)
    if failed:
        raise failed[0]


def convert(
    tensors: list[Tensor],
    file: Path,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    complete_below: Callable[[int], None] = lambda _offset: None,
) -> None:
    """Write the bytes of all tensors into ``file``, which already has its full size.

    ``progress`` is called with (pieces done, all pieces), and ``complete_below`` with an offset that only grows: the
    file will not change below it. Raises InputError for values that the type cannot represent, and ToolError when a
    write fails.
    """
    ordered = sorted(tensors, key=lambda tensor: tensor.offset)
    pieces = [piece for tensor in ordered for piece in _pieces(tensor)]
    waiting, finished = 0, [False] * len(pieces)
    executor = ThreadPoolExecutor(workers or usable_cores())
    try:
        with disk_writes(file, sum(tensor.bytes for tensor in tensors)), _synced(file):
            futures = {executor.submit(partial(_convert, file), piece): place for place, piece in enumerate(pieces)}
            for done, future in enumerate(as_completed(futures), start=1):
                future.result()
                finished[futures[future]] = True
                while waiting < len(pieces) and finished[waiting]:
                    waiting += 1
                if waiting:
                    complete_below(pieces[waiting - 1].end)
                if progress:
                    progress(done, len(pieces))
    finally:
        executor.shutdown(cancel_futures=True)
