"""The summary of a report for a terminal of 80 columns."""

from mlx_ragtune.pages.report_blocks import Block, Lines, Paragraph, Report, Section, Table
from mlx_ragtune.pages.tables import fill, render_table

WIDTH = 80


def _summary_table(table: Table) -> str:
    """The summary rows and columns of a table; empty without any."""
    rows = [row for group in table.groups if group.summary for row in group.rows]
    shown = [at for at, column in enumerate(table.columns) if column.narrowest == "terminal"]
    headers = [table.columns[at].label for at in shown]
    return render_table(headers, [[row[at].text for at in shown] for row in rows], width=WIDTH) if rows else ""


def _block(block: Block) -> list[str]:
    match block:
        case Paragraph():
            return [fill(block.text, width=WIDTH - 2, bullet="  ")]
        case Lines():
            return [fill(line, width=WIDTH, bullet="  - ") for line in block.lines]
        case _:
            return []


def _section(section: Section) -> list[str]:
    return [fill(section.title, width=WIDTH), *(line for block in section.blocks for line in _block(block)), ""]


def render_text(report: Report) -> str:
    """What a terminal shows at the end of a run: the verdict, the summary in plain words, the tables of figures."""
    parts = [*(fill(text, width=WIDTH) for text in (report.title, *report.stamps)), ""]
    parts += [fill(report.headline, width=WIDTH), ""]
    parts += [line for section in report.summary for line in _section(section)]
    for section in report.sections:
        tables = list(filter(None, (_summary_table(block) for block in section.blocks if isinstance(block, Table))))
        parts += [line for table in tables for line in (table, "")]
        if tables:
            notes = [block.text for block in section.blocks if isinstance(block, Paragraph) and block.small]
            parts += [line for text in notes for line in (fill(text, width=WIDTH), "")]
    return "\n".join(parts).rstrip() + "\n"
