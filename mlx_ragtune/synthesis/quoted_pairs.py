"""The outcome of one call with ``answers: quoted``: one question by the model, everything else by rule.

The model is not asked to judge: an answer that quotes its evidence is supported by construction, and the verdicts of a
very small model are noise. So quoted pairs have no scores. A refusal made from a pair is kept if no shown passage has
its evidence or most of what its answer adds to the question.
"""

import hashlib
from collections.abc import Callable, Sequence

from mlx_ragtune.records import ChatReply, ChatRequest, Chunk, Evidence, Pair, Passage
from mlx_ragtune.synthesis.call_plan import Call
from mlx_ragtune.synthesis.checks import Windows, check_pair
from mlx_ragtune.synthesis.contrast import ANSWERED, may_answer
from mlx_ragtune.synthesis.draft_checks import with_citation
from mlx_ragtune.synthesis.gate import row_fault
from mlx_ragtune.synthesis.jobs import Judged, Outcome
from mlx_ragtune.synthesis.quoting import (
    TRIES,
    field_problem,
    field_request,
    question_in,
    question_problem,
    question_request,
    topic_in,
)
from mlx_ragtune.synthesis.refusals import refusal
from mlx_ragtune.synthesis.replies import Backend


def write_quoted(
    backend: Backend, call: Call, chunks: Sequence[Chunk], *, key: str, seed: int, windows: Windows
) -> Outcome:
    """The pair of a call on one sentence (``call.angle``) or one field: greedy, then sampled."""
    identifier = f"{call.task}-{key[:10]}-0"
    first = seed if call.turn else None
    if call.task == "off_corpus":
        field = call.angle
        return asked_again(
            backend,
            lambda turn: field_request(field, seed=seed + turn if turn else first),
            lambda question: field_pair(question, field, identifier, windows),
        )
    (chunk,) = chunks
    return asked_again(
        backend,
        lambda turn: question_request(call.angle, seed=seed + turn if turn else first),
        lambda question: quoted_pair(question, call.angle, chunk, identifier, windows),
    )


def asked_again(backend: Backend, request: Callable[[int], ChatRequest], read: Callable[[str], Judged]) -> Outcome:
    """The outcome of one question: what ``read`` makes of the first of ``TRIES`` replies that it keeps, or the last."""
    replies: list[ChatReply] = []
    for turn in range(TRIES):
        replies.append(backend.chat(request(turn)))
        judged = read(question_in(replies[-1].text))
        if not judged.reason:
            break
    tokens, seconds = sum(reply.answer_tokens for reply in replies), sum(reply.latency_seconds for reply in replies)
    return Outcome(1, (judged,), {}, len(replies), tokens, round(seconds, 3))


def quoted_pair(question: str, sentence: str, chunk: Chunk, identifier: str, windows: Windows) -> Judged:
    """The pair that answers a question with a sentence of the chunk, and why it is rejected, or ""."""
    paper = chunk.document_id
    answer = quoted_answer(sentence, chunk.title)
    pair = Pair(identifier, "grounded", question, answer, (paper,), (Evidence(paper, sentence),))
    reason = question_problem(question, sentence, chunk.title) or row_fault(pair)
    reason = reason or check_pair(pair, {paper: chunk.text}, {paper: chunk.title}, windows)
    return Judged(pair, reason or "", topic_in(question, sentence))


def quoted_answer(sentence: str, title: str) -> str:
    """The sentence with its paper's title, worded in one of six ways by its hash: one way would be a template."""
    cited = with_citation(sentence, [title])  # According to "…", the first word in lower case where that is safe
    start, rest = f'According to "{title}"', sentence.rstrip(".")
    wordings = (
        cited,
        cited.replace(start, f'As stated in "{title}"', 1),
        cited.replace(start, f'In the words of "{title}"', 1),
        f'"{title}" states: {sentence}',
        f'{rest}, according to "{title}".',
        f'{rest}, as stated in "{title}".',
    )
    return wordings[int(hashlib.sha256(sentence.encode()).hexdigest(), 16) % len(wordings)]


def field_pair(question: str, field: str, identifier: str, windows: Windows) -> Judged:
    """The refusal of a question about a field that the papers do not cover; it names the field."""
    pair = Pair(identifier, "refusal", question, refusal(field, question), (), (), "off_corpus")
    reason = field_problem(question, field) or row_fault(pair) or check_pair(pair, {}, {}, windows)
    return Judged(pair, reason or "", field)


def refuse_by_rule(_backend: Backend, draft: Judged, answered: Pair, passages: Sequence[Chunk | Passage]) -> Outcome:
    """The outcome of one refusal made from an answerable pair: kept if by rule no passage answers its question."""
    reason = ANSWERED if may_answer(answered, passages) else ""
    return Outcome(1, (Judged(draft.pair, reason, draft.topic),))
