"""What is wrong with an item as a reviewer changed it, by the rules that the data set and the evaluation apply."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mlx_ragtune.records import Document, Pair, Question
from mlx_ragtune.reviewing.review_items import ReviewItem
from mlx_ragtune.scoring.answers.reference_check import question_problems
from mlx_ragtune.scoring.answers.refusal import is_refusal
from mlx_ragtune.synthesis.authored import pair_problems
from mlx_ragtune.synthesis.checks import (
    is_blank,
    names_its_source,
    not_a_copy,
    numbers_shown,
    quote_in,
    stands_alone,
    titles_quoted,
)


@dataclass(frozen=True)
class Problem:
    """What is wrong. ``blocks``: the item could not be used, so that the edit is not saved."""

    text: str
    blocks: bool


def problems(item: ReviewItem, documents: Mapping[str, Document]) -> list[Problem]:
    """Everything wrong with the item, blocking problems first. ``documents`` are the corpus by id."""
    row = item.row
    hard = _of_pair(row, documents) if isinstance(row, Pair) else _of_question(row, documents)
    found = [Problem(text, blocks=True) for text in hard]
    return [*found, *(Problem(text, blocks=False) for text in _advice(item, documents))]


def _of_pair(pair: Pair, documents: Mapping[str, Document]) -> Iterator[str]:
    yield from pair_problems(pair, documents)
    if not is_blank(pair.answer):
        refuses = is_refusal(pair.answer)
        if pair.kind == "refusal" and not refuses:
            yield "a refusal that does not refuse"
        if pair.kind != "refusal" and refuses:
            yield "a refusal where an answer is due"


def _of_question(question: Question, documents: Mapping[str, Document]) -> Iterator[str]:
    titles = {name: document.title for name, document in documents.items()}
    texts = [documents[paper].text for paper in question.papers if paper in documents]
    yield from question_problems(question, titles, texts)
    for paper in question.papers:
        if paper not in documents:
            yield f"the corpus has no paper '{paper}'"
    for evidence in question.evidence:
        text = documents[evidence.paper].text if evidence.paper in documents else ""
        if reason := quote_in(evidence.quote, text):
            yield f"{reason} of '{evidence.paper}': {evidence.quote!r:.80}"


def _advice(item: ReviewItem, documents: Mapping[str, Document]) -> Iterator[str]:
    """What a generated item is rejected for, and a person may want all the same."""
    row = item.row
    own = [documents[paper] for paper in row.papers if paper in documents]
    titles, texts = [document.title for document in own], [document.text for document in own]
    if not is_blank(row.question) and (reason := stands_alone(row.question, titles, texts)):
        yield reason
    if is_blank(item.answer):
        if isinstance(row, Question) and row.answerable:
            yield "there is no reference answer"
        return
    # a refusal speaks of "these papers": it has no other words for them
    if row.refusal_kind is None and (reason := names_its_source(item.answer, texts)):
        yield f"the answer {reason}"
    if row.refusal_kind is None and own:
        found = [
            titles_quoted(item.answer, titles) if isinstance(row, Pair) else None,
            numbers_shown(item.answer, [*titles, *texts], question=row.question),
            not_a_copy(item.answer, row.question, titles),
        ]
        yield from filter(None, found)
