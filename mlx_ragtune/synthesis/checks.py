"""Deterministic checks of a pair: each returns why the pair is rejected, or None.

The reasons are fixed texts, so that a funnel can count them.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from rapidfuzz import fuzz

from mlx_ragtune.records import Evidence, Pair
from mlx_ragtune.scoring.answers.normalize import fold, sentences, words
from mlx_ragtune.scoring.answers.numbers import number_grounding
from mlx_ragtune.scoring.answers.refusal import is_refusal
from mlx_ragtune.scoring.answers.style import is_prose

VERSION = 2
"""Part of the key of every generated pair: raise it when a check changes, so that no old verdict is reused."""
QUOTE_RATIO = 95.0
SHORT_QUOTE_CHARACTERS = 15
ANSWER_WORDS = (6, 90)
QUESTION_WORDS = (4, 45)
COPY_RATIO = 85.0

_FILLERS = "\u115f\u1160\u3164\uffa0\u2800"
"""Hangul fillers and the empty Braille pattern: letters and symbols that show nothing."""
_CURLY = str.maketrans("“”„«»‘’", '"""""\'\'')
_DEIXIS = re.compile(
    r"\b(?:this|that|these|our) (?:paper|study|studies|article|work|passage|excerpt|document|note|text)s?\b"
    r"|\b(?:the )?authors? of (?:this|the) (?:paper|study|article|work)\b(?! [\"“])"
    r"|\b(?:the )?(?:provided|given|above|following) (?:passage|context|text|paper|excerpt|document)s?\b"
    r"|\b(?:according to|in|from|by) the (?:passage|context|text|excerpt|document|note|abstract)s?\b",
    re.IGNORECASE,
)
_UNNAMED = re.compile(
    r"\bthe (?:papers?|study|article|authors?|passages?|excerpts?|proposed (?:method|approach|model))\b"
    r"(?! (?:[\"“]|of|behind|on|that (?:introduces?|proposes?)|called|titled|named))",
    re.IGNORECASE,
)


def is_blank(text: str) -> bool:
    """Whether the text shows nothing: spaces, control and format characters, marks and fillers only."""
    return not any(unicodedata.category(char)[0] in "LNPS" and char not in _FILLERS for char in text)


def one_line(text: str) -> str:
    """``text`` in NFC with each run of white space as one space: the form in which quotes are looked up."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def quote_in(quote: str, text: str) -> str | None:
    """None if the quote is in the text: rapidfuzz partial ratio of at least 95, and all of its numbers.

    Both sides are compared in NFC with white space folded. A quote under 15 characters must match exactly.
    """
    needle, hay = one_line(quote), one_line(text)
    if needle and needle in hay:
        return None
    if len(needle) < SHORT_QUOTE_CHARACTERS or len(needle) > len(hay) + 2:
        return "evidence quote not in the text"
    alignment = fuzz.partial_ratio_alignment(needle, hay, score_cutoff=QUOTE_RATIO)
    if alignment is None:
        return "evidence quote not in the text"
    around = hay[max(0, alignment.dest_start - 8) : alignment.dest_end + 8]
    return None if number_grounding(needle, [around]) in (None, 1.0) else "evidence quote has other numbers"


def numbers_shown(answer: str, shown: Iterable[str]) -> str | None:
    """None if every number and identifier (``NF4``) of the answer is in what is shown."""
    return None if number_grounding(answer, shown) in (None, 1.0) else "number that is not in the source"


def titles_quoted(answer: str, titles: Iterable[str]) -> str | None:
    """None if the answer contains every full title in double quotes."""
    text = one_line(answer).translate(_CURLY).casefold()
    for title in titles:
        name = re.escape(one_line(title).translate(_CURLY).casefold())
        if not re.search(f'"{name}[.,]?"', text):
            return "title not cited in double quotes"
    return None


def names_its_source(text: str) -> str | None:
    """None if the text avoids "this paper", "the passage above", "the authors of this study"."""
    return "speaks of 'this paper' or the passage" if _DEIXIS.search(text) else None


def plain_prose(answer: str) -> str | None:
    """None if the answer is one to four paragraphs without markup."""
    return None if is_prose(answer) else "not plain prose"


def length_in(text: str, window: tuple[int, int], *, of: str) -> str | None:
    """None if the number of words of the text is within the window, ends included."""
    return None if window[0] <= len(words(text)) <= window[1] else f"{of} too short or too long"


def not_a_copy(answer: str, question: str, titles: Iterable[str] = ()) -> str | None:
    """None if the answer, without titles, says something that the question does not."""
    said = fold(answer)
    for title in titles:
        said = said.replace(fold(title), " ")
    asked = fold(question)
    new = set(words(said)) - set(words(asked))
    alike = fuzz.ratio(said.strip(), asked) >= COPY_RATIO and not any(word[:1].isdigit() for word in new)
    return "answer repeats the question" if alike or not new else None


def stands_alone(question: str) -> str | None:
    """None if the text is a question that can be understood without the passage."""
    if not question.rstrip().endswith("?"):
        return "question does not end in a question mark"
    if _DEIXIS.search(question) or _UNNAMED.search(question):
        return "question does not say which paper or method"
    return length_in(question, QUESTION_WORDS, of="question")


def evidence_in(evidence: Sequence[Evidence], sources: Mapping[str, str]) -> str | None:
    """None if every quote is in its paper's source text."""
    return next(filter(None, (quote_in(item.quote, sources.get(item.paper, "")) for item in evidence)), None)


def check_refusal(pair: Pair) -> str | None:
    """Why a generated refusal is rejected: it must refuse, in short plain prose."""
    if len(sentences(pair.answer)) > 4:
        return "answer too short or too long"
    return (
        stands_alone(pair.question)
        or plain_prose(pair.answer)
        or length_in(pair.answer, ANSWER_WORDS, of="answer")
        or (None if is_refusal(pair.answer) else "refusal that does not refuse")
    )


def check_pair(pair: Pair, sources: Mapping[str, str], titles: Mapping[str, str]) -> str | None:
    """Why a generated pair is rejected, or None. ``sources`` and ``titles`` are by paper id."""
    if pair.kind == "refusal":
        return check_refusal(pair)
    cited = [titles[paper] for paper in pair.papers]
    return (
        stands_alone(pair.question)
        or (None if pair.evidence else "no evidence quote")
        or evidence_in(pair.evidence, sources)
        or (None if {evidence.paper for evidence in pair.evidence} == set(pair.papers) else "a paper without evidence")
        or titles_quoted(pair.answer, cited)
        or numbers_shown(pair.answer, [pair.question, *cited, *sources.values()])
        or names_its_source(pair.answer)
        or plain_prose(pair.answer)
        or length_in(pair.answer, ANSWER_WORDS, of="answer")
        or not_a_copy(pair.answer, pair.question, cited)
        or ("refusal where an answer is due" if is_refusal(pair.answer) else None)
    )
