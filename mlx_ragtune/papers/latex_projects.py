r"""Which ``.tex`` files of a folder are papers: those that declare a class; what they include is part of them."""

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mlx_ragtune.papers.formats import LATEX, bare_stem, suffix_of
from mlx_ragtune.papers.latex_files import FolderFiles, bibliographies, closure, document_class, without_comments

_STYLES = re.compile(r"\\(?:usepackage|RequirePackage)\s*(?:\[[^\]]*\])?\s*\{([^{}]*)\}")


@dataclass
class Projects:
    """The LaTeX papers of a folder: the files of each, and other files with the reason not to read them."""

    parts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)


def sources_of(files: FolderFiles, main: str) -> list[str]:
    """The names of all files that the text of a paper depends on."""
    parts = closure(files, main).parts
    text = "\n".join(files.read(part) or "" for part in parts)
    styles = [
        f"{name.strip()}.sty" for names in _STYLES.findall(without_comments(text).text) for name in names.split(",")
    ]
    names = [*parts, *bibliographies(files, main, text), *styles]
    return [name for name in dict.fromkeys(names) if files.path(name) is not None]


def latex_projects(folder: Path, names: Iterable[str]) -> Projects:
    """The papers among the ``.tex`` files of a folder; ``names`` are the regular files in and below it."""
    names = list(names)
    projects = Projects()
    sources = [name for name in names if suffix_of(name) in LATEX]
    classes = {name: _class(folder, name) for name in sources}
    figures: dict[str, set[str]] = {}
    parts_of: dict[str, str] = {}
    for name in sorted(sources, key=lambda name: (classes[name] is None, name)):
        home = posixpath.dirname(name)
        found = closure(FolderFiles(folder / home), posixpath.basename(name))
        figures[name] = found.figures
        for part in found.parts[1:]:
            parts_of.setdefault(posixpath.join(home, part), name)
    mains = [name for name in sources if name not in parts_of and classes[name] not in (None, "standalone")]
    for name in sources:
        reason = _reason(name, classes[name], parts_of.get(name), mains)
        if reason:
            projects.ignored[name] = reason
        else:
            home = posixpath.dirname(name)
            parts = sources_of(FolderFiles(folder / home), posixpath.basename(name))
            projects.parts[name] = tuple(posixpath.join(home, part) for part in parts)
    for name in names:
        if suffix_of(name) == ".pdf" and (reason := _pdf_reason(name, mains, figures)):
            projects.ignored[name] = reason
    return projects


def _class(folder: Path, name: str) -> str | None:
    path = Path(name)
    text = FolderFiles(folder / path.parent).read(path.name)
    return document_class(without_comments(text).text) if text is not None else None


def _reason(name: str, declared: str | None, part_of: str | None, mains: list[str]) -> str:
    """Why a LaTeX file is not a paper, or ""."""
    if part_of is not None and part_of != name:
        return f"part of '{part_of}'"
    if declared == "standalone":
        return r"a drawing (\documentclass{standalone})"
    if declared is None:
        beside = next((main for main in mains if _is_below(name, posixpath.dirname(main))), None)
        if beside:
            return rf"has no \documentclass, and '{beside}' does not include it"
    return ""


def _is_below(name: str, folder: str) -> bool:
    return not folder or name.startswith(f"{folder}/")


def _pdf_reason(name: str, mains: Iterable[str], figures: dict[str, set[str]]) -> str:
    """Why a PDF beside LaTeX source is not a paper of its own, or ""."""
    stem = bare_stem(name)
    for main in mains:
        home = posixpath.dirname(main)
        if not _is_below(name, home):
            continue
        if stem == bare_stem(main):
            return f"the print of '{main}', which is read"
        below = stem[len(home) :].lstrip("/")
        if any(below == plain or below.endswith(f"/{plain}") for plain in map(_plain_figure, figures[main])):
            return f"a figure of '{main}'"
        if home:
            return f"in the folder of the LaTeX source '{main}'"
    return ""


def _plain_figure(name: str) -> str:
    name = posixpath.normpath(name)
    return name.removesuffix(".pdf").lstrip("./")
