"""Metrics that a judge and an embedding model add to existing scores; an invalid answer gets the worst value.

The judge is first tested on planted errors in the benchmark's own references. Its correctness replaces the
lexical one in the verdict only when it is trusted; it is reported in both cases.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mlx_ragtune.errors import InputError
from mlx_ragtune.records import Answer, Passage, Question, Score
from mlx_ragtune.scoring.answers.metrics import FAMILY
from mlx_ragtune.scoring.answers.similarity import Embed, TokenVectors, similarity_metrics
from mlx_ragtune.scoring.judge.model_judge import Judge
from mlx_ragtune.scoring.judge.planted import GoodAnswer
from mlx_ragtune.scoring.verdict.calibration import corrected_difference
from mlx_ragtune.scoring.verdict.pairing import match, pair_metric
from mlx_ragtune.scoring.verdict.statistics import Estimate

TESTED = 12
"""References that a judge is tested on; each takes about twenty verdicts."""
Metrics = dict[str, float]


def family(*, judge_trusted: bool) -> tuple[str, ...]:
    """The metrics that decide; a trusted judge's correctness is the primary one."""
    return ("judged_correctness", *FAMILY[1:]) if judge_trusted else FAMILY


def shown_text(passages: Sequence[Passage]) -> str:
    """The contexts as a judge reads them."""
    return "\n\n".join(f'"{passage.title}"\n{passage.text}' for passage in passages)


def good_answers(contexts: Mapping[str, Sequence[Passage]], questions: Sequence[Question]) -> list[GoodAnswer]:
    """References that the retrieved contexts support: answers known to be right, for the judge's self-test."""
    goods = []
    for question in questions:
        passages = contexts[question.id]
        shown = {passage.document_id for passage in passages}
        vital = any(nugget.vital for nugget in question.nuggets)
        if question.answerable and question.reference and vital and shown >= set(question.papers):
            goods.append(GoodAnswer(question, question.reference, shown_text(passages)))
    step = max(1, len(goods) // TESTED)
    return goods[::step][:TESTED]  # spread over the papers, not the first paper's questions


@dataclass(frozen=True)
class Opinion:
    """Additional metrics: ``defined`` names those of a question, ``measure`` computes them for a valid answer."""

    defined: Callable[[Question], tuple[str, ...]]
    measure: Callable[[Question, str], Metrics]


def by_judge(judge: Judge, contexts: Mapping[str, Sequence[Passage]]) -> Opinion:
    """Correctness and grounding by the judge."""

    def defined(question: Question) -> tuple[str, ...]:
        vital = question.answerable and any(nugget.vital for nugget in question.nuggets)
        return ("judged_correctness", "grounding") if vital else ("grounding",)

    def measure(question: Question, text: str) -> Metrics:
        return judge.judge(question, text, shown_text(contexts[question.id])).metrics()

    return Opinion(defined, measure)


def by_similarity(embed: Embed, token_vectors: TokenVectors | None) -> Opinion:
    """Cosine, and BERTScore if there are token vectors, to the reference of an answerable question."""
    names = ("similarity",) if token_vectors is None else ("bertscore_f1", "similarity")

    def defined(question: Question) -> tuple[str, ...]:
        return names if question.answerable and question.reference else ()

    def measure(question: Question, text: str) -> Metrics:
        return similarity_metrics(text, question.reference, embed, token_vectors) if defined(question) else {}

    return Opinion(defined, measure)


def add_opinion(
    opinion: Opinion, scores: Sequence[Score], answers: Sequence[Answer], questions: Sequence[Question]
) -> Iterator[Score]:
    """The scores with the opinion's metrics, one by one, in the same order."""
    known = {question.id: question for question in questions}
    for score, answer in zip(scores, answers, strict=True):
        question = known[score.question_id]
        more: Metrics = {}
        if score.validity == "ok":
            more = opinion.measure(question, answer.text)
        elif score.validity != "transport_error":
            more = dict.fromkeys(opinion.defined(question), 0.0)
        yield replace(score, metrics=dict(sorted({**score.metrics, **more}.items())))


@dataclass(frozen=True)
class Label:
    """People's ratings of both answers to a question: how correct each is, 0 to 1."""

    question_id: str
    base: float
    tuned: float


def calibrated(
    base: Sequence[Score], tuned: Sequence[Score], questions: Sequence[Question], labels: Sequence[Label]
) -> Estimate:
    """The judge's difference in correctness, corrected by people's labels. Raises InputError for too few labels."""
    pairs = pair_metric(match(base, tuned, questions), "judged_correctness")
    if pairs is None:
        raise InputError(
            "the judge gave no verdict on correctness",
            where="scoring.judge",
            fix="remove scoring.judge.labels, or use another judge",
        )
    human = {label.question_id: label.tuned - label.base for label in labels}
    unknown = sorted(set(human) - set(pairs.question_ids))
    if unknown:
        raise InputError(
            f"labels of questions without a judged answer: {', '.join(unknown[:5])}",
            where="scoring.judge.labels",
            fix="remove these labels",
        )
    labeled = np.array([name in human for name in pairs.question_ids])
    rated = np.array([human.get(name, 0.0) for name in pairs.question_ids])
    return corrected_difference(pairs.differences, rated, labeled, pairs.clusters)
