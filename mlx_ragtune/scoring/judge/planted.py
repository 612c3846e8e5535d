"""Planted errors: a good answer changed in one known way, to test whether a judge or a metric notices.

Each function returns the changed text, or None when the answer cannot be changed in that way.
Titles in quotation marks are not changed, except by ``fabricated_title``.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from mlx_ragtune.records import Nugget, Question
from mlx_ragtune.scoring.answers.anchors import AnchorText
from mlx_ragtune.scoring.answers.normalize import find_phrase, fold, sentences, words

Kind = Literal[
    "number_changed",
    "negated",
    "entity_swapped",
    "other_answer",
    "nugget_dropped",
    "fabricated_title",
    "cut_at_3_words",
]
MAX_DIGITS = 18
"""Of a longer number the first digits are increased: Python does not convert thousands of digits."""
FABRICATED_TITLE = "Adaptive Rank Merging for Compact Language Models"

_QUOTED = re.compile(r"[\"“][^\"”]{8,200}[\"”]")
_NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)*")
_VERB = re.compile(r"\b(is|are|was|were|can|could|has|have|does|do|will|should)\b", re.IGNORECASE)


@dataclass(frozen=True)
class GoodAnswer:
    """A question, an answer known to be right, and the text of the contexts that support it."""

    question: Question
    text: str
    contexts: str


def _outside_titles(text: str, change: Callable[[str], str]) -> str:
    cuts, end = [], 0
    for match in _QUOTED.finditer(text):
        cuts += [change(text[end : match.start()]), match[0]]
        end = match.end()
    return "".join([*cuts, change(text[end:])])


def number_changed(good: GoodAnswer) -> str | None:
    """Every number increased by 13, with its decimals and separators kept."""

    def raised(match: re.Match[str]) -> str:
        integer = re.match(r"\d+", match[0][:MAX_DIGITS])
        return f"{int(integer[0]) + 13}{match[0][integer.end() :]}" if integer else match[0]

    changed = _outside_titles(good.text, lambda part: _NUMBER.sub(raised, part))
    return changed if changed != good.text else None


def negated(good: GoodAnswer) -> str | None:
    """A "not" added after the first auxiliary verb or removed from it; without such a verb, "It is not true that"."""
    for pattern, replacement in (
        (re.compile(rf"{_VERB.pattern} not\b", re.IGNORECASE), r"\1"),
        (_VERB, r"\1 not"),
    ):
        changed = _outside_titles(good.text, lambda part: pattern.sub(replacement, part, count=1))  # noqa: B023
        if changed != good.text:
            return changed
    return f"It is not true that {good.text[:1].lower()}{good.text[1:]}" if good.text else None


def entity_swapped(good: GoodAnswer, other: GoodAnswer) -> str | None:
    """An anchor without digits of a vital nugget replaced by one of another question."""
    new = _anchor_in_words(other.text, other.question.nuggets)
    old = _anchor_in_words(good.text, good.question.nuggets)
    if not new or not old or fold(new) == fold(old):
        return None
    pattern = re.compile(re.escape(old), re.IGNORECASE)
    changed = _outside_titles(good.text, lambda part: pattern.sub(lambda _: new, part))
    return changed if changed != good.text else None


def _anchor_in_words(text: str, nuggets: tuple[Nugget, ...]) -> str | None:
    for nugget in nuggets:
        for aliases in nugget.anchors if nugget.vital else ():
            for alias in aliases:
                if not re.search(r"\d", alias) and find_phrase(fold(text), alias):
                    return alias
    return None


def other_answer(good: GoodAnswer, other: GoodAnswer) -> str | None:
    """The right answer to another question."""
    return other.text if other.question.id != good.question.id else None


def nugget_dropped(good: GoodAnswer) -> str | None:
    """The sentences that lack the first vital nugget's anchors; None when nothing would be left."""
    vital = next((nugget for nugget in good.question.nuggets if nugget.vital), None)
    if vital is None:
        return None
    kept = [
        part for part in sentences(good.text) if not all(AnchorText(fold(part)).find(group) for group in vital.anchors)
    ]
    return " ".join(kept) if kept and len(kept) < len(sentences(good.text)) else None


def fabricated_title(good: GoodAnswer) -> str | None:
    """The first quoted title replaced by one that does not exist."""
    changed = _QUOTED.sub(f'"{FABRICATED_TITLE}"', good.text, count=1)
    return changed if changed != good.text else None


def cut_at_3_words(good: GoodAnswer) -> str | None:
    """The first three words; None when the answer has no more."""
    all_words = words(good.text)
    return " ".join(all_words[:3]) if len(all_words) > 3 else None


def plant(good: GoodAnswer, other: GoodAnswer) -> dict[Kind, str]:
    """Every error that can be planted in the answer; ``other`` is another question with its answer."""
    planted: dict[Kind, str | None] = {
        "number_changed": number_changed(good),
        "negated": negated(good),
        "entity_swapped": entity_swapped(good, other),
        "other_answer": other_answer(good, other),
        "nugget_dropped": nugget_dropped(good),
        "fabricated_title": fabricated_title(good),
        "cut_at_3_words": cut_at_3_words(good),
    }
    return {kind: text for kind, text in planted.items() if text is not None}
