"""Whether a phrase of a folded text is negated by its clause, or denied by a statement about its sentence.

*Negated*: "the weights are not updated", "24GB rather than 48GB". *Denied*: "it is not true that …", "the claim that …
is false", "contrary to what the authors claim, …". A denied negation is an affirmation. Phrases that only look like
a negation ("not only", "no less than", "does not fail to") do not count. Time is linear in the length of the text.
"""

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import lru_cache

WORDS_BEFORE = 8
VERB_WORDS_BEFORE = 16
"""A negated verb reaches further than "no" or "without", unless a comma stands between."""
CHARACTERS_BEFORE = 400
"""Bounds the search for a negation where words are extremely long."""
CHARACTERS_AFTER = 200

_SENTENCE_END = r"(?<!\.)[.!?](?=[\s\"')]|$)|[\n。]"
_BREAK = re.compile(
    rf"{_SENTENCE_END}|[;:()]|,? \b(?:but|while|whereas|although|though|however|yet|because|which|so|until|unless"
    r"|except|sondern|aber|obwohl|während|mais|car|tandis)\b"
    r"|, (?:and|it|they|this|then|since|as)\b|\binstead\b(?! of)|\brather\b(?! than)|、?(?:而是|但是|但|が、)"
)
_AUXILIARY = r"(?:is|are|was|were|do|does|did|has|have|had|can|could|will|would|should|need|must|may|might)"
_VERB_NEGATION = (
    rf"(?:{_AUXILIARY} not\b|\w+n't|cannot|can not|never|no longer|fail(?:s|ed)? to"
    r"|(?:ist|sind|war|wird|werden|hat|haben|kann) nicht|nicht|nie|niemals|(?:ne|n')[^.,;]{1,25} (?:pas|jamais|plus))"
)
_VERB_BEFORE = re.compile(rf"\b{_VERB_NEGATION}(?!\w)")
_NEGATION_BEFORE = re.compile(
    rf"\b(?:{_VERB_NEGATION}|not|no|none|nothing|nobody|nowhere|without|neither|nor|instead of|rather than"
    r"|as opposed to|unlike|lacks?|lacking|avoid(?:s|ed|ing)?|far from|by no means|hardly"
    r"|free (?:of|from)|devoid of|zero (?:additional|extra|added|further)"
    r"|(?:add|ha|incur|introduce|require|need|use|cause|cost|impos)\w* zero|with zero"
    r"|kein(?:e|en|er|em|es)?|ohne|weder|statt|anstatt|sans|aucune?|ni|pas|sin)\b"
    r"|(?:不是|没有|沒有|不会|不會|不需要?|不能|不再|无需|無需|而不是|而非|并非|並非|并不|並不|未)\w{0,12}$"
)
_PREPOSITIONAL = re.compile(
    r"(?:without|instead of|rather than|as opposed to|unlike|lacking|far from|ohne|statt|anstatt|sans)\b"
)
_NEGATION_AFTER = re.compile(
    rf"^\W*(?:\w+ ){{0,1}}?{_VERB_NEGATION}(?!\w)"
    r"|^\w{0,3} (?:않|아니|없)|^\w{0,6}(?:ではな|でな|しな|はな|ていな|れな|らな|ません|くな|せず|않|아니|없)"
)
_NEED = r"(?:need|require|use|take|consum|occup|buy|cost|go|rise|grow|want|have|get)"
_MORE = r"(?:(?:more|less|fewer|greater|larger|higher|longer) (?:\w+ )?than|(?:beyond|above|over)(?= \d))"
_HARMLESS = re.compile(
    r"\bnot (?:only|just|merely|simply|solely|until|surprisingly|to mention|least)\b"
    r"|\bno (?:less|more|fewer|later|earlier|sooner|lower|higher|smaller|larger) than\b"
    r"|\bno(?:t)? (?:doubt|wonder|matter|question|denying)\b"
    r"|(?:\b\w+n't|\b(?:not|cannot|never|no one|nobody))(?: \w+){0,3}? (?:den(?:y|ied|ies)|refuted?|disputed?|rejected"
    r"|doubt(?:ed|s)?|false|untrue|incorrect|wrong|mistaken)(?: that)?\b"
    rf"|\b{_VERB_NEGATION} (?:\w+ ){{0,3}}?(?:exceed\w*|surpass\w*|{_NEED}\w* (?:\w+ ){{0,2}}?{_MORE})"
    rf"|\bnothing {_MORE}|\bno (?:\w+ ){{1,2}}?(?:with|of) {_MORE}"
    rf"|\b{_AUXILIARY}(?: not|n't) (?:a lot|much|bad|surprising|a problem)\b"
    rf"|\b{_VERB_NEGATION}(?=[^.;,]{{1,60}} until\b)"
    r"|\bnot (?:less|more|fewer|later|lower|higher|smaller|larger) than\b"
    r"|\bwhether or not\b|\bif not\b|\bnothing (?:but|less than)\b"
    r"|\bnone other than\b|\bno other than\b|\b(?:no|none|nothing|not) (?:\w+ ){0,2}?(?:other than|except)\b"
    r"|\bno\. ?(?=\d)|\bnicht nur\b|\bnicht (?:weniger|mehr) als\b|\bnon seulement\b|\bpas seulement\b"
    r"|不仅|不僅|不但|不同|だけでな"
    rf"|\b{_VERB_NEGATION} (?:\w+ )?(?:fail(?:s|ed)? to|lack(?:s|ed)?|avoid(?:s|ed)?|without|un\w+ed)\b"
    r"|\bnot (?:impossible|unusual|uncommon|unlike|unable to)\b|\bno (?:\w+ )?without\b|^no,"
)

_WRONG = (
    r"(?:not (?:\w+ )?(?:true|correct|accurate|right|the case|a fact)|untrue|false|incorrect|wrong|inaccurate|mistaken"
    r"|a (?:\w+ )?(?:myth|misconception|mistake|lie|fallacy|falsehood)|nicht (?:wahr|richtig|korrekt)|falsch|unwahr"
    r"|pas vrai|faux|inexact)"
)
_ISNT = r"(?:isn't|wasn't|is hardly|is not) (?:\w+ )?(?:true|correct|accurate|right|the case|a fact)"
_IS = r"(?:is|are|was|were|'s|would be|seems|remains|ist|sind|est|sont|n'est)"
_SAY = (
    r"(?:claim|say|said|state|report|show|argue|find|found|suggest|prove|demonstrate|conclude|believe|think|confirm"
    r"|imply|implies|establish|indicate|mean)\w*"
)
_CLAIM = r"(?:claim|statement|idea|assertion|notion|suggestion|belief|view|assumption|hypothesis|behauptung|aussage)"
_SOURCE = (
    r"(?:papers?|authors?|articles?|study|studies|abstract|source|text|passages?|context|notes?|claims?(?! that)"
    r"|documents?)"
)
_DENIAL_BEFORE = re.compile(
    rf"\b(?:it|this|that)(?:'s| {_IS})? (?:\w+ ){{0,2}}?{_WRONG}(?: that\b|:| to {_SAY}(?: that)?\b)"
    rf"|\bit (?:{_ISNT})(?: that\b|:)|^(?:not true|untrue)[:,]|\bnot the case that\b"
    r"|\b(?:it is|it's) (?:doubtful|unlikely|disputed|unproven|questionable) (?:that|whether)\b"
    r"|\b(?:it is|it's) a (?:\w+ )?(?:myth|misconception) that\b"
    r"|\bno (?:evidence|proof|indication|sign|reason to (?:believe|think)) (?:that|for|of)\b"
    r"|\b(?:\w+n't|not|never|nobody|no one|none of the \w+|no \w+) (?!only|just|merely|simply)"
    rf"(?:\w+ ){{0,2}}?{_SAY} that\b"
    rf"|\b(?:den(?:y|ies|ied)|refut\w+|disput\w+|reject(?:s|ed)?|doubt(?:s|ed)?|disagree\w*|disprov\w+|debunk\w*)"
    rf"(?: the {_CLAIM})? that\b"
    rf"|\bcontrary to (?:the |a |any |this )?{_CLAIM} that\b|\banything but\b"
    r"|\b(?:false|untrue|incorrect|wrong)(?:ly)? (?:that|to say that)\b"
    r"|\bes (?:ist|wäre) (?:\w+ )?(?:nicht wahr|nicht richtig|falsch|unwahr),? dass?\b|\bes stimmt nicht,? dass?\b"
    r"|\bil (?:n'est pas vrai|est faux) qu[e']|(?:并非|並非|不是真的|这不是真的)(?=\W|\w)"
)
_CONTRARY_TO = (
    rf"\bcontrary to (?:what (?!you\b|one\b|many\b|people\b|the question\b)[^,;\n]{{1,160}}?"
    rf"\b(?:{_SAY}|wr[io]te\w*|assert\w*)"
    rf"|(?:the|this|that|its|their|both) (?:\w+ )?{_SOURCE}|[^,;\n]{{1,60}}?'s? (?:\w+ )?claims?)[^,;\n]{{0,80}}"
)
_CONTRARY = re.compile(_CONTRARY_TO + ",")
_DENIAL_AFTER = re.compile(
    rf"(?P<predicate>\b(?:{_IS}(?: \w+){{0,2}}? {_WRONG}|{_ISNT}))(?=\W*(?:$|[.,;!?\n]| because| since| as ))"
    rf"|(?P<trailing>\? no[,.:]|, but (?:it|this|that|they) {_AUXILIARY} not(?=[.;!?\n]|$)"
    rf"|,? (?:which is |this is |and )?{_CONTRARY_TO}(?=[.!?;\n]|$))"
    r"|(?P<east>(?:是错误的|是錯誤的|是错的|不是真的|不正确|は誤り|は間違い|は正しくな|は틀))"
)
_SUBJECT_ABOVE = re.compile(
    r"^\W*(?:but |and |however,? )?(?:this|that|it|the above|all of (?:this|that)|das|dies|cela|ce"
    rf"|(?:this|that|the) {_CLAIM}) *$"
)
_SUBJECT_SAME = re.compile(
    rf"(?:\bwhich|, but (?:this|that|it)|- (?:this|that|it)|, (?:this|that)) *$|\b{_CLAIM} that\b(?! {_IS}\b)"
    r"|^\W*(?:that|dass) "
)
_NEGATED_DENIAL = re.compile(
    r"(?:n't|\bnot|\bnever|\bhardly) (?:\w+ )?(?:untrue|false|incorrect|wrong|inaccurate|mistaken|falsch|a \w)"
)
_DENY = re.compile(r"(?:den|refut|disput|reject|doubt|disprov|debunk)\w* |(?:false|untrue|incorrect|wrong)")
_NEGATOR = re.compile(r"(?:n't|\bno|\bnot|\bcannot|\bnever|\bno one|\bnobody|\bnone|\bhardly)(?: \w+){0,2} $")
_CONDITION = re.compile(r"\b(?:if|when|whether|where|whenever|unless|wenn)\b")
_DENIAL_ENDS = re.compile(
    rf"{_SENTENCE_END}|;|,? \b(?:but|however|instead|in fact|actually|sondern|mais)\b|\brather\b(?! than)"
)
_CONTRARY_CLAIM = re.compile(rf"contrary to (?:the |a |any |this )?{_CLAIM} that")
_END = re.compile(_SENTENCE_END)


@dataclass(frozen=True)
class _Clauses:
    """A folded text with denying phrases (``undenied``) and also harmless ones (``masked``) blanked out.

    With its clause breaks, the ends of harmless phrases, and what is denied. All lists are ascending.
    """

    undenied: str
    masked: str
    harmless: list[tuple[int, int]]
    break_starts: list[int]
    break_ends: list[int]
    denied_starts: list[int]
    denied_ends: list[int]


def _blanked(text: str, spans: list[tuple[int, int]]) -> str:
    pieces, position = [], 0
    for start, end in sorted(spans):
        if start >= position:
            pieces += [text[position:start], " " * (end - start)]
            position = end
    return "".join([*pieces, text[position:]])


def _taken_back(folded: str, denial: re.Match[str]) -> bool:
    """Whether a denial is itself denied: "it is not false that", "nobody denies that"."""
    before = folded[max(0, denial.start() - 40) : denial.start()]
    return bool(_NEGATED_DENIAL.search(denial[0]) or (_DENY.match(denial[0]) and _NEGATOR.search(before)))


def _denials_after(folded: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(predicates, what they deny) of "…, which is false", "The claim that … is wrong", "This is not true."."""
    ends = [0, *(match.end() for match in _END.finditer(folded))]
    predicates, scopes = [], []
    for match in _DENIAL_AFTER.finditer(folded):
        index = bisect_right(ends, match.start()) - 1
        start = max(ends[index], match.start() - CHARACTERS_BEFORE)
        before = folded[start : match.start()]
        if _CONDITION.search(before.rpartition(",")[2]) or _taken_back(folded, match):
            continue
        if _SUBJECT_ABOVE.match(before):
            scope = (ends[index - 1] if index else start, start)
        elif match["east"] or match["trailing"] or _SUBJECT_SAME.search(before):
            scope = (start, match.start())
        else:
            words = before.split(" ")
            scope = (match.start() - len(" ".join(words[-4:])), match.start())
        predicates.append(match.span())
        scopes.append(scope)
    return predicates, scopes


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        elif start < end:
            merged.append((start, end))
    return merged


@lru_cache(maxsize=8)
def _clauses(folded: str) -> _Clauses:
    cues, scopes = _denials_after(folded)
    ends = [*(match.start() for match in _DENIAL_ENDS.finditer(folded)), len(folded)]
    for pattern in (_DENIAL_BEFORE, _CONTRARY):
        for match in pattern.finditer(folded):
            if _taken_back(folded, match):
                continue
            cues.append(match.span())
            end = ends[bisect_left(ends, match.end())]
            if _CONTRARY_CLAIM.fullmatch(match[0]):
                comma = folded.find(",", match.end(), min(end, match.end() + CHARACTERS_BEFORE))
                end = comma if comma >= 0 else end
            scopes.append((match.end(), end))
    undenied = _blanked(folded, cues)
    harmless = [match.span() for match in _HARMLESS.finditer(undenied)]
    masked = _blanked(undenied, harmless)
    breaks = [match.span() for match in _BREAK.finditer(masked)]
    denied = _merged(scopes)
    return _Clauses(
        undenied,
        masked,
        harmless,
        [start for start, _ in breaks],
        [end for _, end in breaks],
        [start for start, _ in denied],
        [end for _, end in denied],
    )


def denied(folded: str, span: tuple[int, int]) -> bool:
    """Whether the phrase at ``span`` is in a statement that the text calls untrue."""
    clauses = _clauses(folded)
    index = bisect_right(clauses.denied_starts, span[0]) - 1
    return index >= 0 and span[0] < clauses.denied_ends[index]


def negated(folded: str, span: tuple[int, int], *, as_subject: bool = True) -> bool:
    """Whether the phrase at ``span`` stands under a negation of its own clause.

    A cue counts up to ``WORDS_BEFORE`` words before the phrase; a negated verb also directly after it ("the
    weights are not updated"), unless ``as_subject`` is false. "Without X, …" and "Unlike X, …" at the start of
    a clause end at the comma.
    """
    start, end = span
    clauses = _clauses(folded)
    after_break = bisect_right(clauses.break_ends, start)
    before_break = bisect_left(clauses.break_starts, end)
    clause_start = clauses.break_ends[after_break - 1] if after_break else 0
    clause_end = clauses.break_starts[before_break] if before_break < len(clauses.break_starts) else len(folded)
    first = max(clause_start, start - CHARACTERS_BEFORE)
    last = bisect_left(clauses.harmless, (start, start)) - 1
    into = last >= 0 and clauses.harmless[last][1] > start  # "does not work without labels", for "without labels"
    words = (clauses.undenied if into else clauses.masked)[first:start].split()
    if first > clause_start:
        words = words[1:]  # the first one may be the end of a longer word
    elif words and _PREPOSITIONAL.match(" ".join(words[:3])):
        comma = next((index for index, word in enumerate(words) if word.endswith(",")), None)
        words = words if comma is None else words[comma + 1 :]
    if _NEGATION_BEFORE.search(" ".join(words[-WORDS_BEFORE:])):
        return True
    reach = " ".join(words[-VERB_WORDS_BEFORE:]).rpartition(",")[2]
    if _VERB_BEFORE.search(reach):
        return True
    if not as_subject:
        return False
    after = clauses.masked[end : min(clause_end, end + CHARACTERS_AFTER)]
    return bool(_NEGATION_AFTER.search(after))
