"""EPUB, read as zip, package document and XHTML: the chapters in the order of the spine.

Source: EPUB 3.3, www.w3.org/TR/epub-33.
"""

import posixpath
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote
from xml.etree.ElementTree import Element

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.archives import ZipPackage, inside, iter_local, local_name, parse_xml
from mlx_ragtune.papers.authors import author_names
from mlx_ragtune.papers.blocks import Block, assemble, one_line, year_in
from mlx_ragtune.papers.dropped import Reading
from mlx_ragtune.papers.html_blocks import read_blocks
from mlx_ragtune.papers.plain_text import LONGEST_TITLE, check_length
from mlx_ragtune.papers.sections import cover
from mlx_ragtune.records import Document

_CONTAINER, _ENCRYPTION = "META-INF/container.xml", "META-INF/encryption.xml"
_RIGHTS = ("META-INF/rights.xml", "META-INF/license.lcpl", "META-INF/sinf.xml")
_FONT_ALGORITHMS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
"""Obfuscated fonts are not a protection of the text."""
_PAGES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml", "text/x-oeb1-document")


def read_epub(path: Path, identifier: str) -> Reading:
    """The text of the pages in reading order, with their headings as sections.

    Left out and listed: tables of contents and other navigation, the references. Raises InputError for a file
    that is not an EPUB, is damaged, protected (DRM) or too large, or has no pages.
    """
    with ZipPackage(path, "an EPUB file") as package:
        _refuse_protected(package)
        name = _package_name(package)
        root = package.read_xml(name)
        blocks = [block for page in _spine(package, root, name) for block in _page_blocks(package, page)]
    if not blocks:
        raise InputError("it contains no text", where=str(path), fix="remove it, or download it again")
    assembly = assemble(identifier, blocks)
    check_length(len(assembly.text), path)
    values = [(local_name(element), one_line(element.text or "")) for element in _metadata(root)]
    title = next((text for key, text in values if key == "title" and text), "")
    date = next((text for key, text in values if key == "date" and text), "")
    document = Document(
        identifier,
        path.name,
        (title or next((mark for mark, _ in assembly.marks), "") or path.stem)[:LONGEST_TITLE],
        assembly.text,
        authors=author_names(text for key, text in values if key == "creator"),
        year=year_in(date),
        sections=cover(assembly.marks, len(assembly.text)),
    )
    return Reading(document, tuple(assembly.dropped))


def _refuse_protected(package: ZipPackage) -> None:
    """Raise InputError for a book whose pages are encrypted."""
    protected = any(name in package.names for name in _RIGHTS)
    if _ENCRYPTION in package.names:
        root = package.read_xml(_ENCRYPTION)
        methods = [
            element.get("Algorithm", "")
            for data in iter_local(root, "EncryptedData")
            for element in data
            if local_name(element) == "EncryptionMethod"
        ]
        protected = any(method not in _FONT_ALGORITHMS for method in methods)
    if protected:
        raise InputError(
            "it is protected (DRM)", where=str(package.path), fix="remove it, or get a copy without protection"
        )


def _package_name(package: ZipPackage) -> str:
    if _CONTAINER not in package.names:
        raise InputError(
            f"not an EPUB file, or damaged: it holds no {_CONTAINER}",
            where=str(package.path),
            fix="download or export it again",
        )
    for element in iter_local(package.read_xml(_CONTAINER), "rootfile"):
        name = inside(unquote(element.get("full-path", "")))
        if name:
            return name
    raise InputError(
        "not an EPUB file, or damaged: it names no package document",
        where=str(package.path),
        fix="download or export it again",
    )


def _metadata(root: Element) -> Iterator[Element]:
    for metadata in iter_local(root, "metadata"):
        yield from metadata.iter()


def _spine(package: ZipPackage, root: Element, name: str) -> Iterator[tuple[str, bool]]:
    """(member, whether it is the table of contents) of each page in reading order."""
    folder = posixpath.dirname(name)
    items = {element.get("id", ""): element for element in iter_local(root, "item")}
    contents = {
        posixpath.normpath(posixpath.join(folder, unquote(element.get("href", "")).partition("#")[0]))
        for element in iter_local(root, "reference")
        if element.get("type") == "toc"
    }
    for reference in iter_local(root, "itemref"):
        item = items.get(reference.get("idref", ""))
        if item is None or item.get("media-type", _PAGES[0]) not in _PAGES:
            continue
        page = inside(posixpath.join(folder, unquote(item.get("href", "")).partition("#")[0]))
        if page is None or page not in package.names:
            raise InputError(
                f"not an EPUB file, or damaged: it holds no {item.get('href', '')}",
                where=str(package.path),
                fix="download or export it again",
            )
        yield page, "nav" in item.get("properties", "").split() or page in contents


def _page_blocks(package: ZipPackage, page: tuple[str, bool]) -> list[Block]:
    name, is_contents = page
    content = package.read(name)
    blocks = read_blocks(_decoded(content, name, package.path)).blocks
    if is_contents:
        return [Block(block.text, dropped="table of contents") for block in blocks]
    return blocks


def _decoded(content: bytes, name: str, path: Path) -> str:
    """The page as text: UTF-8, or what a mark at its start or its XML declaration says."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        root = parse_xml(content, name, path)  # knows the encoding by the declaration
        from xml.etree import ElementTree

        return ElementTree.tostring(root, encoding="unicode", method="html")
