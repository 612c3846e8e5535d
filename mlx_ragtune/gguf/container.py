"""A reader of GGUF files from any source: every count and length is checked against the file's size first.

    magic, version, counts │ key-value pairs │ tensor descriptions │ padding │ tensor data

Layout: github.com/ggml-org/ggml/blob/master/docs/gguf.md. Nothing larger than the file is allocated.
"""

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from mlx_ragtune.errors import InputError

MAGIC = b"GGUF"
_SCALARS = {
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    7: "<u1",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
_BOOL, _STRING, _ARRAY = 7, 8, 9
_MAX_DIMENSIONS = 4
_SMALLEST_PAIR, _SMALLEST_TENSOR, _SMALLEST_STRING = 13, 24, 8
"""Smallest possible sizes, in bytes, of a key-value pair, a tensor description and a string in an array."""


@dataclass(frozen=True)
class StoredTensor:
    """One tensor: ``shape`` (row length last), type, and the position of its bytes in the file."""

    name: str
    shape: tuple[int, ...]
    type: GGMLQuantizationType
    start: int
    bytes: int


class GgufFile:
    """``fields`` (Python values, numeric arrays as numpy) and ``tensors`` of a GGUF file that was checked completely.

    Raises InputError for anything but an intact little-endian GGUF of version 2 or 3 in one file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._data = _map(path)
        self._at = 0
        version, tensors, pairs = self._head()
        self.version = version
        self.fields = self._pairs(pairs)
        self.tensors = self._tensors(tensors)

    def damaged(self, what: str) -> InputError:
        """An error about this file."""
        return InputError(f"not a valid GGUF file: {what}", where=str(self.path), fix="fetch the file again")

    def need(self, key: str, kind: type | tuple[type, ...]) -> Any:
        """The value of a key. Raises InputError when it is missing or not a ``kind``."""
        value = self.fields.get(key)
        if value is None:
            raise self.damaged(f"key {key} is missing")
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
            raise self.damaged(f"key {key} is {str(value)[:40]!r}")
        return value

    def rows(self, tensor: StoredTensor, first: int, count: int) -> npt.NDArray[np.uint8]:
        """The stored bytes of ``count`` rows: shape [count, bytes of a row]. A view; nothing is copied."""
        height = prod(tensor.shape[:-1])
        length = tensor.bytes // height
        raw = np.frombuffer(self._data, np.uint8, count * length, tensor.start + first * length)
        return raw.reshape(count, length)

    def _head(self) -> tuple[int, int, int]:
        head = bytes(self._data[:24])
        if head[:4] != MAGIC:
            raise self.damaged(f"it starts with {head[:4]!r}")
        if len(head) < 24:
            raise self.damaged(f"it has only {len(head)} bytes")
        version, tensors, pairs = struct.unpack("<IQQ", head[4:])
        if version in (2 << 24, 3 << 24):
            raise self.damaged("it is big-endian")
        if version not in (2, 3):
            raise self.damaged(f"version {version}")
        size = len(self._data) - 24
        if pairs > size // _SMALLEST_PAIR or tensors > size // _SMALLEST_TENSOR:
            raise self.damaged(f"{pairs} keys and {tensors} tensors do not fit in {size} bytes")
        self._at = 24
        return version, tensors, pairs

    def _take(self, count: int) -> int:
        """Position of the next ``count`` bytes, which are skipped."""
        start = self._at
        if count > len(self._data) - start:
            raise self.damaged(f"truncated: it ends after {len(self._data)} bytes, within its header")
        self._at = start + count
        return start

    def _number(self, layout: str) -> Any:
        start = self._take(struct.calcsize(layout))
        return struct.unpack_from(layout, self._data, start)[0]

    def _string(self) -> str:
        length = self._number("<Q")
        start = self._take(length)
        try:
            return str(self._data[start : start + length], "utf-8")
        except UnicodeDecodeError:
            raise self.damaged(f"the text at byte {start} is not UTF-8") from None

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            return self._array()
        if kind not in _SCALARS:
            raise self.damaged(f"value type {kind} at byte {self._at}")
        start = self._take(np.dtype(_SCALARS[kind]).itemsize)
        value = np.frombuffer(self._data, _SCALARS[kind], 1, start)[0].item()
        return bool(value) if kind == _BOOL else value

    def _array(self) -> Any:
        kind, count = self._number("<I"), self._number("<Q")
        if kind == _STRING:
            if count > (len(self._data) - self._at) // _SMALLEST_STRING:
                raise self.damaged(f"a list of {count} strings does not fit")
            return [self._string() for _ in range(count)]
        if kind not in _SCALARS:
            raise self.damaged(f"a list of type {kind} at byte {self._at}")
        start = self._take(count * np.dtype(_SCALARS[kind]).itemsize)
        return np.frombuffer(self._data, _SCALARS[kind], count, start)

    def _pairs(self, count: int) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for _ in range(count):
            key = self._string()
            if key in fields:
                raise self.damaged(f"duplicate key {key[:60]!r}")
            fields[key] = self._value(self._number("<I"))
        return fields

    def _described(self) -> tuple[str, tuple[int, ...], int, int]:
        name, dimensions = self._string(), self._number("<I")
        if not 1 <= dimensions <= _MAX_DIMENSIONS:
            raise self.damaged(f"tensor {name[:60]!r} has {dimensions} dimensions")
        shape = tuple(self._number("<Q") for _ in range(dimensions))
        return name, shape[::-1], self._number("<I"), self._number("<Q")

    def _tensors(self, count: int) -> tuple[StoredTensor, ...]:
        described = [self._described() for _ in range(count)]
        alignment = self.fields.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 8 <= alignment <= 2**20 or alignment & (alignment - 1):
            raise self.damaged(f"alignment {str(alignment)[:40]!r}")
        base = -(-self._at // alignment) * alignment
        tensors = tuple(self._placed(description, base, alignment) for description in described)
        if len({tensor.name for tensor in tensors}) < count:
            raise self.damaged("two tensors have the same name")
        return tensors

    def _placed(self, described: tuple[str, tuple[int, ...], int, int], base: int, alignment: int) -> StoredTensor:
        name, shape, number, offset = described
        if number not in set(GGMLQuantizationType):
            raise InputError(
                f"tensor '{name[:60]}' has the unknown type {number}",
                where=str(self.path),
                fix="choose a file of another quantization, such as Q8_0",
            )
        kind = GGMLQuantizationType(number)
        block, block_bytes = GGML_QUANT_SIZES[kind]
        if min(shape) < 1 or shape[-1] % block or offset % alignment:
            raise self.damaged(f"tensor {name[:60]!r} has shape {list(shape)} at {offset}")
        size = prod(shape) // block * block_bytes
        if base + offset + size > len(self._data):
            raise self.damaged(f"truncated: tensor {name[:60]!r} ends beyond the file's {len(self._data)} bytes")
        return StoredTensor(name, shape, kind, base + offset, size)


def _map(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as stream:
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError:
        raise InputError("the file is empty", where=str(path), fix="fetch the file again") from None
    except OSError as error:
        raise InputError(f"cannot read it: {error.strerror}", where=str(path), fix="correct the path") from None
