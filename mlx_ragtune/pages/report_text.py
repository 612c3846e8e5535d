"""The summary of a report for a terminal of 80 columns."""

from mlx_ragtune.pages.report_blocks import Report, Table
from mlx_ragtune.pages.tables import fill, render_table

WIDTH = 80


def _summary_table(table: Table) -> str:
    """The summary rows and columns of a table; empty without any."""
    rows = [row for group in table.groups if group.summary for row in group.rows]
    shown = [at for at, column in enumerate(table.columns) if column.narrowest == "terminal"]
    headers = [table.columns[at].label for at in shown]
    return render_table(headers, [[row[at].text for at in shown] for row in rows], width=WIDTH) if rows else ""


def render_text(report: Report) -> str:
    """What a terminal shows at the end of a run: the summary tables, then the verdict and its reasons."""
    parts = [*(fill(text, width=WIDTH) for text in (report.title, *report.stamps)), ""]
    tables = [block for section in report.sections for block in section.blocks if isinstance(block, Table)]
    for table in filter(None, map(_summary_table, tables)):
        parts += [table, ""]
    parts.append(fill(report.headline, width=WIDTH))
    parts += [fill(reason, width=WIDTH, bullet="  - ") for reason in report.reasons]
    return "\n".join(parts) + "\n"
