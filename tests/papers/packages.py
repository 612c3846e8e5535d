"""DOCX and EPUB files put together from their XML, and tar files of LaTeX source."""

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
M = 'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
MC = 'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
STYLES = f"""<w:styles {W}>
<w:style w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>
<w:style w:styleId="berschrift2"><w:name w:val="heading 2"/></w:style>
<w:style w:styleId="Eigene"><w:name w:val="My heading"/><w:basedOn w:val="berschrift1"/></w:style>
<w:style w:styleId="Titel"><w:name w:val="Title"/></w:style>
<w:style w:styleId="Verzeichnis1"><w:name w:val="toc 1"/></w:style>
<w:style w:styleId="Literatur"><w:name w:val="Bibliography"/></w:style>
</w:styles>"""
CORE = """<cp:coreProperties xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/core-properties"
xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{title}</dc:title><dc:creator>{creator}</dc:creator>
</cp:coreProperties>"""


def write_zip(path: Path, members: Mapping[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def par(text: str, style: str = "", *, bold: bool = False) -> str:
    """A paragraph of one run; ``text`` may be runs already."""
    properties = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    run = text if text.startswith("<w:") else f"<w:r>{'<w:rPr><w:b/></w:rPr>' * bold}<w:t>{text}</w:t></w:r>"
    return f"<w:p>{properties}{run}</w:p>"


def write_docx(path: Path, body: str, *, title: str = "", creator: str = "", **parts: str | bytes) -> Path:
    """A DOCX with this body; ``parts`` are more members of its folder ``word``, such as ``footnotes``."""
    members: dict[str, str | bytes] = {
        "word/document.xml": f"<w:document {W} {M} {MC}><w:body>{body}</w:body></w:document>",
        "word/styles.xml": STYLES,
        "docProps/core.xml": CORE.format(title=title, creator=creator),
        **{f"word/{name}.xml": content for name, content in parts.items()},
    }
    return write_zip(path, members)


CONTAINER = """<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>
<rootfile full-path="OEBPS/content.opf" media-type="application/oebps-package+xml"/></rootfiles></container>"""


def write_epub(path: Path, pages: Mapping[str, str], *, metadata: str = "", **more: str | bytes) -> Path:
    """An EPUB of these pages by name, in this order; a page named ``nav`` is its table of contents."""
    items = "".join(
        f'<item id="{name}" href="text/{name}%20x.xhtml" media-type="application/xhtml+xml"'
        f"{' properties=' + chr(34) + 'nav' + chr(34) if name == 'nav' else ''}/>"
        for name in pages
    )
    spine = "".join(f'<itemref idref="{name}"/>' for name in pages)
    package = (
        f'<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata '
        f'xmlns:dc="http://purl.org/dc/elements/1.1/">{metadata}</metadata>'
        f"<manifest>{items}</manifest><spine>{spine}</spine></package>"
    )
    return write_zip(
        path,
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": CONTAINER,
            "OEBPS/content.opf": package,
            **{
                f"OEBPS/text/{name} x.xhtml": f"<html><head><title>{name}</title></head><body>{text}</body></html>"
                for name, text in pages.items()
            },
            **{name.replace("__", "/").replace("_dot_", "."): content for name, content in more.items()},
        },
    )


def write_tar(path: Path, files: Mapping[str, str | bytes], *, links: Mapping[str, str] | None = None) -> Path:
    """A tar.gz of these files and symlinks, as arXiv sends an e-print."""
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            content = text.encode() if isinstance(text, str) else text
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return path
