"""Runs as one table for a terminal of 80 columns: what differs, losses, scores, time, memory, metrics, state."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlx_ragtune.pages.run_rows import RunList, RunRow, interval_text, scaled
from mlx_ragtune.pages.setting_words import settings_text, short_names
from mlx_ragtune.pages.tables import fill, render_table, short_clock

WIDTH = 80
SHOWN_METRICS = 2
LONGEST_WHY = 160


def name_lines(name: str) -> str:
    """A run's name; each setting of a variant begins a line."""
    return name.replace("+", "\n+")


def loss_cell(row: RunRow) -> str:
    """The validation loss of the kept checkpoint."""
    return "" if row.valid_loss is None else f"{row.valid_loss:.4f}"


def time_cell(row: RunRow) -> str:
    """How long training took, and its peak memory."""
    lines = [short_clock(row.train_seconds)] if row.train_seconds is not None else []
    lines += [f"{row.peak_memory_bytes / 2**30:.1f} GiB"] if row.peak_memory_bytes is not None else []
    return "\n".join(lines)


def own_settings(row: RunRow, own: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """What tells a run from the others and is not in its name."""
    return settings_text({key: value for key, value in own.items() if key not in row.variant}, names)


def render_runs(runs: RunList) -> str:
    """The table of all runs with what must be known to read it."""
    if not runs.rows:
        return "no runs yet; next: ragtune run RECIPE"
    metrics = runs.metrics[:SHOWN_METRICS]
    labels = [next(m.label for row in runs.rows if (m := row.metric(name))) for name in metrics]
    names = short_names(runs.keys)
    cells = [
        _cells(row, own_settings(row, own, names), metrics, scored=runs.scored)
        for row, own in zip(runs.rows, runs.own, strict=True)
    ]
    headers = ["run, what differs, state", "loss", *(["score"] if runs.scored else []), *labels, "training"]
    lines = [render_table(headers, cells, width=WIDTH)]
    legend = ["Loss: validation, nats per answer token; training: its time and peak memory."]
    if runs.scored:
        legend.append("Score: of answers to validation questions; in brackets at the first rung of a sweep.")
    if metrics:
        legend.append("Metrics: the tuned model, its change against its base in points, and the interval.")
    lines += ["", *(fill(line, width=WIDTH) for line in (*legend, *runs.notes()))]
    lines += [fill(problem, width=WIDTH, bullet="  - ") for problem in _problems(runs.rows)]
    return "\n".join(lines)


def _cells(row: RunRow, own: str, metrics: Sequence[str], *, scored: bool) -> list[str]:
    verdict = f": {row.verdict}" if row.verdict and row.state == "finished" else ""
    return [
        "\n".join(line for line in (name_lines(row.name), own, f"{row.state_text}{verdict}") if line),
        loss_cell(row),
        *([row.score_text] if scored else []),
        *(_metric_cell(row, name) for name in metrics),
        time_cell(row),
    ]


def _metric_cell(row: RunRow, name: str) -> str:
    metric = row.metric(name)
    if metric is None:
        return ""
    return f"{scaled(metric, metric.mean)} ({scaled(metric, metric.change, sign=True)})\n{interval_text(metric)}"


def _problems(rows: Sequence[RunRow]) -> list[str]:
    """Why runs failed, and what cannot be read of them."""
    problems: dict[str, list[str]] = {}
    for row in rows:
        if row.why and row.state in ("failed", "interrupted", "pruned"):
            problems.setdefault(f"{row.state_text}: {row.why[:LONGEST_WHY]}", []).append(row.name)
        for problem in row.problems:
            problems.setdefault(problem, []).append(row.name)
    return [
        f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {problem}"
        for problem, names in problems.items()
    ]
