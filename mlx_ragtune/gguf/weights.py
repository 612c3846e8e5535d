"""Tensors of a model folder one at a time, straight from the file, as float32 or as they are stored."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlx_ragtune.errors import InputError

_TYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
_MAX_HEADER = 100 * 2**20

Floats = npt.NDArray[np.float32]


class Weights:
    """The tensors of a folder's safetensors files, by name, sorted. Nothing is read until it is asked for."""

    def __init__(self, folder: Path) -> None:
        self._entries: dict[str, tuple[Path, int, dict[str, Any]]] = {}
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise InputError("no .safetensors file", where=str(folder), fix="name a complete model folder")
        for file in files:
            self._read_header(file)
        self._check_index(folder)

    def _read_header(self, file: Path) -> None:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 2 <= length <= min(size - 8, _MAX_HEADER):
                raise InputError("not a safetensors file", where=str(file), fix="fetch the model again")
            try:
                header = json.loads(stream.read(length))
            except ValueError:
                raise InputError("its header is damaged", where=str(file), fix="fetch the model again") from None
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            if 8 + length + entry["data_offsets"][1] > size:
                raise InputError(f"cut short: '{name}' is not whole", where=str(file), fix="fetch the model again")
            self._entries[name] = (file, 8 + length, entry)

    def _check_index(self, folder: Path) -> None:
        index = folder / "model.safetensors.index.json"
        if not index.exists():
            return
        expected = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        absent = sorted({file for name, file in expected.items() if name not in self._entries})
        if absent:
            raise InputError(f"missing shard {absent[0]}", where=str(folder), fix="fetch the model again")

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it."""
        return tuple(self._entries[name][2]["shape"])

    def is_bf16(self, name: str) -> bool:
        """Whether it is stored as bfloat16."""
        return bool(self._entries[name][2]["dtype"] == "BF16")

    def float32(self, name: str) -> Floats:
        """The tensor as float32 (exact for float16 and bfloat16). Raises InputError for other types."""
        file, start, entry = self._entries[name]
        kind = _TYPES.get(entry["dtype"])
        if kind is None:
            raise InputError(
                f"'{name}' is {entry['dtype']}, not a float type", where=str(file), fix="fetch the full model"
            )
        begin, end = entry["data_offsets"]
        raw = np.memmap(file, mode="r", offset=start + begin, shape=((end - begin) // kind.itemsize,), dtype=kind)
        bf16 = entry["dtype"] == "BF16"
        values: Floats = (raw.astype(np.uint32) << 16).view(np.float32) if bf16 else raw.astype(np.float32)
        return values.reshape(entry["shape"])
