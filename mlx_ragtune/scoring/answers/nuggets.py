"""M1, lexical: does the answer state the facts that matter, with the right polarity?

A nugget is supported when each of its anchor groups has an alias in the answer and is negated there
exactly when the nugget negates it; with all anchors there and one of them wrongly negated (or wrongly
not) it is contradicted. There is no length term: a concise answer loses nothing. Cited titles are to be
cut out before (``citation.without_titles``): the anchors in "LoRA: Low-Rank …" are not the answer's. This
reading sees words, not meaning, so its column says "lexical"; a judge reads meaning.
"""

import re
from dataclasses import dataclass
from typing import Literal

from mlx_ragtune.records import Nugget
from mlx_ragtune.scoring.answers.normalize import find_phrase, fold
from mlx_ragtune.scoring.answers.refusal import is_refusal

State = Literal["supported", "unsupported", "contradicted"]
Label = Literal["CORRECT", "PARTIAL", "INCORRECT", "NOT_ATTEMPTED"]

WORDS_BEFORE = 8

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
    """How one answer fares: ``score`` is None when the question has no vital nugget."""

    score: float | None
    label: Label | None
    states: tuple[State, ...]


def negated(folded: str, span: tuple[int, int]) -> bool:
    """Whether the phrase at ``span`` stands under a negation of its own clause.

    A cue counts up to eight words before the phrase; a negated verb also directly after it ("the
    weights are not updated").
    """
    start, end = span
    breaks = [match.span() for match in _BREAK.finditer(folded)]
    left = max((stop for _, stop in breaks if stop <= start), default=0)
    right = min((begin for begin, _ in breaks if begin >= end), default=len(folded))
    before = " ".join(folded[left:start].split()[-WORDS_BEFORE:])
    return bool(_NEGATION_BEFORE.search(before) or _NEGATION_AFTER.search(folded[end:right]))


def _polarities(folded: str, aliases: tuple[str, ...]) -> set[bool]:
    return {negated(folded, span) for alias in aliases for span in find_phrase(folded, alias)}


def nugget_state(text: str, nugget: Nugget) -> State:
    """Whether ``text`` supports the nugget, leaves it out, or says its opposite.

    An anchor that the nugget's own text does not contain has no polarity to compare, and only its
    presence counts. An anchor met with both polarities agrees.
    """
    folded, statement = fold(text), fold(nugget.text)
    state: State = "supported"
    for aliases in nugget.anchors:
        found = _polarities(folded, aliases)
        if not found:
            return "unsupported"
        expected = _polarities(statement, aliases)
        if expected and not expected & found:
            state = "contradicted"
    return state if nugget.anchors else "unsupported"


def correctness(text: str, nuggets: tuple[Nugget, ...]) -> Correctness:
    """Share of the vital nuggets that the answer supports; 0 when it contradicts any or refuses.

    Labels: CORRECT (all), PARTIAL (some), INCORRECT (none, or a contradiction), NOT_ATTEMPTED (refusal).
    """
    states = tuple(nugget_state(text, nugget) for nugget in nuggets)
    vital = [state for state, nugget in zip(states, nuggets, strict=True) if nugget.vital]
    if not vital:
        return Correctness(None, None, states)
    if is_refusal(text):
        return Correctness(0.0, "NOT_ATTEMPTED", states)
    if "contradicted" in states:
        return Correctness(0.0, "INCORRECT", states)
    share = vital.count("supported") / len(vital)
    label: Label = "CORRECT" if share == 1 else "PARTIAL" if share else "INCORRECT"
    return Correctness(share, label, states)
