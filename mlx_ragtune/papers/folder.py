"""Which files of a folder are papers, which are not and why, and by which ids the papers are known."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.reading import SUFFIXES


def _files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every file in and below the folder, sorted, with the reason why it is no paper (empty for a paper)."""
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            continue
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path, "hidden"
        elif path.suffix.lower() not in SUFFIXES:
            yield path, f"'{path.suffix}' is not a paper's format" if path.suffix else "it has no suffix"
        elif path.name == "SOURCE.md":
            yield path, "it says where the others come from"
        elif not path.is_file():
            yield path, "a link to nothing"
        else:
            yield path, ""


def list_papers(folder: Path) -> list[Path]:
    """Every paper in and below the folder, sorted. Raises InputError when there is none."""
    if not folder.is_dir():
        raise InputError("is not a folder", where=str(folder), fix="name the folder that holds the papers")
    papers = [path for path, why in _files(folder) if not why]
    if not papers:
        raise InputError(f"there is no paper ({', '.join(SUFFIXES)}) in it", where=str(folder), fix="put some there")
    return papers


def list_ignored(folder: Path) -> list[tuple[Path, str]]:
    """Every other file in and below the folder, sorted, with why it is not read as a paper."""
    return [(path, why) for path, why in _files(folder) if why]


def _plain(text: str) -> str:
    """Lower case, letters and digits of any script, underscores between; accents fall where letters remain."""
    bare = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return re.sub(r"[\W_]+", "_", bare.casefold()).strip("_") or "paper"


def document_ids(papers: Iterable[Path], folder: Path) -> dict[Path, str]:
    """Each paper's id: its file name in lower case; its path below the folder where two names are the same.

    Raises InputError when even the paths would be the same.
    """
    papers = list(papers)
    short = {path: _plain(path.stem) for path in papers}
    counts = Counter(short.values())
    ids = {
        path: name if counts[name] == 1 else _plain(path.relative_to(folder).as_posix()) for path, name in short.items()
    }
    again = next((name for name, count in Counter(ids.values()).items() if count > 1), None)
    if again:
        names = " and ".join(path.relative_to(folder).as_posix() for path in papers if ids[path] == again)
        raise InputError(f"{names} would both be known as '{again}'", where=str(folder), fix="rename one of them")
    return ids
