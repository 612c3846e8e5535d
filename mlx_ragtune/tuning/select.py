"""``select: task``: of the checkpoints with the lowest loss, choose the one with the best answers.

The score is that of greedy answers to held-out questions. For an answerable question it is 0 when refused,
otherwise the mean of cited titles (recall) and word overlap with the reference (F1); for an unanswerable
question it is 1 when refused.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.models.prompts import prompt_tokens
from mlx_ragtune.records import Example
from mlx_ragtune.scoring.answers.citation import cited_papers
from mlx_ragtune.scoring.answers.made_up_titles import title_candidates
from mlx_ragtune.scoring.answers.refusal import is_refusal
from mlx_ragtune.tuning.decode import decode
from mlx_ragtune.tuning.seeds import seed64

ROWS = 24
MAX_TOKENS = 192


@dataclass(frozen=True)
class Candidate:
    """A kept checkpoint: validation loss in nats per answer token, task score in [0, 1]."""

    update: int
    valid_loss: float
    task_score: float


def development_slice(rows: Sequence[Example], *, seed: int, most: int = ROWS) -> list[Example]:
    """At most ``most`` rows, taken from the kinds in turn, so that every kind is included."""
    draw = np.random.default_rng([seed64(seed), 0x7A5C])
    by_kind: dict[str, list[Example]] = {}
    for index in draw.permutation(len(rows)):
        by_kind.setdefault(rows[int(index)].kind, []).append(rows[int(index)])
    queues = [by_kind[kind] for kind in sorted(by_kind)]
    turns = [queue[turn] for turn in range(max(map(len, queues), default=0)) for queue in queues if turn < len(queue)]
    return turns[:most]


def _words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def word_overlap(answer: str, reference: str) -> float:
    """F1 of the words of both texts, in [0, 1]."""
    left, right = _words(answer), _words(reference)
    both = sum((left & right).values())
    return 2 * both / (sum(left.values()) + sum(right.values())) if both else 0.0


def score_answer(row: Example, answer: str) -> float:
    """The score of an answer, in [0, 1]."""
    reference = row.messages[-1].content
    if row.kind == "refusal":
        return float(is_refusal(answer))
    if is_refusal(answer):
        return 0.0
    titles = {title: title for title in title_candidates(reference)}
    parts = [word_overlap(answer, reference)]
    if titles:
        parts.append(len(set(cited_papers(answer, titles))) / len(titles))
    return sum(parts) / len(parts)


def task_score(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Example],
    *,
    thinking: bool,
    stop: Callable[[str], bool] | None = None,
    max_tokens: int | None = None,
) -> float:
    """Mean score of the greedy answers to the rows' questions, in [0, 1]; an answer that ``stop`` ended gets 0.

    Answers are cut off after ``max_tokens``, at most ``MAX_TOKENS``.

    Raises ValueError without rows.
    """
    if not rows:
        raise ValueError("a task score needs at least one row")
    prompts = [prompt_tokens(row.messages[:-1], tokenizer, thinking=thinking) for row in rows]
    scores = [0.0] * len(rows)
    most = min(MAX_TOKENS, max_tokens or MAX_TOKENS)
    for index, answer in decode(model, tokenizer, prompts, max_tokens=most, stop=stop):
        scores[index] = 0.0 if answer.reason == "loop" else score_answer(rows[index], answer.text)
    return sum(scores) / len(scores)


def choose_by_task(
    model: Any,
    tokenizer: Any,
    kept: Mapping[tuple[int, float], Mapping[str, mx.array]],
    rows: Sequence[Example],
    *,
    thinking: bool,
) -> list[Candidate]:
    """The kept adapters, (update, loss) → arrays, scored on ``rows``: best first, ties broken by loss.

    The model is left with the last adapter that was tried.
    """
    candidates = []
    for (update, loss), arrays in kept.items():
        model.load_weights(list(arrays.items()), strict=False)
        candidates.append(Candidate(update, loss, task_score(model, tokenizer, rows, thinking=thinking)))
    return sorted(candidates, key=lambda candidate: (-candidate.task_score, candidate.valid_loss))
