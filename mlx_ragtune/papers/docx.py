"""DOCX, read as zip and XML: the text in sections by its heading styles. Macros and linked files are never opened."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.archives import ZipPackage, iter_local, local_name
from mlx_ragtune.papers.authors import author_names
from mlx_ragtune.papers.blocks import Block, assemble, one_line
from mlx_ragtune.papers.docx_text import Notes, Paragraph, WordText, attribute, read_styles
from mlx_ragtune.papers.dropped import Reading
from mlx_ragtune.papers.plain_text import LONGEST_TITLE, check_length
from mlx_ragtune.papers.sections import cover, headings, is_named, is_references
from mlx_ragtune.records import Document

_BODY = "word/document.xml"
_GENERIC = {"untitled", "document", "word document", "microsoft word document", "normal"}


def read_docx(path: Path, identifier: str) -> Reading:
    """The text by paragraphs; headings by their styles, else by bold print, numbers and usual names.

    Left out and listed: deleted and hidden text, comments, running heads and feet, pictures, tables of contents, the
    references. Footnotes follow their paragraph. Raises InputError for a file that is not a DOCX, is damaged,
    encrypted or too large, or holds macros.
    """
    with ZipPackage(path, "a DOCX file") as package:
        if any(name.endswith("vbaProject.bin") for name in package.names):
            raise InputError("it contains macros", where=str(path), fix="save it as .docx without macros")
        body_name = _body_name(package)
        body = package.read_xml(body_name)
        folder = body_name.rpartition("/")[0]
        styles = _optional(package, f"{folder}/styles.xml")
        reader = WordText(
            read_styles(styles) if styles is not None else {},
            Notes(_notes(package, f"{folder}/footnotes.xml"), _notes(package, f"{folder}/endnotes.xml")),
        )
        root = next((child for child in body if local_name(child) == "body"), None)
        if root is None:
            raise InputError("not a DOCX file, or damaged: it has no body", where=str(path), fix="export it again")
        parts = list(reader.paragraphs(root))
        title, authors = _properties(package)
        margins = list(_margins(package, folder))
    assembly = assemble(identifier, [*_blocks(parts), *margins])
    check_length(len(assembly.text), path)
    paragraphs = [part for part in parts if isinstance(part, Paragraph)]
    printed = next((part.text for part in paragraphs if part.style.name == "Title" and part.text), "")
    known = title if title and title.casefold() in one_line(assembly.text[:3000]).casefold() else ""
    first = next((name for name, _ in assembly.marks if not is_named(name)), "")
    opening = _opening(parts)
    document = Document(
        identifier,
        path.name,
        (printed or known or opening or first or title or path.stem)[:LONGEST_TITLE],
        assembly.text,
        authors=authors,
        sections=cover(assembly.marks, len(assembly.text)),
    )
    return Reading(document, tuple(assembly.dropped))


def _body_name(package: ZipPackage) -> str:
    """The member that holds the text, as the package's relations name it."""
    relations = _optional(package, "_rels/.rels")
    for relation in relations if relations is not None else ():
        if attribute(relation, "Type").endswith("/officeDocument"):
            return attribute(relation, "Target").lstrip("/")
    return _BODY


def _optional(package: ZipPackage, name: str) -> Element | None:
    return package.read_xml(name) if name in package.names else None


def _notes(package: ZipPackage, name: str) -> dict[str, Element]:
    """The notes of a part by id, without the lines that separate them from the text."""
    root = _optional(package, name)
    return {
        attribute(note, "id"): note
        for note in (root if root is not None else ())
        if attribute(note, "type") in ("", "normal")
    }


def _properties(package: ZipPackage) -> tuple[str, tuple[str, ...]]:
    """Title and authors in the file's properties; the names that programs put there do not count."""
    root = _optional(package, "docProps/core.xml")
    if root is None:
        return "", ()
    values = {local_name(element): one_line(element.text or "") for element in root}
    title = values.get("title", "")
    return "" if title.casefold() in _GENERIC else title, author_names(values.get("creator", "").split(";"))


def _margins(package: ZipPackage, folder: str) -> Iterator[Block]:
    """Running heads, feet and comments: all of it is left out."""
    for name in package.names:
        base = name.removeprefix(f"{folder}/")
        reason = (
            "running head" if base.startswith(("header", "footer")) else "comment" if base == "comments.xml" else ""
        )
        if reason and base.endswith(".xml") and "/" not in base:
            root = package.read_xml(name)
            for note in root if reason == "comment" else [root]:
                text = " ".join(part.text or "" for part in iter_local(note, "t"))
                yield Block(one_line(text), dropped=reason)


def _opening(parts: Iterable[Paragraph | list[Block]]) -> str:
    """The first paragraph, where it stands out like a title: bold, short and not a usual section."""
    first = next((part for part in parts if isinstance(part, Paragraph) and part.text), None)
    stands_out = first and (first.is_bold or first.style.level) and len(first.text.split()) <= 30
    return first.text if first and stands_out and not is_named(first.text) else ""


def _blocks(parts: list[Paragraph | list[Block]]) -> Iterator[Block]:
    paragraphs = [part for part in parts if isinstance(part, Paragraph)]
    styled = any(part.style.level for part in paragraphs)
    lines = [part.text for part in paragraphs]
    plain = set() if styled else {id(paragraphs[index]) for index in headings(lines)}
    for part in parts:
        if isinstance(part, list):
            yield from part
            continue
        style = part.style.name.casefold()
        if style.startswith("toc ") or style in ("toc heading", "table of figures"):
            yield Block(part.text, dropped="table of contents")
        elif style == "bibliography":
            yield Block(part.text, dropped="references")
        else:
            is_heading = bool(part.style.level) or (not styled and (id(part) in plain or _looks_like_heading(part)))
            is_heading = is_heading or is_references(part.text)
            text = f"- {part.text}" if part.is_item and part.text else part.text
            yield Block(text, is_heading=is_heading and bool(part.text))
        yield from part.after


def _looks_like_heading(part: Paragraph) -> bool:
    """Whether a paragraph without a heading style is printed as one: bold, short and not a sentence."""
    words = part.text.split()
    return (
        part.is_bold
        and not part.is_item
        and part.style.name != "Title"
        and 0 < len(words) <= 12
        and len(part.text) <= 100
        and not part.text.endswith((".", ",", ";"))
        and any(char.isalpha() for char in part.text)
    )
