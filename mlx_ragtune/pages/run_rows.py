"""What a list of runs shows of each, as typed data: settings, state, losses, figures and verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mlx_ragtune.pages.plots import LossPoint
from mlx_ragtune.pages.setting_words import differing, what_differs
from mlx_ragtune.scoring.answers.metrics import METRICS, Unit
from mlx_ragtune.scoring.verdict.headline import signed

RunState = Literal["finished", "partial", "running", "interrupted", "failed", "pruned", "paused", "damaged"]
SHORT_LABELS = {
    "correctness": "correct facts",
    "judged_correctness": "correct (judged)",
    "citation_recall": "right paper",
    "prose_style": "plain prose",
    "refusal_off_corpus": "refuses others",
    "refusal_near_miss": "refuses near miss",
    "invalid": "unusable",
    "false_refusal": "false refusals",
}


@dataclass(frozen=True)
class RunMetric:
    """One metric of the tuned model, and its change against the base with its interval; shares from 0 to 1."""

    name: str
    unit: Unit
    higher_is_better: bool
    mean: float
    change: float
    low: float | None
    high: float | None
    verdict: str | None

    @property
    def label(self) -> str:
        """A short label, for the head of a column."""
        return SHORT_LABELS.get(self.name) or METRICS[self.name].label


@dataclass(frozen=True)
class RunRow:
    """One run folder. What is not known is None or empty; ``problems`` says what could not be read.

    ``settings`` are those that its artifacts were made with, else those of its recipe now, by dotted key. ``stage`` is
    where the run is, ended or failed; ``why`` is the error. Losses are in nats per answer token. ``seconds`` is how
    long all its artifacts took, also those that an earlier run made; ``train_seconds`` is training alone. ``score`` is
    the development score, of a sweep's trial or with ``select: task``. ``rung_score`` is the score of trial number
    ``trial`` of the sweep ``study`` at the first rung, which trials that were pruned there have too. Only losses of
    runs with the same ``data`` can be compared, and only metrics of runs with the same ``questions``.
    """

    name: str
    recipe: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    variant: Mapping[str, Any] = field(default_factory=dict)
    state: RunState = "partial"
    stage: str = ""
    why: str = ""
    changed_at: str = ""
    verdict: str | None = None
    headline: str = ""
    primary: str = ""
    metrics: tuple[RunMetric, ...] = ()
    valid_loss: float | None = None
    score: float | None = None
    rung_score: float | None = None
    study: str = ""
    trial: int | None = None
    updates: int | None = None
    best_update: int | None = None
    tokens_per_second: float | None = None
    train_seconds: float | None = None
    seconds: float | None = None
    peak_memory_bytes: int | None = None
    losses: tuple[LossPoint, ...] = ()
    data: str = ""
    questions: str = ""
    report: str = ""
    problems: tuple[str, ...] = ()

    def metric(self, name: str) -> RunMetric | None:
        """One metric; None where it is undefined or not measured."""
        return next((metric for metric in self.metrics if metric.name == name), None)

    @property
    def score_text(self) -> str:
        """The development score, or in brackets that of the first rung; empty where neither is known."""
        if self.score is not None:
            return f"{self.score:.3f}"
        return "" if self.rung_score is None else f"({self.rung_score:.3f})"

    @property
    def state_text(self) -> str:
        """The state with its stage: ``finished``, ``up to train``, ``failed: export``."""
        if self.state == "finished":
            return "finished"
        if self.state == "partial":
            return f"up to {self.stage}" if self.stage else "not started"
        if self.state in ("pruned", "paused"):
            return f"{self.state} by its sweep" if self.trial is None else f"trial {self.trial}: {self.state}"
        return f"{self.state}: {self.stage}" if self.stage else self.state


@dataclass(frozen=True)
class RunList:
    """Runs side by side. ``keys`` are the settings that differ, ``own`` what tells each run from the others."""

    rows: tuple[RunRow, ...]
    keys: tuple[str, ...]
    own: tuple[Mapping[str, Any], ...]

    @property
    def metrics(self) -> list[str]:
        """The metrics that at least one run has: the primary one first, then those that decide, then the guards."""
        known = {metric.name for row in self.rows for metric in row.metrics}
        primary = [row.primary for row in self.rows if row.primary]
        first = max(dict.fromkeys(primary), key=primary.count, default="")
        return sorted((name for name in METRICS if name in known), key=lambda name: name != first)

    @property
    def scored(self) -> bool:
        """Whether any run has a development score, so that a table of them has a column for it."""
        return any(row.score_text for row in self.rows)

    def notes(self) -> list[str]:
        """What must be known before figures of these runs are compared."""
        lines = []
        for every, what, held in (
            ([row.data for row in self.rows], "Validation losses", "data sets or base models"),
            ([row.questions for row in self.rows], "Metrics", "benchmarks"),
        ):
            groups = list(dict.fromkeys(group for group in every if group))
            if len(groups) > 1:
                members = [
                    _few([row.name for row, own in zip(self.rows, every, strict=True) if own == group])
                    for group in groups
                ]
                lines.append(
                    f"{what} of runs with different {held} cannot be compared. There are {len(groups)}: "
                    f"{'; '.join(members)}."
                )
        return lines


def _few(names: Sequence[str]) -> str:
    """The first name, at most 40 characters of it, and how many more there are."""
    first = names[0] if len(names[0]) <= 40 else f"{names[0][:39]}…"
    return first + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def list_runs(rows: Sequence[RunRow]) -> RunList:
    """The runs with what differs between their settings."""
    settings = [row.settings for row in rows]
    keys = differing(settings)
    return RunList(tuple(rows), tuple(keys), tuple(what_differs(own, settings, keys) for own in settings))


def scaled(metric: RunMetric, value: float, *, sign: bool = False) -> str:
    """A value of a metric as text: shares in percent, or in points with ``sign``."""
    number = 100 * value if metric.unit == "share" else value
    digits = 1 if metric.unit == "share" else 2
    if sign:
        return signed(number, digits)
    return f"{number:.1f}%" if metric.unit == "share" else f"{number:.{digits}f}"


def interval_text(metric: RunMetric) -> str:
    """``−2.0 to +8.1``; empty without an interval."""
    if metric.low is None or metric.high is None:
        return ""
    return f"{scaled(metric, metric.low, sign=True)} to {scaled(metric, metric.high, sign=True)}"
