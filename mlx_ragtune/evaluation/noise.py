"""How far numerical noise moves the metrics: the same file answers the same questions under other conditions.

Another number of threads, or other requests beside it, changes the order of additions and with it roundings, and at
temperature 0 one token that is nearly as likely as another can then change the rest of an answer. What a metric
changes by this way is a floor: a difference between two models that is smaller means nothing.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_ragtune.evaluation.forgetting import PREFIX
from mlx_ragtune.records import Answer, Arm, Score
from mlx_ragtune.scoring.answers.metrics import METRICS
from mlx_ragtune.scoring.answers.probes import Probe, passes

TWO_SIDED_95 = 1.96
REFUSING = ("false_refusal", "refusal_off_corpus", "refusal_near_miss")
"""One measurement, whether the answer refuses, on three kinds of questions: its noise is measured on all of them."""
FORGETTING = "forgetting"
"""The share of general probes that are passed, as a metric of scores made by ``probe_scores``."""


@dataclass(frozen=True)
class Repeat:
    """One arm's answers to some questions and their scores, under two conditions; ``varied`` says what differs."""

    arm: Arm
    varied: str
    answers: tuple[Sequence[Answer], Sequence[Answer]]
    scores: tuple[Sequence[Score], Sequence[Score]]

    @property
    def different(self) -> set[tuple[str, int]]:
        """The questions (and seeds) whose texts differ."""
        first, second = ({(row.question_id, row.seed): row.text for row in rows} for rows in self.answers)
        return {key for key in first.keys() & second.keys() if first[key] != second[key]}

    @property
    def both(self) -> set[tuple[str, int]]:
        """The questions (and seeds) that were answered under both conditions."""
        first, second = ({(row.question_id, row.seed) for row in rows} for rows in self.answers)
        return first & second


def probe_scores(probes: Sequence[Probe], answers: Sequence[Answer]) -> list[Score]:
    """Whether each answer to a probe passed, as a score; requests that failed have none."""
    by_name = {f"{PREFIX}{probe.id}": probe for probe in probes}
    return [
        Score(answer.question_id, answer.model, answer.seed, "ok",
              {FORGETTING: float(passes(by_name[answer.question_id], answer.text))})
        for answer in answers
        if not answer.error
    ]  # fmt: skip


def noise_facts(repeats: Sequence[Repeat], scores: Mapping[Arm, Sequence[Score]]) -> dict[str, Any]:
    """The content of ``noise.json``; ``scores`` are those of the whole evaluation.

    ``differ`` counts, for each arm, the questions whose text differs under any of the conditions.
    """
    differ, both = defaultdict[Arm, set[tuple[str, int]]](set), defaultdict[Arm, set[tuple[str, int]]](set)
    for repeat in repeats:
        differ[repeat.arm] |= repeat.different
        both[repeat.arm] |= repeat.both
    return {
        "compared": max(map(len, both.values()), default=0),
        "varied": list(dict.fromkeys(repeat.varied for repeat in repeats)),
        "differ": {arm: len(keys) for arm, keys in differ.items()},
        "floors": floors(repeats, scores),
    }


def floors(repeats: Sequence[Repeat], scores: Mapping[Arm, Sequence[Score]]) -> dict[str, float]:
    """For each metric, how far noise alone moves the difference of two arms over all their questions (95%).

    With the squared change d² of a question's value between two conditions, averaged over the repeated questions
    (of several conditions the one that changes most counts), the floor is 1.96 · √((mean d² of base + mean d² of
    tuned) / n) for n questions: changes of different questions are independent, so they cancel in a mean. The three
    metrics of refusing share their changes: of one kind there may be a single repeated question. Times are
    left out, and metrics that a judge or an embedding model adds, which the repeated answers do not have.
    """
    changes: dict[str, dict[Arm, float]] = defaultdict(dict)
    for repeat in repeats:
        for name, squares in _squared_changes(*repeat.scores).items():
            mean = sum(squares) / len(squares)
            changes[name][repeat.arm] = max(mean, changes[name].get(repeat.arm, 0.0))
    result = {}
    for name, by_arm in changes.items():
        if by_arm.keys() >= {"base", "tuned"}:
            sizes = [len(_values(scores.get(arm, ()), name)) for arm in ("base", "tuned")]
            if min(sizes):
                variance = (max(by_arm["base"], by_arm.get("prompted", 0.0)) + by_arm["tuned"]) / min(sizes)
                result[name] = TWO_SIDED_95 * math.sqrt(variance)
    return dict(sorted(result.items()))


def _squared_changes(first: Iterable[Score], second: Iterable[Score]) -> dict[str, list[float]]:
    """For each metric the squared changes of the questions that have it under both conditions."""
    names = [name for name, metric in METRICS.items() if metric.unit not in ("seconds", "tokens/s")] + [FORGETTING]
    changes = {}
    for name in names:
        before, after = _values(first, name), _values(second, name)
        squares = [(before[key] - after[key]) ** 2 for key in sorted(before.keys() & after.keys())]
        if squares:
            changes[name] = squares
    refusing = [square for name in REFUSING for square in changes.get(name, ())]
    return changes | {name: refusing for name in REFUSING if refusing}


def _values(scores: Iterable[Score], name: str) -> dict[str, float]:
    """Each question's value of a metric, averaged over the seeds."""
    values: dict[str, list[float]] = defaultdict(list)
    for score in scores:
        usable = name == "invalid" and FORGETTING not in score.metrics
        value = float(score.validity != "ok") if usable else score.metrics.get(name)
        if value is not None and score.validity != "transport_error":
            values[score.question_id].append(value)
    return {question: sum(given) / len(given) for question, given in values.items()}
