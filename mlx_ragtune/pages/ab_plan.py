"""A blind comparison, planned: which pairs of answers are shown, in which order, on which sides.

Order, sides and ids come from an HMAC under a key that never leaves the session's folder: the page and
the votes alone do not say which answer is whose. A tenth of the trials comes again with the sides
swapped; a twentieth pits a real answer against a planted bad one.
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
"""One trial in so many comes again, sides swapped."""
CHECKS = 20
"""For so many trials there is one with a planted bad answer."""
FEWEST = 4


@dataclass(frozen=True)
class Item:
    """One question with both answers and what both models were shown; ``cluster`` is the gold paper."""

    question_id: str
    question: str
    base_text: str
    tuned_text: str
    cluster: str
    passages: tuple[Passage, ...] = ()


@dataclass(frozen=True)
class Trial:
    """Two answers side by side. ``id`` tells nothing without the key."""

    id: str
    kind: Kind
    item: Item
    left: Source
    right: Source
    left_text: str
    right_text: str


def _mac(key: bytes, *parts: str) -> bytes:
    return hmac.new(key, "\0".join(parts).encode(), hashlib.sha256).digest()


def _trial(key: bytes, kind: Kind, item: Item, sources: tuple[Source, Source], texts: dict[Source, str]) -> Trial:
    left, right = sources
    name = _mac(key, "id", kind, item.question_id).hex()[:16]
    return Trial(name, kind, item, left, right, texts[left], texts[right])


def _texts(item: Item) -> dict[Source, str]:
    return {"base": item.base_text, "tuned": item.tuned_text}


def _sides(key: bytes, kind: Kind, item: Item, pair: tuple[Source, Source]) -> tuple[Source, Source]:
    """The pair, or the pair the other way round: one bit of the HMAC."""
    return pair if _mac(key, "side", kind, item.question_id)[0] & 1 else (pair[1], pair[0])


def _planted(item: Item, others: Sequence[Item], key: bytes) -> str:
    """A bad answer to the item's question: what a model said to a question about another paper."""
    foreign = [one for one in others if one.cluster != item.cluster and one.base_text.strip()]
    foreign = foreign or [one for one in others if one is not item]
    return min(foreign, key=lambda one: _mac(key, "planted", item.question_id, one.question_id)).base_text


def plan_trials(items: Sequence[Item], key: bytes, *, n: int) -> list[Trial]:
    """``n`` real trials with their repeats and checks among them; the same key gives the same plan.

    Questions on which both models say the same, word for word, are left out. A repeat comes in the second
    half of the session, its first showing in the first half. Raises InputError when fewer than ``n``
    questions are left, or ``n`` is too small to hold a repeat and a check.
    """
    usable = [one for one in items if one.base_text.split() != one.tuned_text.split()]
    if n < FEWEST or len(usable) < n:
        raise InputError(
            f"{n} comparisons asked for, {len(usable)} questions have two different answers",
            fix=f"choose a number from {FEWEST} to {len(usable)}",
        )
    chosen = sorted(usable, key=lambda one: _mac(key, "order", one.question_id))[:n]
    real = [_trial(key, "real", one, _sides(key, "real", one, ("base", "tuned")), _texts(one)) for one in chosen]
    half = (n + 1) // 2
    repeats = [
        _trial(key, "repeat", one.item, (one.right, one.left), _texts(one.item)) for one in real[: max(1, n // REPEATS)]
    ]
    checks = []
    for one in chosen[half : half + max(1, n // CHECKS)]:
        shown: Source = "tuned" if one.tuned_text.strip() else "base"
        texts: dict[Source, str] = {**_texts(one), "planted": _planted(one, items, key)}
        checks.append(_trial(key, "check", one, _sides(key, "check", one, (shown, "planted")), texts))
    first, second = real[:half] + checks, real[half:] + repeats
    return [
        trial
        for part in (first, second)
        for trial in sorted(part, key=lambda one: _mac(key, "place", one.kind, one.item.question_id))
    ]


def plan_digest(trials: Sequence[Trial]) -> str:
    """sha256 of all that is shown, in order: votes belong to one plan."""
    total = hashlib.sha256()
    for trial in trials:
        for part in (trial.id, trial.item.question, trial.left_text, trial.right_text):
            total.update(f"{len(part.encode())}:{part}".encode())
    return total.hexdigest()
