"""Where does an answer name a paper by its title?

A distinctive title counts wherever it stands, also misspelled: rapidfuzz's ``partial_ratio`` of the folded title
in the folded answer is at least 90; of overlapping matches the best counts ("LoRA" and "LoRA+" are similar titles).
A title is distinctive when it has a subtitle, eight or more words, or is a sentence of five or more ("Language
models are few-shot learners").

Any other title may be an ordinary phrase ("Scaling laws", "Attention") and counts only where it cites: in
quotation marks with its capital, after "according to", "titled", "the paper" and the like, before "paper",
"authors" or a year. One of four or more words also counts where it is capitalized as a title. The part of a title
before the colon ("RAGAS", "Lost in the Middle") is read in the same way, because the bare name of a method is not
a citation.
"""

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from rapidfuzz import fuzz

from mlx_ragtune.scoring.answers.normalize import fold, words

THRESHOLD = 90.0
SHORT_TITLE_CHARACTERS = 15
"""Shorter titles must be spelled right."""
MAX_FUZZY_ROUNDS = 10
"""How often one misspelled title is found in one answer; every round reads the whole answer."""
MAX_QUOTES = 100
DISTINCTIVE_WORDS = 8
SENTENCE_WORDS = 5
TITLE_CASE_WORDS = 4
CJK_WORD = 0.6
"""What one Chinese, Japanese or Korean character counts in words."""

GONE = "\0"
"""Stands where a title was: no title and no folding contains it."""

NAME_NOUN = (
    r"(?:benchmarks?|data ?sets?|corpus|corpora|model|methods?|frameworks?|algorithms?|techniques?|approach|metrics?"
    r"|library|tool(?:kit)?s?|tasks?|test|loss|layers?|modules?|mechanisms?|weights?|heads?|architectures?"
    r"|prompt(?:ing|s)?|tokens?|network|license|strategy|score|matrix|matrices|system|setting|regime|pattern|block"
    r"|step|phase|stage|function|term|effect|problem)"
)
"""Behind a quoted phrase: it is the name of something, not a title. No verbs: "models", "tests", "scores"."""
REPORTS = (
    r"(?:shows?|showed|reports?|reported|finds?|found|proposes?|proposed|introduces?|introduced|presents?|describes?"
    r"|described|argues?|argued|states?|stated|says?|demonstrates?|suggests?|concludes?|concluded|proves?|claims?"
    r"|explains?|discusses|studies|investigates?|examines?|zeigt|berichtet|montre)"
)

_SENTENCE_VERB = re.compile(r"\b(?:is|are|was|were|can|do|does|did|need|needs|has|have|should|will|makes?|improves?)\b")
_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_OPEN, _CLOSE = r"[\"“”„«「『《‘'\[]", r"[\"“”»」』》’'\]]"
_CITES_BEFORE = re.compile(
    r"(?:\b(?:according to|titled|authors? of|papers?|article|preprint|as per|laut|selon|d['’]après"
    r"|(?:cited|described|shown|presented|introduced|proposed|reported|stated) in)|entitled|见|根据) ?(?:the )?$",
    re.IGNORECASE,
)
_CITES_AFTER = re.compile(
    r"^(?:['’]s?)? (?:papers?|study|article|authors?|preprint)\b|^,? \((?:19|20)\d\d[a-z]?\)"
    r"|^ \([A-Z][^()\n]{0,40}(?:19|20)\d\d[a-z]?\)|^,? by [A-Z]\w+|^, (?:19|20)\d\d[a-z]?\)|^, the authors\b"
)
_SOURCES_BEFORE = re.compile(
    r"(?:^|\n)\W*(?:sources?|references?|citations?|cited papers?):[^\n]{0,50}$", re.IGNORECASE
)
_ITEM_BEFORE = re.compile(r"(?:^|\n)[^\S\n]*(?:\[\d{1,3}\]|\d{1,2}[.)]|[-*+•])[^\S\n]*$")
_ITEM_AFTER = re.compile(r"^\.?[^\S\n]*(?:\n|$)")
_QUOTE_BEFORE = re.compile(rf"{_OPEN}$|«\s$")
_QUOTE_AFTER = re.compile(rf"^[,.]?{_CLOSE}|^\s»")
_NAMED_AFTER = re.compile(rf"[,.]?{_CLOSE} {NAME_NOUN}\b", re.IGNORECASE)
_ITALIC_BEFORE, _ITALIC_AFTER = re.compile(r"(?<![*_\w])[*_]$"), re.compile(r"^[*_](?![*_\w])")
_SENTENCE_START = re.compile(r"(?:^|[.!?。]\s|\n)[\s>*_#-]*$")
_SINGULAR_VERB = re.compile(r" (?!(?:is|was|has|does|as|its|this|us|always)\b)[a-z]{3,15}s\b")
_LINE_START = re.compile(r"(?:^|\n)[\s>*_]*$")
_QUOTED = re.compile(rf"{_OPEN}([^\"“”„«»「」『』《》\n]{{8,200}}){_CLOSE}")

Span = tuple[int, int, str]
"""Start, end and folded title of a title in the folded answer."""


def papers_by_title(titles: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The sorted ids of the papers that bear each title; titles that fold to the same are one, empty ones are none."""
    ids: dict[str, list[str]] = defaultdict(list)
    for identifier, title in titles.items():
        if folded := fold(title):
            ids[folded].append(identifier)
    return {title: tuple(sorted(papers)) for title, papers in ids.items()}


def alias_of(title: str) -> str:
    """The part before the colon; empty without one."""
    return title.split(":", 1)[0].strip() if ":" in title else ""


def word_count(text: str) -> float:
    """The words of a title, where a Chinese, Japanese or Korean character is part of one."""
    characters = len(re.findall(rf"[{_CJK}]", text))
    return characters * CJK_WORD + len(words(re.sub(rf"[{_CJK}]", " ", text)))


@lru_cache(maxsize=4096)
def is_distinctive(title: str) -> bool:
    """Whether a title is too long or too particular to be met by chance in a sentence."""
    count = word_count(fold(title))
    return (
        count >= DISTINCTIVE_WORDS
        or (bool(alias_of(title)) and count >= TITLE_CASE_WORDS)
        or (count >= SENTENCE_WORDS and bool(_SENTENCE_VERB.search(title.casefold())))
    )


@lru_cache(maxsize=4096)
def _pattern(title: str) -> re.Pattern[str]:
    body = r"[\s‐‑–-]{1,3}".join(re.escape(part) for part in re.split(r"[\s‐‑–-]+", title.strip()))
    body = re.sub("['’]", "['’]", body)
    if re.match(rf"[{_CJK}]", title):
        return re.compile(body, re.IGNORECASE)
    return re.compile(rf"(?<![^\W_])(?<![+-]){body}(?![^\W_]|\+|-\w)", re.IGNORECASE)


def cut_titles(answer: str, titles: Iterable[str]) -> tuple[str, set[str]]:
    """The answer with ``GONE`` in place of every cited title, and the cited titles, folded; all spelled right."""
    cited: set[str] = set()
    for title in sorted({title.strip() for title in titles if fold(title)}, key=lambda title: (-len(title), title)):
        places = [match.span() for match in _pattern(title).finditer(answer) if _cites(answer, title, match.span())]
        if places:
            cited.add(fold(title))
            answer = _without(answer, places)
    return answer, cited


def _cites(answer: str, title: str, place: tuple[int, int]) -> bool:
    return is_distinctive(title) or _in_citing_position(answer, title, place)


def _in_citing_position(answer: str, title: str, place: tuple[int, int]) -> bool:
    """Whether a phrase names a source where it stands, and is not only a part of the sentence."""
    start, end = place
    text, before, after = answer[start:end], answer[max(0, start - 60) : start], answer[end : end + 60]
    capital = not text[:1].islower() or title[:1].islower()
    if _QUOTE_BEFORE.search(before) and (closing := _QUOTE_AFTER.match(after)):
        if _is_named(text, after):
            return False
        return (
            capital
            or word_count(fold(text)) >= TITLE_CASE_WORDS
            or bool(_CITES_BEFORE.search(before.rstrip()[:-1]) or _CITES_AFTER.match(after[closing.end() :]))
        )
    if re.match(r":\s*[A-Z]", after):
        return False
    if not capital:
        return _is_cited_in_lower_case(text, before, after)
    if _CITES_BEFORE.search(before) or _CITES_AFTER.match(after) or _SOURCES_BEFORE.search(before):
        return True
    if _ITEM_BEFORE.search(before) and _ITEM_AFTER.match(after):
        return True
    count = word_count(fold(text))
    if count >= 2 and _ITALIC_BEFORE.search(before) and _ITALIC_AFTER.match(after):
        return True
    return count >= TITLE_CASE_WORDS and (
        _is_title_case(text)
        or (not text[:1].islower() and not _SENTENCE_START.search(before))
        or bool(re.match(rf" {REPORTS}\b", after))
    )


def _is_cited_in_lower_case(text: str, before: str, after: str) -> bool:
    """Whether a title of four or more words without its capital cites: beside a cue, or as the subject of a line."""
    cues = (_CITES_BEFORE.search(before), _CITES_AFTER.match(after), re.match(rf" {REPORTS}\b", after))
    subject = _LINE_START.search(before) and _SINGULAR_VERB.match(after)
    return word_count(fold(text)) >= TITLE_CASE_WORDS and bool(any(cues) or subject)


def _is_named(text: str, after: str) -> bool:
    """Whether a quoted phrase is the name of what follows the closing mark: "the "Attention" layer"."""
    return word_count(fold(text)) < TITLE_CASE_WORDS and bool(_NAMED_AFTER.match(after))


def _is_title_case(text: str) -> bool:
    """Whether at least two words and half of the longer ones begin with a capital."""
    longer = [word for word in text.split() if len(word) > 3]
    capitals = sum(word[:1].isupper() for word in longer)
    return capitals >= 2 and 2 * capitals >= len(longer)


def _without(text: str, places: Sequence[tuple[int, int]]) -> str:
    """``text`` with the given places blanked out; its length does not change."""
    if not places:
        return text
    pieces, position = [], 0
    for start, end in sorted(places):
        pieces += [text[position:start], GONE * (end - start)]
        position = end
    return "".join([*pieces, text[position:]])


def _fuzzy_matches(rest: str, needles: Iterable[str]) -> Iterator[tuple[float, int, int, str]]:
    """(score, start, end, title) of the best match of each title in ``rest``."""
    for needle in needles:
        if len(rest) >= len(needle):
            match = fuzz.partial_ratio_alignment(needle, rest, score_cutoff=THRESHOLD)
            if match and match.score >= THRESHOLD:
                yield match.score, match.dest_start, match.dest_end, needle
        elif (score := fuzz.ratio(needle, rest)) >= THRESHOLD:
            yield score, 0, len(rest), needle


def misspelled_titles(folded: str, titles: Iterable[str]) -> list[Span]:
    """Every distinctive title in a folded text, misspelled or not, in order; of overlapping matches the best.

    They are found in at most ``MAX_FUZZY_ROUNDS`` rounds, each of which finds every title once, so that the time
    is linear in the length of the text.
    """
    needles = sorted({fold(title) for title in titles if is_distinctive(title)})
    needles = [needle for needle in needles if len(needle) >= SHORT_TITLE_CHARACTERS]
    spans: list[Span] = []
    for _ in range(MAX_FUZZY_ROUNDS):
        accepted: list[Span] = []
        matches = sorted(_fuzzy_matches(folded, needles), key=lambda match: (-match[0], match[1] - match[2], match[3]))
        for _score, start, end, needle in matches:
            if all(end <= left or start >= right for left, right, _ in accepted):
                accepted.append((start, end, needle))
        if not accepted:
            break
        folded = _without(folded, [(start, end) for start, end, _ in accepted])
        spans += accepted
    return sorted(spans)


def misspelled_quotes(answer: str, titles: Iterable[str]) -> set[str]:
    """The folded titles, ordinary ones too, that a text in quotation marks nearly is."""
    needles = [needle for needle in {fold(title) for title in titles} if len(needle) >= SHORT_TITLE_CHARACTERS]
    matches = itertools.islice(_QUOTED.finditer(answer), MAX_QUOTES)
    quotes = [
        fold(match[1])
        for match in matches
        if match[1].strip()[:1].isupper() and not _is_named(match[1], answer[match.end() - 1 : match.end() + 60])
    ]
    return {needle for needle in needles if any(fuzz.ratio(needle, quote) >= THRESHOLD for quote in quotes)}
