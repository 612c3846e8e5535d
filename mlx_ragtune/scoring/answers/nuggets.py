"""M1, lexical: does the answer state the facts that matter, with the right polarity?

A nugget is supported when each of its anchor groups has an alias in the answer and is negated there
exactly when the nugget negates it. It is contradicted when all anchors are present and one of them has the
wrong polarity. There is no length term: a concise answer loses nothing. Remove cited titles first
(``citation.without_titles``): anchors in a title such as "LoRA: Low-Rank …" are not statements of the answer.
This metric matches words, not meaning, so its label says "lexical"; a judge reads meaning.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from mlx_ragtune.records import Nugget
from mlx_ragtune.scoring.answers.anchors import AnchorText
from mlx_ragtune.scoring.answers.negation import denied, negated
from mlx_ragtune.scoring.answers.normalize import fold
from mlx_ragtune.scoring.answers.refusal import is_refusal

State = Literal["supported", "unsupported", "contradicted"]
Label = Literal["CORRECT", "PARTIAL", "INCORRECT", "NOT_ATTEMPTED"]


@dataclass(frozen=True)
class Correctness:
    """The correctness of one answer; ``score`` and ``label`` are None when the question has no vital nugget."""

    score: float | None
    label: Label | None
    states: tuple[State, ...]


@dataclass(frozen=True)
class _Stated:
    """Where the text (``said``) and the nugget's own text (``expected``) have one anchor."""

    said: AnchorText
    spans: list[tuple[int, int]]
    fact: AnchorText
    expected_spans: list[tuple[int, int]]

    def agrees(self, *, as_subject: bool = True) -> bool:
        """Whether the anchor has the same polarity somewhere in both; where the fact lacks it, is not denied."""
        expected = _polarities(self.fact, self.expected_spans, as_subject=as_subject)
        if not expected:
            return not all(denied(self.said.folded, span) for span in self.spans)
        return bool(expected & _polarities(self.said, self.spans, as_subject=as_subject))

    @property
    def negative(self) -> bool:
        """Whether the nugget negates this anchor."""
        return _polarities(self.fact, self.expected_spans) == {True}


def _polarities(text: AnchorText, spans: Iterable[tuple[int, int]], *, as_subject: bool = True) -> set[bool]:
    """Whether the occurrences of an anchor are negated; the negation of a denied one is reversed."""
    return {negated(text.folded, span, as_subject=as_subject) != denied(text.folded, span) for span in spans}


def nugget_state(text: str, nugget: Nugget) -> State:
    """Whether ``text`` supports the nugget, omits it, or states the opposite.

    For an anchor that the nugget's own text does not contain there is no polarity to compare; its presence
    counts, unless the text denies it ("it is not true that …"). An anchor that occurs with both polarities
    counts as supported. "Rye did not have an effect" agrees with "rye had no effect": where the negated anchors
    agree, the subject of a negated verb is not taken for negated itself.
    """
    folded, statement = fold(text), fold(nugget.text)
    said, fact = AnchorText(folded, like=statement), AnchorText(statement, like=folded)
    anchors = [
        _Stated(said, said.find(aliases, fact=fact), fact, fact.find(aliases, fact=fact)) for aliases in nugget.anchors
    ]
    if not anchors or not all(anchor.spans for anchor in anchors):
        return "unsupported"
    negative = [anchor for anchor in anchors if anchor.negative]
    as_subject = not negative or not all(anchor.agrees() for anchor in negative)
    agree = all(anchor.agrees(as_subject=as_subject or anchor.negative) for anchor in anchors)
    return "supported" if agree else "contradicted"


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
