"""The plan of a blind comparison: which pairs of answers are shown, in which order, on which sides.

Order, sides and ids come from an HMAC with a key that never leaves the session's folder: the page and the
votes alone do not say which answer belongs to which model. Where the base was also asked with examples in its
prompt, half of the trials compare the tuned model with each of the two. A tenth of the trials is repeated with
the sides swapped; a twentieth compares a right answer with a planted bad one.
"""

import hashlib
import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Literal

from mlx_ragtune.errors import InputError
from mlx_ragtune.pages.ab_planted import Item, is_right, planted_answer

Reference = Literal["base", "prompted"]
REFERENCES: tuple[Reference, ...] = ("base", "prompted")
"""What the tuned model is compared with."""
Source = Literal["base", "prompted", "tuned", "planted"]
Kind = Literal["real", "repeat", "check"]
REPEATS = 10
"""One trial in ``REPEATS`` is repeated with the sides swapped."""
CHECKS = 20
"""For each ``CHECKS`` trials there is one with a planted bad answer, where one can be made."""
MIN_TRIALS = 4


@dataclass(frozen=True)
class Trial:
    """Two answers side by side. ``id`` reveals nothing without the key. ``against``: what tuned is compared with."""

    id: str
    kind: Kind
    item: Item
    left: Source
    right: Source
    left_text: str
    right_text: str
    against: Reference = "base"


def _mac(key: bytes, *parts: str) -> bytes:
    return hmac.new(key, "\0".join(parts).encode(errors="replace"), hashlib.sha256).digest()


def _trial(
    key: bytes, kind: Kind, item: Item, pair: tuple[Source, Source], *, against: Reference, planted: str = ""
) -> Trial:
    """The trial with the pair in this order. The ids of trials against the base name no reference."""
    about = (*((against,) if against != "base" else ()), *((planted,) if kind == "check" else ()))
    texts: dict[Source, str] = {
        "base": item.base_text, "prompted": item.prompted_text or "", "tuned": item.tuned_text, "planted": planted
    }  # fmt: skip
    name = _mac(key, "id", kind, item.question_id, *about).hex()[:16]
    left, right = pair
    return Trial(name, kind, item, left, right, texts[left], texts[right], against)


def _sides(key: bytes, kind: Kind, item: Item, pair: tuple[Source, Source]) -> tuple[Source, Source]:
    """The pair in the order that one bit of the HMAC gives."""
    return pair if _mac(key, "side", kind, item.question_id)[0] & 1 else (pair[1], pair[0])


def _references(item: Item) -> list[Reference]:
    """The arms whose answer differs from the tuned model's in its words."""
    return [
        reference
        for reference in REFERENCES
        if (text := item.text(reference)) is not None and text.split() != item.tuned_text.split()
    ]


def is_usable(item: Item) -> bool:
    """Whether the tuned answer differs in its words from another one."""
    return bool(_references(item))


def _paired(items: Sequence[Item]) -> list[tuple[Item, Reference]]:
    """Each item with what its tuned answer is compared with: half each, as far as the answers differ."""
    assigned: dict[str, Reference] = {}
    for item in sorted(items, key=lambda item: len(_references(item))):  # stable: within a group in the given order
        counts = {reference: list(assigned.values()).count(reference) for reference in _references(item)}
        assigned[item.question_id] = min(counts, key=lambda reference: counts[reference])
    return [(item, assigned[item.question_id]) for item in items]


def _checks(key: bytes, chosen: Sequence[tuple[Item, Reference]], items: Sequence[Item]) -> Iterator[Trial]:
    """A check for each chosen item with a right answer and a planted one that is surely bad."""
    for item, reference in chosen:
        shown: Source | None = next((arm for arm in ("tuned", reference) if _is_right(item, arm)), None)
        if shown is None:
            continue
        planted = planted_answer(item, items, partial(_rank, key, item))
        if planted is not None:
            pair = _sides(key, "check", item, (shown, "planted"))
            yield _trial(key, "check", item, pair, against=reference, planted=planted)


def _rank(key: bytes, item: Item, other: Item) -> bytes:
    """The place of ``other`` among those whose answers may be planted for ``item``."""
    return _mac(key, "planted", item.question_id, other.question_id)


def _is_right(item: Item, arm: Literal["tuned", "base", "prompted"]) -> bool:
    text = item.text(arm)
    return item.asked is not None and text is not None and is_right(item.asked, text, item.passages)


def plan_trials(items: Sequence[Item], key: bytes, *, n: int) -> list[Trial]:
    """``n`` real trials mixed with repeats and checks; the same key gives the same plan.

    Questions with the same words in all answers are left out. A repeat is in the second half of the session,
    its first showing in the first half. Without an answer that is surely bad there are no checks. Raises
    InputError when fewer than ``n`` questions are left, or when ``n`` is too small for a repeat and a check.
    """
    usable = [item for item in items if is_usable(item)]
    if n < MIN_TRIALS or len(usable) < n:
        raise InputError(
            f"{n} comparisons were asked for, and {len(usable)} questions have two different answers",
            fix=f"choose a number from {MIN_TRIALS} to {len(usable)} with -n"
            if len(usable) >= MIN_TRIALS
            else f"a blind comparison needs at least {MIN_TRIALS} such questions: add questions to the benchmark",
        )
    chosen = _paired(sorted(usable, key=lambda item: _mac(key, "order", item.question_id))[:n])
    real = [
        _trial(key, "real", item, _sides(key, "real", item, (reference, "tuned")), against=reference)
        for item, reference in chosen
    ]
    half = (n + 1) // 2
    repeats = [
        _trial(key, "repeat", trial.item, (trial.right, trial.left), against=trial.against)
        for trial in real[: max(1, n // REPEATS)]
    ]
    checks = list(islice(_checks(key, chosen[half:], items), max(1, n // CHECKS)))
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
