r"""LaTeX source: a ``.tex`` file with what it includes, or an e-print as arXiv ships it (``.tar.gz``, ``.gz``)."""

import posixpath
import re
from pathlib import Path

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.archives import read_tar
from mlx_ragtune.papers.arxiv_ids import arxiv_id_in_name, arxiv_year
from mlx_ragtune.papers.authors import author_names
from mlx_ragtune.papers.blocks import Block, assemble, one_line, year_in
from mlx_ragtune.papers.dropped import Dropped, Reading
from mlx_ragtune.papers.formats import bare_stem
from mlx_ragtune.papers.latex_definitions import Definitions
from mlx_ragtune.papers.latex_files import (
    SOURCES,
    ArchiveFiles,
    FolderFiles,
    LatexFiles,
    bibliographies,
    closure,
    document_class,
    main_file,
    without_comments,
)
from mlx_ragtune.papers.latex_text import LatexText
from mlx_ragtune.papers.plain_text import LONGEST_TITLE, check_length
from mlx_ragtune.papers.sections import cover
from mlx_ragtune.records import Document

_PACKAGES = re.compile(r"\\(?:usepackage|RequirePackage)\s*(?:\[[^\]]*\])?\s*\{([^{}]*)\}")
_MORE_NAMES = re.compile(r"\\(?:and|And|AND|quad|qquad)(?![A-Za-z])")
_LINES = re.compile(
    r"\\\\\*?(?:\[[^\]]*\])?|\\(?:newline|linebreak|affiliation|institute|address|email|affil|IEEEauthorblockA)(?![A-Za-z])"
)
_NOT_NAMES = re.compile(
    r"\\(?:thanks|footnote|footnotemark|textsuperscript|inst|orcid|email|url|texttt|fnmsep|corref|thanksref|href)\b\s*(?:\[[^\]]*\])?\s*(?:\{(?:[^{}]|\{[^{}]*\})*\})?|\$[^$]*\$"
)


def read_latex(path: Path, identifier: str) -> Reading:
    """The paper's text in sections. Files outside of the folder of ``path`` are never read.

    Left out and listed: comments, pictures and drawings, branches that are not taken, the references. Formulas are
    one line of text, tables Markdown rows; citations and references are written as they are printed. Raises
    InputError for a file without text, or whose macros expand without end.
    """
    files = FolderFiles(path.parent)
    return _read(files, path.name, path, identifier)


def read_latex_archive(path: Path, identifier: str) -> Reading:
    """The paper in a tar or gzip file, as ``read_latex``. Nothing is unpacked to disk.

    Raises InputError also for a file that is not an archive, is damaged or too large, or holds no LaTeX.
    """
    contents, refused = read_tar(path, wanted=lambda name: name.lower().endswith(SOURCES))
    if set(contents) == {""}:
        content = contents[""]
        if content.startswith(b"%PDF"):
            raise InputError("it holds a PDF, not LaTeX", where=str(path), fix="unpack it, and add the PDF")
        if b"\\" not in content or b"\0" in content[:4096]:
            raise InputError("it holds no LaTeX", where=str(path), fix="remove it")
        contents = {"main.tex": content}
    files = ArchiveFiles(contents)
    main = main_file(files)
    if main is None:
        raise InputError("it holds no LaTeX", where=str(path), fix="remove it")
    reading = _read(files, main, path, identifier)
    outside = [Dropped(identifier, 1, "link, device or path that leaves the archive", name) for name in refused]
    return Reading(reading.document, (*reading.dropped, *outside))


def _read(files: LatexFiles, main: str, path: Path, identifier: str) -> Reading:
    text = files.read(main)
    if text is None:
        raise InputError("cannot read it as text", where=str(path), fix="save it as UTF-8")
    reader = LatexText(files, _definitions(files, without_comments(text).text, posixpath.dirname(main)))
    reader.in_body = document_class(without_comments(text).text) is None
    try:
        reader.read(main, text)
        _read_bibliographies(reader, files, main)
        title, names = _title_page(reader)
    except InputError as error:
        raise InputError(error.what, where=str(path), fix=error.fix) from None
    blocks = [Block(reader.references.resolve(block.text), block.is_heading, block.dropped) for block in reader.blocks]
    assembly = assemble(identifier, blocks)
    check_length(len(assembly.text), path)
    arxiv = arxiv_id_in_name(bare_stem(path.name))
    first = next((mark for mark, _ in assembly.marks if mark != "Abstract"), "")
    document = Document(
        identifier,
        path.name,
        (title or first or bare_stem(path.name))[:LONGEST_TITLE],
        assembly.text,
        authors=names,
        year=arxiv_year(arxiv) or year_in(reader.date),
        arxiv_id=arxiv,
        sections=cover(assembly.marks, len(assembly.text)),
    )
    return Reading(document, tuple(assembly.dropped))


def _definitions(files: LatexFiles, preamble: str, folder: str) -> Definitions:
    """The macros of the styles that come with the paper."""
    definitions = Definitions()
    for names in _PACKAGES.findall(preamble):
        for name in names.split(","):
            style = files.read(posixpath.join(folder, f"{name.strip()}.sty"))
            if style is not None:
                definitions.read_style(without_comments(style).text)
    return definitions


def _read_bibliographies(reader: LatexText, files: LatexFiles, main: str) -> None:
    """The works that are cited: from the ``.bbl`` file, whose list is left out, or from the ``.bib`` files."""
    parts = closure(files, main).parts
    text = "\n".join(files.read(part) or "" for part in parts)
    for name in bibliographies(files, main, text):
        source = files.read(name) or ""
        if name.endswith(".bib"):
            reader.references.read_catalog(source)
        elif name not in parts:
            reader.references.read_works(without_comments(source).text)
            reader.add_references(without_comments(source).text)


def _title_page(reader: LatexText) -> tuple[str, tuple[str, ...]]:
    """Title and authors; both are put where the paper prints them, or at its start."""
    title = next((text for source in reversed(reader.titles) if (text := reader.text_of(source))), "")
    entries = [entry for source in reader.authors for entry in _MORE_NAMES.split(source)]
    lines = [
        "\n".join(reader.text_of(_NOT_NAMES.sub("", line)) for line in _LINES.split(entry)).strip() for entry in entries
    ]
    printed = one_line(", ".join(reader.text_of(_LINES.sub(" ", entry)) for entry in entries))
    page = [*(Block(text) for text in (title, printed.strip(" ,")) if text), *reader.take_notes()]
    at = reader.title_at or 0
    reader.blocks[at:at] = page
    return reader.references.resolve(title), author_names(reader.references.resolve(line) for line in lines)
