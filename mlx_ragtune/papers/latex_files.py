r"""The files of one LaTeX paper: a folder or an archive, ``\input`` inside it only, comments apart."""

import posixpath
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mlx_ragtune.papers.archives import inside

SOURCES = (".tex", ".ltx", ".latex", ".bbl", ".bib", ".sty", ".cls", ".def", ".tikz", ".pgf")
"""Files that a LaTeX paper may read as text."""
MAX_SOURCE_BYTES = 8 * 2**20
"""Largest file of a paper's source."""
MAX_INCLUDED = 500
_VERBATIM = r"verbatim|Verbatim|lstlisting|minted|alltt|filecontents"
_PARTS = re.compile(
    rf"(?P<verbatim>\\begin\s*\{{(?P<name>(?:{_VERBATIM})\*?)\}}.*?\\end\s*\{{(?P=name)\}})"
    r"|(?P<code>\\begin\s*\{comment\}(?P<words>.*?)\\end\s*\{comment\}(?:[ \t]*\n)?)"
    r"|\\verb\*?(?P<mark>[^A-Za-z\s*]).*?(?P=mark)"
    r"|\\(?:url|path|nolinkurl)\s*\{[^{}\n]*\}|\\href\s*\{[^{}\n]*\}"
    r"|\\."
    r"|(?P<comment>%(?P<text>[^\n]*)(?P<end>\n[ \t]*|$))",
    re.DOTALL,
)
_CLASS = re.compile(r"\\document(?:class|style)\s*(?:\[[^\]]*\])?\s*\{\s*([^{}\s]*)")
INCLUDES = re.compile(
    r"\\(?P<command>input|include|subfile|subfileinclude|InputIfFileExists|import|subimport|includefrom)\*?\s*"
    r"(?:\{(?P<first>[^{}]*)\}(?:\s*\{(?P<second>[^{}]*)\})?|(?P<bare>[^\s{}\\]+))"
)
_GRAPHICS = re.compile(
    r"\\(?:includegraphics|includesvg|includepdf|epsfig|epsfbox|psfig)\*?\s*(?:\[[^\]]*\])?\s*\{([^{}]+)\}"
)

_BIBLIOGRAPHIES = re.compile(r"\\(?:bibliography|addbibresource|bibdata)\s*(?:\[[^\]]*\])?\s*\{([^{}]*)\}")


class LatexFiles(Protocol):
    """The files of a paper's source by their names below its folder."""

    def read(self, name: str) -> str | None:
        """The file's text, or None when there is none of that name inside the folder."""

    def names(self) -> Iterable[str]:
        """The names of all files."""


def decoded(content: bytes) -> str:
    """The bytes as NFC text with ``\\n`` line ends: UTF-8, or Latin-1 as older papers have it."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", "replace")
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))


@dataclass
class FolderFiles:
    """The files in and below a folder; symlinks that leave it do not count."""

    root: Path

    def __post_init__(self) -> None:
        self.root = self.root.resolve()

    def path(self, name: str) -> Path | None:
        """The regular file of that name inside the folder, or None."""
        plain = inside(name)
        try:
            path = (self.root / plain).resolve() if plain else None
            inner = path is not None and path.is_relative_to(self.root) and path.is_file()
        except (OSError, ValueError):  # ValueError: a NUL byte
            return None
        return path if inner else None

    def read(self, name: str) -> str | None:
        """The file's text, or None; what is longer than a source is not one."""
        path = self.path(name)
        try:
            if path is None or path.stat().st_size > MAX_SOURCE_BYTES:
                return None
            return decoded(path.read_bytes())
        except OSError:
            return None

    def names(self) -> Iterable[str]:
        """The names of the sources in the folder itself and below it."""
        found = (path for path in self.root.rglob("*") if path.suffix.lower() in SOURCES and path.is_file())
        return sorted(path.relative_to(self.root).as_posix() for path in found)


@dataclass
class ArchiveFiles:
    """The files of an archive that was read into memory."""

    contents: Mapping[str, bytes]

    def read(self, name: str) -> str | None:
        """The file's text, or None."""
        content = self.contents.get(inside(name) or "")
        return decoded(content) if content is not None else None

    def names(self) -> Iterable[str]:
        """The names of all files."""
        return sorted(self.contents)


@dataclass
class Source:
    """A file without its comments, and the comments."""

    text: str
    comments: list[str] = field(default_factory=list)


def without_comments(text: str) -> Source:
    r"""The file as TeX reads it: without comments, ``comment`` environments and what follows ``\endinput``."""
    comments: list[str] = []

    def replaced(match: re.Match[str]) -> str:
        if match["code"] is not None:
            comments.extend(line.strip() for line in match["words"].split("\n") if line.strip())
            return ""
        if match["comment"] is None:
            return match[0]
        if match["text"].strip(" %"):
            comments.append(match["text"].strip())
        blank_line_follows = text[match.end() : match.end() + 1] == "\n"
        starts_line = text[max(0, match.start() - 200) : match.start()].rstrip(" \t")[-1:] in ("\n", "")
        return "\n" if blank_line_follows and not starts_line else ""

    plain = _PARTS.sub(replaced, text)
    end = re.search(r"\\endinput(?![A-Za-z])", plain)
    return Source(plain[: end.start()] if end else plain, comments)


def document_class(text: str) -> str | None:
    """The class that a file without comments declares; None for a part of another file."""
    match = _CLASS.search(text)
    return match[1] if match else None


def included_name(files: LatexFiles, name: str, *, folders: Iterable[str] = ("",)) -> str | None:
    """The file that an ``\\input`` of that name reads, with or without its suffix; None when it is not inside."""
    plain = name.strip().strip('"')
    for folder in folders:
        for suffix in (".tex", ""):
            whole = inside(posixpath.join(folder, plain + suffix)) if plain else None
            if whole is not None and files.read(whole) is not None:
                return whole
    return None


def included(files: LatexFiles, match: re.Match[str], name: str) -> str | None:
    """The file that a match of ``INCLUDES`` in the file ``name`` reads, or None when it is not inside."""
    folder = posixpath.dirname(name)
    if match["command"] in ("import", "subimport", "includefrom"):
        return included_name(
            files, match["second"] or "", folders=(posixpath.join(folder, match["first"] or ""), match["first"] or "")
        )
    return included_name(files, match["first"] or match["bare"] or "", folders=("", folder))


@dataclass
class Closure:
    """The files that a paper consists of, and the figures that it shows."""

    parts: list[str] = field(default_factory=list)
    figures: set[str] = field(default_factory=set)


def closure(files: LatexFiles, main: str) -> Closure:
    """``main`` and what it includes, directly or not, in the order of the first use; at most ``MAX_INCLUDED`` files."""
    found = Closure()
    waiting = [main]
    while waiting and len(found.parts) < MAX_INCLUDED:
        name = waiting.pop(0)
        text = files.read(name) if name not in found.parts else None
        if text is None:
            continue
        found.parts.append(name)
        plain = without_comments(text).text
        waiting += [part for part in (included(files, match, name) for match in INCLUDES.finditer(plain)) if part]
        found.figures |= {figure.strip() for figure in _GRAPHICS.findall(plain)}
    return found


def bibliographies(files: LatexFiles, main: str, text: str) -> list[str]:
    """The ``.bbl`` file of the paper as LaTeX names it, else the ``.bib`` files that it asks for."""
    own = posixpath.splitext(main)[0] + ".bbl"
    if files.read(own) is not None:
        return [own]
    folder = posixpath.dirname(main)
    names = [
        name.strip() for group in _BIBLIOGRAPHIES.findall(without_comments(text).text) for name in group.split(",")
    ]
    found = []
    for name in filter(None, names):
        stem = name.removesuffix(".bib")
        places = (posixpath.join(folder, stem + suffix) for suffix in (".bbl", ".bib"))
        found += [place for place in places if files.read(place) is not None][:1]
    return found


def main_file(files: LatexFiles) -> str | None:
    """The file that holds the paper: it declares a class, and no other one includes it; the longest of several."""
    texts = {
        name: without_comments(text).text
        for name in files.names()
        if name.lower().endswith((".tex", ".ltx", ".latex")) and (text := files.read(name)) is not None
    }
    mains = {name for name, text in texts.items() if document_class(text) not in (None, "standalone")}
    inner = {part for name in mains for part in closure(files, name).parts if part != name}
    candidates = sorted(mains - inner) or sorted(mains) or sorted(texts)
    if not candidates:
        return None
    if len(candidates) == 1:
        return candidates[0]
    return max(
        candidates, key=lambda name: (sum(len(texts.get(part, "")) for part in closure(files, name).parts), name)
    )
