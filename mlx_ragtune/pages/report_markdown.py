"""The report as Markdown that any viewer reads."""

from collections.abc import Iterable, Sequence

from mlx_ragtune.errors import printable
from mlx_ragtune.pages.report_blocks import (
    Answers,
    Block,
    Cell,
    Facts,
    Group,
    Lines,
    Paragraph,
    Plot,
    Report,
    Section,
    Table,
)
from mlx_ragtune.pages.wording import state_label


def _escaped(text: str) -> str:
    """One line of text that Markdown does not read as markup, without control characters."""
    line = " ".join(printable(text).split())
    escaped = "".join("\\" + char if char in "\\`*_[]|#~" else char for char in line)
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(map(_escaped, headers))} |", f"|{'---|' * len(headers)}"]
    return [*lines, *(f"| {' | '.join(map(_escaped, row))} |" for row in rows), ""]


def _group(table: Table, group: Group) -> list[str]:
    title = [f"### {_escaped(group.title)}", ""] if group.title else []
    headers = [column.label for column in table.columns]
    return [*title, *_table(headers, [[_cell(cell) for cell in row] for row in group.rows])]


def _cell(cell: Cell) -> str:
    return f"{cell.text} ({'; '.join(cell.notes)})" if cell.notes else cell.text


def _answers(block: Answers) -> list[str]:
    lines = []
    for pair, about in block.pairs:
        lines += [f"### {_escaped(pair.question)}", "", _escaped(about), ""]
        for model, text, state in (
            ("Base", pair.base_text, pair.base_state),
            ("Prompted", pair.prompted_text, pair.prompted_state),
            ("Tuned", pair.tuned_text, pair.tuned_state),
        ):
            if text is None:
                continue
            mark = "" if state == "ok" else f" ({state_label(state)})"
            lines += [f"{model}{mark}:", "", f"> {_escaped(text) or '(no answer)'}", ""]
    return lines


def _block(block: Block) -> list[str]:
    match block:
        case Table():
            return [line for group in block.groups for line in _group(block, group)]
        case Facts():
            return _table(["", ""], [(fact.label, fact.value) for fact in block.rows])
        case Paragraph():
            return [_escaped(block.text), ""]
        case Lines():
            return [*(f"- {_escaped(line)}" for line in block.lines), ""]
        case Answers():
            return [] if block.fold else _answers(block)
        case Plot():
            return []


def render_markdown(report: Report) -> str:
    """The report as Markdown, without plots and folded answers; no text in it can break the layout."""
    lines = [f"# {_escaped(report.title)}", ""]
    for stamp in report.stamps:
        lines += [f"**{_escaped(stamp)}**", ""]
    lines += [f"**{_escaped(report.headline)}**", ""]
    for section in (*report.summary, *report.sections):
        lines += _section(section)
    return "\n".join(lines).rstrip() + "\n"


def _section(section: Section) -> list[str]:
    note = [_escaped(section.note), ""] if section.note else []
    body = [line for block in section.blocks for line in _block(block)]
    return [f"## {_escaped(section.title)}", "", *note, *body] if note or body else []
