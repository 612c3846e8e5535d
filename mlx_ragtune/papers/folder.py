"""Which files of a folder are papers, which are not and why, and the ids of the papers."""

import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mlx_ragtune.artifact import digest_file
from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.formats import SUFFIXES

_IN_IDS = ("L", "M", "N", "So")
"""Unicode categories that an id keeps: letters, marks, numbers, and symbols such as emoji."""
_JOINER = "\u200d"
"""Joins several emoji into one."""


@dataclass(frozen=True)
class PaperFile:
    """A file that the corpus reads. ``name`` is its POSIX path below the folder.

    ``problem`` says why it cannot be read, where that shows without opening it.
    """

    path: Path
    name: str
    problem: str = ""


@dataclass(frozen=True)
class Survey:
    """The papers of a folder, and the name of every other file with the reason it is ignored; both sorted."""

    papers: tuple[PaperFile, ...]
    ignored: tuple[tuple[str, str], ...]


def shown_name(name: str) -> str:
    """``name`` as valid Unicode: bytes that are not UTF-8 become ``\\xff`` escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _walk(folder: Path) -> Iterator[tuple[str, str]]:
    """(path below the folder, "") of each file; (path, reason) of each folder that is not searched."""
    failures: list[OSError] = []
    for parent, folders, files in os.walk(folder, onerror=failures.append):
        below = os.path.relpath(parent, folder)
        prefix = "" if below == "." else f"{below}/"
        for name in list(folders):
            if name.startswith("."):
                folders.remove(name)
                yield prefix + name, "hidden"
            elif Path(parent, name).is_symlink():
                yield prefix + name, "symlink to a folder"
        for name in files:
            yield prefix + name, ""
    for failure in failures:
        yield os.path.relpath(failure.filename, folder), f"cannot list this folder: {failure.strerror}"


def _ignored(name: str) -> str:
    """Why a file of this name is not a paper, or an empty string."""
    base, suffix = Path(name).name, Path(name).suffix
    if base.startswith("."):
        return "hidden"
    if suffix.lower() not in SUFFIXES:
        return f"'{shown_name(suffix)}' is not a supported format" if suffix else "no file name suffix"
    return "describes the sources of the other files" if base == "SOURCE.md" else ""


def _problem(path: Path, root: str) -> str:
    """Why a file with a paper's suffix cannot be read, or an empty string. Does not open it."""
    try:
        path.name.encode()
    except UnicodeEncodeError:
        return "the file name is not UTF-8"
    if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):
        return "symlink that leaves the folder"
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return "symlink to a missing file" if path.is_symlink() else f"cannot read: {error.strerror}"
    return "" if stat.S_ISREG(mode) else "not a regular file"


def survey(folder: Path) -> Survey:
    """Every file in and below the folder, as a paper or as ignored. Opens none of them.

    A symlink to a file of the folder that is a paper itself is ignored, so that no paper is read twice.
    Symlinks to folders are not followed. Raises InputError when ``folder`` is not a folder that can be listed.
    """
    try:
        os.scandir(folder).close()
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"cannot list the papers: {reason}", where=str(folder), fix="set corpus.folder to the folder of your papers"
        ) from None
    papers: list[PaperFile] = []
    ignored: list[tuple[str, str]] = []
    root = os.path.realpath(folder)
    entries = sorted(_walk(folder), key=lambda entry: entry[0].split("/"))
    for name, reason in entries:
        if reason.startswith("cannot list"):
            papers.append(PaperFile(folder / name, shown_name(name), reason))
        elif reason := reason or _ignored(name):
            ignored.append((shown_name(name), reason))
        else:
            papers.append(PaperFile(folder / name, shown_name(name), _problem(folder / name, root)))
    return _without_duplicate_links(papers, ignored)


def _without_duplicate_links(papers: list[PaperFile], ignored: list[tuple[str, str]]) -> Survey:
    """The survey with each file once, under its own name rather than a symlink's."""
    first = {paper.path.resolve(): paper for paper in papers if not paper.problem and not paper.path.is_symlink()}
    kept: list[PaperFile] = []
    for paper in papers:
        same = paper if paper.problem else first.setdefault(paper.path.resolve(), paper)
        if same is paper:
            kept.append(paper)
        else:
            ignored.append((paper.name, f"symlink to '{same.name}'"))
    return Survey(tuple(kept), tuple(sorted(ignored)))


def list_papers(folder: Path) -> list[PaperFile]:
    """The files that the corpus reads, sorted: the one definition of them. Raises InputError when there are none."""
    papers = list(survey(folder).papers)
    if not papers:
        raise InputError(
            f"no papers ({', '.join(SUFFIXES)}) in this folder", where=str(folder), fix="copy your papers into it"
        )
    return papers


def paper_digests(folder: Path, *, digest: Callable[[Path], str] = digest_file) -> dict[str, str]:
    """Name → ``digest`` (sha256) of each file of ``list_papers``, or the reason why it cannot be read.

    Files that are not read do not count. Raises InputError when there are no papers.
    """
    digests: dict[str, str] = {}
    for paper in list_papers(folder):
        try:
            digests[paper.name] = paper.problem or digest(paper.path)
        except OSError as error:
            digests[paper.name] = f"cannot read: {error.strerror}"
        except InputError as error:
            digests[paper.name] = error.what
    return digests


def _words(text: str) -> str:
    """NFC in lower case; each run of anything but letters, marks, numbers and emoji is one underscore."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    kept = "".join(
        char if char == _JOINER or unicodedata.category(char).startswith(_IN_IDS) else "_" for char in folded
    )
    return re.sub("_+", "_", kept).strip("_") or "paper"


def document_ids(names: Iterable[str]) -> dict[str, str]:
    """Each paper's id by its name: the file name in lower case, or its path where two file names are the same.

    Ids that would still be the same get ``_2``, ``_3``, … in the order of the names.
    """
    names = list(names)
    short = {name: _words(Path(name).stem) for name in names}
    counts = Counter(short.values())
    ids = {name: short[name] for name in names if counts[short[name]] == 1}
    taken = set(ids.values())
    for name in names:
        if name not in ids:
            ids[name] = _unused(_words(name), taken)
            taken.add(ids[name])
    return {name: ids[name] for name in names}


def _unused(name: str, taken: set[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free
