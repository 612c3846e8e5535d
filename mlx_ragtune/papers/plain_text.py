"""Plain text: the first line is the title."""

import unicodedata
from pathlib import Path

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.dropped import Reading
from mlx_ragtune.papers.sections import cover
from mlx_ragtune.records import Document


def load_text(path: Path) -> str:
    """The file as NFC text with ``\\n`` line ends, without a byte-order mark.

    Raises InputError for a file that cannot be read, or is not UTF-8 text.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"it is not UTF-8 text (byte {error.start})", where=str(path), fix="save it as UTF-8"
        ) from None
    except OSError as error:
        raise InputError(f"it cannot be read: {error.strerror}", where=str(path), fix="allow reading it") from None
    if "\0" in text:
        raise InputError("it is not text: it holds zero bytes", where=str(path), fix="remove it")
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))


def read_text(path: Path, identifier: str) -> Reading:
    """The whole file as one section, titled by its first line that is not blank."""
    text = load_text(path)
    title = next((line.strip() for line in text.splitlines() if line.strip()), path.stem)
    return Reading(Document(identifier, path.name, title[:300], text, sections=cover([], len(text))))
