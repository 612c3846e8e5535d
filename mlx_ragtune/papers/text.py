"""Plain text: the first line is the title."""

import unicodedata
from pathlib import Path

from mlx_ragtune.errors import InputError
from mlx_ragtune.records import Document, Section


def load_text(path: Path) -> str:
    """The file as NFC text with ``\\n`` line ends. Raises InputError for what is not UTF-8 text."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"not UTF-8 text (byte {error.start})", where=str(path), fix="save it as UTF-8"
        ) from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path)) from None
    if "\0" in text:
        raise InputError("not text: it has zero bytes", where=str(path), fix="remove it")
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n"))


def read_text(path: Path, identifier: str) -> Document:
    """The whole file as one section, titled by its first line that has words."""
    text = load_text(path)
    title = next((line.strip() for line in text.splitlines() if line.strip()), path.stem)
    return Document(identifier, path.name, title[:200], text, sections=(Section("", 0, len(text)),))
