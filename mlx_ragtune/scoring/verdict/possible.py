"""Can this benchmark reach a verdict at all? Said before training, for each kind of question.

The best case is that every question changes fully from the worst to the best value. What can be found in
ordinary cases is computed for a standard deviation of ``SPREAD`` of a question's difference and a
correlation of ``CORRELATION`` within a paper, as in ``benchmarks/verdict.py`` with one seed.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from mlx_ragtune.records import Question
from mlx_ragtune.scoring.answers.metrics import FAMILY, GUARDS
from mlx_ragtune.scoring.verdict.metric_rows import MIN_CLUSTERS
from mlx_ragtune.scoring.verdict.pairing import cluster_of
from mlx_ragtune.scoring.verdict.statistics import POWER, widened_estimate

QuestionKind = Literal["answerable", "off_corpus", "near_miss"]
KINDS: dict[QuestionKind, str] = {
    "answerable": "questions that the papers answer",
    "off_corpus": "questions outside the papers",
    "near_miss": "questions that the papers almost answer",
}
SPREAD, CORRELATION = 0.35, 0.3
BIG = 0.3
"""A difference that a benchmark should be able to find: 30 points."""
MOST_CLUSTERS = 2_000


@dataclass(frozen=True)
class Outlook:
    """What one kind of question can show.

    ``decides``: whether a verdict is possible in the best case. ``detectable``: the smallest difference found
    with a power of 95%, a share; None when it exceeds 1. ``missing_to_decide`` and ``missing_for_big`` are
    how many more clusters, with as many questions each, the best case and a difference of ``BIG`` take:
    papers where several questions share one, else questions.
    """

    kind: QuestionKind
    n_questions: int
    n_clusters: int
    decides: bool
    detectable: float | None
    missing_to_decide: int
    missing_for_big: int


def outlooks(
    questions: Sequence[Question],
    *,
    comparisons: int = 1,
    alpha: float = 0.05,
    family: Sequence[str] = FAMILY,
) -> tuple[Outlook, ...]:
    """What each kind of question can show; ``comparisons`` is 2 with the prompted base.

    Holm counts every metric of the family and every guard of every comparison.
    """
    by_kind: dict[QuestionKind, list[Question]] = {kind: [] for kind in KINDS}
    for question in questions:
        by_kind[_kind(question)].append(question)
    absent = {f"refusal_{kind}" for kind, asked in by_kind.items() if not asked and kind != "answerable"}
    tests = comparisons * (len(set(family) - absent) + len(GUARDS))
    return tuple(_outlook(kind, asked, alpha / tests) for kind, asked in by_kind.items())


def _kind(question: Question) -> QuestionKind:
    if question.answerable:
        return "answerable"
    return "near_miss" if question.refusal_kind == "near_miss" else "off_corpus"


def _outlook(kind: QuestionKind, asked: Sequence[Question], level: float) -> Outlook:
    sizes = list(Counter(map(cluster_of, asked)).values())
    each = max(1, round(len(asked) / len(sizes))) if sizes else 1
    bound = SPREAD if kind == "answerable" else 1.0  # yes or no: one question moves it by 1
    smallest = _detectable(sizes, level, bound)
    return Outlook(
        kind=kind,
        n_questions=len(asked),
        n_clusters=len(sizes),
        decides=_decides(sizes, level),
        detectable=smallest if smallest <= 1 else None,
        missing_to_decide=_missing(sizes, each, lambda wider: _decides(wider, level)),
        missing_for_big=_missing(sizes, each, lambda wider: _detectable(wider, level, bound) <= BIG),
    )


def _decides(sizes: Sequence[int], level: float) -> bool:
    """Whether the test is sure when every question changes fully."""
    if len(sizes) < MIN_CLUSTERS:
        return False
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    return widened_estimate(np.ones(clusters.size), clusters).p() <= level


def _detectable(sizes: Sequence[int], level: float, bound: float) -> float:
    """The smallest difference found with power ``POWER``, under the assumptions of this module; ∞ for too few."""
    if len(sizes) < MIN_CLUSTERS or not _decides(sizes, level):
        return math.inf
    n = sum(sizes)
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    df = widened_estimate(np.ones(n), clusters).df
    variance = SPREAD**2 * sum(size * (1 + (size - 1) * CORRELATION) for size in sizes) + 2 * bound**2
    factor = float(stats.t.ppf(1 - level / 2, df) + stats.t.ppf(POWER, df))
    return factor * math.sqrt(variance) / n


def _missing(sizes: list[int], each: int, enough: Callable[[list[int]], bool]) -> int:
    """How many more clusters of ``each`` questions are enough; bisected."""
    if enough(sizes):
        return 0
    few, many = 0, 1
    while not enough([*sizes, *[each] * many]) and many < MOST_CLUSTERS:
        few, many = many, many * 2
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if enough([*sizes, *[each] * middle]) else (middle, many)
    return many


def describe_outlook(outlook: Outlook) -> str:
    """One line for a person: what this kind of question can show, and what is missing."""
    noun = KINDS[outlook.kind]
    what = (
        f"{outlook.n_questions or 'no'} {noun.replace('questions', 'question') if outlook.n_questions == 1 else noun}"
    )
    each = round(outlook.n_questions / outlook.n_clusters) if outlook.n_clusters else 1
    on = f", on {_count(outlook.n_clusters, 'paper')}" if outlook.kind == "answerable" and outlook.n_clusters else ""

    def more(clusters: int) -> str:
        if outlook.kind != "answerable":
            return f"{_count(clusters, 'more question')} of this kind"
        return f"{_count(clusters, 'more paper')} with {_count(each, 'question')} each"

    if not outlook.decides:
        return f"{what}{on}: no verdict is possible, whatever the answers; it takes {more(outlook.missing_to_decide)}"
    found = (
        f"a difference of about {100 * outlook.detectable:.0f} points or more can be found"
        if outlook.detectable is not None
        else "only a change of nearly all answers can be found"
    )
    if not outlook.missing_for_big:
        return f"{what}{on}: {found}"
    return f"{what}{on}: {found}; {100 * BIG:.0f} points take {more(outlook.missing_for_big)}"


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' * (n != 1)}"
