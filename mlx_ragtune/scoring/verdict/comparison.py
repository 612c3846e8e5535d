"""The verdict as records: everything the report prints, plain data that serialises to JSON.

Differences are tuned − base; ``gain`` turns the sign where lower is better. Shares are 0 … 1.
"""

import json
from dataclasses import asdict, dataclass
from typing import Literal

from mlx_ragtune.records import Validity
from mlx_ragtune.scoring.answers.metrics import Role, Unit

Verdict = Literal["IMPROVED", "REGRESSED", "EQUIVALENT", "INCONCLUSIVE"]
GuardState = Literal["HOLDS", "STRAINED", "BROKEN"]


@dataclass(frozen=True)
class View:
    """One metric over one set of questions: means, difference, 1 − α interval, cluster sign-flip p.

    With a single cluster there is no interval: ``low`` and ``high`` are None, and ``p`` is 1.
    """

    base_mean: float
    tuned_mean: float
    difference: float
    low: float | None
    high: float | None
    p: float
    n_questions: int
    n_clusters: int


@dataclass(frozen=True)
class MetricRow:
    """One metric, all answers counted and, beside it, only the questions where both were valid.

    ``due_to_invalid`` is the difference of the one minus that of the other. ``holm_p`` and a place in
    ``in_family`` only for rows that decide. ``verdict`` is None for answer
    length, which is reported and never judged. ``n_undefined`` questions had a value for one model only.
    ``mcnemar_p`` where every answer is right or wrong. ``detectable`` and ``needed_questions``: the
    smallest difference that this many questions find in 19 of 20 runs, and how many would find the margin.
    """

    name: str
    label: str
    role: Role
    unit: Unit
    higher_is_better: bool
    in_family: bool
    verdict: Verdict | None
    all: View
    both_valid: View | None
    due_to_invalid: float | None
    holm_p: float | None
    mcnemar_p: float | None
    n_undefined: int
    detectable: float | None
    needed_questions: int | None

    @property
    def gain(self) -> float:
        """The difference, positive when the tuned model is better."""
        return self.all.difference if self.higher_is_better else -self.all.difference


@dataclass(frozen=True)
class Guard:
    """A veto: BROKEN when surely worse, STRAINED when worse by more than the margin but not surely."""

    name: str
    label: str
    state: GuardState
    base: float
    tuned: float
    detail: str


@dataclass(frozen=True)
class Influence:
    """What one question, or one cluster, does to a row's verdict when it is left out.

    ``share`` is its part of the whole difference (above 1: the rest points the other way; None when the
    difference is 0).
    """

    metric: str
    kind: Literal["question", "cluster"]
    id: str
    share: float | None
    difference_without: float
    verdict: Verdict | None
    verdict_without: Verdict | None

    @property
    def flips(self) -> bool:
        """Whether the verdict rests on it."""
        return self.verdict != self.verdict_without


@dataclass(frozen=True)
class QuestionDelta:
    """One question, averaged over seeds: (base, tuned) of every metric defined for both models."""

    question_id: str
    topic: str
    cluster: str
    n_seeds: int
    base_validity: tuple[Validity, ...]
    tuned_validity: tuple[Validity, ...]
    metrics: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Comparison:
    """Base against tuned: the verdict, what it rests on, and what would overturn it."""

    verdict: Verdict
    headline: str
    reasons: tuple[str, ...]
    primary: str
    family: tuple[str, ...]
    untested: tuple[str, ...]
    margin: float
    alpha: float
    n_questions: int
    n_clusters: int
    rows: tuple[MetricRow, ...]
    guards: tuple[Guard, ...]
    influence: tuple[Influence, ...]
    questions: tuple[QuestionDelta, ...]
    worst_regressions: tuple[str, ...]
    dropped: tuple[str, ...]

    def row(self, name: str) -> MetricRow | None:
        """The row of one metric; None when it was undefined everywhere."""
        return next((row for row in self.rows if row.name == name), None)

    def to_json(self) -> str:
        """The same bytes for the same comparison; keys in field order, no NaN."""
        return json.dumps(asdict(self), ensure_ascii=False, allow_nan=False, indent=1) + "\n"
