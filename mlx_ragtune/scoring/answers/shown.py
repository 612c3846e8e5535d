"""Was the answer in what was shown? Retrieval may find the right paper and miss the passage with the fact."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import fmean
from typing import TypedDict

from mlx_ragtune.records import Arm, Passage, Question, Score
from mlx_ragtune.scoring.answers.nuggets import nugget_state

METRICS = ("correctness", "false_refusal")


class ShownRow(TypedDict):
    """One arm on some of the questions: how many it was scored on, and its means; None where ``n`` is 0."""

    n: int
    correctness: float | None
    false_refusal: float | None


class ShownTable(TypedDict):
    """In how many questions the answer was shown, and each arm with (``shown``) and without it (``not_shown``)."""

    shown: int
    of: int
    arms: dict[str, dict[str, ShownRow]]


def answer_shown(question: Question, passages: Sequence[Passage]) -> bool:
    """Whether the passages state every vital fact of the question, by the same rule as for an answer.

    Each fact is looked for in each passage and in all of them together. False when nothing was shown or the
    question has no vital fact.
    """
    texts = [passage.text for passage in passages]
    sources = [*texts, "\n\n".join(texts)]
    vital = [nugget for nugget in question.nuggets if nugget.vital]
    return bool(vital) and all(any(nugget_state(text, nugget) == "supported" for text in sources) for nugget in vital)


def shown_table(
    questions: Iterable[Question], scores: Mapping[Arm, Iterable[Score]], shown: Collection[str]
) -> ShownTable:
    """Correctness and refusals of each arm where the answer was shown and where it was not.

    ``shown`` are the ids of the questions for which ``answer_shown`` holds. Only answerable questions with a
    vital fact count. Values are means over the questions, of the mean over the seeds of each.
    """
    ids = [
        question.id for question in questions if question.answerable and any(fact.vital for fact in question.nuggets)
    ]
    parts = {
        "shown": [identifier for identifier in ids if identifier in shown],
        "not_shown": [identifier for identifier in ids if identifier not in shown],
    }
    return {
        "shown": len(parts["shown"]),
        "of": len(ids),
        "arms": {arm: _arm(parts, rows) for arm, rows in scores.items()},
    }


def _arm(parts: Mapping[str, Sequence[str]], scores: Iterable[Score]) -> dict[str, ShownRow]:
    measured: dict[str, list[Score]] = defaultdict(list)
    for score in scores:
        if score.validity != "transport_error":
            measured[score.question_id].append(score)
    return {
        part: _row([measured[identifier] for identifier in ids if measured[identifier]]) for part, ids in parts.items()
    }


def _row(by_question: Sequence[Sequence[Score]]) -> ShownRow:
    means = {name: [_mean(scores, name) for scores in by_question] for name in METRICS}
    known = {name: [value for value in values if value is not None] for name, values in means.items()}
    return {
        "n": len(by_question),
        "correctness": fmean(known["correctness"]) if known["correctness"] else None,
        "false_refusal": fmean(known["false_refusal"]) if known["false_refusal"] else None,
    }


def _mean(scores: Sequence[Score], name: str) -> float | None:
    values = [score.metrics[name] for score in scores if name in score.metrics]
    return fmean(values) if values else None
