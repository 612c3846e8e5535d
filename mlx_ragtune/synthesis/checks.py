"""Deterministic checks of a pair: each returns why the pair is rejected, or None.

The reasons are fixed texts, so that a funnel can count them.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from rapidfuzz import fuzz

from mlx_ragtune.recipe_data import ANSWER_WORDS
from mlx_ragtune.records import Evidence, Kind, Pair
from mlx_ragtune.retrieval.control_tokens import neutral
from mlx_ragtune.scoring.answers.language import SUPPORTED, language_of
from mlx_ragtune.scoring.answers.leaks import CJK_WORD
from mlx_ragtune.scoring.answers.normalize import fold, sentences, words
from mlx_ragtune.scoring.answers.numbers import number_grounding
from mlx_ragtune.scoring.answers.refusal import is_refusal
from mlx_ragtune.scoring.answers.style import is_prose
from mlx_ragtune.scoring.answers.validity import loops
from mlx_ragtune.synthesis.content_words import content_stems
from mlx_ragtune.synthesis.corpus_titles import OTHER_PAPER
from mlx_ragtune.synthesis.deixis import DANGLING, points_at_passage
from mlx_ragtune.synthesis.number_context import number_in_other_place
from mlx_ragtune.synthesis.repairs import cites_others, names_alias
from mlx_ragtune.synthesis.writable import SPACELESS

VERSION = 6
"""Part of the key of every generated pair: raise it when a check changes, so that no old verdict is reused."""
QUOTE_RATIO = 95.0
SHORT_QUOTE_CHARACTERS = 15
QUOTE_WORDS = 4
"""A shorter quote is a name or a phrase, and shows no reader that the answer is right."""
Windows = Mapping[Kind, tuple[int, int]]
"""The fewest and the most words of an answer, by kind."""
QUESTION_WORDS = (4, 45)
"""Without the titles that a question quotes."""
COPY_RATIO = 85.0
SAID_BY_SOURCE: Mapping[Kind, float] = {"grounded": 0.3, "synthesis": 0.2}
LEAST_NEW_STEMS = 6

_FILLERS = "\u115f\u1160\u3164\uffa0\u2800"
"""Hangul fillers and the empty Braille pattern: letters and symbols that show nothing."""
_CURLY = str.maketrans("“”„«»《》「」『』‘’", '"' * 11 + "''")
_UNNAMED = re.compile(
    r"\bthe (?:papers?|study|article|authors?|passages?|excerpts?|proposed (?:method|approach|model))\b"
    r"(?! (?:[\"“]|of|behind|on|that (?:introduces?|proposes?)|called|titled|named))",
    re.IGNORECASE,
)
_UNNAMED_TWO = re.compile(
    r"\bthe two (?:approaches|methods|frameworks|studies|systems|models)\b(?! (?:of|in|by|called|named)\b)",
    re.IGNORECASE,
)
_AS_CHAT = re.compile(
    r"\bas an AI(?: language)?(?: model| assistant)?, I\b|\bI(?: am|['’]m) an AI\b|\bI hope (?:this|that) helps\b"
    r"|^\W*(?:sure|certainly|of course|absolutely|great question)[!,.]"
    r"|^\W*here (?:is|are) (?:the|a|an|your|one|my|some) (?:\w+ )?(?:answers?|questions?|responses?|reply|replies"
    r"|summary|pairs?)\b",
    re.IGNORECASE,
)
_STUTTER = re.compile(r"\b([^\W\d_]{2,})(?:\W+\1\b){3,}", re.IGNORECASE)
_LINK = re.compile(r"\b(?:https?://|www\.)[^\s)\]>\"”]+", re.IGNORECASE)
_ABOUT_TITLE = re.compile(
    r"\btitle of (?:(?:the|this) (?:paper|study|article)|\")|\b(?:paper|study|article) title\b", re.I
)
_SPLIT_NUMBER = re.compile(r"(?<=\d)\s*([.,])\s+(?=\d)")
_SPLIT_NAME = re.compile(r"(?<=\w) - (?=\w)")
_ENDS = re.compile(r"[.!?。！？｡…][\"'”’»」』)\]]*\s*$")
_NEGATION = re.compile(r"\b(?:not|no|never|cannot|without|neither|nor)\b|n['’]t\b", re.IGNORECASE)


def is_blank(text: str) -> bool:
    """Whether the text shows nothing: spaces, control and format characters, marks and fillers only."""
    return not any(unicodedata.category(char)[0] in "LNPS" and char not in _FILLERS for char in text)


def one_line(text: str) -> str:
    """``text`` in NFC with each run of white space as one space: the form in which quotes are looked up.

    Control tokens are written as prompts show them.
    """
    return neutral(" ".join(unicodedata.normalize("NFC", text).split()))


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
    if len(_NEGATION.findall(needle)) != len(_NEGATION.findall(hay[alignment.dest_start : alignment.dest_end])):
        return "evidence quote not in the text"
    return None if number_grounding(needle, [around]) in (None, 1.0) else "evidence quote has other numbers"


def numbers_shown(answer: str, shown: Iterable[str], *, question: str = "") -> str | None:
    """None if every number and identifier (``NF4``) of the answer is in question or texts, not beside another word.

    A text layer may hold "2. 6", "10, 000" and "gpt - 3. 5": what is shown counts with and without such spaces.
    """
    texts = [question, *shown]
    close = [_SPLIT_NAME.sub("-", _SPLIT_NUMBER.sub(r"\1", text)) for text in texts]
    if number_grounding(answer, texts) not in (None, 1.0) and number_grounding(answer, [*texts, *close]) != 1.0:
        return "number that is not in the source"
    return "number beside another word than in the source" if number_in_other_place(answer, close, question) else None


def titles_quoted(answer: str, titles: Iterable[str]) -> str | None:
    """None if the answer contains every full title in double quotes."""
    text = one_line(answer).translate(_CURLY).casefold()
    for title in titles:
        name = one_line(title).translate(_CURLY).casefold()
        if not any(f'"{name}{stop}"' in text for stop in ("", ",", ".")):
            return "title not cited in double quotes"
    return None


def no_other_title(answer: str, titles: Sequence[str], sources: Sequence[str]) -> str | None:
    """None if the answer cites no paper besides its own and those that its sources name."""
    return OTHER_PAPER if cites_others(answer, titles, sources) else None


def names_its_source(text: str, sources: Iterable[str] = ()) -> str | None:
    """None if the text avoids "this paper", "the passage above", "the authors of this study"."""
    return "speaks of 'this paper' or the passage" if points_at_passage(text, sources) else None


def plain_prose(answer: str) -> str | None:
    """None if the answer is one to four paragraphs without markup."""
    return None if is_prose(answer) else "not plain prose"


def length_in(text: str, window: tuple[int, int], *, of: str) -> str | None:
    """None if the number of words of the text is within the window, ends included.

    A character of Chinese or Japanese counts as a part of a word.
    """
    spoken = words(text)
    count = len(spoken) - (1 - CJK_WORD) * sum(bool(SPACELESS.fullmatch(word)) for word in spoken)
    return None if window[0] <= count <= window[1] else f"{of} too short or too long"


def in_words_of_source(pair: Pair, titles: Sequence[str], sources: Sequence[str]) -> str | None:
    """None if enough of what the answer adds to its question and titles is in the words of its sources.

    Compared are content words of three or more letters by their first five; an answer that adds fewer than six passes.
    Of the shipped pairs the least share is 0.45; answers of Qwen3-4B below ``SAID_BY_SOURCE`` were made up from titles,
    reference lists and addresses. Two papers are compared in words that neither has.
    """
    known = content_stems(" ".join((pair.question, *titles)))
    answer = pair.answer
    for title in titles:
        answer = answer.replace(title, " ")
    new = {stem for stem in content_stems(answer) - known if len(stem) > 2}
    if len(new) < LEAST_NEW_STEMS:
        return None
    shared = new & content_stems(" ".join(sources))
    return None if len(shared) >= SAID_BY_SOURCE[pair.kind] * len(new) else "answer is not in the words of its source"


def as_written_answer(text: str) -> str | None:
    """None if the text neither repeats itself nor speaks as a chat assistant ("Sure! Here is the answer")."""
    if _STUTTER.search(text) or loops(text):
        return "repeats itself"
    return "speaks as a chat assistant" if _AS_CHAT.search(text) else None


def links_shown(answer: str, shown: Iterable[str]) -> str | None:
    """None if every link of the answer is in what is shown, where a text layer may hold spaces in it."""
    links = [link.rstrip(".,;:").casefold() for link in _LINK.findall(answer)]
    source = "".join("".join(shown).split()).casefold() if links else ""
    return "link that is not in the source" if any(link not in source for link in links) else None


def in_one_language(question: str, answer: str, titles: Iterable[str]) -> str | None:
    """None unless question and answer, without titles, are recognized as two of the languages that are scored."""
    for title in titles:
        question, answer = question.replace(title, " "), answer.replace(title, " ")
    asked, said = language_of(question), language_of(answer)
    known = asked in SUPPORTED and said in SUPPORTED
    return "question and answer in different languages" if known and asked != said else None


def ends_whole(answer: str) -> str | None:
    """None if the answer ends as a sentence does."""
    return None if _ENDS.search(answer) else "answer breaks off"


def not_a_copy(answer: str, question: str, titles: Iterable[str] = ()) -> str | None:
    """None if the answer, without titles, says something that the question does not."""
    said = fold(answer)
    for title in titles:
        said = said.replace(fold(title), " ")
    asked = fold(question)
    new = set(words(said)) - set(words(asked))
    alike = fuzz.ratio(said.strip(), asked) >= COPY_RATIO and not any(word[:1].isdigit() for word in new)
    return "answer repeats the question" if alike or not new else None


def stands_alone(question: str, titles: Sequence[str] = (), sources: Sequence[str] = ()) -> str | None:
    """None if the text is a question that can be understood without the passage.

    "The paper" is understood in a question that cites one of ``titles``, the titles of its papers. Their words do not
    count as the question's length.
    """
    if not question.rstrip().endswith(("?", "？")):
        return "question does not end in a question mark"
    bare = question
    for title in titles:
        bare = bare.replace(f'"{title}"', '"…"')
    cited = bare != question
    named = cited or any(names_alias(question, title) for title in titles)
    unnamed = (not cited and _UNNAMED.search(bare)) or (not named and _UNNAMED_TWO.search(bare))
    if points_at_passage(bare, sources) or DANGLING.match(bare) or unnamed:
        return "question does not say which paper or method"
    if _ABOUT_TITLE.search(bare):
        return "question about the title"
    return length_in(bare, QUESTION_WORDS, of="question")


def quotes_long_enough(evidence: Sequence[Evidence]) -> str | None:
    """None if every quote has ``QUOTE_WORDS`` words."""
    return "evidence quote too short" if any(len(words(item.quote)) < QUOTE_WORDS for item in evidence) else None


def evidence_in(evidence: Sequence[Evidence], sources: Mapping[str, str]) -> str | None:
    """None if every quote is in its paper's source text."""
    return next(filter(None, (quote_in(item.quote, sources.get(item.paper, "")) for item in evidence)), None)


def check_refusal(pair: Pair, titles: Sequence[str] = (), windows: Windows = ANSWER_WORDS) -> str | None:
    """Why a generated refusal is rejected: it must refuse, in short plain prose."""
    if len(sentences(pair.answer)) > 4:
        return "answer too short or too long"
    return (
        stands_alone(pair.question, titles)
        or plain_prose(pair.answer)
        or length_in(pair.answer, windows["refusal"], of="answer")
        or (None if is_refusal(pair.answer) else "refusal that does not refuse")
    )


def check_pair(
    pair: Pair, sources: Mapping[str, str], titles: Mapping[str, str], windows: Windows = ANSWER_WORDS
) -> str | None:
    """Why a generated pair is rejected, or None. ``sources`` and ``titles`` are by paper id.

    ``windows``: the fewest and the most words of an answer, by kind.
    """
    if pair.kind == "refusal":
        return check_refusal(pair, list(titles.values()), windows)
    cited = [titles[paper] for paper in pair.papers]
    texts = list(sources.values())
    return (
        stands_alone(pair.question, cited, texts)
        or (None if pair.evidence else "no evidence quote")
        or evidence_in(pair.evidence, sources)
        or quotes_long_enough(pair.evidence)
        or (None if {evidence.paper for evidence in pair.evidence} == set(pair.papers) else "a paper without evidence")
        or no_other_title(pair.answer, cited, [pair.question, *texts])
        or titles_quoted(pair.answer, cited)
        or numbers_shown(pair.answer, [*cited, *texts], question=pair.question)
        or names_its_source(pair.answer, texts)
        or links_shown(pair.answer, texts)
        or plain_prose(pair.answer)
        or length_in(pair.answer, windows[pair.kind], of="answer")
        or as_written_answer(pair.answer)
        or in_one_language(pair.question, pair.answer, cited)
        or not_a_copy(pair.answer, pair.question, cited)
        or ends_whole(pair.answer)
        or in_words_of_source(pair, cited, [*texts, *(item.quote for item in pair.evidence)])
        or ("refusal where an answer is due" if is_refusal(pair.answer) else None)
    )
