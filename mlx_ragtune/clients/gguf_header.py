"""The single values in the header of a GGUF file: architecture, type, template, sizes.

Lists are skipped unread: GGUFReader of the ``gguf`` package takes half a minute for the tokens of a 4B model.
Layout: github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import mmap
import struct
from pathlib import Path
from typing import NoReturn

from mlx_ragtune.errors import InputError

Value = int | float | bool | str
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_SIZES = {"block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count"}


def read_header(path: Path) -> dict[str, Value]:
    """The numbers and texts of a GGUF's key-value pairs by key.

    Raises InputError for a file that cannot be read, or whose header is not that of a GGUF version 2 or 3.
    """
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Header(data, path).values()
    except OSError as error:
        raise InputError(f"cannot read the GGUF file: {error.strerror}", where=str(path)) from None
    except (ValueError, struct.error):  # empty, or it ends inside its header
        raise _damaged(path, "it is cut off") from None


def require_gguf(path: Path) -> None:
    """Raise InputError when ``path`` is not a GGUF file, or has sizes at which llama.cpp would abort the process."""
    if not path.is_file():
        raise InputError("no such GGUF file", where=str(path), fix="correct the path")
    for key, value in read_header(path).items():
        _, _, name = key.partition(".")
        size = name in _SIZES and not (isinstance(value, int) and 0 < value < 2**30)
        epsilon = name.endswith("_epsilon") and not (isinstance(value, float) and 0 < value < 1)
        if size or epsilon:
            raise _damaged(path, f"its {key} is {value}")


def _damaged(path: Path, what: str) -> InputError:
    return InputError(f"not a GGUF file: {what}", where=str(path), fix="export or download it again")


class _Header:
    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self._data, self._path, self._at = data, path, 24

    def values(self) -> dict[str, Value]:
        if self._data[:4] != b"GGUF":
            self._refuse(f"it begins with {self._data[:4]!r}")
        version, _tensors, pairs = struct.unpack_from("<IQQ", self._data, 4)
        if version not in (2, 3):
            self._refuse(f"its version is {version}")
        values: dict[str, Value] = {}
        for _ in range(pairs):  # bounded by the file's size: each pair takes bytes
            key, kind = self._string(), int(self._scalar("<I"))
            if kind == _ARRAY:
                self._skip_list()
            else:
                values[key] = self._string() if kind == _STRING else self._scalar(self._layout(kind))
        return values

    def _refuse(self, what: str) -> NoReturn:
        raise _damaged(self._path, what)

    def _layout(self, kind: int) -> str:
        if kind not in _SCALARS:
            self._refuse(f"it has a value of type {kind}")
        return _SCALARS[kind]

    def _scalar(self, layout: str) -> int | float | bool:
        (value,) = struct.unpack_from(layout, self._data, self._at)
        self._at += struct.calcsize(layout)
        return value

    def _step(self, length: int) -> int:
        """Move past ``length`` bytes; returns where they begin."""
        start = self._at
        if length > len(self._data) - start:
            self._refuse("it is cut off")
        self._at = start + length
        return start

    def _string(self) -> str:
        length = int(self._scalar("<Q"))
        start = self._step(length)
        return self._data[start : start + length].decode(errors="replace")

    def _skip_list(self) -> None:
        kind, count = int(self._scalar("<I")), int(self._scalar("<Q"))
        if kind != _STRING:
            self._step(count * struct.calcsize(self._layout(kind)))
            return
        for _ in range(count):
            self._step(int(self._scalar("<Q")))
