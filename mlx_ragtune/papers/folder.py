"""Which files of a folder are papers, which are not and why, and the ids of the papers."""

import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mlx_ragtune.artifact import digest_file, digest_json
from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.arxiv_ids import arxiv_id_in_name
from mlx_ragtune.papers.formats import LATEX, MACROS, SUFFIXES, bare_stem, suffix_of

_IN_IDS = ("L", "M", "N", "So")
"""Unicode categories that an id keeps: letters, marks, numbers, and symbols such as emoji."""
_SAVED = re.compile(r"(.+)(?:_files|\.fld|-Dateien|_fichiers|_archivos)/")
"""The folder that a browser saves beside a page."""
_JOINER = "\u200d"
"""Joins several emoji into one."""


@dataclass(frozen=True)
class PaperFile:
    """A file that the corpus reads. ``name`` is its POSIX path below the folder.

    ``problem`` says why it cannot be read, where that shows without opening it. ``parts`` are the files that the
    text of LaTeX source depends on, the paper's own among them.
    """

    path: Path
    name: str
    problem: str = ""
    parts: tuple[Path, ...] = ()


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
    base, suffix = Path(name).name, suffix_of(name)
    if base.startswith((".", "~$")):
        return "hidden" if base.startswith(".") else "a lock file of Word"
    if suffix in MACROS:
        return f"'{suffix}' may hold macros; save it as .docx"
    if suffix not in SUFFIXES:
        return f"'{shown_name(suffix)}' is not a supported format" if suffix else "no file name suffix"
    stem = bare_stem(base)
    if suffix == ".gz" and suffix_of(stem) not in ("", ".tex") and not arxiv_id_in_name(stem):
        return f"'{shown_name(suffix_of(stem))}.gz' is not a supported format"
    return "describes the sources of the other files" if base == "SOURCE.md" else ""


def _saved_with(name: str, names: set[str]) -> str:
    """Why a page in the folder that a browser saved beside another page is not a paper, or an empty string."""
    saved = _SAVED.match(name)
    pages = [f"{saved[1]}{suffix}" for suffix in (".html", ".htm")] if saved else []
    page = next((page for page in pages if page in names), None)
    return f"part of the saved page '{page}'" if page else ""


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
    """Every file in and below the folder, as a paper or as ignored. Opens LaTeX source only, to see what includes what.

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
    names = {name for name, _ in entries}
    for name, reason in entries:
        if reason.startswith("cannot list"):
            papers.append(PaperFile(folder / name, shown_name(name), reason))
        elif reason := reason or _ignored(name) or _saved_with(name, names):
            ignored.append((shown_name(name), reason))
        else:
            papers.append(PaperFile(folder / name, shown_name(name), _problem(folder / name, root)))
    return _without_duplicate_links(*_without_parts(folder, papers, ignored))


def _without_parts(
    folder: Path, papers: list[PaperFile], ignored: list[tuple[str, str]]
) -> tuple[list[PaperFile], list[tuple[str, str]]]:
    """The papers without the parts, prints and figures of those that are LaTeX source."""
    if not any(suffix_of(paper.name) in LATEX for paper in papers):
        return papers, ignored
    from mlx_ragtune.papers.latex_projects import latex_projects

    projects = latex_projects(folder, (paper.name for paper in papers if not paper.problem))
    owners = {part: name for name, parts in projects.parts.items() for part in parts if part != name}
    ignored = [(name, f"part of '{owners[name]}'" if name in owners else reason) for name, reason in ignored]
    ignored += projects.ignored.items()
    kept = [
        replace(paper, parts=tuple(folder / part for part in projects.parts.get(paper.name, ())))
        for paper in papers
        if paper.name not in projects.ignored
    ]
    return kept, ignored


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
            digests[paper.name] = paper.problem or _digest(paper, digest)
        except OSError as error:
            digests[paper.name] = f"cannot read: {error.strerror}"
        except InputError as error:
            digests[paper.name] = error.what
    return digests


def _digest(paper: PaperFile, digest: Callable[[Path], str]) -> str:
    """The digest of a paper: of its file, or of all its parts and their places."""
    if len(paper.parts) < 2:
        return digest(paper.path)
    return digest_json([[os.path.relpath(part, paper.path.parent), digest(part)] for part in paper.parts])


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
    short = {name: _words(bare_stem(Path(name).name)) for name in names}
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
