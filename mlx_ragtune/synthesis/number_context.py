"""Is a number beside the same word as in the source? "6 sessions" is wrong where the source only knows "3 sessions".

``number_grounding`` asks whether a number occurs at all; a small one occurs by chance in any longer passage. Here more
is asked: a table or figure must be in the source with its number, and so must a section, a row and the like where the
source numbers any; a question about Figure 4 is not answered from Figure 5 alone; a reference in square brackets must
be in the source; and where the source has the noun behind a number only behind other numbers, the number must be within
60 characters of that noun. A noun that the source has behind no number tells nothing.
"""

import re
from collections import defaultdict
from collections.abc import Iterable

from mlx_ragtune.scoring.answers.normalize import fold

_PARTS = {
    "fig": "figure",
    "figs": "figure",
    "figure": "figure",
    "figures": "figure",
    "table": "table",
    "tables": "table",
    **dict.fromkeys(("section", "sections", "sec", "sect"), "section"),
    **dict.fromkeys(("equation", "equations", "eq", "eqs"), "equation"),
    **{name: name.removesuffix("s") for name in ("row", "rows", "appendix", "chapter", "chapters", "step", "steps")},
    **{name: name.removesuffix("s") for name in ("algorithm", "algorithms", "phase", "phases", "level", "levels")},
}
_ALWAYS = ("figure", "table")
"""Named by their numbers wherever they are; the heading of a section may be its number alone."""
_PART = re.compile(
    rf"\b(?P<part>{'|'.join(sorted(_PARTS, key=len, reverse=True))})\.? ?[(#]? ?(?P<first>\d+(?:\.\d+)*)"
    r"(?P<more>(?: ?(?:,|and|or|to|through|-|–|&) ?#? ?\d+(?:\.\d+)*)*)"
)
_BRACKETED = re.compile(r"\[(\d{1,3}(?:, ?\d{1,3})*)\]")
_NUMBER = r"\d+(?:[.,]\d+)*"
_COUNTED = re.compile(
    rf"(?<![\w.,-])(?P<numbers>{_NUMBER}(?:(?:,| and| or| to| vs\.?|-|–| versus|,? and| ×) ?{_NUMBER})*)%? "
    r"(?:(?:different|distinct|unique|total|main|key|additional|separate|specific) )?(?P<noun>[a-z]{4,})"
)
_NO_NOUN = frozenset(
    re.findall(
        r"\w+",
        "with from that this than when where which while were have after before into over only also more less "
        "least most such each then they their these those both about using compared respectively percent "
        "percentage million billion thousand points times",
    )
)
_STEM = 6
NEAR = 60


def _parts(folded: str) -> set[tuple[str, str]]:
    """("table", "5") of each numbered part; a list ("Tables 1 and 2") counts for each of its numbers."""
    return {
        (_PARTS[match["part"]], number)
        for match in _PART.finditer(folded)
        for number in [match["first"], *re.findall(r"\d+(?:\.\d+)*", match["more"])]
    }


def _counted(folded: str, *, last: bool) -> dict[str, set[str]]:
    """The first letters of a noun → the numbers that stand before it; only the ``last`` of "10 to 100 passages"."""
    counts: dict[str, set[str]] = defaultdict(set)
    for match in _COUNTED.finditer(folded):
        if match["noun"] not in _NO_NOUN and not match["noun"].endswith("ed"):
            counts[match["noun"][:_STEM]].update(re.findall(_NUMBER, match["numbers"])[-1 if last else 0 :])
    return counts


def _plain(text: str) -> str:
    """Folded text without emphasis, and with "9 991" as one number."""
    return re.sub(r"(?<=\d) (?=\d{3}(?!\d))", "", re.sub(r"[*_`|]+ ?", "", fold(text)))


def _is_near(number: str, noun: str, source: str) -> bool:
    places = re.finditer(rf"(?<![\w.,]){re.escape(number)}(?![\w]|[.,]\d)", source)
    return any(noun in source[max(0, place.start() - NEAR) : place.end() + NEAR] for place in places)


def number_in_other_place(answer: str, shown: Iterable[str], question: str) -> bool:
    """Whether a number of the answer is beside another word than in what is shown, the question among it."""
    said, source = _plain(answer), _plain("\n".join(shown))
    named, known_parts = _parts(said), _parts(source)
    numbered = {*_ALWAYS, *(part for part, _ in known_parts)}
    if any(part in numbered for part, _ in named - known_parts):
        return True
    asked = _parts(_plain(question))
    if {part for part, _ in asked} & {part for part, _ in named} - {part for part, _ in asked & named}:
        return True
    references = {number for group in _BRACKETED.findall(said) for number in re.findall(r"\d+", group)}
    if references - set(re.findall(r"\d+", source)):
        return True
    known = _counted(source, last=False)
    return any(
        known[noun] and not all(number in known[noun] or _is_near(number, noun, source) for number in numbers)
        for noun, numbers in _counted(said, last=True).items()
    )
