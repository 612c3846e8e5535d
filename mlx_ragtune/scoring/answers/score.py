"""All metrics of one answer, from the answer, its question and the passages that the model got.

An invalid answer gets the worst value of each metric: that is the *all* view. The *both-valid* view leaves
such questions out for both models. Scoring needs only the records and asks no model.
"""

from collections.abc import Mapping, Sequence

from mlx_ragtune.records import Answer, Passage, Question, Sampling, Score
from mlx_ragtune.scoring.answers.citation import citation_metrics, find_citations, without_titles
from mlx_ragtune.scoring.answers.cost import cost_metrics
from mlx_ragtune.scoring.answers.keywords import keyword_coverage
from mlx_ragtune.scoring.answers.metrics import METRICS
from mlx_ragtune.scoring.answers.normalize import words
from mlx_ragtune.scoring.answers.nuggets import correctness
from mlx_ragtune.scoring.answers.numbers import number_grounding
from mlx_ragtune.scoring.answers.refusal import is_refusal
from mlx_ragtune.scoring.answers.style import is_prose
from mlx_ragtune.scoring.answers.substantive import is_substantive
from mlx_ragtune.scoring.answers.validity import classify


def _refusal_metrics(question: Question, text: str) -> dict[str, float]:
    refused = float(is_refusal(text))
    if question.answerable:
        return {"false_refusal": refused, "substantive": float(is_substantive(text))}
    if question.refusal_kind == "near_miss":
        return {"refusal_near_miss": refused}
    return {"refusal_off_corpus": refused}


def _text_metrics(
    question: Question, text: str, passages: Sequence[Passage], titles: Mapping[str, str]
) -> dict[str, float | None]:
    shown = [question.question, *(f"{passage.title}\n{passage.text}" for passage in passages)]
    stated = correctness(without_titles(text, titles), question.nuggets, refused=is_refusal(text))
    return {
        "correctness": stated.score if question.answerable else None,
        "keyword_coverage": keyword_coverage(text, question.keywords),
        "number_grounding": number_grounding(text, shown),
        "prose_style": float(is_prose(text)),
        **_refusal_metrics(question, text),
        **citation_metrics(
            find_citations(text, titles, shown),
            gold=question.papers,
            in_context=[passage.document_id for passage in passages],
            answerable=question.answerable,
        ),
    }


def score_answer(
    question: Question,
    answer: Answer,
    passages: Sequence[Passage],
    titles: Mapping[str, str],
    *,
    sampling: Sampling,
    system: str = "",
) -> Score:
    """The score of one answer; undefined metrics are absent, an invalid answer gets the worst value of each.

    ``titles`` maps the id of every paper of the corpus to its title; ``system`` is the system prompt that was
    sent. After a transport error the metrics are empty.
    """
    validity = classify(answer, sampling, question=question, passages=passages, system=system)
    metrics: dict[str, float] = {}
    if validity != "transport_error":
        measured = _text_metrics(question, answer.text, passages, titles)
        metrics = {name: value for name, value in measured.items() if value is not None}
        if validity != "ok":
            for name in metrics:
                worst = METRICS[name].worst
                metrics[name] = metrics[name] if worst is None else worst
        metrics |= cost_metrics(answer) | {"answer_words": float(len(words(answer.text)))}
    return Score(
        question_id=answer.question_id,
        model=answer.model,
        seed=answer.seed,
        validity=validity,
        metrics=dict(sorted(metrics.items())),
    )
