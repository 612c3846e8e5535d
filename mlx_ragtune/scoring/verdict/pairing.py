"""One paired value per question from two lists of scores: seeds averaged, clusters named, drops listed."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np

from mlx_ragtune.errors import InputError
from mlx_ragtune.records import Question, Score
from mlx_ragtune.scoring.verdict.comparison import QuestionDelta
from mlx_ragtune.scoring.verdict.statistics import Codes, Floats, Mask

Key = tuple[str, int]
LISTED = 5
"""How many ids an error message lists."""


def cluster_of(question: Question) -> str:
    """The question's first gold paper; the question itself where it has none."""
    return f"paper:{question.papers[0]}" if question.papers else f"question:{question.id}"


@dataclass(frozen=True)
class Pairs:
    """One metric's paired values, shape [n]: means over a question's seeds, and cluster codes 0 … G − 1."""

    question_ids: tuple[str, ...]
    cluster_ids: tuple[str, ...]
    base: Floats
    tuned: Floats
    clusters: Codes
    binary: bool
    n_undefined: int

    @property
    def differences(self) -> Floats:
        """tuned − base, shape [n]."""
        return self.tuned - self.base

    def only(self, keep: Mask) -> "Pairs":
        """The kept questions, with clusters renumbered from 0. ``keep`` has shape [n]."""
        _, codes = np.unique(self.clusters[keep], return_inverse=True)
        return Pairs(
            tuple(compress(self.question_ids, keep)),
            tuple(compress(self.cluster_ids, keep)),
            self.base[keep],
            self.tuned[keep],
            codes.astype(np.intp),
            self.binary,
            self.n_undefined,
        )


@dataclass(frozen=True)
class Scored:
    """Both models' scores, matched by question and seed; for those in ``dropped`` a request failed."""

    questions: tuple[Question, ...]
    pairs: dict[str, tuple[tuple[Score, Score], ...]]
    dropped: tuple[str, ...]


def _by_key(scores: Sequence[Score], side: str) -> dict[Key, Score]:
    by_key: dict[Key, Score] = {}
    for score in scores:
        key = (score.question_id, score.seed)
        if key in by_key:
            raise InputError(
                f"{side} has two scores for question {key[0]!r}, seed {key[1]}",
                fix="score one answer for each question and seed",
            )
        by_key[key] = score
    return by_key


def match(base: Sequence[Score], tuned: Sequence[Score], questions: Sequence[Question]) -> Scored:
    """Scores of both models matched by question and seed, in the order of ``questions``.

    A (question, seed) whose request failed for either model is dropped for both and listed. Raises
    InputError when the models answered different questions or seeds, or unknown questions.
    """
    left, right = _by_key(base, "base"), _by_key(tuned, "tuned")
    unpaired = sorted(left.keys() ^ right.keys())
    if unpaired:
        listed = ", ".join(f"{question} (seed {seed})" for question, seed in unpaired[:LISTED])
        raise InputError(
            f"{len(unpaired)} answers exist for one model only: {listed}{', …' * (len(unpaired) > LISTED)}",
            fix="ask both models the same questions with the same seeds, then score again",
        )
    unknown = sorted({question for question, _ in left} - {question.id for question in questions})
    if unknown:
        raise InputError(
            f"scores for questions that are not in the benchmark: {', '.join(unknown[:LISTED])}",
            fix="score with the benchmark whose questions were asked",
        )
    if not left:
        raise InputError("there are no scores to compare", fix="answer and score at least one question")
    paired: dict[str, list[tuple[Score, Score]]] = defaultdict(list)
    dropped = []
    for key in sorted(left):
        if "transport_error" in (left[key].validity, right[key].validity):
            dropped.append(f"{key[0]} (seed {key[1]})")
        else:
            paired[key[0]].append((left[key], right[key]))
    asked = tuple(question for question in questions if paired.get(question.id))
    return Scored(asked, {name: tuple(rows) for name, rows in paired.items()}, tuple(dropped))


def unusable_shares(scored: Scored) -> tuple[float, float]:
    """The share of unusable answers of the base and of the tuned model, over all paired answers."""
    pairs = [pair for question in scored.questions for pair in scored.pairs[question.id]]
    left, right = (sum(pair[side].validity != "ok" for pair in pairs) / len(pairs) for side in (0, 1))
    return left, right


def _value(score: Score, metric: str) -> float | None:
    if metric == "invalid":
        return float(score.validity != "ok")
    return score.metrics.get(metric)


def pair_metric(scored: Scored, metric: str, *, both_valid: bool = False) -> Pairs | None:
    """One metric's values per question; None when it is undefined for every question.

    Seeds are averaged within a question, over the seeds where both models have a value, before the
    difference is taken: seeds are repeats of one question, not additional questions.
    """
    ids, clusters, base, tuned, undefined = [], [], [], [], 0
    raw: set[float] = set()
    for question in scored.questions:
        rows = [
            (_value(left, metric), _value(right, metric))
            for left, right in scored.pairs[question.id]
            if not both_valid or (left.validity == "ok" and right.validity == "ok")
        ]
        values = [(left, right) for left, right in rows if left is not None and right is not None]
        if not values:
            undefined += any(left is not None or right is not None for left, right in rows)
            continue
        raw.update(value for pair in values for value in pair)
        ids.append(question.id)
        clusters.append(cluster_of(question))
        base.append(sum(left for left, _ in values) / len(values))
        tuned.append(sum(right for _, right in values) / len(values))
    if not ids:
        return None
    _, codes = np.unique(np.array(clusters), return_inverse=True)
    return Pairs(
        tuple(ids),
        tuple(clusters),
        np.array(base),
        np.array(tuned),
        codes.astype(np.intp),
        raw <= {0.0, 1.0},
        undefined,
    )


def question_deltas(scored: Scored, metrics: Sequence[str]) -> tuple[QuestionDelta, ...]:
    """Every question with both models' means over seeds, in the order of the benchmark."""
    table = {metric: pair_metric(scored, metric) for metric in metrics}
    values: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
    for metric, pairs in table.items():
        if pairs is None:
            continue
        for name, left, right in zip(pairs.question_ids, pairs.base, pairs.tuned, strict=True):
            values[name][metric] = (float(left), float(right))
    return tuple(
        QuestionDelta(
            question_id=question.id,
            topic=question.topic,
            cluster=cluster_of(question),
            n_seeds=len(scored.pairs[question.id]),
            base_validity=tuple(left.validity for left, _ in scored.pairs[question.id]),
            tuned_validity=tuple(right.validity for _, right in scored.pairs[question.id]),
            metrics=values[question.id],
        )
        for question in scored.questions
    )
