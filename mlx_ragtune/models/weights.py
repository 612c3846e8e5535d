"""Tensors of a model folder: headers are checked, values are read a few rows at a time straight from the file."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlx_ragtune.errors import InputError

_TYPES: dict[str, "np.dtype[Any]"] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
_MAX_HEADER = 100 * 2**20
_ALIGNMENT = 8

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class StoredWeight:
    """A tensor in a safetensors file: ``dtype`` is F32, F16 or BF16, ``start`` its first byte in the file."""

    name: str
    file: Path
    start: int
    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        """Number of values."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """Size in the file."""
        return self.size * _TYPES[self.dtype].itemsize

    def raw(self, first: int, count: int, *, into: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[Any]:
        """``count`` rows along the first axis as stored; bfloat16 as uint16. Raises InputError if cut short.

        ``into`` is a buffer of at least that many bytes; the rows are read into it, and the result is a view of it.
        """
        kind, width = _TYPES[self.dtype], prod(self.shape[1:])
        size = count * width * kind.itemsize
        target = np.empty(size, np.uint8) if into is None else into[:size]
        with self.file.open("rb", buffering=0) as stream:
            stream.seek(self.start + first * width * kind.itemsize)
            done = 0
            while read := stream.readinto(target[done:].data):
                done += read
        if done != size:
            raise InputError(f"truncated: '{self.name}'", where=str(self.file), fix="fetch the model again")
        return target.view(kind).reshape(count, *self.shape[1:])

    def float32(self) -> "Floats":
        """All values as float32 (exact for float16 and bfloat16)."""
        return to_float32(self.raw(0, self.shape[0]))


def tensors_of(file: Path) -> "dict[str, StoredWeight]":
    """The tensors of one safetensors file by name; only the header is read. Raises InputError if it is damaged."""
    return _header(file, None)


def to_float32(raw: npt.NDArray[Any], *, into: Floats | None = None) -> Floats:
    """The stored values as float32, exactly (uint16 is bfloat16). ``into`` is memory of that shape for the result."""
    if raw.dtype == np.float32:
        return raw
    values = np.empty(raw.shape, np.float32) if into is None else into
    if raw.dtype == np.uint16:
        bits = values.view(np.uint32)
        np.copyto(bits, raw)
        bits <<= 16
    else:
        np.copyto(values, raw)
    return values


class Weights:
    """The tensors of a folder by name, sorted; only headers are read.

    Tensors whose name ends in ``ignored`` are left out. Raises InputError for a missing or truncated shard, a damaged
    header, and a tensor that is not float.
    """

    def __init__(self, folder: Path, *, ignored: str | None = None) -> None:
        self._entries: dict[str, StoredWeight] = {}
        for file in _files(folder):
            for name, entry in _header(file, ignored).items():
                if name in self._entries:
                    raise InputError(f"'{name}' is in two shards", where=str(file), fix="fetch the model again")
                self._entries[name] = entry
        self._check_index(folder)

    def _check_index(self, folder: Path) -> None:
        absent = sorted(set(_index(folder)) - set(self._entries))
        if absent:
            raise InputError(
                f"'{absent[0]}' is in the index but in no shard", where=str(folder), fix="fetch the model again"
            )

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))

    def __getitem__(self, name: str) -> StoredWeight:
        return self._entries[name]

    def float32(self, name: str) -> Floats:
        """A whole tensor as float32 (exact for float16 and bfloat16)."""
        return self._entries[name].float32()


def _index(folder: Path) -> dict[str, str]:
    file = folder / "model.safetensors.index.json"
    if not file.exists():
        return {}
    try:
        entries = dict(json.loads(file.read_text(encoding="utf-8"))["weight_map"])
        if not all(isinstance(name, str) and Path(name).name == name for name in entries.values()):
            raise ValueError("a shard that is not a file name")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise InputError("not a shard index", where=str(file), fix="fetch the model again") from None
    return entries


def shard_names(folder: Path) -> list[str]:
    """File names in ``model.safetensors.index.json``, sorted; empty without an index. Raises InputError if damaged."""
    return sorted(set(_index(folder).values()))


def _files(folder: Path) -> list[Path]:
    """Shards of the index; without one, the files that mlx-lm would load (not ``consolidated`` or ``adapters``)."""
    files = [folder / name for name in shard_names(folder)] or sorted(folder.glob("model*.safetensors"))
    if not files:
        raise InputError("no model*.safetensors file", where=str(folder), fix="name a complete model folder")
    for file in files:
        if not file.is_file():
            raise InputError(f"shard {file.name} is missing", where=str(folder), fix="fetch the model again")
    return files


def _header(file: Path, ignored: str | None) -> dict[str, StoredWeight]:
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 2 <= length <= min(size - 8, _MAX_HEADER):
                raise InputError("not a safetensors file", where=str(file), fix="fetch the model again")
            header = json.loads(stream.read(length))
        names = [name for name in header if name != "__metadata__" and not (ignored and name.endswith(ignored))]
        return {name: _entry(name, header[name], file, 8 + length) for name in names}
    except OSError as error:
        raise InputError(f"cannot read it: {error.strerror}", where=str(file), fix="fetch the model again") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError("its header is damaged", where=str(file), fix="fetch the model again") from None


def _entry(name: str, entry: dict[str, Any], file: Path, data: int) -> StoredWeight:
    dtype, shape, (begin, end) = entry["dtype"], tuple(int(length) for length in entry["shape"]), entry["data_offsets"]
    if dtype not in _TYPES:
        raise InputError(
            f"'{name:.120}' is {dtype!s:.20}, not F32, F16 or BF16",
            where=str(file),
            fix="fetch the full-precision model",
        )
    if not shape or min(shape) < 1 or begin < 0 or end - begin != prod(shape) * _TYPES[dtype].itemsize:
        raise ValueError("shape and offsets do not agree")
    if data + end > file.stat().st_size:
        raise InputError(f"truncated: '{name:.120}' is incomplete", where=str(file), fix="fetch the model again")
    return StoredWeight(name, file, data + begin, shape, dtype)


def write_safetensors(
    file: Path,
    shapes: Sequence[tuple[str, tuple[int, ...]]],
    dtype: str,
    pieces: Iterable[npt.NDArray[Any]],
    *,
    made_by: str = "mlx",
) -> None:
    """Write tensors of one type (F32, F16, BF16) whose values arrive as ``pieces``, in the order of ``shapes``.

    ``made_by`` is the library that the file names as its own: ``mlx``, or ``pt`` for PyTorch.
    """
    header: dict[str, Any] = {"__metadata__": {"format": made_by}}
    at = 0
    for name, shape in shapes:
        end = at + prod(shape) * _TYPES[dtype].itemsize
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for piece in pieces:
            stream.write(np.ascontiguousarray(piece).data)
        if stream.tell() != 8 + len(text) + at:
            raise ValueError("the pieces do not match the shapes")
        stream.flush()
        os.fsync(stream.fileno())
