"""Which files of a folder are papers, and by which ids they are known."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from mlx_ragtune.errors import InputError

SUFFIXES = (".pdf", ".md", ".txt", ".html", ".htm")


def list_papers(folder: Path) -> list[Path]:
    """Every paper in and below the folder, sorted; hidden files are left out. Raises InputError for none."""
    if not folder.is_dir():
        raise InputError("is not a folder", where=str(folder), fix="name the folder that holds the papers")
    papers = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.name != "SOURCE.md"
    )
    if not papers:
        raise InputError(f"no papers ({', '.join(SUFFIXES)}) in it", where=str(folder), fix="put some there")
    return papers


def document_ids(papers: Iterable[Path], folder: Path) -> dict[Path, str]:
    """Each paper's id: its file name in lower case; its whole path where two names are the same."""
    papers = list(papers)

    def plain(text: str) -> str:
        return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "paper"

    short = {path: plain(path.stem) for path in papers}
    counts = Counter(short.values())
    ids = {
        path: name if counts[name] == 1 else plain(path.relative_to(folder).as_posix())
        for path, name in short.items()
    }
    again = [name for name, count in Counter(ids.values()).items() if count > 1]
    if again:
        raise InputError(
            f"two papers would be known as '{again[0]}'", where=str(folder), fix="rename one of them"
        )
    return ids
