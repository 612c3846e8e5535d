"""Text tables for a terminal: never wider than asked, long cells wrapped, no content lost."""

import textwrap
import unicodedata
from collections.abc import Sequence

GAP = "  "
NARROWEST = 6
"""A column is not squeezed below this while a wider one can still give way."""


def cell_width(text: str) -> int:
    """Columns that the text takes on a terminal: wide characters two, combining marks none."""
    return sum(
        0
        if unicodedata.combining(char) or unicodedata.category(char) in ("Cf", "Me")
        else 2
        if unicodedata.east_asian_width(char) in "WF"
        else 1
        for char in text
    )


def _wrap(text: str, width: int) -> list[str]:
    """Lines of at most ``width`` terminal columns (a lone wide character may need two)."""
    lines = []
    for paragraph in text.splitlines() or [""]:
        for line in textwrap.wrap(paragraph, width) or [""]:
            piece = ""
            for char in line:
                if piece and cell_width(piece + char) > width:
                    lines.append(piece)
                    piece = ""
                piece += char
            lines.append(piece)
    return lines


def _widths(cells: Sequence[Sequence[str]], width: int) -> list[int]:
    """Natural column widths; where they do not fit, the widest column gives way first."""
    widths = [
        max((cell_width(line) for cell in column for line in cell.splitlines()), default=0)
        for column in zip(*cells, strict=True)
    ]
    room = width - len(GAP) * (len(widths) - 1)
    while sum(widths) > room:
        widest = max(range(len(widths)), key=lambda at: widths[at])
        others = [one for at, one in enumerate(widths) if at != widest]
        target = max(room - sum(others), max([one for one in others if one < widths[widest]], default=1), 1)
        widths[widest] = min(widths[widest] - 1, max(target, NARROWEST))
        if max(widths) <= 1:
            break
    return widths


def _is_number(text: str) -> bool:
    bare = text.strip().strip("+-−±%").replace(",", "").replace(" ", "")
    return bare.replace(".", "", 1).isdigit()


def render_table(headers: Sequence[str], rows: Sequence[Sequence[object]], *, width: int = 80) -> str:
    """Columns under their headers in at most ``width`` columns; numbers to the right, the rest to the left.

    Raises ValueError for a row that has more or fewer cells than there are headers.
    """
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if any(len(row) != len(headers) for row in cells):
        raise ValueError(f"every row needs {len(headers)} cells")
    table = [list(headers), *cells]
    widths = _widths(table, width)
    right = [
        bool(cells) and all(_is_number(row[at]) for row in cells if row[at]) and any(row[at] for row in cells)
        for at in range(len(headers))
    ]

    def lines_of(row: Sequence[str]) -> list[str]:
        wrapped = [_wrap(cell, size) for cell, size in zip(row, widths, strict=True)]
        lines = []
        for at in range(max(map(len, wrapped))):
            parts = [lines_[at] if at < len(lines_) else "" for lines_ in wrapped]
            padded = [
                " " * (size - cell_width(part)) + part if to_right else part + " " * (size - cell_width(part))
                for part, size, to_right in zip(parts, widths, right, strict=True)
            ]
            lines.append(GAP.join(padded).rstrip())
        return lines

    rule = GAP.join("─" * size for size in widths)
    return "\n".join([*lines_of(table[0]), rule, *(line for row in cells for line in lines_of(row))])
