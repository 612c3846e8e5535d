"""The text of Word's WordprocessingML: paragraphs with their styles, tables, notes, formulas.

Elements: ECMA-376 part 1, section 17.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from mlx_ragtune.papers.archives import local_name
from mlx_ragtune.papers.blocks import Block, one_line, table_blocks
from mlx_ragtune.papers.office_math import office_math

_MATH = ("officeDocument/2006/math}", "officeDocument/math}")
_SYMBOL_FONT = dict(
    zip("abcdefghijklmnopqrstuvwxyz", "αβχδεφγηιϕκλμνοπθρστυϖωξψζ", strict=True)
) | dict(zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ", strict=True)) | {
    "\xb1": "±", "\xb3": "≥", "\xa3": "≤", "\xb4": "×", "\xb9": "≠", "\xbb": "≈", "\xa5": "∞", "\xb7": "•",
    "\xae": "→", "\xb6": "∂", "\xb0": "°", "\xd7": "·", "\xe5": "∑", "\xf2": "∫", "\xce": "∈", "\xd1": "∇",
}  # fmt: skip
"""Adobe's Symbol encoding, for characters that Word names by that font."""
_TRANSPARENT = {
    "smartTag",
    "customXml",
    "hyperlink",
    "fldSimple",
    "ins",
    "moveTo",
    "sdtContent",
    "ruby",
    "rubyBase",
    "dir",
    "bdo",
}
_DELETED = {"del", "moveFrom"}
_HEADING = re.compile(r"(?:heading|überschrift|titre) ?([1-9])", re.IGNORECASE)
_RAISED = re.compile(r"[-−–+]?\d+(?:[.,]\d+)*|[A-Za-z∗*]")
_DEEPEST = 150


@dataclass(frozen=True)
class Style:
    """What a paragraph style says: its name and its level as a heading, 0 for none."""

    name: str = ""
    level: int = 0


@dataclass
class Paragraph:
    """A paragraph: its text, its style, and what is anchored in it or left out of it."""

    style: Style
    text: str = ""
    is_bold: bool = False
    is_item: bool = False
    after: list[Block] = field(default_factory=list)


@dataclass(frozen=True)
class Notes:
    """Footnotes and endnotes of a document by their ids."""

    footnotes: Mapping[str, Element] = field(default_factory=dict)
    endnotes: Mapping[str, Element] = field(default_factory=dict)


def attribute(element: Element, name: str) -> str:
    """An attribute's value by its name without the namespace; "" without it."""
    return next((value for key, value in element.attrib.items() if key.rpartition("}")[2] == name), "")


def child(element: Element | None, *names: str) -> Element | None:
    """The descendant at a path of local names, or None."""
    for name in names:
        element = next((part for part in element if local_name(part) == name), None) if element is not None else None
    return element


def is_on(properties: Element | None, name: str) -> bool:
    """Whether a property such as bold is there and not switched off."""
    found = child(properties, name)
    return found is not None and attribute(found, "val") not in ("0", "false", "off")


def read_styles(root: Element) -> dict[str, Style]:
    """The paragraph styles by id; a style that builds on a heading is one."""
    elements = {attribute(style, "styleId"): style for style in root if local_name(style) == "style"}
    return {identifier: _style(identifier, elements) for identifier in elements}


def _style(identifier: str, elements: Mapping[str, Element]) -> Style:
    name, level, seen = "", 0, set[str]()
    while identifier in elements and identifier not in seen:
        seen.add(identifier)
        element = elements[identifier]
        own = child(element, "name")
        own_name = attribute(own, "val") if own is not None else identifier
        name = name or own_name
        if _HEADING.fullmatch(own_name):
            level = level or int(_HEADING.fullmatch(own_name)[1])  # type: ignore[index]
        outline = child(element, "pPr", "outlineLvl")
        if outline is not None and attribute(outline, "val").isdecimal() and int(attribute(outline, "val")) < 9:
            level = level or int(attribute(outline, "val")) + 1
        base = child(element, "basedOn")
        identifier = attribute(base, "val") if base is not None else ""
    return Style(name, level)


class WordText:
    """Turns the body of a document into blocks."""

    def __init__(self, styles: Mapping[str, Style], notes: Notes) -> None:
        self.styles, self.notes = styles, notes
        self._fields: list[bool] = []  # open fields; whether the result is shown now

    def paragraphs(self, parent: Element, depth: int = 0) -> Iterator[Paragraph | list[Block]]:
        """The paragraphs, and the blocks of tables and of what is left out, in order."""
        if depth > _DEEPEST:
            return
        for element in parent:
            match local_name(element):
                case "p":
                    yield self._paragraph(element, depth)
                case "tbl":
                    yield list(self._table(element, depth))
                case "sdt":
                    yield from self._content_control(element, depth)
                case "AlternateContent":
                    yield from self.paragraphs(_choice(element), depth + 1)
                case "altChunk":
                    yield [Block(attribute(element, "id") or "altChunk", dropped="embedded document")]
                case name if name in _DELETED:
                    yield [Block(_deleted(element), dropped="deleted text")]
                case name if name in _TRANSPARENT:
                    yield from self.paragraphs(element, depth + 1)
                case _:
                    pass

    def _content_control(self, element: Element, depth: int) -> Iterator[Paragraph | list[Block]]:
        gallery = child(element, "sdtPr", "docPartObj", "docPartGallery")
        content = child(element, "sdtContent")
        if content is None:
            return
        if gallery is not None and "Contents" in attribute(gallery, "val"):
            lines = [part.text for part in self.paragraphs(content, depth + 1) if isinstance(part, Paragraph)]
            yield [Block(line, dropped="table of contents") for line in lines]
        else:
            yield from self.paragraphs(content, depth + 1)

    def _paragraph(self, element: Element, depth: int) -> Paragraph:
        properties = child(element, "pPr")
        style_id = child(properties, "pStyle")
        style = self.styles.get(attribute(style_id, "val"), Style()) if style_id is not None else Style()
        outline = child(properties, "outlineLvl")
        if outline is not None and attribute(outline, "val") in tuple("012345678") and not style.level:
            style = Style(style.name, int(attribute(outline, "val")) + 1)
        paragraph = Paragraph(style, is_item=child(properties, "numPr") is not None and not style.level)
        runs: list[tuple[str, bool]] = []
        for text, bold in self._runs(element, paragraph, depth):
            runs.append((text, bold))
        paragraph.text = one_line("".join(text for text, _ in runs))
        paragraph.is_bold = bool(paragraph.text) and all(bold for text, bold in runs if text.strip())
        return paragraph

    def _runs(self, parent: Element, paragraph: Paragraph, depth: int) -> Iterator[tuple[str, bool]]:
        """(text, whether it is bold) of each run."""
        if depth > _DEEPEST:
            return
        for element in parent:
            name = local_name(element)
            if (name == "r" and not str(element.tag).startswith("{")) or (name == "r" and not _is_math(element)):
                yield from self._run(element, paragraph, depth)
            elif name in ("oMath", "oMathPara"):
                yield f" {office_math(element)} " if name == "oMathPara" else office_math(element), False
            elif name in _DELETED:
                paragraph.after.append(Block(_deleted(element), dropped="deleted text"))
            elif name == "sdt":
                content = child(element, "sdtContent")
                if content is not None:
                    yield from self._runs(content, paragraph, depth + 1)
            elif name == "AlternateContent":
                yield from self._runs(_choice(element), paragraph, depth + 1)
            elif name in _TRANSPARENT:
                yield from self._runs(element, paragraph, depth + 1)

    def _run(self, run: Element, paragraph: Paragraph, depth: int) -> Iterator[tuple[str, bool]]:
        properties = child(run, "rPr")
        bold = is_on(properties, "b")
        text = "".join(self._parts(run, paragraph, depth))
        if is_on(properties, "vanish"):
            if text.strip():
                paragraph.after.append(Block(text, dropped="hidden text"))
            return
        raised = child(properties, "vertAlign")
        if raised is not None and attribute(raised, "val") == "superscript" and _RAISED.fullmatch(text.strip()):
            text = f"^{text.strip()}"
        yield text, bold

    def _parts(self, run: Element, paragraph: Paragraph, depth: int) -> Iterator[str]:
        for element in run:
            match local_name(element):
                case "t":
                    yield element.text or ""
                case "tab" | "br" | "cr" | "ptab":
                    yield " "
                case "noBreakHyphen":
                    yield "-"
                case "sym":
                    yield _symbol(element)
                case "footnoteReference":
                    self._note(self.notes.footnotes, element, paragraph, depth)
                case "endnoteReference":
                    self._note(self.notes.endnotes, element, paragraph, depth)
                case "ruby" | "rubyBase":
                    yield "".join(text for text, _ in self._runs(element, paragraph, depth + 1))
                case "AlternateContent":
                    yield from self._parts(_choice(element), paragraph, depth + 1)
                case "drawing" | "pict" | "object":
                    self._drawing(element, paragraph, depth)
                case _:
                    pass

    def _note(self, notes: Mapping[str, Element], element: Element, paragraph: Paragraph, depth: int) -> None:
        note = notes.get(attribute(element, "id"))
        if note is not None:
            lines = [part.text for part in self.paragraphs(note, depth + 50) if isinstance(part, Paragraph)]
            paragraph.after.append(Block(f"Footnote: {one_line(' '.join(lines))}"))

    def _drawing(self, element: Element, paragraph: Paragraph, depth: int) -> None:
        """The text of text boxes follows the paragraph; a picture is listed by its description."""
        boxes = [box for box in element.iter() if local_name(box) == "txbxContent"]
        for box in boxes:
            paragraph.after += blocks_of(self.paragraphs(box, depth + 50))
        names = [part for part in element.iter() if local_name(part) in ("docPr", "imagedata")]
        if names and not boxes:
            label = attribute(names[0], "descr") or attribute(names[0], "title") or attribute(names[0], "name")
            paragraph.after.append(Block(label or "picture", dropped="picture"))

    def _table(self, table: Element, depth: int) -> Iterator[Block]:
        """The rows in Markdown; a cell that spans columns is followed by empty ones."""
        rows: list[list[str]] = []
        left_out: list[Block] = []
        for row in _rows(table):
            cells: list[str] = []
            for cell in _rows(row, "tc"):
                parts = blocks_of(self.paragraphs(cell, depth + 2))
                left_out += [block for block in parts if block.dropped]
                cells.append(" ".join(block.text for block in parts if not block.dropped))
                span = child(cell, "tcPr", "gridSpan")
                width = attribute(span, "val") if span is not None else "1"
                cells += [""] * (min(int(width), 64) - 1 if width.isdecimal() else 0)
            rows.append(cells)
        yield from table_blocks(rows)
        yield from left_out


def _is_math(element: Element) -> bool:
    return any(name in str(element.tag) for name in _MATH)


def _rows(parent: Element, name: str = "tr") -> Iterator[Element]:
    """The rows of a table, or the cells of a row, also those in content controls."""
    for element in parent:
        if local_name(element) == name:
            yield element
        elif local_name(element) in ("sdt", "sdtContent", "customXml", "ins"):
            yield from _rows(element, name)


def _choice(element: Element) -> Element:
    """The first alternative that is offered; the others show the same."""
    return next((part for part in element if local_name(part) == "Choice"), element)


def _deleted(element: Element) -> str:
    return "".join(part.text or "" for part in element.iter() if local_name(part) in ("delText", "t"))


def _symbol(element: Element) -> str:
    try:
        char = chr(int(attribute(element, "char"), 16) & 0xFF)
    except ValueError:
        return ""
    if "symbol" in attribute(element, "font").casefold():
        return _SYMBOL_FONT.get(char, char)
    return "•"


def blocks_of(parts: Iterable[Paragraph | list[Block]]) -> list[Block]:
    """The paragraphs as plain blocks, with what is anchored in them."""
    blocks: list[Block] = []
    for part in parts:
        blocks += part if isinstance(part, list) else [Block(part.text), *part.after]
    return [block for block in blocks if block.text.strip()]
