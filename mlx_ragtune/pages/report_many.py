"""Several models, each compared with the first, in one table for a terminal of 80 columns."""

from collections.abc import Sequence

from mlx_ragtune.pages import wording
from mlx_ragtune.pages.report_data import ReportData
from mlx_ragtune.pages.report_summary import MARK, mean_text
from mlx_ragtune.pages.report_text import WIDTH
from mlx_ragtune.pages.tables import fill, render_table
from mlx_ragtune.scoring.answers.metrics import METRICS

SHOWN_COSTS = ("prompt_tokens", "answer_words", "latency_seconds")


def _name(data: ReportData) -> str:
    """The model that is compared: what stands after ``tuned:`` in the title."""
    return data.title.partition(" · tuned: ")[2]


def _rows(reports: Sequence[ReportData], name: str, first: str) -> list[list[str]]:
    """One metric: its label, the first model's mean, then each other one with its change."""
    rows: list[list[str]] = []
    for data in reports:
        row = data.comparison.row(name)
        if row is None:
            continue
        if not rows:
            rows += [[row.label, "", "", "", ""], [f"  {first}", mean_text(data, row, "base"), "", "", ""]]
        result = wording.result(row.verdict) if row.verdict and row.unit == "share" else ""
        value = mean_text(data, row, "tuned")
        rows.append([f"  {_name(data)}", value, wording.change(row), wording.interval(row), result])
    return rows


def render_many(reports: Sequence[ReportData]) -> str:
    """The verdict on each model in one line, then one table of every metric that decides, guards or costs."""
    first = reports[0].title.partition(" · tuned: ")[0].removeprefix("base: ")
    parts = [fill(f"{len(reports)} models, each compared with {first}", width=WIDTH)]
    stamps = {stamp: None for data in reports for stamp in data.stamps}
    parts += [*(fill(stamp, width=WIDTH) for stamp in stamps), ""]
    for data in reports:
        parts.append(fill(f"{_name(data)}: {data.outcome.headline}", width=WIDTH, bullet="  - "))
    n = reports[0].comparison.n_questions
    parts += ["", fill(f"The same {n} questions for all; p values Holm-adjusted over all models.", width=WIDTH), ""]
    shown = [name for name, metric in METRICS.items() if metric.role in ("decides", "guard") or name in SHOWN_COSTS]
    rows = [row for name in shown for row in _rows(reports, name, first)]
    parts.append(render_table(["metric and model", "mean", "change", "interval", "result"], rows, width=WIDTH))
    if any(MARK in row[1] for row in rows):
        parts += ["", fill(f"{MARK} to a notable part from unusable answers, which count as worst.", width=WIDTH)]
    return "\n".join(parts) + "\n"
