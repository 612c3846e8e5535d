"""Which pieces of an answer look like the title of a paper?

Text in quotation marks or italics where it cites: after "the paper", "titled", "according to" or authors, before a
year, an author or "shows"; elsewhere only if it is capitalized and has five words, or four with a colon, since a
shorter one may be the name of a method. Capitalized words after such cues, and the titles in a list of references.
Names of datasets, sections, prompts and the like, headings, questions and quoted sentences are none.
"""

import itertools
import re
from collections.abc import Iterator

from mlx_ragtune.scoring.answers.titles import NAME_NOUN, REPORTS

MAX_CANDIDATES = 100
"""How many pieces of one answer are compared with all titles."""
MAX_CANDIDATE_WORDS = 40
LONG_TITLE_WORDS = 5
JOINED_TITLE_WORDS = 3
"""Behind another title: "A" and "B"."""

_SMALL = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be by can for from in into is it of on or the to via vs with without "
        "der die das und im am von für le la les de des et du en un une",
    )
)
_QUOTED = re.compile(
    r"[\"“”„«]\s?(?P<double>[^\"“”„«»\n]{3,200}?)\s?[\"“”»]|(?<!\w)['‘](?P<single>(?:[^'’\n]|(?<=\w)['’](?=\w)){8,200})['’](?!\w)"
    r"|(?<![*_\w])(?P<mark>\*\*|\*|__|_)(?P<marked>[^*_\n]{8,200})(?P=mark)(?![*_\w])|[《『](?P<book>[^》』\n]{2,100})[》』]"
)
_WORK = (
    r"(?:papers?|article|preprint|thesis|artikel|studie"
    r"|(?:the|a|an|this|their|its|another|(?:19|20)\d\d) (?:\w+ )?(?:study|survey|report|work|publication))"
)
_YEAR = r"(?:19|20)\d\d[a-z]?"
_TOLD = r"(?:shown|described|reported|presented|introduced|proposed|cited|stated)"
_SOURCE_BEFORE = re.compile(
    rf"(?:\b(?P<work>{_WORK}(?: called| named| titled| entitled)?|(?:paper )?title(?: is)?)|\b(?:en)?titled"
    rf"|\bauthors? of|\b(?:as|is|was|are) (?:\w+ )?{_TOLD} in|et al\.,?(?: \({_YEAR}\))?,?"
    rf"|[A-Z]\w+ \({_YEAR}\),?|(?:^|\n)\W{{0,3}}(?:sources?|references?|cited))[:,]? $",
    re.IGNORECASE,
)
_COMMA_BEFORE = re.compile(r"(?:paper|article|study|survey|report|work), $", re.IGNORECASE)
_ACCORDING_BEFORE = re.compile(r"\b(?:according to|laut|selon|d['’]après|gemäß) $", re.IGNORECASE)
_OPENING_BEFORE = re.compile(r"(?:^|[.!?]\s|\n)(?:In|As|From|By|See|Both) $")
_SOURCE_AFTER = re.compile(
    rf"^[,.]{{0,2}} \(?{_YEAR}\b|^,? by [A-Z]\w+|^ \([A-Z][^()\n]{{0,60}}{_YEAR}\)|^ (?:paper|article|study)\b"
    r"|^,? the authors\b|^, [A-Z]\w+ et al\b"
)
_AUTHORS_SAY = re.compile(r"^,? the authors (?:write|say|state|argue|conclude|note|claim|explain|add|warn)")
_REPORTS_AFTER = re.compile(rf"^,? {REPORTS}\b")
_JOINED = re.compile(r",?(?: (?:and|or|und|oder|et|ou|&))?(?: (?:in|from|by))? ?")
_NAME_AFTER = re.compile(rf"^ {NAME_NOUN}\b", re.IGNORECASE)
_NAME_BEFORE = re.compile(
    rf"\b(?:{NAME_NOUN}|sections?|chapter|table|figure|appendix|heading|column|questions?|answers?|instructions?|journal"
    r"|conference|award|company|university|institute|laboratory|named|called|calls?"
    r"|phrase|stands for|short for|acronym|won|write|wrote|writes|said|says?|asks?|asked"
    r"|reads|begins|output|replied|replies|answered)\b[^.\"“]{0,25}(?<!\bin )(?<!\bfrom )(?<!\bby )$",
    re.IGNORECASE,
)
_NAME_WITHIN = re.compile(
    r"\b(?:Benchmark|Data ?set|Corpus|Challenge|Award|Test|Loss|Score|License|Institute|University)$"
    r"|^(?:Table|Figure|Fig\.|Section|Chapter|Appendix|Equation|Algorithm|Theorem|Lemma) ?\w{1,4}$"
)
_ITEM_BEFORE = re.compile(r"(?:^|\n)[^\S\n]*(?:[-*+•]|\d{1,2}[.)])?[^\S\n]*$")
_CUE = re.compile(
    r"\b(?P<cue>(?:en)?titled|(?:[Tt]he|[Tt]his) (?:paper|study|article|survey)|[Aa]ccording to"
    rf"|et al\.? \({_YEAR}\)|(?:^|(?<=\n))(?:Title|Source|Paper|Reference))[,:]? (?=[A-Z])"
)
_TOKEN = re.compile(r"\s*([^\s,;.!?\"“”()]+(?:\.\d+)?)([,;.!?\"“”()]?)")
_WITH_COLON = re.compile(r"(?<![\w'’-])[a-z][\w'’-]{0,30},? (?=[A-Z][\w-]*(?: [\w-]+){0,8}: [A-Z])")
_TITLED = re.compile(
    r"\b(?:paper|study|article|survey|work) (?:(?:en)?titled|title is):? (?P<title>[A-Z][^.,;\n\"“'‘(]{15,200})"
)
_NAMED_PAPER = re.compile(
    r"\b[Tt]he (?P<title>[A-Z][^\s,;.()\"“:]*(?: (?:[A-Z0-9][^\s,;.()\"“]*|[a-z]{1,4})){3,15})"
    r" (?:paper|study|article)\b"
)
_LINKED = re.compile(r"\[(?P<title>[A-Z][^\[\]\n]{8,200})\]\(")
_BY_AUTHORS = re.compile(r"(?<![\w'’-])(?P<title>[A-Z][^\n.,;:\"“”()]{10,150}),? by [A-Z][\w'’-]+ (?:et al|and [A-Z])")
_IN_BRACKETS = re.compile(r"(?<![A-Z0-9] )\((?P<title>[A-Z][^(),;\n]{10,150}), (?:19|20)\d\d[a-z]?\)")
_INSTITUTION = re.compile(
    r"\b(?:University|Institute|Conference|Proceedings|Association|International|Laboratory|Department|Inc)\b"
)
_MARKER = r"^[^\S\n]*(?:\[\d{1,3}\]|\d{1,2}[.)]|[-*•])"
_NAME = r"(?:[A-Z][\w'’-]+|[A-Z]\.(?:-?[A-Z]\.)?|et al\.?|and|&)"
_NAMES = rf"{_NAME}(?:,? {_NAME}){{0,20}}"
_TITLE_PART = r"[\"“*_']{0,2}(?P<title>[A-Z][^\n.?!\"”*]{7,200})"
_ENTRIES = (
    re.compile(rf"{_MARKER}[^\S\n]+{_TITLE_PART}[.,\"”][*_]{{0,2}} {_NAMES}[,.]? \(?(?:19|20)\d\d", re.MULTILINE),
    re.compile(rf"(?:{_MARKER}|^)[^\S\n]*{_NAMES}[,.]? \((?:19|20)\d\d[a-z]?\)[.:,] {_TITLE_PART}", re.MULTILINE),
    re.compile(rf"{_MARKER}[^\S\n]+{_NAMES}[.,:] {_TITLE_PART}[.\"”?!][^\n]{{0,80}}(?:19|20)\d\d", re.MULTILINE),
    re.compile(rf"{_MARKER}[^\S\n]+(?P<title>[A-Z][^()\n]{{10,200}}) \([A-Z][^()\n]{{2,80}}\d{{4}}\)", re.MULTILINE),
)


Piece = tuple[int, int, str]
"""Start, end and text of a piece of the answer."""


def title_candidates(answer: str) -> tuple[str, ...]:
    """Pieces of the answer that look like a title, each once, at most ``MAX_CANDIDATES``; none is a part of another."""
    taken = bytearray(len(answer))
    texts: dict[str, None] = {}
    for start, end, text in itertools.chain(_quoted(answer), _unquoted(answer), _listed(answer)):
        if not any(taken[start:end]):
            taken[start:end] = b"1" * (end - start)
            texts[text] = None
        if len(texts) == MAX_CANDIDATES:
            break
    return tuple(texts)


def _quoted(answer: str) -> Iterator[Piece]:
    title_to = -1
    for match in _QUOTED.finditer(answer):
        before, after = answer[max(0, match.start() - 60) : match.start()], answer[match.end() : match.end() + 80]
        text = (match["double"] or match["single"] or match["marked"] or match["book"]).strip(" .,;:")
        joined = title_to >= 0 and bool(_JOINED.fullmatch(answer, title_to, match.start()))
        if (
            match["book"]
            or _is_cited(text, before, after)
            or _stands_alone(match, text, before, after)
            or (
                joined
                and len(text.split()) >= JOINED_TITLE_WORDS
                and is_capitalized(text)
                and not (_NAME_AFTER.match(after) or _NAME_WITHIN.search(text))
            )
        ):
            title_to = match.end()
            yield *match.span(), text


def _is_cited(text: str, before: str, after: str) -> bool:
    """Whether what stands around a quoted text says that it is a source."""
    count = len(text.split())
    if count < 2 or not text[:1].isupper() or _NAME_AFTER.match(after) or _NAME_WITHIN.search(text):
        return False
    if source := _SOURCE_BEFORE.search(before):
        return bool(source["work"]) or not _NAME_BEFORE.search(before[: source.start()])
    if _AUTHORS_SAY.match(after) and not before.lower().endswith("in "):
        return False
    if _SOURCE_AFTER.match(after) or (_ACCORDING_BEFORE.search(before) and not re.search(r"\d", text)):
        return not _NAME_BEFORE.search(before)
    return is_capitalized(text) and (
        bool(_COMMA_BEFORE.search(before) or (_REPORTS_AFTER.match(after) and not _NAME_BEFORE.search(before)))
        or (bool(_OPENING_BEFORE.search(before)) and bool(re.match(r"^,", after)))
    )


def _stands_alone(match: re.Match[str], text: str, before: str, after: str) -> bool:
    """Whether a quoted text is a title by its form only."""
    count = len(text.split())
    long_enough = count >= LONG_TITLE_WORDS or (count >= LONG_TITLE_WORDS - 1 and ": " in text)
    if not long_enough or not is_capitalized(text) or text.endswith("?"):
        return False
    is_heading = len(match["mark"] or "") > 1 or re.match(r"^:?\s*(?:\n|$)", after)
    if match["mark"] and is_heading and (_ITEM_BEFORE.search(before) or match["marked"].endswith(":")):
        return False
    return not (_NAME_AFTER.match(after) or _NAME_BEFORE.search(before))


def is_capitalized(text: str) -> bool:
    """Whether two or more of the longer words, and at least half of them, begin with a capital."""
    longer = [word for word in text.split() if word.lower().strip(":,") not in _SMALL]
    capitals = _capitals(" ".join(longer))
    return capitals > 1 and 2 * capitals >= len(longer)


def _capitals(text: str) -> int:
    return sum(word[:1].isupper() for word in text.split())


def _run_of_capitals(text: str, start: int) -> str:
    """The title-like words at ``start``, up to a punctuation mark: capitalized words, numbers and small words."""
    kept: list[str] = []
    for match in itertools.islice(_TOKEN.finditer(text, start), MAX_CANDIDATE_WORDS):
        word, stop = match[1], match[2]
        if not (word[:1].isupper() or word[:1].isdigit() or word.rstrip(":").lower() in _SMALL):
            break
        kept.append(word)
        if stop:
            break
    while kept and kept[-1].lower() in _SMALL:
        kept.pop()
    return " ".join(kept)


def _unquoted(answer: str) -> Iterator[Piece]:
    """Capitalized words after a cue: three of them, or five after "according to" without a colon (authors' names)."""
    for match in _CUE.finditer(answer):
        text = _run_of_capitals(answer, match.end())
        by_name = "ccording" in match["cue"]
        least = (3 if by_name else 2) if ": " in text else 5 if by_name else 3
        if _capitals(text) >= least and not _NAME_BEFORE.search(answer[max(0, match.start() - 60) : match.start()]):
            yield match.end(), match.end() + len(text), text
    for match in itertools.chain(_TITLED.finditer(answer), _NAMED_PAPER.finditer(answer)):
        text = match["title"].strip()
        if len(text.split()) >= 4 and (match.re is _TITLED or _capitals(text) >= 4):
            yield *match.span("title"), text
    for match in itertools.islice(_WITH_COLON.finditer(answer), MAX_CANDIDATES):
        text = _run_of_capitals(answer, match.end())
        around = answer[max(0, match.start() - 40) : match.end() + len(text)]
        if ": " in text and _capitals(text) >= 4 and not _INSTITUTION.search(around):
            yield match.end(), match.end() + len(text), text
    for match in itertools.chain(_LINKED.finditer(answer), _BY_AUTHORS.finditer(answer), _IN_BRACKETS.finditer(answer)):
        text = match["title"]
        if len(text.split()) >= 4 and is_capitalized(text) and not _INSTITUTION.search(text):
            yield *match.span("title"), text


def _listed(answer: str) -> Iterator[Piece]:
    """The titles in a list of references."""
    for entry in _ENTRIES:
        for match in entry.finditer(answer):
            text = match["title"].strip(" .,;:'\"")
            if len(text.split()) >= 3 and not text.endswith("et al"):
                yield *match.span("title"), text
