"""The calls that draft a benchmark: how many questions of each kind, on which chunks, in which order."""

import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from mlx_ragtune.records import Chunk, Question
from mlx_ragtune.synthesis.call_plan import quoted_sentences
from mlx_ragtune.synthesis.dedupe import Vectorizer

DraftTask = Literal["named", "unnamed", "two_paper", "near_miss", "off_corpus"]
"""Kinds of drafted questions: answerable from one paper, with and without its name, from two; and unanswerable ones."""
TASKS: tuple[DraftTask, ...] = get_args(DraftTask)
REFUSED: tuple[DraftTask, ...] = ("near_miss", "off_corpus")
PARTS: Mapping[DraftTask, float] = {
    "named": 0.38, "unnamed": 0.12, "two_paper": 0.1, "near_miss": 0.2, "off_corpus": 0.2,
}  # fmt: skip
QUOTED_PARTS: Mapping[DraftTask, float] = {"named": 0.7, "off_corpus": 0.3}
"""With ``answers: quoted``. A near miss and a question on two papers need a model that understands what is absent."""
NOT_QUOTED: tuple[DraftTask, ...] = ("unnamed", "two_paper", "near_miss")
PER_PAPER = 4
"""Answerable questions on each paper by default."""
MOST_ANSWERABLE = 120
LEAST_REFUSALS = 15
"""Of each kind, by default: 10 decide only if every single answer changes."""
ASKED: Mapping[DraftTask, int] = {"named": 2, "unnamed": 2, "two_paper": 1, "near_miss": 2, "off_corpus": 4}
"""Questions that one request asks for."""
LEAST_YIELD = 0.15
"""A plan has calls for this share of usable questions."""
SPARE_CALLS = 4
ANGLES = (
    "what was measured and what the numbers are",
    "how the method works",
    "which data, models or settings were used",
    "how it compares with what came before",
    "where it fails or what limits it",
    "why a choice was made",
)
MOST_LINKED = 2_000
"""Chunks among which the most similar of another paper is looked for."""


@dataclass(frozen=True)
class DraftCall:
    """One request for ``count`` questions of a task on these chunks; ``angle`` is an aspect, or a field outside.

    With ``quoted``, an answerable question is asked for the sentence ``angle``, and the answer quotes it.
    """

    task: DraftTask
    chunk_ids: tuple[str, ...]
    angle: str
    count: int
    turn: int = 0
    quoted: bool = False


def _split(total: int, parts: Mapping[DraftTask, float]) -> dict[DraftTask, int]:
    """``total`` in these proportions, by largest remainders; kinds without any are left out."""
    scale = total / sum(parts.values())
    counts: dict[DraftTask, int] = {task: math.floor(scale * part + 1e-9) for task, part in parts.items()}
    rest = sorted(parts, key=lambda task: (counts[task] - scale * parts[task], TASKS.index(task)))
    for task in rest[: total - sum(counts.values())]:
        counts[task] += 1
    return {task: count for task, count in counts.items() if count}


def quotas(papers: int, total: int | None = None, *, quoted: bool = False) -> dict[DraftTask, int]:
    """How many questions of each kind are drafted on so many papers; on one paper there are none on two.

    Without a total: 4 on each paper that the papers answer, and a third as many of each kind that they do not answer,
    at least 15. ``quoted``: only the kinds that ``answers: quoted`` can make.
    """
    parts = dict(QUOTED_PARTS if quoted else PARTS)
    if papers < 2 and not quoted:
        parts["named"] += parts.pop("two_paper")
    if total is not None:
        return _split(total, parts)
    answered = {task: part for task, part in parts.items() if task not in REFUSED}
    answerable = min(PER_PAPER * papers, MOST_ANSWERABLE)
    refused = max(LEAST_REFUSALS, round(answerable / 3))
    return _split(answerable, answered) | {task: refused for task in REFUSED if task in parts}


def planned(quota: Mapping[DraftTask, int], papers: Sequence[str]) -> list[Question]:
    """Questions without a text, as many and on as many papers as the plan has: what its power is computed from."""
    questions = []
    for task, count in quota.items():
        for number in range(count):
            paper = papers[number % len(papers)]
            answerable = task not in REFUSED
            kind: Literal["near_miss", "off_corpus"] = "near_miss" if task == "near_miss" else "off_corpus"
            questions.append(
                Question(
                    id=f"{task}-{number}", topic=task, question="", answerable=answerable,
                    papers=() if task == "off_corpus" else (paper,), refusal_kind=None if answerable else kind,
                )
            )  # fmt: skip
    return questions


def draft_calls(
    quota: Mapping[DraftTask, int], order: Sequence[Chunk], fields: Sequence[str], *, seed: int, quoted: bool = False
) -> list[DraftCall]:
    """The calls in the order in which they are made: the kinds side by side, papers and sections evenly.

    ``order``: the chunks as ``call_plan.even_order`` has them; ``fields``: those that the corpus does not cover.
    """
    placed: list[tuple[float, int, DraftCall]] = []
    for rank, (task, count) in enumerate(quota.items()):
        most, asked = math.ceil(count / LEAST_YIELD) + SPARE_CALLS * ASKED[task], 0
        for call in (_quoted_calls if quoted else _calls)(task, order, fields, seed):
            if asked >= most:
                break
            placed.append((asked / most, rank, call))
            asked += call.count
    placed.sort(key=lambda item: item[:2])
    return [call for *_, call in placed]


def _calls(task: DraftTask, order: Sequence[Chunk], fields: Sequence[str], seed: int) -> Iterator[DraftCall]:
    """The calls of one task: without end, or (two papers) until there is no other pair of chunks."""
    if task == "two_paper":
        for number, chunk_ids in enumerate(_linked(order)):
            yield DraftCall(task, chunk_ids, ANGLES[number % len(ANGLES)], ASKED[task])
        return
    if task == "off_corpus" and not fields:
        return
    offset = int(hashlib.sha256(f"{seed}\0{task}".encode()).hexdigest(), 16)
    for turn in itertools.count():
        if task == "off_corpus":
            yield from (DraftCall(task, (), field, ASKED[task], turn) for field in fields)
            continue
        for number, chunk in enumerate(order):
            angle = ANGLES[(number + turn + offset) % len(ANGLES)]
            yield DraftCall(task, (chunk.id,), angle, ASKED[task], turn)


def _quoted_calls(task: DraftTask, order: Sequence[Chunk], fields: Sequence[str], seed: int) -> Iterator[DraftCall]:
    """The calls of one task for one question each: on each sentence once, or on each field without end."""
    if task == "named":
        for chunk, sentence in quoted_sentences(order, seed):
            yield DraftCall(task, (chunk.id,), sentence, 1, quoted=True)
        return
    for turn in itertools.count() if fields else ():
        yield from (DraftCall(task, (), field, 1, turn, quoted=True) for field in fields)


def _linked(order: Sequence[Chunk]) -> Iterator[tuple[str, str]]:
    """Each chunk with the most similar one of another paper, then with the next."""
    order = order[:MOST_LINKED]
    vectors = Vectorizer(chunk.text for chunk in order).vectors([f"{chunk.title} {chunk.text}" for chunk in order])
    owners = np.array([chunk.document_id for chunk in order])
    likeness = vectors @ vectors.T
    likeness[owners[:, None] == owners] = -2.0
    ranked = np.argsort(-likeness, axis=1, kind="stable")
    seen: set[frozenset[str]] = set()
    for depth in range(len(order)):
        for number, chunk in enumerate(order):
            other = int(ranked[number, depth])
            pair = frozenset((chunk.id, order[other].id))
            if likeness[number, other] > -2.0 and pair not in seen:
                seen.add(pair)
                yield chunk.id, order[other].id
