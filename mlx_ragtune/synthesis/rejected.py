"""Rejected answers for ``train.preference``, made from the data set itself.

    question with its paper      answer over a refusal of the same question, or over the answer with a wrong title
    question without its paper   refusal over the answer to the same question

The wrong title is that of another paper among the passages. Both refusals of a question have the same wording, so
that only the passages tell which of the two answers is the better one.
"""

from collections.abc import Iterable, Sequence

from mlx_ragtune.records import Chunk, Example, Pair, Rejected
from mlx_ragtune.synthesis.checks import one_line
from mlx_ragtune.synthesis.contrast import Refuse
from mlx_ragtune.synthesis.visible_corpus import by_hash

WRONG_TITLE = 3
"""One in so many answerable rows is preferred to the same answer with a wrong title, where it can be."""
LONG_TITLE = 4
"""A title of so many words is one without quotes too."""


def _question(pair: Pair) -> str:
    return one_line(pair.question).casefold()


def with_wrong_title(answer: str, own: Iterable[str], others: Sequence[str]) -> str:
    """The answer with one of its titles replaced by the first of ``others``; empty when it has none of them."""
    text = one_line(answer)
    for title in sorted(map(one_line, own), key=len, reverse=True):
        named = f'"{title}' in text or (len(title.split()) >= LONG_TITLE and title in text)
        if others and named:
            return text.replace(title, one_line(others[0]))
    return ""


def rejected_answers(
    rows: Sequence[Example], pairs: Sequence[Pair], chunks: Sequence[Chunk], *, refuse: Refuse, seed: int
) -> list[Rejected]:
    """The rejected answers of those rows that have one, in the order of the rows.

    ``pairs`` are those of the rows, contrast pairs included, and any others whose answers may be rejected. A refusal
    has none when no answerable pair asks its question. The result depends on the arguments alone.
    """
    by_id = {pair.id: pair for pair in pairs}
    answers = {_question(pair): pair.answer for pair in pairs if pair.kind != "refusal"}
    shown = {chunk.id: chunk for chunk in chunks}
    found: list[Rejected] = []
    for row in rows:
        pair = by_id[row.id]
        if pair.kind == "refusal":
            rejected = Rejected(row.id, answers.get(_question(pair), ""), "answer")
        else:
            rejected = _of_answer(pair, [shown[name] for name in row.context_ids if name in shown], refuse, seed)
        if rejected.answer and one_line(rejected.answer) != one_line(pair.answer):
            found.append(rejected)
    return found


def _of_answer(pair: Pair, passages: Sequence[Chunk], refuse: Refuse, seed: int) -> Rejected:
    """What an answer is preferred to: itself with a wrong title for one in three pairs, else a refusal."""
    if int(by_hash(seed, "rejected", pair.id), 16) % WRONG_TITLE == 0:
        titles = {chunk.document_id: chunk.title for chunk in passages}
        own = {title for paper, title in titles.items() if paper in pair.papers}
        others = [title for title in titles.values() if title not in own]
        if wrong := with_wrong_title(pair.answer, own, others):
            return Rejected(pair.id, wrong, "title")
    return Rejected(pair.id, refuse(pair), "refusal")
