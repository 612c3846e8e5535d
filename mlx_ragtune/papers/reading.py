"""One paper as a Document, whatever its format."""

from collections.abc import Callable
from pathlib import Path

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.html import read_html
from mlx_ragtune.papers.markdown import read_markdown
from mlx_ragtune.papers.pdf import read_pdf
from mlx_ragtune.papers.text import read_text
from mlx_ragtune.records import Document

_READERS: dict[str, Callable[[Path, str], Document]] = {
    ".pdf": read_pdf,
    ".md": read_markdown,
    ".txt": read_text,
    ".html": read_html,
    ".htm": read_html,
}


def read_paper(path: Path, *, id: str) -> Document:  # noqa: A002
    """The paper's text (NFC), title, sections and pages. Raises InputError with the reason it cannot be used."""
    document = _READERS[path.suffix.lower()](path, id)
    if not document.text.strip():
        raise InputError("it is empty", where=str(path), fix="remove it")
    return document
