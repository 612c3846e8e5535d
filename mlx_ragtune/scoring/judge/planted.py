"""Planted errors: a good answer spoilt in one known way, to see whether a judge or a metric notices.

Each function returns the spoilt text, or None where the answer offers nothing to spoil in that way.
Titles in quotation marks are left alone, except by ``fabricated_title``.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from mlx_ragtune.records import Nugget, Question
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
MADE_UP_TITLE = "Adaptive Rank Merging for Compact Language Models"

_QUOTED = re.compile(r"[\"“][^\"”]{8,200}[\"”]")
_NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)*")
_VERB = re.compile(r"\b(is|are|was|were|can|could|has|have|does|do|will|should)\b", re.IGNORECASE)


@dataclass(frozen=True)
class GoodAnswer:
    """A question, an answer known to be right, and the text of the contexts it rests on."""

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
    """Every number raised by 13, decimals and separators kept."""

    def raised(match: re.Match[str]) -> str:
        whole = re.match(r"\d+", match[0])
        return f"{int(whole[0]) + 13}{match[0][whole.end() :]}" if whole else match[0]

    spoilt = _outside_titles(good.text, lambda part: _NUMBER.sub(raised, part))
    return spoilt if spoilt != good.text else None


def negated(good: GoodAnswer) -> str | None:
    """The first verb that takes a "not" gets one, or loses it; without such a verb, "It is not true that"."""
    for pattern, replacement in (
        (re.compile(rf"{_VERB.pattern} not\b", re.IGNORECASE), r"\1"),
        (_VERB, r"\1 not"),
    ):
        spoilt = _outside_titles(good.text, lambda part: pattern.sub(replacement, part, count=1))  # noqa: B023
        if spoilt != good.text:
            return spoilt
    return f"It is not true that {good.text[:1].lower()}{good.text[1:]}" if good.text else None


def entity_swapped(good: GoodAnswer, other: GoodAnswer) -> str | None:
    """A wordy anchor of a vital nugget replaced by one of another question's."""
    new = _wordy_anchor(other.text, other.question.nuggets)
    old = _wordy_anchor(good.text, good.question.nuggets)
    if not new or not old or fold(new) == fold(old):
        return None
    pattern = re.compile(re.escape(old), re.IGNORECASE)
    spoilt = _outside_titles(good.text, lambda part: pattern.sub(lambda _: new, part))
    return spoilt if spoilt != good.text else None


def _wordy_anchor(text: str, nuggets: tuple[Nugget, ...]) -> str | None:
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
    """The sentences without the first vital nugget's anchors; None when nothing would be left."""
    vital = next((nugget for nugget in good.question.nuggets if nugget.vital), None)
    if vital is None:
        return None
    kept = [
        part
        for part in sentences(good.text)
        if not all(any(find_phrase(fold(part), alias) for alias in group) for group in vital.anchors)
    ]
    return " ".join(kept) if kept and len(kept) < len(sentences(good.text)) else None


def fabricated_title(good: GoodAnswer) -> str | None:
    """The first quoted title exchanged for one that does not exist."""
    spoilt = _QUOTED.sub(f'"{MADE_UP_TITLE}"', good.text, count=1)
    return spoilt if spoilt != good.text else None


def cut_at_3_words(good: GoodAnswer) -> str | None:
    """The first three words; None when there are no more."""
    found = words(good.text)
    return " ".join(found[:3]) if len(found) > 3 else None


def plant(good: GoodAnswer, other: GoodAnswer) -> dict[Kind, str]:
    """Every error that can be planted in the answer; ``other`` is another question with its answer."""
    made: dict[Kind, str | None] = {
        "number_changed": number_changed(good),
        "negated": negated(good),
        "entity_swapped": entity_swapped(good, other),
        "other_answer": other_answer(good, other),
        "nugget_dropped": nugget_dropped(good),
        "fabricated_title": fabricated_title(good),
        "cut_at_3_words": cut_at_3_words(good),
    }
    return {kind: text for kind, text in made.items() if text is not None}
