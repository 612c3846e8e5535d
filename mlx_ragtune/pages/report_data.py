"""What a report is made from, as typed data. ``report.json`` holds the same fields.

artifacts ─► ReportData ─► report_sections.build_report ─► Report ─► HTML, Markdown, terminal
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict

from mlx_ragtune.evaluation.fairness import Conditions, Difference
from mlx_ragtune.jsonl import parse_row, read_json
from mlx_ragtune.pages.plots import LossPoint
from mlx_ragtune.pages.strength_plot import StrengthRow
from mlx_ragtune.records import ARMS, Answer, Arm, Question
from mlx_ragtune.scoring.answers.refusal import RefusalTable
from mlx_ragtune.scoring.answers.similarity import PlantedRow
from mlx_ragtune.scoring.verdict.comparison import Comparison, MetricRow, Outcome, QuestionDelta
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
    """One question with the models' answers to its first seed.

    States are the first that is not ``ok`` over all seeds. Scores are the primary metric's means over
    seeds, None where it is undefined. ``gain`` is tuned − base, positive when the tuned model is better;
    ``gain_over_prompted`` is that over the prompted base. Without this arm its text is None.
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
    prompted_text: str | None = None
    prompted_state: str = "ok"
    prompted_score: float | None = None
    gain_over_prompted: float | None = None


@dataclass(frozen=True)
class ConditionPair:
    """One condition of the models, as text; ``prompted`` is None without this arm."""

    name: str
    base: str
    tuned: str
    equal: bool
    prompted: str | None = None


@dataclass(frozen=True)
class BothConditions:
    """``conditions.json``: how each model was served and asked."""

    base: Conditions
    tuned: Conditions
    prompted: Conditions | None = None


@dataclass(frozen=True)
class BothRefusals:
    """``refusals.json``: how often each model refused, and rightly."""

    base: RefusalTable
    tuned: RefusalTable
    prompted: RefusalTable | None = None


@dataclass(frozen=True)
class Asked:
    """How many of the benchmark's questions were asked, and the minutes that were allowed, None without a limit."""

    questions: int
    of: int
    minutes: float | None = None


@dataclass(frozen=True)
class Parallel:
    """Requests at a time, how many were sent one by one, and for each arm how many compared answers differ.

    ``overlap`` is how many answers the server generated at a time, None where it was not measured.
    """

    slots: int
    serial: int
    differ: dict[str, int]
    compared: dict[str, int]
    overlap: float | None = None


@dataclass(frozen=True)
class Noise:
    """``noise.json``: how much answers and metrics change when only the machine's arithmetic does.

    ``floors`` maps a metric to the change of its mean, in its unit. ``no_second_engine`` says why the same file was
    not asked in another engine too.
    """

    compared: int
    varied: tuple[str, ...]
    differ: dict[str, int]
    floors: dict[str, float]
    no_second_engine: str = ""


@dataclass(frozen=True)
class ShownPart:
    """One arm on the questions whose answer was, or was not, in the passages; None where nothing is defined."""

    n: int
    correctness: float | None
    false_refusal: float | None


@dataclass(frozen=True)
class ShownArm:
    """One arm with and without the answer in the passages."""

    shown: ShownPart
    not_shown: ShownPart


@dataclass(frozen=True)
class Shown:
    """``shown.json``: in how many answerable questions the passages hold the answer."""

    shown: int
    of: int
    arms: dict[str, ShownArm]


@dataclass(frozen=True)
class PromptExample:
    """A training row that stands in the prompt of the prompted base."""

    id: str
    kind: str
    question: str


@dataclass(frozen=True)
class Prompted:
    """``prompted.json``: the examples in the prompt, and how many tokens they take."""

    examples: tuple[PromptExample, ...]
    tokens: int


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
class Strengths:
    """The strengths of the adapter that were tried, and the one that was kept.

    ``limit`` is ``train.strength.max_loss``; ``exported`` is ``fuse.strength`` where it overrides the choice.
    """

    points: tuple[StrengthRow, ...]
    kept: float
    limit: float
    exported: float | None = None


@dataclass(frozen=True)
class ReportData:
    """Everything that a report shows. What is empty or None has no section.

    ``stamps`` are warnings on every page. ``best_update`` is the checkpoint that was kept. ``names`` says what
    stands in the place of each arm, where that is not the base, the prompted base and the tuned model of one run.
    """

    title: str
    outcome: Outcome
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
    asked: Asked | None = None
    parallel: Parallel | None = None
    noise: Noise | None = None
    shown: Shown | None = None
    prompted: Prompted | None = None
    strengths: Strengths | None = None
    names: dict[str, str] = field(default_factory=dict)

    @property
    def comparison(self) -> Comparison:
        """The tuned model against the base."""
        return self.outcome.against_base

    @property
    def arms(self) -> tuple[Arm, ...]:
        """What answered: base and tuned, between them the prompted base where it was asked."""
        return ("base", "tuned") if self.outcome.against_prompted is None else ARMS


def _first_texts(answers: Sequence[Answer]) -> dict[tuple[str, Model], str]:
    by_question: dict[tuple[str, Model], list[Answer]] = defaultdict(list)
    for answer in answers:
        by_question[answer.question_id, answer.model].append(answer)
    return {key: min(repeats, key=lambda answer: answer.seed).text for key, repeats in by_question.items()}


def _first_problem(states: Sequence[str]) -> str:
    return next((state for state in states if state != "ok"), "ok")


def _gain(delta: QuestionDelta, primary: MetricRow | None) -> tuple[float | None, float | None, float | None]:
    """Both scores of the primary metric, and the gain of the second."""
    base, tuned = delta.metrics.get(primary.name, (None, None)) if primary else (None, None)
    if primary is None or base is None or tuned is None:
        return base, tuned, None
    return base, tuned, tuned - base if primary.higher_is_better else base - tuned


def _pair(
    delta: QuestionDelta, question: Question, texts: Mapping[tuple[str, Model], str], primary: MetricRow | None
) -> AnswerPair:
    base_score, tuned_score, gain = _gain(delta, primary)
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


def pair_answers(outcome: Outcome, questions: Sequence[Question], answers: Sequence[Answer]) -> tuple[AnswerPair, ...]:
    """The models' answers to every question of the outcome that is among ``questions``."""
    by_id = {question.id: question for question in questions}
    texts = _first_texts(answers)
    against = outcome.against_base
    primary = against.row(against.primary)
    pairs = tuple(
        _pair(delta, by_id[delta.question_id], texts, primary)
        for delta in against.questions
        if delta.question_id in by_id
    )
    if outcome.against_prompted is None:
        return pairs
    prompted = {delta.question_id: delta for delta in outcome.against_prompted.questions}
    return tuple(_with_prompted(pair, prompted.get(pair.question_id), texts, primary) for pair in pairs)


def _with_prompted(
    pair: AnswerPair,
    delta: QuestionDelta | None,
    texts: Mapping[tuple[str, Model], str],
    primary: MetricRow | None,
) -> AnswerPair:
    text = texts.get((pair.question_id, "prompted"), "")
    if delta is None:
        return replace(pair, prompted_text=text, prompted_state="transport_error")
    score, _, gain = _gain(delta, primary)
    state = _first_problem(delta.base_validity)
    return replace(pair, prompted_text=text, prompted_state=state, prompted_score=score, gain_over_prompted=gain)


def read_conditions(path: Path) -> BothConditions:
    """The conditions in ``conditions.json``. Raises InputError for any other file."""
    return parse_row(BothConditions, read_json(path), where=str(path))


def pair_conditions(conditions: BothConditions) -> tuple[ConditionPair, ...]:
    """Every condition that at least one model has; long ones as their number of entries."""
    return pair_conditions_of({"base": conditions.base, "tuned": conditions.tuned, "prompted": conditions.prompted})


def pair_conditions_of(conditions: Mapping[Arm, Conditions | None]) -> tuple[ConditionPair, ...]:
    """The conditions of each arm; none where those of base or tuned are unknown.

    The prompts of the prompted base differ by its examples and count as equal.
    """
    sides: dict[str, dict[str, Any]] = {arm: asdict(side) for arm, side in conditions.items() if side is not None}
    if not {"base", "tuned"} <= sides.keys():
        return ()
    empty: tuple[object, ...] = ("", {}, [], (), None)
    pairs = []
    for name in sides["base"]:
        values = {side: described[name] for side, described in sides.items()}
        if all(value in empty for value in values.values()):
            continue
        compared = [value for side, value in values.items() if side != "prompted" or name != "prompts"]
        shown = {side: _short(value) for side, value in values.items()}
        equal = all(value == compared[0] for value in compared)
        pairs.append(ConditionPair(name, shown["base"], shown["tuned"], equal, shown.get("prompted")))
    return tuple(pairs)


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
