"""Several models, each compared with the first: one table for a terminal of 80 columns, a row for each model."""

from collections.abc import Mapping, Sequence

from mlx_ragtune.pages import wording
from mlx_ragtune.pages.report_data import ReportData
from mlx_ragtune.pages.report_summary import MARK, mean_text
from mlx_ragtune.pages.report_text import WIDTH
from mlx_ragtune.pages.run_rows import SHORT_LABELS, RunList, RunRow, list_runs
from mlx_ragtune.pages.runs_table import loss_cell, name_lines, own_settings
from mlx_ragtune.pages.setting_words import short_names
from mlx_ragtune.pages.tables import fill, render_table
from mlx_ragtune.scoring.answers.metrics import METRICS

SHOWN_METRICS = 2


def _name(data: ReportData) -> str:
    """The model that is compared: what stands after ``tuned:`` in the title."""
    return data.title.partition(" · tuned: ")[2]


def _shown(reports: Sequence[ReportData]) -> list[str]:
    """The metrics of the table: the primary one, then those that decided something for most models."""
    primary = reports[0].comparison.primary
    decided = {
        name: sum(row.verdict not in (None, "INCONCLUSIVE") for data in reports if (row := data.comparison.row(name)))
        for name, metric in METRICS.items()
        if metric.role == "decides" and any(data.comparison.row(name) for data in reports)
    }
    return sorted(decided, key=lambda name: (name != primary, -decided[name]))[:SHOWN_METRICS]


def _first_cell(reports: Sequence[ReportData], name: str) -> str:
    known = [(data, row) for data in reports if (row := data.comparison.row(name))]
    return mean_text(*known[0], "base") if known else ""


def _cell(data: ReportData, name: str) -> str:
    """Mean and change, the interval, and whether it is better: a line each."""
    row = data.comparison.row(name)
    if row is None:
        return ""
    lines = [f"{mean_text(data, row, 'tuned')} ({wording.change(row)})", wording.interval(row)]
    return "\n".join([*lines, wording.result(row.verdict) if row.verdict else ""]).rstrip("\n")


def _about(name: str, verdict: str, runs: Mapping[str, RunRow], listed: RunList) -> tuple[str, str, str]:
    """The cells that do not depend on a metric: the model with its settings and verdict, its loss, its minutes."""
    row = runs.get(name)
    if row is None:
        return f"{name_lines(name)}\n{verdict}", "", ""
    own = own_settings(row, listed.own[listed.rows.index(row)], short_names(listed.keys))
    minutes = "" if row.train_seconds is None else f"{row.train_seconds / 60:.1f}"
    return "\n".join(line for line in (name_lines(name), own, verdict) if line), loss_cell(row), minutes


def render_many(reports: Sequence[ReportData], runs: Mapping[str, RunRow]) -> str:
    """One table: what differs, the verdict, validation loss, minutes of training, the key metrics with intervals.

    ``runs`` are the runs of the tuned models among the contestants, by the contestants' names.
    """
    first = reports[0].title.partition(" · tuned: ")[0].removeprefix("base: ")
    listed = list_runs(list(runs.values()))
    metrics = _shown(reports)
    rows = [[*_about(first, "(compared with)", runs, listed), *(_first_cell(reports, name) for name in metrics)]]
    for data in reports:
        rows.append(
            [*_about(_name(data), data.outcome.verdict, runs, listed), *(_cell(data, name) for name in metrics)]
        )
    labels = [SHORT_LABELS.get(name, METRICS[name].label) for name in metrics]
    stamps = {stamp: None for data in reports for stamp in data.stamps}
    n = reports[0].comparison.n_questions
    parts = [
        fill(f"{len(reports)} models, each compared with {first}", width=WIDTH),
        *(fill(stamp, width=WIDTH) for stamp in stamps),
        "",
        render_table(["model, what differs, verdict", "loss", "min", *labels], rows, width=WIDTH),
        "",
        fill(f"The same {n} questions for all; p values Holm-adjusted over all models.", width=WIDTH),
        fill("Loss: validation, nats per answer token; min: minutes of training.", width=WIDTH),
        fill(f"All metrics and why: ragtune compare {first} {_name(reports[0])}", width=WIDTH),
        *(fill(note, width=WIDTH) for note in listed.notes()),
    ]
    if any(MARK in cell for row in rows for cell in row):
        parts.append(fill(f"{MARK} to a notable part from unusable answers, which count as worst.", width=WIDTH))
    return "\n".join(parts) + "\n"
