"""Tables, paragraphs and durations for a terminal: never wider than asked, long texts wrapped, no content lost."""

from collections.abc import Sequence
from io import StringIO

from mlx_ragtune.errors import printable


def fill(text: str, *, width: int = 80, bullet: str = "") -> str:
    """One paragraph in lines of at most ``width`` columns; further lines are indented as far as ``bullet``."""
    from rich.console import Console
    from rich.text import Text

    console = Console(file=StringIO(), width=width)
    lines = Text(printable(" ".join(text.split()))).wrap(console, width - len(bullet), overflow="fold")
    return "\n".join((" " * len(bullet) if at else bullet) + line.plain.rstrip() for at, line in enumerate(lines))


def _is_number(text: str) -> bool:
    bare = text.strip().strip("+-−±%*").replace(",", "").replace(" ", "")
    return bare.replace(".", "", 1).isdigit()


def render_table(headers: Sequence[str], rows: Sequence[Sequence[object]], *, width: int = 80) -> str:
    """Columns under their headers in at most ``width`` columns; numbers to the right, the rest to the left.

    Control characters are shown as escapes. Raises ValueError for a row that has more or fewer cells than
    there are headers.
    """
    from rich.box import Box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [["" if cell is None else printable(str(cell)) for cell in row] for row in rows]
    if any(len(row) != len(headers) for row in cells):
        raise ValueError(f"every row needs {len(headers)} cells")
    box = Box("    \n    \n ── \n    \n    \n    \n    \n    \n")
    table = Table(box=box, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="", expand=False)
    for at, header in enumerate(headers):
        column = [row[at] for row in cells if row[at]]
        numeric = bool(column) and all(map(_is_number, column))
        table.add_column(Text(printable(header)), justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    output = StringIO()
    Console(file=output, width=width, color_system=None, legacy_windows=False).print(table)
    return "\n".join(line.rstrip() for line in output.getvalue().rstrip("\n").split("\n"))


def clock(seconds: float) -> str:
    """A duration for a person: ``0.4 s``, ``12 s``, ``4 min 05 s``, ``6 h 50 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def short_clock(seconds: float) -> str:
    """A duration in few columns: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
