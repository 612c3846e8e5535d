"""M1, lexical: does the answer state the facts that matter, with the right polarity?

A nugget is supported when each of its anchor groups has an alias in the answer and is negated there
exactly when the nugget negates it. It is contradicted when all anchors are present and one of them has the
wrong polarity. There is no length term: a concise answer loses nothing. Remove cited titles first
(``citation.without_titles``): anchors in a title such as "LoRA: Low-Rank …" are not statements of the answer.
This metric matches words, not meaning, so its label says "lexical"; a judge reads meaning.
"""

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from mlx_ragtune.records import Nugget
from mlx_ragtune.scoring.answers.normalize import find_phrase, fold
from mlx_ragtune.scoring.answers.refusal import is_refusal

State = Literal["supported", "unsupported", "contradicted"]
Label = Literal["CORRECT", "PARTIAL", "INCORRECT", "NOT_ATTEMPTED"]

WORDS_BEFORE = 8
CHARACTERS_BEFORE = 400
"""Bounds the search for a negation where words are extremely long."""
CHARACTERS_AFTER = 200

_BREAK = re.compile(
    r"[.!?](?=\s|$)|[;:\n()]|,? \b(?:but|while|whereas|although|though|however|yet|because|which|so)\b"
    r"|, (?:and|it|they|this)\b|\binstead\b(?! of)|\brather\b(?! than)"
)
_VERB_NEGATION = (
    r"(?:(?:is|are|was|were|do|does|did|has|have|had|can|could|will|would|should|need)"
    r"(?: not\b(?! only)|n't)|cannot|never|no longer)"
)
_NEGATION_BEFORE = re.compile(
    rf"\b(?:{_VERB_NEGATION}|not\b(?! only)|no|none|without|neither|nor|instead of|rather than|unlike"
    r"|fail(?:s|ed)? to|lacks?|lacking|avoid(?:s|ed|ing)?|false that|untrue that|incorrect that)\b"
)
_NEGATION_AFTER = re.compile(rf"^\W*(?:\w+ ){{0,1}}?{_VERB_NEGATION}\b")


@dataclass(frozen=True)
class Correctness:
    """The correctness of one answer; ``score`` and ``label`` are None when the question has no vital nugget."""

    score: float | None
    label: Label | None
    states: tuple[State, ...]


def negated(folded: str, span: tuple[int, int]) -> bool:
    """Whether the phrase at ``span`` stands under a negation of its own clause.

    A cue counts up to ``WORDS_BEFORE`` words before the phrase; a negated verb also directly after it ("the
    weights are not updated").
    """
    start, end = span
    break_starts, break_ends = _breaks(folded)
    after_break = bisect_right(break_ends, start)
    before_break = bisect_left(break_starts, end)
    clause_start = break_ends[after_break - 1] if after_break else 0
    clause_end = break_starts[before_break] if before_break < len(break_starts) else len(folded)
    first = max(clause_start, start - CHARACTERS_BEFORE)
    words_before = folded[first:start].split()
    if first > clause_start:
        words_before = words_before[1:]  # the first one may be the end of a longer word
    before = " ".join(words_before[-WORDS_BEFORE:])
    after = folded[end : min(clause_end, end + CHARACTERS_AFTER)]
    return bool(_NEGATION_BEFORE.search(before) or _NEGATION_AFTER.search(after))


@lru_cache(maxsize=8)
def _breaks(folded: str) -> tuple[list[int], list[int]]:
    """Where clause breaks start and end in a folded text, both ascending."""
    spans = [match.span() for match in _BREAK.finditer(folded)]
    return [start for start, _ in spans], [end for _, end in spans]


def _polarities(folded: str, aliases: tuple[str, ...]) -> set[bool]:
    return {negated(folded, span) for alias in aliases for span in find_phrase(folded, alias)}


def nugget_state(text: str, nugget: Nugget) -> State:
    """Whether ``text`` supports the nugget, omits it, or states the opposite.

    For an anchor that the nugget's own text does not contain there is no polarity to compare; only its
    presence counts. An anchor that occurs with both polarities counts as supported.
    """
    folded, statement = fold(text), fold(nugget.text)
    state: State = "supported"
    for aliases in nugget.anchors:
        polarities = _polarities(folded, aliases)
        if not polarities:
            return "unsupported"
        expected = _polarities(statement, aliases)
        if expected and not expected & polarities:
            state = "contradicted"
    return state if nugget.anchors else "unsupported"


def correctness(text: str, nuggets: tuple[Nugget, ...], *, refused: bool | None = None) -> Correctness:
    """Share of the vital nuggets that the answer supports; 0 when it contradicts any or refuses.

    ``refused`` tells whether the whole answer refuses, when ``text`` is only a part of it.
    Labels: CORRECT (all), PARTIAL (some), INCORRECT (none, or a contradiction), NOT_ATTEMPTED (refusal).
    """
    states = tuple(nugget_state(text, nugget) for nugget in nuggets)
    vital = [state for state, nugget in zip(states, nuggets, strict=True) if nugget.vital]
    if not vital:
        return Correctness(None, None, states)
    if is_refusal(text) if refused is None else refused:
        return Correctness(0.0, "NOT_ATTEMPTED", states)
    if "contradicted" in states:
        return Correctness(0.0, "INCORRECT", states)
    share = vital.count("supported") / len(vital)
    label: Label = "CORRECT" if share == 1 else "PARTIAL" if share else "INCORRECT"
    return Correctness(share, label, states)
