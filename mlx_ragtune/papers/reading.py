"""One paper as a Document, whatever its format."""

from collections.abc import Callable
from pathlib import Path

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.dropped import Reading
from mlx_ragtune.papers.html import read_html
from mlx_ragtune.papers.markdown import read_markdown
from mlx_ragtune.papers.pdf import read_pdf
from mlx_ragtune.papers.plain_text import read_text
from mlx_ragtune.records import Document

_READERS: dict[str, Callable[[Path, str], Reading]] = {
    ".pdf": read_pdf,
    ".md": read_markdown,
    ".txt": read_text,
    ".html": read_html,
    ".htm": read_html,
}
SUFFIXES = tuple(_READERS)


def open_paper(path: Path, *, id: str) -> Reading:  # noqa: A002
    """The paper and what its reader left out. Raises InputError with the reason it cannot be used."""
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"'{path.suffix}' is not a paper's format", where=str(path), fix=f"one of {', '.join(SUFFIXES)}"
        )
    reading = reader(path, id)
    if not reading.document.text.strip():
        raise InputError("it is empty", where=str(path), fix="remove it, or fetch it again")
    return reading


def read_paper(path: Path, *, id: str) -> Document:  # noqa: A002
    """The paper's text (NFC), title, sections and pages. Raises InputError with the reason it cannot be used."""
    return open_paper(path, id=id).document
