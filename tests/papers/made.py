"""PDF files written by hand: text operators on pages, and the oldest encryption there is."""

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

_PADDING = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")
_FILE_ID = b"0123456789abcdef"


@dataclass(frozen=True)
class Line:
    """A line of Helvetica at ``y`` points above the foot of the page; ``turned`` runs up the margin."""

    text: str
    y: float
    size: float = 10
    turned: bool = False


@dataclass
class PdfPage:
    """Lines from the top down, with room above each that suits its size."""

    lines: list[Line] = field(default_factory=list)
    top: float = 800

    def add(self, *texts: str, size: float = 10) -> "PdfPage":
        for text in texts:
            self.top -= 1.4 * size
            self.lines.append(Line(text, self.top, size))
        return self

    def head(self, text: str) -> "PdfPage":
        self.lines.insert(0, Line(text, 815, 8))
        return self

    def foot(self, text: str) -> "PdfPage":
        self.lines.append(Line(text, 30, 8))
        return self

    def stamp(self, text: str) -> "PdfPage":
        self.lines.insert(0, Line(text, 250, 20, turned=True))
        return self


def page(*texts: str) -> PdfPage:
    return PdfPage().add(*texts)


def _content(one: PdfPage) -> bytes:
    parts = ["BT"]
    for line in one.lines:
        text = line.text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
        matrix = f"0 1 -1 0 30 {line.y}" if line.turned else f"1 0 0 1 60 {line.y}"
        parts.append(f"/F1 {line.size} Tf {matrix} Tm ({text}) Tj")
    return "\n".join([*parts, "ET"]).encode("cp1252")


def _rc4(key: bytes, content: bytes) -> bytes:
    state = list(range(256))
    at = 0
    for step in range(256):
        at = (at + state[step] + key[step % len(key)]) % 256
        state[step], state[at] = state[at], state[step]
    out, left, right = bytearray(), 0, 0
    for byte in content:
        left = (left + 1) % 256
        right = (right + state[left]) % 256
        state[left], state[right] = state[right], state[left]
        out.append(byte ^ state[(state[left] + state[right]) % 256])
    return bytes(out)


@dataclass(frozen=True)
class _Lock:
    """PDF 1.4, standard handler, revision 2, 40 bits (Algorithms 3.2 to 3.4 of the PDF reference)."""

    password: str

    @property
    def owner(self) -> bytes:
        padded = (self.password.encode() + _PADDING)[:32]
        return _rc4(hashlib.md5(padded).digest()[:5], padded)

    @property
    def key(self) -> bytes:
        padded = (self.password.encode() + _PADDING)[:32]
        permissions = (-4 & 0xFFFFFFFF).to_bytes(4, "little")
        return hashlib.md5(padded + self.owner + permissions + _FILE_ID).digest()[:5]

    def seal(self, number: int, content: bytes) -> bytes:
        salt = number.to_bytes(3, "little") + b"\0\0"
        return _rc4(hashlib.md5(self.key + salt).digest()[:10], content)

    def dictionary(self) -> str:
        user = _rc4(self.key, _PADDING)
        return f"<< /Filter /Standard /V 1 /R 2 /P -4 /O <{self.owner.hex()}> /U <{user.hex()}> >>"


def write_pdf(path: Path, pages: Sequence[PdfPage], *, title: str = "", password: str = "") -> Path:
    """A valid PDF 1.4 of the pages; with a password, one that needs it."""
    lock = _Lock(password) if password else None
    kids = " ".join(f"{5 + 2 * at} 0 R" for at in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        f"<< /Title ({title}) >>".encode("cp1252"),
    ]
    for at, one in enumerate(pages):
        number = 6 + 2 * at
        stream = lock.seal(number, _content(one)) if lock else _content(one)
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] "
            b"/Resources << /Font << /F1 3 0 R >> >> /Contents %d 0 R >>" % number
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
    if lock:
        objects.append(lock.dictionary().encode())
    out, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    encrypt = b"/Encrypt %d 0 R /ID [<%s> <%s>]" % ((len(objects),) + (_FILE_ID.hex().encode(),) * 2) if lock else b""
    path.write_bytes(
        out
        + b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, table)
        + b"trailer << /Size %d /Root 1 0 R /Info 4 0 R %s >>\n" % (len(objects) + 1, encrypt)
        + b"startxref\n%d\n%%%%EOF\n" % len(out)
    )
    return path


def write_objects(path: Path, objects: Sequence[bytes]) -> Path:
    """A PDF 1.4 of these objects as they are, numbered from 1; the first is the catalog."""
    out, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    path.write_bytes(
        out
        + b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, table)
        + b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(out))
    )
    return path


def _stream(content: bytes, entries: bytes = b"") -> bytes:
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(content), entries, content)


def flate_bomb(path: Path, size: int) -> Path:
    """A PDF of a few KB whose one page expands to ``size`` bytes through three flate filters."""
    packer = zlib.compressobj(1)
    content = b"".join(packer.compress(b" " * 2**20) for _ in range(size // 2**20)) + packer.flush()
    content = zlib.compress(zlib.compress(content, 9), 9)
    return write_objects(
        path,
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R >>",
            _stream(content, b"/Filter [/FlateDecode /FlateDecode /FlateDecode]"),
        ],
    )


def form_bomb(path: Path, *, depth: int = 12) -> Path:
    """A PDF of a few KB whose one page draws 10 ** ``depth`` forms, each ten times the next."""
    box = b"/MediaBox [0 0 595 842]"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R %s /Contents 4 0 R /Resources << /XObject << /X 5 0 R >> >> >>" % box,
        _stream(b"/X Do"),
    ]
    for level in range(depth):
        content = b"/X Do " * 10 if level < depth - 1 else b"0 0 m"
        resources = b"/Resources << /XObject << /X %d 0 R >> >>" % (6 + level)
        objects.append(_stream(content, b"/Type /XObject /Subtype /Form /BBox [0 0 595 842] " + resources))
    return write_objects(path, objects)
