"""One paper as a Document, whatever its format."""

from collections.abc import Callable
from pathlib import Path

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.docx import read_docx
from mlx_ragtune.papers.dropped import Reading
from mlx_ragtune.papers.epub import read_epub
from mlx_ragtune.papers.formats import ARCHIVES, LATEX, SUFFIXES, suffix_of
from mlx_ragtune.papers.html import read_html
from mlx_ragtune.papers.latex import read_latex, read_latex_archive
from mlx_ragtune.papers.markdown import read_markdown
from mlx_ragtune.papers.pdf import read_pdf
from mlx_ragtune.papers.plain_text import read_text

_READERS: dict[str, Callable[[Path, str], Reading]] = {
    ".pdf": read_pdf,
    ".md": read_markdown,
    ".txt": read_text,
    ".html": read_html,
    ".htm": read_html,
    ".xhtml": read_html,
    ".docx": read_docx,
    ".epub": read_epub,
    **dict.fromkeys(LATEX, read_latex),
    **dict.fromkeys(ARCHIVES, read_latex_archive),
}


def open_paper(path: Path, *, id: str) -> Reading:  # noqa: A002
    """The paper and what its reader left out. Raises InputError with the reason it cannot be used.

    Use ``paper_reader.PaperReader`` for files from outside: it limits time and memory.
    """
    reader = _READERS.get(suffix_of(path.name))
    if reader is None:
        raise InputError(
            f"'{path.suffix}' is not a supported format", where=str(path), fix=f"use one of {', '.join(SUFFIXES)}"
        )
    reading = reader(path, id)
    if not reading.document.text.strip():
        raise InputError("it contains no text", where=str(path), fix="remove it, or download it again")
    return reading
