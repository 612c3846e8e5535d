"""The plan of a blind comparison: which pairs of answers are shown, in which order, on which sides.

Order, sides and ids come from an HMAC with a key that never leaves the session's folder: the page and the
votes alone do not say which answer belongs to which model. A tenth of the trials is repeated with the sides
swapped; a twentieth compares a real answer with a planted bad one.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mlx_ragtune.errors import InputError
from mlx_ragtune.records import Passage

Source = Literal["base", "tuned", "planted"]
Kind = Literal["real", "repeat", "check"]
REPEATS = 10
"""One trial in ``REPEATS`` is repeated with the sides swapped."""
CHECKS = 20
"""For each ``CHECKS`` trials there is one with a planted bad answer."""
MIN_TRIALS = 4


@dataclass(frozen=True)
class Item:
    """One question with both answers and the passages that both models got; ``cluster`` is the gold paper."""

    question_id: str
    question: str
    base_text: str
    tuned_text: str
    cluster: str
    passages: tuple[Passage, ...] = ()


@dataclass(frozen=True)
class Trial:
    """Two answers side by side. ``id`` reveals nothing without the key."""

    id: str
    kind: Kind
    item: Item
    left: Source
    right: Source
    left_text: str
    right_text: str


def _mac(key: bytes, *parts: str) -> bytes:
    return hmac.new(key, "\0".join(parts).encode(errors="replace"), hashlib.sha256).digest()


def _trial(key: bytes, kind: Kind, item: Item, sources: tuple[Source, Source], texts: dict[Source, str]) -> Trial:
    left, right = sources
    name = _mac(key, "id", kind, item.question_id).hex()[:16]
    return Trial(name, kind, item, left, right, texts[left], texts[right])


def _texts(item: Item) -> dict[Source, str]:
    return {"base": item.base_text, "tuned": item.tuned_text}


def _sides(key: bytes, kind: Kind, item: Item, pair: tuple[Source, Source]) -> tuple[Source, Source]:
    """The pair in the order that one bit of the HMAC gives."""
    return pair if _mac(key, "side", kind, item.question_id)[0] & 1 else (pair[1], pair[0])


def _planted(item: Item, others: Sequence[Item], key: bytes) -> str:
    """A bad answer to the item's question: the answer to a question about another paper."""
    foreign = [other for other in others if other.cluster != item.cluster and other.base_text.strip()]
    foreign = foreign or [other for other in others if other is not item]
    return min(foreign, key=lambda other: _mac(key, "planted", item.question_id, other.question_id)).base_text


def is_usable(item: Item) -> bool:
    """Whether the two answers differ in their words."""
    return item.base_text.split() != item.tuned_text.split()


def plan_trials(items: Sequence[Item], key: bytes, *, n: int) -> list[Trial]:
    """``n`` real trials mixed with repeats and checks; the same key gives the same plan.

    Questions with the same words in both answers are left out. A repeat is in the second half of the session,
    its first showing in the first half. Raises InputError when fewer than ``n`` questions are left, or when
    ``n`` is too small for a repeat and a check.
    """
    usable = [item for item in items if is_usable(item)]
    if n < MIN_TRIALS or len(usable) < n:
        raise InputError(
            f"{n} comparisons were asked for, and {len(usable)} questions have two different answers",
            fix=f"choose a number from {MIN_TRIALS} to {len(usable)} with -n"
            if len(usable) >= MIN_TRIALS
            else f"a blind comparison needs at least {MIN_TRIALS} such questions: add questions to the benchmark",
        )
    chosen = sorted(usable, key=lambda item: _mac(key, "order", item.question_id))[:n]
    real = [_trial(key, "real", item, _sides(key, "real", item, ("base", "tuned")), _texts(item)) for item in chosen]
    half = (n + 1) // 2
    repeats = [
        _trial(key, "repeat", trial.item, (trial.right, trial.left), _texts(trial.item))
        for trial in real[: max(1, n // REPEATS)]
    ]
    checks = []
    for item in chosen[half : half + max(1, n // CHECKS)]:
        shown: Source = "tuned" if item.tuned_text.strip() else "base"
        texts: dict[Source, str] = {**_texts(item), "planted": _planted(item, items, key)}
        checks.append(_trial(key, "check", item, _sides(key, "check", item, (shown, "planted")), texts))
    first, second = real[:half] + checks, real[half:] + repeats
    return [
        trial
        for part in (first, second)
        for trial in sorted(part, key=lambda trial: _mac(key, "place", trial.kind, trial.item.question_id))
    ]


def plan_digest(trials: Sequence[Trial]) -> str:
    """sha256 of everything that is shown, in order, so that votes belong to one plan."""
    total = hashlib.sha256()
    for trial in trials:
        for part in (trial.id, trial.item.question, trial.left_text, trial.right_text):
            data = part.encode(errors="replace")
            total.update(f"{len(data)}:".encode() + data)
    return total.hexdigest()
