"""The report as Markdown, and its summary for the terminal."""

import textwrap
from collections.abc import Iterable, Sequence

from mlx_ragtune.pages import wording
from mlx_ragtune.pages.answer_selection import cost, counted, groups, primary_label, worst
from mlx_ragtune.pages.plots import signed
from mlx_ragtune.pages.report_data import MetricPart, QuestionPart, Report, RowPart
from mlx_ragtune.pages.tables import render_table

WIDTH = 80


def _plain(text: str) -> str:
    """One line of text with nothing in it that Markdown would read as markup."""
    escaped = "".join("\\" + char if char in "\\`*_[]|#~" else char for char in " ".join(text.split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(headers)} |", f"|{'---|' * len(headers)}"]
    return [*lines, *(f"| {' | '.join(_plain(cell) for cell in row)} |" for row in rows), ""]


def _facts(title: str, rows: Sequence[RowPart]) -> list[str]:
    return [f"## {title}", "", *_table(["", ""], [(row["label"], row["value"]) for row in rows])] if rows else []


def _metric_row(metric: MetricPart) -> tuple[str, ...]:
    return (
        metric["label"],
        wording.amount(metric, metric["base"]),
        wording.amount(metric, metric["tuned"]),
        wording.change(metric),
        wording.interval(metric),
        wording.p_value(metric["p"]),
        str(metric["n"]),
        (metric["verdict"] or "not judged").lower(),
    )


def _metrics(report: Report) -> list[str]:
    level = f"{100 * (1 - report.get('alpha', 0.05)):g} % interval"
    headers = ["metric", "base", "tuned", "difference", level, "p", "questions", "verdict"]
    lines = []
    for role, metrics in groups(report):
        title = wording.ROLE_LABELS.get(role, role)
        lines += [f"### {title}", "", *_table(headers, [_metric_row(metric) for metric in metrics])]
    return ["## Base against tuned", "", *lines] if lines else []


def _quoted(text: str) -> str:
    return f"> {_plain(text)}" if text.strip() else "> (no answer)"


def _regression(question: QuestionPart, label: str) -> list[str]:
    by = f", {label.lower()} {signed(100 * question['delta'], 1)} points" if question["delta"] is not None else ""
    lines = [
        f"### {_plain(question['question'])}",
        "",
        f"{_plain(question['topic'])}, {_plain(question['id'])}{by}",
        "",
    ]
    for name, text, state in (
        ("Base", question["base_text"], question["base_state"]),
        ("Tuned", question["tuned_text"], question["tuned_state"]),
    ):
        mark = "" if state == "ok" else f" ({wording.STATE_LABELS.get(state, state)})"
        lines += [f"{name}{mark}:", "", _quoted(text), ""]
    return lines


def _head(report: Report) -> list[str]:
    lines = [f"# {_plain(report['title'])}", ""]
    for stamp in report.get("stamps", []):
        lines += [f"**{_plain(stamp)}**", ""]
    if "verdict" in report:
        lines += [f"**{_plain(report['verdict']['headline'])}**", ""]
        lines += [*(f"- {_plain(reason)}" for reason in report["verdict"]["reasons"]), ""]
    return lines


def _validity(report: Report) -> list[str]:
    rows = report.get("validity", [])
    cells = [
        (wording.STATE_LABELS.get(row["state"], row["state"]), str(row["base"]), str(row["tuned"])) for row in rows
    ]
    lines = ["## Were the answers valid?", "", *_table(["answers", "base", "tuned"], cells)] if rows else []
    guards = [(guard["label"], guard["state"].lower(), guard["detail"]) for guard in report.get("guards", [])]
    return lines + (["## Guards", "", *_table(["guard", "state", ""], guards)] if guards else [])


def _fairness(report: Report) -> list[str]:
    rows = [
        (row["name"].replace("_", " "), row["base"], row["tuned"], "" if row["equal"] else "DIFFERENT")
        for row in report.get("fairness", [])
    ]
    return ["## Same conditions for both", "", *_table(["condition", "base", "tuned", ""], rows)] if rows else []


def render_markdown(report: Report) -> str:
    """The report as Markdown that any viewer reads; answers of models cannot break it."""
    questions, label = report.get("questions", []), primary_label(report)
    lines = [*_head(report), *_validity(report), *_metrics(report)]
    if "human" in report:
        lines += [*_facts("What people said, blind", report["human"]["rows"]), _plain(report["human"]["headline"]), ""]
    if any(question["delta"] is not None for question in questions):
        lines += ["## Question by question", "", f"{_plain(label)}: {counted(questions)}.", ""]
    if worst(report):
        lines += ["## Worst regressions", "", *(line for one in worst(report) for line in _regression(one, label))]
    lines += [*_facts("Retrieval, shared by both", report.get("retrieval", [])), *_fairness(report)]
    for title, rows in (
        ("Refusing and answering", report.get("refusals", [])),
        ("Distractors", report.get("distractors", [])),
        ("Forgetting", report.get("forgetting", [])),
        ("The judge", report.get("judge", [])),
        ("What similarity cannot see", report.get("fooled", [])),
    ):
        lines += _facts(title, rows)
    lines += [*_facts("Training", report.get("training", [])), *_facts("Training data", report.get("dataset", []))]
    if cost(report):
        cells = [_metric_row(metric)[:5] for metric in cost(report)]
        lines += ["## Cost of an answer", "", *_table(["mean", "base", "tuned", "difference", "interval"], cells)]
    if report.get("notes"):
        lines += ["## Notes", "", *(f"- {_plain(note)}" for note in report["notes"]), ""]
    for title, pairs in (
        ("Settings", list(wording.flat(report.get("settings", {})))),
        ("Versions", sorted(report.get("versions", {}).items())),
    ):
        lines += _facts(title, [{"label": name, "value": value} for name, value in pairs])
    return "\n".join(lines).rstrip() + "\n"


def render_text(report: Report) -> str:
    """What a terminal of 80 columns shows at the end of a run: the table, then the verdict."""
    rows = [
        [
            metric["label"],
            wording.amount(metric, metric["base"]),
            wording.amount(metric, metric["tuned"]),
            wording.change(metric),
            wording.interval(metric),
            (metric["verdict"] or "not judged").lower(),
        ]
        for role, metrics in groups(report)
        if role != "secondary"
        for metric in metrics
    ]
    level = f"{100 * (1 - report.get('alpha', 0.05)):g} % interval"
    headers = ["metric", "base", "tuned", "change", level, "verdict"]
    parts = [report["title"], *report.get("stamps", [])]
    if rows:
        parts += ["", render_table(headers, rows, width=WIDTH)]
    if "verdict" in report:
        parts += ["", textwrap.fill(report["verdict"]["headline"], WIDTH)]
        parts += [
            textwrap.fill(reason, WIDTH, initial_indent="  - ", subsequent_indent="    ")
            for reason in report["verdict"]["reasons"]
        ]
    return "\n".join(parts) + "\n"
