"""Rows become text: paragraphs without line breaks, tables as Markdown rows, headings and code on their own lines."""

from collections import Counter
from collections.abc import Sequence

from mlx_ragtune.papers.blocks import markdown_table
from mlx_ragtune.papers.hyphens import PAGE_BREAK, join_hyphens
from mlx_ragtune.papers.print_rows import Row

HEADING, ALONE = "\x01", "\x02"
"""Marks of a line that is a heading, or that stays on its own. Control characters are in no row's text."""
LEAST_TABLE_ROWS = 3
Line = str


def lines_of(rows: Sequence[Row], headings: dict[int, tuple[int, str, str]], code: set[int]) -> list[Line]:
    """A page's lines, in which the rows of ``code`` stay on their own.

    ``headings`` gives for a heading's first row its last row, its text, and what follows it on the row.
    """
    tables = _tables(
        rows, {index for first, (last, _, _) in headings.items() for index in range(first, last + 1)} | code
    )
    lines: list[Line] = []
    index = 0
    while index < len(rows):
        if index in headings:
            last, title, rest = headings[index]
            lines += [HEADING + title, *([rest] if rest else [])]
            index = last + 1
            continue
        if index in tables:
            lines += [ALONE + line for line in markdown_table([row.cells for row in rows[index : tables[index]]])]
            index = tables[index]
            continue
        lines.append((ALONE if index in code else "") + rows[index].text)
        index += 1
    return lines


def _tables(rows: Sequence[Row], others: set[int]) -> dict[int, int]:
    """First row → row after the last of each table: three rows or more with the same number of cells, or nearly all."""
    tables: dict[int, int] = {}
    index = 0
    while index < len(rows):
        end = index
        while (
            end < len(rows)
            and end not in others
            and len(rows[end].cells) > 1
            and (end == index or 0 < rows[end - 1].baseline - rows[end].baseline < 3 * rows[end].size)
        ):
            end += 1
        counts = Counter(len(row.cells) for row in rows[index:end])
        if end - index >= LEAST_TABLE_ROWS and max(counts.values()) >= 0.6 * (end - index):
            tables[index] = end
        index = max(end, index + 1)
    return tables


def unwrap(lines: Sequence[Line]) -> list[Line]:
    """Paragraphs: a line continues in the next one when it is nearly full, or the next starts in lower case.

    Marked lines stay on their own. Only line breaks change, so that chunks can end at a sentence.
    """
    lengths = sorted(len(line) for line in lines if not line.startswith((HEADING, ALONE)))
    full = 0.75 * lengths[int(0.9 * (len(lengths) - 1))] if lengths else 0
    paragraphs: list[Line] = []
    before = HEADING
    for line in lines:
        own = line.startswith((HEADING, ALONE)) or before.startswith((HEADING, ALONE))
        if not own and (line[0].islower() or (len(before) >= full and full >= 30)):
            paragraphs[-1] += " " + line
        else:
            paragraphs.append(line)
        before = line
    return paragraphs


def paragraphs(pages: Sequence[Sequence[Line]]) -> list[list[Line]]:
    """The pages as paragraphs, still with marks. Broken words are joined over the whole document."""
    whole = join_hyphens(PAGE_BREAK.join("\n".join(page) for page in pages))
    return [
        unwrap([line.strip(" ") for line in page.split("\n") if line.strip(" ")]) for page in whole.split(PAGE_BREAK)
    ]
