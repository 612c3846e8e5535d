"""Converts weights into a GGUF file in parallel, a few rows at a time; the result does not depend on the order.

Each piece knows its rows in the source and its offset in the target, so workers pass no data and never hold
a whole tensor. Quantizing holds the GIL (libgguf), so processes do it; threads do float conversions.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from math import prod
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as Type

from mlx_ragtune.clients.machine import disk_writes
from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.gguf.quantize import encode
from mlx_ragtune.models.stored_layout import AnyWeight
from mlx_ragtune.models.weights import Floats, to_float32

PIECE_VALUES = 4 * 2**20
"""Values in one piece: 16 MiB as float32; a worker needs about four times that."""
_WORTH_PROCESSES = 32 * 2**20
"""With fewer values, starting processes takes longer than quantizing."""
_FLOATS = (Type.F32, Type.F16, Type.BF16)


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


def _convert(file: Path, piece: _Piece) -> None:
    tensor = piece.tensor
    data = np.ascontiguousarray(_encoded(piece)).view(np.uint8).reshape(-1)
    at = tensor.offset + tensor.bytes // tensor.shape[0] * piece.first
    handle = os.open(file, os.O_WRONLY)
    try:
        done = 0
        while done < data.size:
            done += os.pwrite(handle, data[done:].data, at + done)
    finally:
        os.close(handle)


def _encoded(piece: _Piece) -> npt.NDArray[np.generic]:
    tensor = piece.tensor
    if tensor.source is None:
        return np.array(tensor.values, dtype=np.float32)
    raw = tensor.source.raw(piece.first, piece.count)
    if not is_finite(raw):
        raise InputError(
            f"'{tensor.source.name}' contains NaN or infinite values",
            where=str(tensor.source.file),
            fix="train again with a lower train.learning_rate, or fetch the base again",
        )
    if tensor.heads:
        raw = interleave(raw, tensor.heads * piece.count // tensor.shape[0])
    if tensor.order:
        raw = np.ascontiguousarray(tensor.order.tiled(raw))
    if raw.dtype == np.uint16 and tensor.type == Type.BF16 and not tensor.shift:
        return raw
    values = to_float32(raw)
    if tensor.shift:
        values = values + np.float32(tensor.shift)
    if tensor.decay:
        values = -np.exp(values)
    coded = encode(values, tensor.type)
    if tensor.type == Type.F16 and not is_finite(coded):
        raise InputError(
            f"'{tensor.name}' has values up to {np.abs(values).max():.3g}, more than F16's maximum 65504",
            where=str(tensor.source.file),
            fix="set export.type to BF16 or Q8_0",
        )
    return coded


_EXPONENT: dict["np.dtype[Any]", np.uint16] = {
    np.dtype(np.uint16): np.uint16(0x7F80),
    np.dtype(np.float16): np.uint16(0x7C00),
}
"""Exponent bits of the two-byte types (uint16 is bfloat16): all set only in infinities and NaN (IEEE 754)."""


def is_finite(values: npt.NDArray[np.generic]) -> bool:
    """Whether every value is finite; uint16 holds bfloat16. Two-byte values are not widened."""
    mask = _EXPONENT.get(values.dtype)
    if mask is None:
        return bool(np.isfinite(values).all())
    return not bool(((np.ascontiguousarray(values).view(np.uint16) & mask) == mask).any())


def usable_cores() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _executor(tensors: list[Tensor], workers: int) -> Executor:
    quantized = sum(prod(tensor.shape) for tensor in tensors if tensor.type not in _FLOATS)
    if quantized < _WORTH_PROCESSES or workers == 1:
        return ThreadPoolExecutor(workers)
    return ProcessPoolExecutor(workers, get_context("spawn"))  # forking a process with MLX's threads can deadlock


def convert(
    tensors: list[Tensor],
    file: Path,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the bytes of all tensors into ``file``, which already has its full size.

    ``progress`` is called with (pieces done, all pieces). Raises InputError for values that the type cannot
    represent, and ToolError when a write or a worker fails.
    """
    pieces = [piece for tensor in tensors for piece in _pieces(tensor)]
    executor = _executor(tensors, workers or usable_cores())
    try:
        with disk_writes(file, sum(tensor.bytes for tensor in tensors)):
            futures = [executor.submit(partial(_convert, file), piece) for piece in pieces]
            for done, future in enumerate(as_completed(futures), start=1):
                future.result()
                if progress:
                    progress(done, len(pieces))
    except BrokenProcessPool as error:
        raise ToolError(
            "a worker process was killed while quantizing, probably because memory ran out",
            where=str(file),
            fix="close other programs and run the same command again",
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)
