"""Zip, tar and gzip files, read in memory within limits, and XML without entities. Nothing is unpacked to disk."""

import gzip
import io
import lzma
import posixpath
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, Self
from xml.etree import ElementTree
from xml.parsers import expat

from mlx_ragtune.errors import InputError

MAX_MEMBER_BYTES = 64 * 2**20
"""Largest member of an archive that is read, when it is unpacked."""
MAX_UNPACKED_BYTES = 256 * 2**20
"""Most bytes that are unpacked of one archive."""
MAX_MEMBERS = 20_000
MAX_DEPTH = 200
"""Deepest nesting of XML elements; those of real papers are below 60."""
_OLE = bytes.fromhex("d0cf11e0a1b11ae1")
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_FAILURES = (
    zipfile.BadZipFile, zipfile.LargeZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError,
    NotImplementedError, struct.error, ValueError, LookupError, RuntimeError,
)  # fmt: skip


def _damaged(path: Path, kind: str, detail: object = "") -> InputError:
    what = f"not {kind}, or damaged" + (f": {detail}" if detail else "")
    return InputError(what, where=str(path), fix="download or export it again")


class ZipPackage:
    """The members of a zip file by name. Raises InputError for a file that is not one, or is encrypted."""

    def __init__(self, path: Path, kind: str) -> None:
        self.path, self._kind, self._left = path, kind, MAX_UNPACKED_BYTES
        _refuse_ole(path, kind)
        try:
            self._zip = zipfile.ZipFile(path)
            entries = self._zip.infolist()
        except _FAILURES:
            raise _damaged(path, kind) from None
        if len(entries) > MAX_MEMBERS:
            self._zip.close()
            raise InputError(f"it holds more than {MAX_MEMBERS:,} files", where=str(path), fix="remove it")
        self._entries = {entry.filename: entry for entry in entries}
        if any(entry.flag_bits & 1 for entry in entries):
            self._zip.close()
            raise InputError("it is encrypted", where=str(path), fix="save a copy without a password")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._zip.close()

    @property
    def names(self) -> list[str]:
        """The names of the members, in the order of the file."""
        return list(self._entries)

    def read(self, name: str) -> bytes:
        """A member's content. Raises InputError when it is missing, damaged or too large."""
        if name not in self._entries:
            raise _damaged(self.path, self._kind, f"it holds no {name}")
        most = min(MAX_MEMBER_BYTES, self._left)
        try:
            with self._zip.open(self._entries[name]) as stream:
                content = stream.read(most + 1)
        except _FAILURES:
            raise _damaged(self.path, self._kind, f"cannot unpack {name}") from None
        if len(content) > most:
            what, limit = (name, MAX_MEMBER_BYTES) if most == MAX_MEMBER_BYTES else ("it", MAX_UNPACKED_BYTES)
            raise InputError(f"{what} unpacks to more than {limit // 2**20} MiB", where=str(self.path), fix="remove it")
        self._left -= len(content)
        return content

    def read_xml(self, name: str) -> ElementTree.Element:
        """A member as XML. Raises InputError as ``read``, and for XML that is not well formed or declares entities."""
        return parse_xml(self.read(name), name, self.path)


def _refuse_ole(path: Path, kind: str) -> None:
    """Raise InputError for the older container of Microsoft, in which Word puts encrypted files."""
    try:
        with path.open("rb") as stream:
            content = stream.read(4 * 2**20)
    except OSError as error:
        raise InputError(
            f"cannot read: {error.strerror}", where=str(path), fix="check that it exists and that you may read it"
        ) from None
    if not content.startswith(_OLE):
        return
    if _ENCRYPTED in content:
        raise InputError("it is encrypted", where=str(path), fix="save a copy without a password")
    raise InputError(
        f"not {kind}: a file of Word 97 to 2003", where=str(path), fix="open it in Word and save it as .docx"
    )


def parse_xml(content: bytes, name: str, path: Path) -> ElementTree.Element:
    """The root element. Nothing is loaded from elsewhere.

    Raises InputError for XML that is not well formed, nests too deeply, or declares entities.
    """
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate(namespace_separator="}")
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise InputError(f"{name} nests XML elements too deeply", where=str(path), fix="remove it")
        builder.start(_named(tag), {_named(key): value for key, value in attributes.items()})

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(_named(tag))

    def entity(*_declaration: object) -> None:
        raise InputError(f"{name} declares XML entities, which are not read", where=str(path), fix="remove it")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.EntityDeclHandler = builder.data, entity
    try:
        parser.Parse(content, True)
        return builder.close()
    except expat.ExpatError as error:
        reason = f" (line {error.lineno}: {expat.ErrorString(error.code)})"
    except (LookupError, ValueError):  # an unknown encoding
        reason = ""
    raise InputError(f"{name} is not well-formed XML{reason}", where=str(path), fix="download or export it again")


def _named(tag: str) -> str:
    return "{" + tag if "}" in tag else tag


def local_name(element: ElementTree.Element) -> str:
    """The element's name without its namespace."""
    return str(element.tag).rpartition("}")[2]


class Readable(Protocol):
    """What bytes are read from."""

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes."""


class _Counted(io.RawIOBase):
    """A stream of which at most ``MAX_UNPACKED_BYTES`` are read; then InputError."""

    def __init__(self, stream: Readable, path: Path) -> None:
        self._stream, self._path, self._left = stream, path, MAX_UNPACKED_BYTES

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: "memoryview[int] | bytearray") -> int:  # type: ignore[override]
        """Fill the buffer as far as there is something to read."""
        content = self._stream.read(len(buffer))
        self._left -= len(content)
        if self._left < 0:
            most = MAX_UNPACKED_BYTES // 2**20
            raise InputError(f"it unpacks to more than {most} MiB", where=str(self._path), fix="remove it")
        buffer[: len(content)] = content
        return len(content)


def inside(name: str) -> str | None:
    """The member's name as a path below the archive's root, or None for one that leaves it."""
    plain = posixpath.normpath(name.replace("\\", "/"))
    leaves = plain.startswith(("/", "../")) or plain in ("..", ".") or re.match("[A-Za-z]:", plain)
    return None if leaves else plain


def read_tar(path: Path, *, wanted: Callable[[str], bool]) -> tuple[dict[str, bytes], list[str]]:
    """The wanted files of a tar file, packed or not, by name, and the names of entries that were not read.

    A file that holds a single packed file, as arXiv sends papers of one file, has the name "". Links and
    devices are never read, nor names that leave the archive. Raises InputError for other files and at the limits.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            stream: Readable = gzip.GzipFile(fileobj=raw) if packed else raw
            counted = io.BufferedReader(_Counted(stream, path), 2**16)
            if _is_tar(counted.peek(512)[:512]):
                return _members(counted, path, wanted)
            content = counted.read(MAX_MEMBER_BYTES + 1)
    except InputError:
        raise
    except _FAILURES:
        raise _damaged(path, "a tar or gzip file") from None
    if not packed:
        raise _damaged(path, "a tar or gzip file")
    if len(content) > MAX_MEMBER_BYTES:
        raise InputError(f"it unpacks to more than {MAX_MEMBER_BYTES // 2**20} MiB", where=str(path), fix="remove it")
    return {"": content}, []


def _is_tar(head: bytes) -> bool:
    """Whether the first block is the header of a tar file: its checksum is right."""
    try:
        return len(head) == 512 and int(head[148:156].strip(b" \0"), 8) == sum(head) - sum(head[148:156]) + 256
    except ValueError:
        return False


def _members(stream: Any, path: Path, wanted: Callable[[str], bool]) -> tuple[dict[str, bytes], list[str]]:
    files: dict[str, bytes] = {}
    refused: list[str] = []
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for count, member in enumerate(archive):
            if count >= MAX_MEMBERS:
                raise InputError(f"it holds more than {MAX_MEMBERS:,} files", where=str(path), fix="remove it")
            name = inside(member.name)
            if member.isdir() or (name and member.isfile() and not wanted(name)):
                continue
            if name is None or not member.isfile():
                refused.append(member.name)
                continue
            if member.size > MAX_MEMBER_BYTES:
                raise InputError(
                    f"{name} unpacks to more than {MAX_MEMBER_BYTES // 2**20} MiB", where=str(path), fix="remove it"
                )
            content = archive.extractfile(member)
            files[name] = content.read() if content else b""
    return files, refused


def iter_local(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    """The element and its descendants that have this local name, in document order."""
    return (child for child in element.iter() if local_name(child) == name)
