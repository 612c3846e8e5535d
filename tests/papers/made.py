"""PDF files written by hand: text operators on pages, and the oldest encryption there is."""

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

_PADDING = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")
_FILE_ID = b"0123456789abcdef"


REGULAR, BOLD, CODE, DINGBATS = "F1", "F2", "F3", "F4"
_FONTS = {REGULAR: "Helvetica", BOLD: "Helvetica-Bold", CODE: "Courier", DINGBATS: "ZapfDingbats"}


@dataclass(frozen=True)
class Line:
    """A line of text at ``y`` points above the foot of the page; ``turned`` runs up the margin."""

    text: str
    y: float
    size: float = 10
    turned: bool = False
    x: float = 60
    font: str = REGULAR


@dataclass
class PdfPage:
    """Lines from the top down, with room above each that suits its size."""

    lines: list[Line] = field(default_factory=list)
    top: float = 800

    def add(self, *texts: str, size: float = 10, font: str = REGULAR, x: float = 60, leading: float = 1.4) -> "PdfPage":
        for text in texts:
            self.top -= leading * size
            self.lines.append(Line(text, self.top, size, x=x, font=font))
        return self

    def heading(self, text: str, *, size: float = 10) -> "PdfPage":
        """A bold line with space above and below it."""
        self.top -= size
        self.add(text, size=size, font=BOLD)
        self.top -= 0.6 * size
        return self

    def at(
        self, x: float, y: float, text: str, *, size: float = 10, font: str = REGULAR, turned: bool = False
    ) -> "PdfPage":
        self.lines.append(Line(text, y, size, turned, x, font))
        return self

    def head(self, text: str) -> "PdfPage":
        self.lines.insert(0, Line(text, 815, 8))
        return self

    def foot(self, text: str) -> "PdfPage":
        self.lines.append(Line(text, 30, 8))
        return self

    def stamp(self, text: str) -> "PdfPage":
        self.lines.insert(0, Line(text, 250, 20, turned=True, x=30))
        return self


def page(*texts: str) -> PdfPage:
    return PdfPage().add(*texts)


def _content(one: PdfPage) -> bytes:
    parts = ["BT"]
    for line in one.lines:
        text = line.text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
        matrix = f"0 1 -1 0 {line.x} {line.y}" if line.turned else f"1 0 0 1 {line.x} {line.y}"
        parts.append(f"/{line.font} {line.size} Tf {matrix} Tm ({text}) Tj")
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


def _outline(entries: Sequence[tuple[str, int]], first: int) -> list[bytes]:
    """The outline's objects, the first of which gets this number; entries are (title, page from 0)."""
    count = len(entries)
    objects = [b"<< /Type /Outlines /First %d 0 R /Last %d 0 R /Count %d >>" % (first + 1, first + count, count)]
    for at, (title, page_number) in enumerate(entries):
        links = (f" /Prev {first + at} 0 R" if at else "") + (f" /Next {first + at + 2} 0 R" if at < count - 1 else "")
        place = f"/Dest [{5 + 2 * page_number} 0 R /XYZ 0 800 0]"
        objects.append(f"<< /Title ({title}) /Parent {first} 0 R {place}{links} >>".encode("cp1252"))
    return objects


def write_pdf(
    path: Path,
    pages: Sequence[PdfPage],
    *,
    title: str = "",
    password: str = "",
    outline: Sequence[tuple[str, int]] = (),
    rotate: int = 0,
) -> Path:
    """A valid PDF 1.4 of the pages; with a password, one that needs it."""
    lock = _Lock(password) if password else None
    kids = " ".join(f"{5 + 2 * at} 0 R" for at in range(len(pages)))
    entry = f" /Outlines {5 + 2 * len(pages)} 0 R" if outline else ""
    fonts = "".join(
        f"/{name} << /Type /Font /Subtype /Type1 /BaseFont /{font}"
        f"{'' if name == DINGBATS else ' /Encoding /WinAnsiEncoding'} >> "
        for name, font in _FONTS.items()
    )
    objects = [
        f"<< /Type /Catalog /Pages 2 0 R{entry} >>".encode(),
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        f"<< {fonts}>>".encode(),
        f"<< /Title ({title}) >>".encode("cp1252"),
    ]
    for at, one in enumerate(pages):
        number = 6 + 2 * at
        stream = lock.seal(number, _content(one)) if lock else _content(one)
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Rotate %d "
            b"/Resources << /Font 3 0 R >> /Contents %d 0 R >>" % (rotate, number)
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
    if outline:
        objects += _outline(outline, len(objects) + 1)
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


TEX_CODES = {
    "T1": {
        "ff": 0x1B,
        "fi": 0x1C,
        "fl": 0x1D,
        "ffi": 0x1E,
        "ffl": 0x1F,
        "\u2013": 0x15,
        "\u201c": 0x10,
        "\u201d": 0x11,
    },
    "OT1": {
        "ff": 0x0B,
        "fi": 0x0C,
        "fl": 0x0D,
        "ffi": 0x0E,
        "ffl": 0x0F,
        "\u2013": 0x7B,
        "\u201c": 0x5C,
        "\u201d": 0x22,
    },
}
"""Codes of TeX's encodings that differ from ASCII."""


def _tex_codes(text: str, encoding: str) -> bytes:
    codes = TEX_CODES[encoding]
    out, at = bytearray(), 0
    while at < len(text):
        piece = next((piece for piece in sorted(codes, key=len, reverse=True) if text.startswith(piece, at)), text[at])
        out.append(codes.get(piece) or ord(piece))
        at += len(piece)
    return bytes(out)


def write_type3(path: Path, lines: Sequence[str], encoding: str) -> Path:
    """A page in a Type 3 font without names and without Unicode values, whose glyphs are rectangles."""
    coded = [_tex_codes(line, encoding) for line in lines]
    codes = sorted({code for line in coded for code in line})
    box, blank = b"500 0 0 0 450 700 d1 50 0 400 600 re f", b"300 0 0 0 0 0 d1"
    shows = b"\n".join(b"<%s> Tj T*" % line.hex().encode() for line in coded)
    first = 6
    names = b" ".join(b"/a%d %d 0 R" % (code, first + at) for at, code in enumerate(codes))
    differences = b" ".join(b"%d /a%d" % (code, code) for code in codes)
    widths = b" ".join(b"300" if code == 32 else b"500" for code in range(codes[0], codes[-1] + 1))
    font = (
        b"<< /Type /Font /Subtype /Type3 /FontBBox [0 0 500 700] /FontMatrix [0.001 0 0 0.001 0 0] "
        b"/CharProcs << %s >> /Encoding << /Type /Encoding /Differences [%s] >> "
        b"/FirstChar %d /LastChar %d /Widths [%s] >>" % (names, differences, codes[0], codes[-1], widths)
    )
    return write_objects(
        path,
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
            b"/Resources << /Font << /F1 5 0 R >> >> >>",
            _stream(b"BT /F1 10 Tf 72 700 Td 14 TL\n%s\nET" % shows),
            font,
            *(_stream(blank if code == 32 else box) for code in codes),
        ],
    )
