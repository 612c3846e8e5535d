"""Where a text points at a paper or a passage instead of naming it: "this paper", "the excerpt", "Paper 2".

"In the context of scheduling", "errors in the text" or "a given context" speak of the subject, not of the passage.
The patterns are shared: what ``repairs`` cannot replace by a title, ``checks`` rejects.
"""

import re
from collections.abc import Iterable

WORK = r"(?:paper|study|article|preprint|publication)"
"""A noun for a paper, where it stands after "the"."""
SHOWN = r"(?:passage|excerpt|text|context|document|abstract|snippet)"
"""A noun for what the generating model was shown."""
_TOLD = (
    r"(?:stated|mentioned|noted|described|reported|shown|highlighted|discussed|provided|given|indicated|referenced"
    r"|listed|detailed|specified|found|explained|presented|outlined|cited|emphasi[sz]ed|defined|identified"
    r"|illustrated"
    r"|demonstrated|documented|outlined|addressed|introduced|proposed|suggested|covered|elaborated)"
)
_STATES = (
    r"(?:states?|mentions?|notes?|describes?|reports?|shows?|highlights?|discusses|indicates?|lists?|details"
    r"|explains?"
    r"|presents?|outlines?|defines?|identifies|emphasi[sz]es?|specif(?:y|ies)|suggests?|says?|introduces?|references"
    r"|provides?|addresses|focuses|does not|doesn't|do not|only|specifically|explicitly|also|further)"
)
_GIVEN = r"(?:provided|given|above|following|supplied|present)"

THIS = re.compile(
    rf"\b(?P<this>[Tt]his|[Oo]ur) (?P<noun>(?:research )?{WORK}|work)\b(?! (?:is|was|were|are) (?:the|a|an)\b)"
    rf"|\b(?P<these>[Tt]hese|[Oo]ur) (?P<nouns>(?:research )?{WORK}s|studies|works)\b"
)
"""``this paper``, ``these studies``; not "approaches that work". ``noun`` or ``nouns``: what may follow "the"."""
GIVEN = re.compile(
    rf"\b(?:[Tt]he )?{_GIVEN} (?:{SHOWN}|{WORK}|note)s?(?: {SHOWN}s?)?\b|\b{SHOWN}s? (?:provided|given|above)\b"
)
"""``the provided context``: the subject of a paper on retrieval, if the source speaks of it too."""
IN_SHOWN = re.compile(
    rf"(?P<before>\b{_TOLD} (?:\w+ly )?(?:in|by|from|within) )the {SHOWN}s?\b(?! (?:of|retrieval|window|length"
    rf"|that)\b)"
    rf"|(?P<open>(?:^|[.,;:?!] )(?:[Ii]n|[Ff]rom|[Bb]ased on|[Bb]y|[Aa]s per) )the {SHOWN}(?=[,.?]|$| the authors)"
    rf"|(?P<source>\b[Aa]ccording to )the {SHOWN}s?\b(?! of\b)"
    rf"|(?P<end>\b(?:in|from|by) )the (?:text|excerpt|passage|abstract)(?=\?|$)"
)
"""``as stated in the text``, ``according to the context``; the named group is what stays."""
SHOWN_STATES = re.compile(rf"\b[Tt]he {SHOWN}s?(?= {_STATES}\b)|\b[Tt]he excerpts?\b(?! of\b)")
"""``the excerpt states``."""
NUMBERED = re.compile(
    r"\b(?:[Tt]he )?(?:[Pp]aper|[Pp]assage|[Ee]xcerpt|[Cc]ontext|[Dd]ocument|[Aa]bstract"
    r"|[Ss]tudy)s?:? ?(?P<number>[12])\b(?![.\d])(?!,? [\"“'‘]\w)"
)
"""``Paper 1``, unless a quoted name follows: ``Paper 1, 'Other Title',``."""
AUTHORS_OF_THIS = re.compile(rf"\b(?P<the>[Tt]he )?authors? of (?:this|the) {WORK}\b(?! [\"“])", re.IGNORECASE)

_AUXILIARY = r"(?:does|did|do|is|are|was|were|has|have|had|can|could|would|should|will|must|may|might)"
_ASKS = r"(?:[Ww]hat|[Hh]ow|[Ww]hy|[Ww]hen|[Ww]here|[Ww]hich|[Ww]ho|[Ww]hom)"
_NEEDED = r"(?:take|cost|require|matter)s?\b[^?]*\b(?:to|for|if|when|that|whether)\b"
_JUDGED = r"(?:that|(?:\w+ly )?(?!\w+ed\b|able\b)[a-z]+ (?:to|that|for|whether|if))\b"
DANGLING = re.compile(
    rf"^(?P<ask>(?:(?:(?:[Bb]y|[Ii]n|[Oo]n|[Aa]t|[Ff]or|[Tt]o|[Ff]rom|[Ww]ith|[Uu]nder|[Aa]fter|[Oo]f) )?{_ASKS}"
    rf"(?: (?!{_AUXILIARY}\b)[a-z][a-z-]*){{0,4}} )?(?i:{_AUXILIARY})) (?P<it>it|they)\b"
    rf"(?! {_NEEDED}|(?:(?<=[Ii]s it)|(?<=[Ww]as it)|(?<=be it)) {_JUDGED})"
)
"""``By how much did it rise``, ``Does it scale``: a question that begins with a pronoun that no noun explains.

In "how long does it take to train" and "is it possible to train", "it" stands for what follows.
"""

_PATTERNS = (THIS, IN_SHOWN, SHOWN_STATES, NUMBERED, AUTHORS_OF_THIS)


def points_at_passage(text: str, sources: Iterable[str] = ()) -> bool:
    """Whether the text points at a paper or passage. "The given context" does not if a source speaks of one too."""
    if any(pattern.search(text) for pattern in _PATTERNS):
        return True
    shown = "\n".join(sources).casefold()
    return any(match[0].casefold().removeprefix("the ") not in shown for match in GIVEN.finditer(text))
