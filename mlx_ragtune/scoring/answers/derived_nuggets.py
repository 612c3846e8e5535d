"""The facts of an answer for which nobody wrote nuggets: its numbers and identifiers, else its rarest words.

The rule, which docs/benchmark.md states: every number and every identifier of the answer that the question does not
hold is a fact, three at most. An answer without any has the two longest words that the question does not hold. Cited
titles do not count. It is a rule for a start: nuggets that a person wrote accept other wordings too.
"""

import re
from collections.abc import Iterable

from mlx_ragtune.records import Nugget
from mlx_ragtune.scoring.answers.anchors import AnchorText
from mlx_ragtune.scoring.answers.normalize import fold, sentences, words
from mlx_ragtune.scoring.answers.nuggets import nugget_state

MOST_VALUES = 3
MOST_WORDS = 2
LEAST_LETTERS = 5
"""A shorter word says too little."""
STEM = 5
"""Words with the same first letters are forms of one word."""

_TITLE = re.compile(r'"[^"\n]{8,}"|“[^”\n]{8,}”|«[^»\n]{8,}»|„[^“\n]{8,}“')
_UNIT = (
    r"%|‰|per ?cent|percentage points?|points?|[kKMGT]i?B|[kMG]?Hz|bits?|bytes?|tokens?|million|billion|thousand"
    r"|times|[nµm]?s|seconds?|minutes?|hours?|days?|weeks?|months?|years?|[kcmµn]?m|[kmµ]?g|°C|K|B|M"
)
_VALUE = re.compile(
    rf"(?<![\w.,])(?:[A-Za-z]+-?\d[\w.]*\w|[A-Za-z]+\d|[−-]?\d(?:[\d.,]*\d)?(?:[ -]?(?:{_UNIT})(?![\w]))?)(?![\w])"
)
_COMMON = frozenset(
    re.findall(
        r"\w+",
        "about above according after again against almost along already although always among another around because "
        "become before behind being below beneath between beyond could describes different does during either enough "
        "every explains finds first found from further given having however instead itself later least likely makes "
        "method might mostly needs never often only other others paper particular passage provides question rather "
        "really reports results same several shows should since something still study such than that their them then "
        "there these they thing things this those though three through together toward under until using usually value "
        "various very were what when where whether which while whose with within without would authors answer states "
        "stated",
    )
)
"""Words that are no fact of any answer."""


def without_quoted_titles(text: str) -> str:
    """The text with each longer quotation, such as a cited title, cut out."""
    return _TITLE.sub(" … ", text)


def nuggets_on(answer: str, anchors: Iterable[str]) -> tuple[Nugget, ...]:
    """A vital nugget for each anchor that the answer states: its text is the sentence that holds the anchor."""
    said = without_quoted_titles(answer)
    parts = sentences(said)
    nuggets = []
    for anchor in anchors:
        sentence = next((part for part in parts if AnchorText(fold(part)).find([anchor])), said)
        nugget = Nugget(" ".join(sentence.split()), ((anchor,),))
        if nugget_state(said, nugget) == "supported":
            nuggets.append(nugget)
    return tuple(nuggets)


def derived_nuggets(answer: str, question: str) -> tuple[Nugget, ...]:
    """The facts of an answer by the rule of this module; none where the answer adds nothing to the question."""
    said, asked = without_quoted_titles(answer), AnchorText(fold(question))
    values = [match[0] for match in _VALUE.finditer(said) if not asked.find([match[0]])]
    return nuggets_on(answer, list(dict.fromkeys(values))[:MOST_VALUES] or _telling_words(said, question))


def _telling_words(answer: str, question: str) -> list[str]:
    """The longest words of an answer that its question does not hold, in their order in the answer."""
    known = {word[:STEM] for word in words(fold(question))}
    found: dict[str, str] = {}
    for word in words(answer):
        stem = fold(word)[:STEM]
        told = len(word) >= LEAST_LETTERS and not any(map(str.isdigit, word)) and word.casefold() not in _COMMON
        if told and stem not in known:
            found.setdefault(stem, word)
    longest = sorted(found.values(), key=lambda word: (-len(word), word))[:MOST_WORDS]
    return [word for word in found.values() if word in longest]
