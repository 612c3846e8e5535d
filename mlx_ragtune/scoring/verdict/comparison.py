"""The verdict as records: everything that the report shows, as plain data that serializes to JSON.

Differences are tuned − base; ``gain`` changes the sign where lower is better. Shares range from 0 to 1.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from mlx_ragtune.jsonl import parse_row, read_json
from mlx_ragtune.records import Validity
from mlx_ragtune.scoring.answers.metrics import Role, Unit

Verdict = Literal["IMPROVED", "REGRESSED", "MIXED", "EQUIVALENT", "INCONCLUSIVE"]
GuardState = Literal["PASS", "WARN", "FAIL"]


@dataclass(frozen=True)
class View:
    """One metric over one set of questions: means, difference, 1 − α interval, and p of the same t test.

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
    """One metric over all answers (``all``) and over the questions where both answers were valid.

    ``due_to_invalid`` is the difference of ``all`` minus that of ``both_valid``. Only rows in the family
    have a ``holm_p``, and only ``judged`` metrics have a ``verdict``. ``n_undefined`` questions had a
    value for one model only. ``mcnemar_p`` exists where every answer is right or wrong. ``detectable``
    is the smallest true difference that this many questions detect with a power of 95%;
    ``needed_questions`` is how many questions detect a difference as large as the margin. ``noise`` is how
    far numerical noise alone (threads, parallel requests, another engine) can move the difference, in the
    metric's unit; None when it was not measured.
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
    noise: float | None = None
    needed_clusters: int | None = None
    """How many papers, with as many questions each, detect a difference as large as the margin."""
    rests_on_invalid: bool = False
    """Whether the difference rests on the unusable answers of one side, so that nothing is decided."""

    @property
    def gain(self) -> float:
        """The difference, positive when the tuned model is better."""
        return self.all.difference if self.higher_is_better else -self.all.difference

    @property
    def shown_p(self) -> float:
        """The Holm-adjusted p where the metric decides, else the unadjusted one."""
        return self.all.p if self.holm_p is None else self.holm_p


@dataclass(frozen=True)
class Guard:
    """A check that can only block: FAIL when surely worse, WARN when worse by more than the margin."""

    name: str
    label: str
    state: GuardState
    base: float
    tuned: float
    detail: str


@dataclass(frozen=True)
class Influence:
    """How a row's verdict changes when one question, or one cluster, is left out.

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
        """Whether the verdict changes without it."""
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
    """The tuned model compared with the base: the verdict, its reasons, and every figure behind it."""

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
    gained: str = ""
    paid: str = ""
    advice: tuple[str, ...] = ()
    """As in ``Outcome``, for this comparison alone."""

    def row(self, name: str) -> MetricRow | None:
        """The row of one metric; None when the metric was undefined everywhere."""
        return next((row for row in self.rows if row.name == name), None)


@dataclass(frozen=True)
class Outcome:
    """``verdict.json``: does tuning beat the base, and does it beat the base with examples in its prompt?

    ``verdict`` is that of ``against_base``. ``headline`` answers both questions in at most three sentences:
    what was gained, what was paid, what to try next. In ``against_prompted`` the prompted base stands in the
    place of the base. One Holm correction covers both comparisons.
    """

    verdict: Verdict
    headline: str
    against_base: Comparison
    against_prompted: Comparison | None
    gained: str = ""
    """What surely got better, as one sentence; empty when nothing did."""
    paid: str = ""
    """What surely or probably got worse, and what the prompt costs, as one sentence; empty when nothing did."""
    advice: tuple[str, ...] = ()
    """What to try next, most important first, each one imperative sentence."""
    origins: dict[str, int] = field(default_factory=dict)
    """How many questions were drafted by a model, reviewed by a person, or written by one."""
    provenance: str = ""
    """The same as one sentence; empty where people wrote all questions."""

    def to_json(self) -> str:
        """The same bytes for the same outcome; keys in field order, no NaN."""
        return json.dumps(asdict(self), ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def read_outcome(path: Path) -> Outcome:
    """The outcome that ``to_json`` wrote. Raises InputError for any other file."""
    return parse_row(Outcome, read_json(path), where=str(path))
