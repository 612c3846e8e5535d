"""M6: how passages of other papers change an answer, and whether a question without its paper is refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mlx_ragtune.records import Question, Score
from mlx_ragtune.scoring.answers.metrics import METRICS
from mlx_ragtune.scoring.verdict.metric_rows import estimate
from mlx_ragtune.scoring.verdict.pairing import match, pair_metric

Condition = Literal["gold", "mixed", "distractors"]
CONDITIONS: tuple[Condition, ...] = ("gold", "mixed", "distractors")
LABELS: dict[Condition, str] = {
    "gold": "gold passages only",
    "mixed": "gold passages among distractors",
    "distractors": "distractors only",
}
MEASURED: dict[Condition, tuple[str, ...]] = {
    "gold": ("correctness", "citation_recall", "false_refusal"),
    "mixed": ("correctness", "citation_recall", "false_refusal"),
    "distractors": ("refusal_near_miss",),
}


def condition_id(question_id: str, condition: Condition) -> str:
    """The id of a question asked under a condition."""
    return f"{condition}:{question_id}"


@dataclass(frozen=True)
class ConditionRow:
    """One metric under one condition, paired over its questions: means, tuned − base, 1 − α interval."""

    condition: Condition
    metric: str
    base: float
    tuned: float
    difference: float
    low: float | None
    high: float | None
    n_questions: int


def condition_rows(
    base: Sequence[Score], tuned: Sequence[Score], questions: Sequence[Question], *, alpha: float
) -> list[ConditionRow]:
    """A row for each condition and each metric measured under it. They do not affect the verdict.

    Raises InputError when the scores do not match question by question.
    """
    rows = []
    for condition in CONDITIONS:
        chosen = [question for question in questions if question.id.startswith(f"{condition}:")]
        names = {question.id for question in chosen}
        left, right = ([score for score in scores if score.question_id in names] for scores in (base, tuned))
        if not chosen:
            continue
        scored = match(left, right, chosen)
        for name in MEASURED[condition]:
            pairs = pair_metric(scored, name)
            if pairs is None:
                continue
            several = int(pairs.clusters.max()) > 0
            low, high = estimate(pairs, METRICS[name]).interval(1 - alpha) if several else (None, None)
            rows.append(
                ConditionRow(
                    condition, name, float(pairs.base.mean()), float(pairs.tuned.mean()),
                    float(pairs.differences.mean()), low, high, len(pairs.question_ids),
                )
            )  # fmt: skip
    return rows
