"""What the classifier of English refusals sees of an answer: its form, not its topic.

Numbers and titles are one word each; years, and words that neither ``refusal_words`` nor the table of weights knows are
seen by their endings only.
"""

import re
from collections.abc import Container, Iterator, Sequence
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

from mlx_ragtune.scoring.answers.refusal_words import FUNCTION_KINDS, OTHER_WORD, SKIPPED_KINDS, word_of

QUOTED = "qtitle"
"""Stands for a title or another quotation."""
SENTENCE_MARK = "|"
"""Stands between two sentences."""
TOKEN = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*|'s\b|\d[\d.,%]*\w*|[^\s\w]")
"""A word, a number or a mark."""

_YEAR = re.compile(r"(?:1\d|20)\d\d")
_CLAUSE_MARKS = frozenset(",;:()|—–") | {"but", "however", "while", "although", "though", "since", "because"}
_UNPAIRED_KINDS = SKIPPED_KINDS | {OTHER_WORD, "OF", "AND"}
_NEGATIONS = frozenset(("NOT", "NOTHING"))
_REFUSING = _NEGATIONS | {"ABSENT", "FAIL", "FAILed", "BEYOND"}
_CUES = _REFUSING | {"ONLY", "OTHER", "GUESS", "SORRY"}
_SUBJECTS = frozenset(
    (
        *("SOURCE", "AUTHOR", "STUDY", "I", "YOU", "IT", "METHOD", "PERSON", "TITLE", "PART", "NOTHING"),
        *("INFORMATION", "QUANTITY", "QUESTION", "EFFECT", "WHAT"),
    )
)
_VERBS = frozenset(
    (
        *("SAY", "SAYed", "SAYing", "HOLD", "HOLDed", "HOLDing", "COVER", "COVERed", "COVERing", "SHOW", "SHOWed"),
        *("FIND", "FINDed", "ANSWER", "ANSWERed", "KNOW", "KNOWed", "ACT", "ACTed", "ACTing", "LOOK", "LOOKed"),
        *("GIVEN", "CAN", "HAVE"),
    )
)
_ASKING_KINDS = frozenset(
    (
        *(
            "SAY",
            "SAYed",
            "SAYing",
            "HOLD",
            "HOLDed",
            "COVER",
            "COVERed",
            "SHOW",
            "SHOWed",
            "KNOW",
            "KNOWed",
            "KNOWing",
        ),
        *("ANSWER", "ANSWERed", "FIND", "FINDed", "ABSENT", "EXACT", "INFORMATION", "QUESTION", "GUESS"),
    )
)
_ASKING_WORDS = frozenset(("about", "on", "of", "to", "out", "regarding", "concerning", "into", "me", "us"))
_OBJECTS = frozenset(
    ("INFORMATION", "QUANTITY", "QUESTION", "EFFECT", "METHOD", "SOURCE", "WHAT", "PERSON", "TITLE", "ANSWER")
)


class _Token(NamedTuple):
    """A token as a word, as a kind, and as the word or the kind that says more."""

    word: str
    kind: str
    mixed: str


@lru_cache(maxsize=16384)
def _token(token: str, *, known: bool) -> _Token:
    if token == QUOTED:
        return _Token("TITLE", "TITLE", "TITLE")
    if _YEAR.fullmatch(token):
        return _Token("~", OTHER_WORD, OTHER_WORD)
    if token[0].isdigit():
        return _Token("0", "NUMBER", "NUMBER")
    if not token[0].isalpha():
        return _Token(token, token, token)
    word = word_of(token)
    stem = word.stem if known or word.kind != OTHER_WORD else "~"
    mixed = word.stem if word.kind in FUNCTION_KINDS else word.kind
    return _Token(f"{stem}+{word.ending}" if word.ending else stem, word.kind, mixed)


def _without_topics(tokens: Sequence[_Token]) -> list[_Token]:
    """The tokens without indirect questions: of "do not say which of them was first" the last four are left out."""
    kept: list[_Token] = []
    asked = False
    for token in tokens:
        asked &= token.word not in _CLAUSE_MARKS
        if not asked:
            kept.append(token)
            before = kept[-2] if len(kept) > 1 else token
            asked = token.kind == "WHAT" and (before.kind in _ASKING_KINDS or before.word in _ASKING_WORDS)
    return kept


def n_grams(prefix: str, items: Sequence[str], sizes: Sequence[int]) -> Iterator[str]:
    """Runs of items of each size."""
    for size in sizes:
        for start in range(len(items) - size + 1):
            yield prefix + " ".join(items[start : start + size])


def _without_runs(items: Sequence[str]) -> list[str]:
    """The kinds between start and end marks; a run of unlisted words is one, articles are left out."""
    kept = ["^"]
    for item in items:
        if item not in SKIPPED_KINDS and not (item == OTHER_WORD == kept[-1]):
            kept.append(item)
    return [*kept, "$"]


def _first(kinds: Sequence[str], wanted: frozenset[str]) -> str:
    return next((kind for kind in kinds if kind in wanted), "-")


def _negation_frames(kinds: Sequence[str]) -> Iterator[str]:
    """Who, what is denied, and of what, around each negation."""
    for place, kind in enumerate(kinds):
        if kind in _REFUSING:
            subject = _first(kinds[:place][::-1], _SUBJECTS)
            verb = _first(kinds[place + 1 : place + 5], _VERBS)
            named = _first(kinds[place + 1 : place + 9], _OBJECTS)
            yield f"f:{kind} {subject} {verb}"
            yield f"f:{kind} {verb} {named}"
            yield f"f:{kind} {subject} {verb} {named}"
            yield f"f:{kind} {subject} . {named}"


def pairs(prefix: str, items: Sequence[str], ends: frozenset[str], left_out: frozenset[str]) -> Iterator[str]:
    """Each two items between two ends, whatever stands between them; marks and what is left out are in no pair."""
    part: set[str] = set()
    for item in [*items, min(ends)]:
        if item in ends:
            yield from (prefix + " ".join(pair) for pair in combinations(sorted(part), 2))
            part = set()
        elif item[0].isalpha() and item not in left_out:
            part.add(item)


def _count_features(tokens: Sequence[_Token]) -> Iterator[str]:
    kinds = [token.kind for token in tokens]
    yield f"g:negations {min(sum(kind in _NEGATIONS for kind in kinds), 3)}"
    yield f"g:cues {min(sum(kind in _CUES for kind in kinds), 4)}"
    yield f"g:tokens {min(len(kinds) // 4, 8)}"
    yield f"g:numbers {min(kinds.count('NUMBER'), 2)}"
    sentences = " ".join(kinds).split(SENTENCE_MARK)
    yield f"g:sentences {min(len(sentences), 4)}"
    first = sentences[0].split()
    denied = any(kind in _REFUSING for kind in first)
    if len(sentences) > 1 and not denied:
        yield f"g:begins with {'a few words' if len(first) < 6 else 'a statement'}"


def features(sentences: Sequence[str], known: Container[str]) -> set[str]:
    """The features of an answer, given as normalized sentences. ``known`` holds a feature "w:stem" of each known word.

    ``w:`` words and pairs of words; ``m:`` two to four words or kinds; ``p:`` two kinds in a sentence; ``u:`` two
    words or kinds in a clause; ``f:`` what surrounds a negation; ``g:`` numbers of words, negations and sentences.
    """
    joined = f" {SENTENCE_MARK} ".join(sentence.rstrip(" .!") for sentence in sentences)
    tokens = _without_topics(
        [_token(token, known=f"w:{word_of(token).stem}" in known) for token in TOKEN.findall(joined)]
    )
    words = ["^", *(token.word for token in tokens), "$"]
    kinds = _without_runs([token.kind for token in tokens])
    found = {f"w:{word.partition('+')[0]}" for word in words}
    found.update(n_grams("w:", words, (2,)))
    found.update(n_grams("m:", _without_runs([token.mixed for token in tokens]), (2, 3, 4)))
    found.update(pairs("p:", [token.kind for token in tokens], frozenset(SENTENCE_MARK), _UNPAIRED_KINDS))
    found.update(pairs("u:", [token.mixed for token in tokens], _CLAUSE_MARKS, frozenset(OTHER_WORD)))
    found.update(_negation_frames(kinds))
    found.update(_count_features(tokens))
    return found
