"""Reading and writing JSONL: one JSON object per line, UTF-8, lines end in ``\\n`` only.

``read_rows`` and ``read_dicts`` read a finished file and report the first bad line as ``file:line``.
``write_rows`` writes a whole file. ``RowLog`` is a log that several processes may append to and
that survives a kill or a full disk at any point.
"""

import fcntl
import json
import os
import re
import stat
import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, Self, TypeVar

from mlx_ragtune.errors import InputError, ToolError

MAX_ROW_BYTES = 64 * 1024 * 1024
"""Longest line that is read, in bytes."""
MAX_DEPTH = 64
"""Deepest nesting of lists and objects that is read."""
BOM = b"\xef\xbb\xbf"
BLOCK_BYTES = 64 * 1024
_SURROGATE = re.compile("[\ud800-\udfff]")
_PLAIN = {"unexpected_keyword_argument": "unknown key", "tuple_type": "Input should be a list"}
"""What the validator says in words of Python."""
_UTF_16 = ("UTF-16 text", "save it as UTF-8: iconv -f UTF-16 -t UTF-8 FILE > NEW")
_NOT_TEXT = {
    b"\xff\xfe": _UTF_16,
    b"\xfe\xff": _UTF_16,
    b"\x1f\x8b": ("a gzip file", "unpack it: gunzip FILE"),
    b"PK\x03\x04": ("a ZIP file or a spreadsheet", "unpack it, or save the sheet as CSV in UTF-8"),
    b"PAR1": ("a Parquet file", "give it a name that ends in .parquet"),
}
"""First bytes of files that are given by mistake: what they are, and what to do."""

Row = TypeVar("Row")


@cache
def _adapter(row_type: type) -> Any:
    from pydantic import ConfigDict, TypeAdapter, with_config

    config = ConfigDict(extra="forbid", strict=False, allow_inf_nan=False)
    return TypeAdapter(with_config(config)(row_type))


def parse_row(row_type: type[Row], value: object, *, where: str) -> Row:
    """``value`` as a ``row_type``. Raises InputError that names every wrong field."""
    from pydantic import ValidationError

    try:
        row: Row = _adapter(row_type).validate_python(value)  # type: ignore[arg-type]
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in detail['loc']) or 'row'}: {_PLAIN.get(detail['type'], detail['msg'])}"
            + (f" (got {detail['input']!r:.60})" if detail["type"] != "missing" else "")
            for detail in error.errors()
        )
        raise InputError(f"not a {row_type.__name__}: {problems}", where=where, fix="correct this line") from None
    return row


def read_rows(path: Path, row_type: type[Row]) -> Iterator[Row]:
    """Validated rows of a JSONL file, in order. Raises InputError with ``file:line`` at the first bad line."""
    for _where, row in read_located_rows(path, row_type):
        yield row


def read_located_rows(path: Path, row_type: type[Row]) -> Iterator[tuple[str, Row]]:
    """The rows of ``read_rows``, each with its ``file:line``."""
    for where, value in _values(path, final_newline=False):
        yield where, parse_row(row_type, value, where=where)


def read_dicts(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of a JSONL file, in order. Raises InputError with ``file:line`` at the first bad line."""
    for where, value in _values(path, final_newline=False):
        yield _object(value, where)


def read_json(path: Path) -> Any:
    """The value of a file that holds one JSON document. Raises InputError as the readers of rows do."""
    with opened(path) as stream:
        try:
            text = stream.read(MAX_ROW_BYTES + 1)
        except OSError as error:
            _cannot_read(path, error.strerror or str(error))
    if len(text) > MAX_ROW_BYTES:
        raise InputError(f"the file is larger than {MAX_ROW_BYTES // 2**20} MiB", where=str(path))
    return _value(text.removeprefix(BOM), str(path))


def read_values(path: Path, errors: list[InputError]) -> Iterator[tuple[str, object]]:
    """``file:line`` and JSON value of every line that is JSON, in order; the others' errors are added to ``errors``.

    Raises InputError when the file cannot be read.
    """
    yield from _values(path, final_newline=False, errors=errors)


def to_json(row: object) -> str:
    """One row (a record, or a dict that may hold records) as one line of JSON, without a newline.

    Keys stay in field order and text is not escaped. A lone surrogate becomes U+FFFD. Raises ValueError
    for NaN and infinity.
    """
    text = json.dumps(row, ensure_ascii=False, allow_nan=False, default=asdict)
    if not text.isascii() and _SURROGATE.search(text):
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def write_rows(path: Path, rows: Iterable[object]) -> int:
    """Write rows as JSONL, fsynced; returns how many. Raises ToolError when the file cannot be written."""
    count = 0
    try:
        with path.open("wb") as stream:
            for row in rows:
                stream.write(to_json(row).encode() + b"\n")
                count += 1
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        _cannot_write(path, error)
    return count


class RowLog:
    """An append-only JSONL file. A row is on disk when ``append`` returns; a row is never half there.

    Several processes and threads may append to the same file. What a killed process left of its last
    line is removed when the file is opened, and before each append.
    """

    def __init__(self, path: Path) -> None:
        """Open or create ``path``. Raises ToolError when it cannot be opened for writing."""
        self.path = path
        self._thread_lock = threading.Lock()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            _cannot_write(path, error)
        try:
            with _Locked(self._file):
                end_last_line(self._file)
        except OSError as error:
            os.close(self._file)
            _cannot_write(path, error)

    def append(self, row: object) -> None:
        """Write one row and fsync it. Raises ToolError, with nothing of the row left, when that fails."""
        line = to_json(row).encode() + b"\n"
        try:
            with self._thread_lock, _Locked(self._file):
                size = end_last_line(self._file)
                try:
                    _write_all(self._file, line)
                    os.fsync(self._file)
                except BaseException:
                    os.ftruncate(self._file, size)
                    raise
        except OSError as error:
            _cannot_write(self.path, error)

    def rows(self, row_type: type[Row]) -> Iterator[Row]:
        """The complete rows on disk now, those of other processes included."""
        for where, value in _values(self.path, final_newline=True):
            yield parse_row(row_type, value, where=where)

    def dicts(self) -> Iterator[dict[str, Any]]:
        """The complete rows on disk now as plain objects, those of other processes included."""
        for where, value in _values(self.path, final_newline=True):
            yield _object(value, where)

    def close(self) -> None:
        """Close the file; closing twice is allowed."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Locked:
    """Holds the exclusive lock of an open file, against every other process that opened it."""

    def __init__(self, file: int) -> None:
        self._file = file

    def __enter__(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._file, fcntl.LOCK_UN)


def _write_all(file: int, data: bytes) -> None:
    """Write all of ``data``; the system may take it in parts."""
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def end_last_line(file: int) -> int:
    """The size of the file after a last line without ``\\n`` was removed, or ended if it is a whole object."""
    size = os.fstat(file).st_size
    if size == 0 or os.pread(file, 1, size - 1) == b"\n":
        return size
    end, tail = size, b""
    while end and b"\n" not in tail:
        start = max(0, end - BLOCK_BYTES)
        tail = os.pread(file, end - start, start) + tail
        end = start
    tail = tail[tail.rfind(b"\n") + 1 :]
    try:  # a JSON object that was cut short is never valid JSON, so a valid one is complete
        whole = isinstance(json.loads(tail), dict)
    except (ValueError, RecursionError):
        whole = False
    if whole:
        _write_all(file, b"\n")
    else:
        os.ftruncate(file, size - len(tail))
    os.fsync(file)
    return os.fstat(file).st_size


def _values(path: Path, *, final_newline: bool, errors: list[InputError] | None = None) -> Iterator[tuple[str, object]]:
    """Each line's ``file:line`` and JSON value; ``final_newline`` leaves out a last line that has none.

    The error of a line that is not JSON is raised, or added to ``errors``.
    """
    with opened(path) as stream:
        first = True
        for number, line in enumerate(_lines(path, stream), start=1):
            if number == 1:
                line = line.removeprefix(BOM)
            if not line.strip() or (final_newline and not line.endswith(b"\n")):
                continue
            where = f"{path}:{number}"
            if first and line.lstrip().startswith(b"["):
                raise InputError(
                    "a JSON array, expected JSONL: one object per line", where=where, fix="jq -c '.[]' FILE > NEW.jsonl"
                )
            first = False
            try:
                value = _value(line.rstrip(b"\r\n"), where)
            except InputError as error:
                if errors is None:
                    raise
                errors.append(error)
            else:
                yield where, value


def opened(path: Path) -> BinaryIO:
    """The file, open for reading. Raises InputError for anything but a readable regular file that may hold UTF-8."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a directory" if stat.S_ISDIR(mode) else "a device or a pipe"
            raise InputError(f"cannot be read: {kind}, expected a file", where=str(path), fix="give the path of a file")
        stream = path.open("rb")
        start = stream.read(4)
        stream.seek(0)
    except OSError as error:
        _cannot_read(path, error.strerror or str(error))
    except ValueError as error:  # a NUL byte or a lone surrogate in the path
        _cannot_read(path, str(error))
    for magic, (kind, fix) in _NOT_TEXT.items():
        if start.startswith(magic):
            stream.close()
            raise InputError(f"cannot be read: {kind}, expected text in UTF-8", where=str(path), fix=fix)
    return stream


def _lines(path: Path, stream: BinaryIO) -> Iterator[bytes]:
    """The lines, with their ``\\n``. Raises InputError for one longer than MAX_ROW_BYTES."""
    number = 0
    while True:
        number += 1
        try:
            line = stream.readline(MAX_ROW_BYTES + 1)
        except OSError as error:
            _cannot_read(path, error.strerror or str(error))
        if not line:
            return
        if len(line) > MAX_ROW_BYTES:
            raise InputError(
                f"the line is longer than {MAX_ROW_BYTES // 2**20} MiB", where=f"{path}:{number}",
                fix="write one JSON object per line",
            )  # fmt: skip
        yield line


def _value(line: bytes, where: str) -> object:
    """The JSON value of one line. Raises InputError for everything that is not strict JSON in UTF-8."""
    try:
        text = line.decode().rstrip()
    except UnicodeDecodeError as error:
        problem = f"not UTF-8: byte 0x{line[error.start]:02x} at position {error.start + 1}"
        raise InputError(problem, where=where, fix="save it as UTF-8") from None
    if "\0" in text:
        raise InputError("not UTF-8: NUL bytes, as UTF-16 has them", where=where, fix="save it as UTF-8")
    try:
        value = json.loads(text, object_pairs_hook=_mapping, parse_constant=_no_constant, parse_float=_finite)
        if line.count(b"[") + line.count(b"{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
            raise RecursionError
        if b"\\u" in line:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InputError(
            r"lone surrogate (\ud800 to \udfff), which is not a character", where=where,
            fix="write the character itself, in UTF-8",
        ) from None  # fmt: skip
    except json.JSONDecodeError as error:
        problem = f"not JSON: {error.msg} (column {error.colno})"
        if error.lineno > 1:  # a file that is one document
            raise InputError(problem, where=f"{where}:{error.lineno}", fix="correct this line") from None
        raise InputError(problem, where=where, fix="write one JSON object per line") from None
    except ValueError as error:
        what = str(error)
        if "integer string conversion" in what:
            what = "a number has too many digits"
        raise InputError(f"not JSON: {what}", where=where, fix="correct this line") from None
    except RecursionError:
        raise InputError(
            f"not JSON: nested deeper than {MAX_DEPTH} levels", where=where, fix="correct this line"
        ) from None
    return value


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"not a JSON object: {to_json(value):.60}", where=where, fix="write one JSON object per line")
    return value


def _mapping(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """The pairs as a dict. Raises ValueError for a key that stands twice."""
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        keys = [key for key, _ in pairs]
        duplicate = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"duplicate key {duplicate!r:.60}")
    return mapping


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text:.60} is too large a number")
    return number


def _depth(value: object) -> int:
    """How deep lists and objects are nested; a number or a text has depth 0."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    return depth


def _cannot_read(path: Path, problem: str) -> NoReturn:
    raise InputError(f"cannot be read: {problem}", where=str(path), fix="check the path and its permissions") from None


def _cannot_write(path: Path, error: OSError) -> NoReturn:
    raise ToolError(
        f"cannot be written: {error.strerror or error}", where=str(path),
        fix="free disk space or correct the permissions, then run the same command again",
    ) from None  # fmt: skip
