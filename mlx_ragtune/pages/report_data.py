"""What a report is made from, as typed data. ``report.json`` holds the same fields.

artifacts ─► ReportData ─► report_sections.build_report ─► Report ─► HTML, Markdown, terminal
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict

from mlx_ragtune.evaluation.fairness import Conditions, Difference
from mlx_ragtune.jsonl import parse_row, read_json
from mlx_ragtune.pages.plots import LossPoint
from mlx_ragtune.records import Answer, Arm, Question
from mlx_ragtune.scoring.answers.refusal import RefusalTable
from mlx_ragtune.scoring.answers.similarity import PlantedRow
from mlx_ragtune.scoring.verdict.comparison import Comparison, MetricRow, QuestionDelta
from mlx_ragtune.scoring.verdict.distractors import ConditionRow

Model = Arm


class RowPart(TypedDict):
    """A row of ``ABPart``."""

    label: str
    value: str


class ABPart(TypedDict):
    """The result of a blind comparison as ``ab`` writes it to ``unblinded.json``."""

    headline: str
    rows: list[RowPart]


@dataclass(frozen=True)
class Fact:
    """A value under its label, both as text."""

    label: str
    value: str


@dataclass(frozen=True)
class BlindResult:
    """The result of a blind comparison by people, as read from ``unblinded.json``."""

    headline: str
    rows: tuple[Fact, ...]


@dataclass(frozen=True)
class AnswerPair:
    """One question with both models' answers to its first seed.

    States are the first that is not ``ok`` over all seeds. Scores are the primary metric's means over
    seeds, None where it is undefined. ``gain`` is tuned − base, positive when the tuned model is better.
    """

    question_id: str
    topic: str
    question: str
    reference: str
    base_text: str
    tuned_text: str
    base_state: str
    tuned_state: str
    base_score: float | None
    tuned_score: float | None
    gain: float | None


@dataclass(frozen=True)
class ConditionPair:
    """One condition of both models, as text."""

    name: str
    base: str
    tuned: str
    equal: bool


@dataclass(frozen=True)
class BothConditions:
    """``conditions.json``: how each model was served and asked."""

    base: Conditions
    tuned: Conditions


@dataclass(frozen=True)
class BothRefusals:
    """``refusals.json``: how often each model refused, and rightly."""

    base: RefusalTable
    tuned: RefusalTable


@dataclass(frozen=True)
class ProbeOutcome:
    """Whether each model passed one general probe."""

    id: str
    category: str
    base: bool
    tuned: bool


@dataclass(frozen=True)
class CorrectedDifference:
    """The judge's difference in correctness after correction by human labels, as shares."""

    difference: float
    low: float
    high: float
    labels: int


@dataclass(frozen=True)
class JudgeOutcome:
    """The judge's self-test: ``caught`` maps each kind of planted error to (caught, planted)."""

    model: str
    summary: str
    caught: dict[str, tuple[int, int]]
    corrected: CorrectedDifference | None = None


@dataclass(frozen=True)
class ReportData:
    """Everything that a report shows. What is empty or None has no section.

    ``stamps`` are warnings on every page. ``best_update`` is the checkpoint that was kept.
    """

    title: str
    comparison: Comparison
    answers: tuple[AnswerPair, ...]
    stamps: tuple[str, ...] = ()
    blind: BlindResult | None = None
    retrieval: tuple[Fact, ...] = ()
    conditions: tuple[ConditionPair, ...] = ()
    refusals: BothRefusals | None = None
    distractors: tuple[ConditionRow, ...] = ()
    probes: tuple[ProbeOutcome, ...] = ()
    judge: JudgeOutcome | None = None
    similarity: tuple[PlantedRow, ...] = ()
    losses: tuple[LossPoint, ...] = ()
    best_update: int | None = None
    training: tuple[Fact, ...] = ()
    dataset: tuple[Fact, ...] = ()
    settings: tuple[Fact, ...] = ()
    versions: tuple[Fact, ...] = ()


def _first_texts(answers: Sequence[Answer]) -> dict[tuple[str, Model], str]:
    by_question: dict[tuple[str, Model], list[Answer]] = defaultdict(list)
    for answer in answers:
        by_question[answer.question_id, answer.model].append(answer)
    return {key: min(repeats, key=lambda answer: answer.seed).text for key, repeats in by_question.items()}


def _first_problem(states: Sequence[str]) -> str:
    return next((state for state in states if state != "ok"), "ok")


def _pair(
    delta: QuestionDelta, question: Question, texts: Mapping[tuple[str, Model], str], primary: MetricRow | None
) -> AnswerPair:
    base_score, tuned_score = delta.metrics.get(primary.name, (None, None)) if primary else (None, None)
    gain = None
    if primary and base_score is not None and tuned_score is not None:
        gain = tuned_score - base_score if primary.higher_is_better else base_score - tuned_score
    return AnswerPair(
        question_id=question.id,
        topic=question.topic,
        question=question.question,
        reference=question.reference,
        base_text=texts.get((question.id, "base"), ""),
        tuned_text=texts.get((question.id, "tuned"), ""),
        base_state=_first_problem(delta.base_validity),
        tuned_state=_first_problem(delta.tuned_validity),
        base_score=base_score,
        tuned_score=tuned_score,
        gain=gain,
    )


def pair_answers(
    comparison: Comparison, questions: Sequence[Question], answers: Sequence[Answer]
) -> tuple[AnswerPair, ...]:
    """Both models' answers to every question of the comparison that is among ``questions``."""
    by_id = {question.id: question for question in questions}
    texts = _first_texts(answers)
    primary = comparison.row(comparison.primary)
    return tuple(
        _pair(delta, by_id[delta.question_id], texts, primary)
        for delta in comparison.questions
        if delta.question_id in by_id
    )


def read_conditions(path: Path) -> BothConditions:
    """The conditions in ``conditions.json``. Raises InputError for any other file."""
    return parse_row(BothConditions, read_json(path), where=str(path))


def pair_conditions(conditions: BothConditions) -> tuple[ConditionPair, ...]:
    """Every condition that at least one model has; long ones as their number of entries."""
    left, right = asdict(conditions.base), asdict(conditions.tuned)
    empty: tuple[object, ...] = ("", {}, [], (), None)
    return tuple(
        ConditionPair(name, _short(left[name]), _short(right[name]), left[name] == right[name])
        for name in left
        if left[name] not in empty or right[name] not in empty
    )


def _short(value: object) -> str:
    if isinstance(value, Mapping):
        if len(value) > 12:
            return f"{len(value)} entries"
        return ", ".join(f"{key} {_short(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_short, value))
    text = str(value)
    return text[:12] + "…" if len(text) == 64 and all(char in "0123456789abcdef" for char in text) else text


def stamps_of(allowed: Sequence[Difference]) -> tuple[str, ...]:
    """A warning for each condition that differs and was allowed by name."""
    return tuple(
        f"Different {item.name.replace('_', ' ')} (allowed): base {item.base}, tuned {item.tuned}" for item in allowed
    )
