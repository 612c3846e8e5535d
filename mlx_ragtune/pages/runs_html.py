"""All runs as one self-contained HTML page: a table, loss curves, settings against scores, parallel axes, importance.

Its only script is part of the page and only marks, sorts and hides what is there: without it everything is shown.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from mlx_ragtune.pages.run_rows import RunList, RunMetric, RunRow, interval_text, scaled
from mlx_ragtune.pages.runs_importance import MIN_RUNS, SURE_RUNS, Importance, Objective, comparable, importances
from mlx_ragtune.pages.runs_plots import (
    Axis,
    Curve,
    Mark,
    against_setting,
    overlaid_losses,
    parallel_coordinates,
)
from mlx_ragtune.pages.setting_words import UNKNOWN, settings_text, short_names, value_of, value_text
from mlx_ragtune.scoring.answers.metrics import METRICS

_HERE = Path(__file__).parent
PALETTE = 8
"""Up to so many runs have a color of their own; of more, the best is colored."""
MAX_KEYS = 10
"""Most settings that have a plot and an axis."""
MAX_OBJECTIVES = 6
SETTING_COLUMNS = 6
VERDICT_TONES = {"IMPROVED": "better", "REGRESSED": "worse", "MIXED": "warn"}


@dataclass(frozen=True)
class Panel:
    """One plot of an objective against a setting."""

    setting: str
    svg: Markup


@dataclass(frozen=True)
class Figure:
    """What the page shows of one objective. ``top`` is the largest importance, for the length of bars."""

    key: str
    label: str
    panels: tuple[Panel, ...]
    importances: tuple[Importance, ...]
    runs: int
    left_out: int


@dataclass(frozen=True)
class Row:
    """A row of the table. ``name`` is that of the recipe: the settings of a variant stand in ``cells`` or ``own``.

    ``cells`` are texts with the values that sort them.
    """

    number: int
    run: RunRow
    name: str
    tone: str
    link: str
    cells: tuple[tuple[str, str], ...]
    own: str
    search: str
    verdict_tone: str


def objectives(runs: RunList) -> list[Objective]:
    """What runs are compared by: validation loss, development score, and the changes of deciding metrics."""
    listed = [Objective("valid_loss", "Validation loss", True, lambda row: row.valid_loss)]
    listed.append(Objective("score", "Development score", False, lambda row: row.score))
    rung = Objective("rung_score", "Score at the first rung", False, lambda row: row.rung_score)
    listed.append(replace(rung, group=lambda row: row.study))
    deciding = [name for name in runs.metrics if METRICS[name].role == "decides" or name == "invalid"]
    for name in deciding:
        listed.append(
            Objective(
                name,
                f"{METRICS[name].label}, change in points",
                not METRICS[name].higher_is_better,
                partial(_change, name),
                partial(_metric, name),
                lambda row: row.questions,
            )
        )
    return [one for one in listed if comparable(runs.rows, one)][:MAX_OBJECTIVES]


def _metric(name: str, row: RunRow) -> RunMetric | None:
    return row.metric(name)


def _change(name: str, row: RunRow) -> float | None:
    metric = row.metric(name)
    return None if metric is None else metric.change * _factor(metric)


def _factor(metric: RunMetric) -> float:
    return 100.0 if metric.unit == "share" else 1.0


def plotted_keys(runs: RunList) -> list[str]:
    """The settings that have plots: those of training first, known for most runs first."""

    def order(key: str) -> tuple[bool, int]:
        known = sum(value_of(row.settings, key) is not UNKNOWN for row in runs.rows)
        return not key.startswith("train."), -known

    return sorted(runs.keys, key=order)[:MAX_KEYS]


def render_runs_html(runs: RunList, *, links: Sequence[str]) -> str:
    """The page; ``links`` are the addresses of the runs' reports, "" for none. Every text is escaped."""
    keys, goals = plotted_keys(runs), objectives(runs)
    names = short_names(runs.keys)
    tones = _tones(runs, goals)
    curves, above = overlaid_losses(
        [Curve(at, row.name, row.losses, tones[at]) for at, row in enumerate(runs.rows) if row.losses]
    )
    script = (_HERE / "runs.js").read_text(encoding="utf-8").strip()
    digest = base64.b64encode(hashlib.sha256(f"\n{script}\n".encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    return environment.get_template("runs.html.jinja").render(
        runs=runs,
        rows=_rows(runs, keys, tones, links),
        headers=_headers(runs, keys, names),
        notes=runs.notes(),
        states=_states(runs.rows),
        hidden_keys=len(runs.keys) - len(keys),
        curves=curves,
        above=above,
        figures=[_figure(runs, goal, keys, names, tones) for goal in goals],
        parallel=_parallel(runs, goals, keys, names, tones),
        names=names,
        metrics=runs.metrics,
        setting_columns=len(keys[:SETTING_COLUMNS]),
        palette=len(runs.rows) <= PALETTE,
        best=_best(runs, goals),
        min_runs=MIN_RUNS,
        sure_runs=SURE_RUNS,
        css=Markup((_HERE / "style.css").read_text(encoding="utf-8")),  # noqa: S704 (a file of this package)
        script=Markup(script),  # noqa: S704 (a file of this package)
        digest=digest,
        percent=lambda share: f"{100 * share:.0f}%",
    )


def _best(runs: RunList, goals: Sequence[Objective]) -> str:
    """What the colored run is the best by, when not every run has a color."""
    return goals[0].label.lower() if goals and len(runs.rows) > PALETTE else ""


def _tones(runs: RunList, goals: Sequence[Objective]) -> dict[int, str]:
    """The class of each run's color."""
    if len(runs.rows) <= PALETTE:
        return {at: f"c{at}" for at in range(len(runs.rows))}
    tones = dict.fromkeys(range(len(runs.rows)), "plain")
    if goals:
        compared = comparable(runs.rows, goals[0])
        ranked = [(value, row.name) for row in compared if (value := goals[0].of(row)) is not None]
        best = min(ranked)[1] if goals[0].lower_is_better else max(ranked)[1]
        tones[next(at for at, row in enumerate(runs.rows) if row.name == best)] = "better"
    return tones


def _states(rows: Sequence[RunRow]) -> str:
    """``12 runs: 10 finished, 2 failed``."""
    if not rows:
        return "No runs yet; next: ragtune run RECIPE"
    words = {"partial": "not complete"}
    counts = Counter(words.get(row.state, row.state) for row in rows)
    listed = ", ".join(f"{count} {state}" for state, count in counts.items())
    return f"{len(rows)} {'run' if len(rows) == 1 else 'runs'}: {listed}"


def _shown_metrics(runs: RunList) -> list[str]:
    return [name for name in runs.metrics if METRICS[name].role == "decides"][:3]


def _headers(runs: RunList, keys: Sequence[str], names: Mapping[str, str]) -> list[str]:
    labels = [METRICS[name].label for name in _shown_metrics(runs)]
    scored = ["score"] if runs.scored else []
    return [*(names[key] for key in keys[:SETTING_COLUMNS]), "validation loss", *scored, *labels, "minutes", "peak GiB"]


def _score_cell(row: RunRow) -> tuple[str, str]:
    """The score as text, and what sorts it: that of a first rung is below all others."""
    if row.score is not None:
        return row.score_text, repr(row.score)
    return row.score_text, "" if row.rung_score is None else repr(row.rung_score - 1)


def _rows(runs: RunList, keys: Sequence[str], tones: Mapping[int, str], links: Sequence[str]) -> list[Row]:
    rows = []
    for at, (row, own, link) in enumerate(zip(runs.rows, runs.own, links, strict=True)):
        cells: list[tuple[str, str]] = []
        for key in keys[:SETTING_COLUMNS]:
            value = value_of(row.settings, key)
            cells.append(("", "") if value is UNKNOWN else (value_text(value), _sort_key(value)))
        cells.append(("", "") if row.valid_loss is None else (f"{row.valid_loss:.4f}", repr(row.valid_loss)))
        cells += [_score_cell(row)] if runs.scored else []
        cells += [_metric_cell(row, name) for name in _shown_metrics(runs)]
        seconds, peak = row.train_seconds, row.peak_memory_bytes
        cells.append(("", "") if seconds is None else (f"{seconds / 60:.1f}", repr(seconds)))
        cells.append(("", "") if peak is None else (f"{peak / 2**30:.1f}", repr(peak)))
        rest = {key: value for key, value in {**row.variant, **own}.items() if key not in keys[:SETTING_COLUMNS]}
        search = " ".join([row.name, settings_text(own), row.state_text, row.verdict or ""]).lower()
        tone = VERDICT_TONES.get(row.verdict or "", "plain") if row.state == "finished" else "warn"
        name = row.name.partition("+")[0] if row.variant else row.name
        rows.append(Row(at, row, name, tones[at], link, tuple(cells), settings_text(rest), search, tone))
    return rows


def _sort_key(value: Any) -> str:
    return repr(value) if isinstance(value, int | float) and not isinstance(value, bool) else value_text(value)


def _metric_cell(row: RunRow, name: str) -> tuple[str, str]:
    metric = row.metric(name)
    if metric is None:
        return "", ""
    text = f"{scaled(metric, metric.mean)} ({scaled(metric, metric.change, sign=True)})"
    return f"{text}\n{interval_text(metric)}", repr(metric.change)


def _figure(
    runs: RunList, goal: Objective, keys: Sequence[str], names: Mapping[str, str], tones: Mapping[int, str]
) -> Figure:
    compared = {row.name for row in comparable(runs.rows, goal)}
    panels = []
    for key in keys:
        marks = [
            _mark(at, row, goal, key, tones[at])
            for at, row in enumerate(runs.rows)
            if row.name in compared and value_of(row.settings, key) is not UNKNOWN
        ]
        if len({value_text(mark.value) for mark in marks}) > 1:
            panels.append(Panel(names[key], against_setting(marks, label=goal.label, setting=names[key])))
    known = sum(goal.of(row) is not None for row in runs.rows)
    listed = tuple(importances(runs.rows, keys, goal)) if len(compared) >= MIN_RUNS else ()
    return Figure(goal.key, goal.label, tuple(panels), listed, len(compared), known - len(compared))


def _mark(at: int, row: RunRow, goal: Objective, key: str, tone: str) -> Mark:
    value, metric = goal.of(row), goal.metric(row)
    assert value is not None  # noqa: S101 (the row is comparable)
    low = high = None
    if metric is not None and metric.low is not None and metric.high is not None:
        low, high = metric.low * _factor(metric), metric.high * _factor(metric)
    said = interval_text(metric) if metric else ""
    setting = value_text(value_of(row.settings, key))
    text = f"{row.name}: {key} {setting}, {goal.label.lower()} {value:.4g}{f' ({said})' if said else ''}"
    return Mark(at, value_of(row.settings, key), value, low, high, text, tone)


def _parallel(
    runs: RunList, goals: Sequence[Objective], keys: Sequence[str], names: Mapping[str, str], tones: Mapping[int, str]
) -> Markup:
    """Parallel coordinates of the settings and up to three objectives; nothing for a single run or axis."""
    known = {at: row for at, row in enumerate(runs.rows) if any(goal.of(row) is not None for goal in goals)}
    axes = []
    for key in keys:
        values = {at: value_of(row.settings, key) for at, row in known.items()}
        axes.append(Axis(names[key], {at: value for at, value in values.items() if value is not UNKNOWN}))
    axes = [axis for axis in axes if len({value_text(value) for value in axis.values.values()}) > 1]
    for goal in goals[:3]:
        results = {at: value for at, row in known.items() if (value := goal.of(row)) is not None}
        axes.append(Axis(goal.label.replace(", change in points", " (change)"), results))
    if len(known) < 2 or len(axes) < 2:
        return Markup("")
    return parallel_coordinates(axes, tones, {at: row.name for at, row in known.items()})
