"""M3: which papers does the answer cite by title, and do they exist?

A title is cited when rapidfuzz's ``partial_ratio`` of the folded title in the folded answer is at least
90; of overlapping matches the best counts ("LoRA" and "LoRA+" are similar titles). The part before a
title's colon is an alias. An alias of three or more words counts anywhere; a shorter one ("RAGAS") counts
only where it cites ("the RAGAS paper", "according to RAGAS", in quotation marks), because the bare name of
a method is not a citation. Text that looks like a title but matches no paper of the corpus is fabricated.
"""

import itertools
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rapidfuzz import fuzz

from mlx_ragtune.scoring.answers.normalize import find_phrase, fold

THRESHOLD = 90.0
SHORT_TITLE_CHARACTERS = 15
MAX_FUZZY_ROUNDS = 10
"""How often one misspelled title is found in one answer; every round reads the whole answer."""
MAX_CANDIDATES = 100
"""How many pieces of one answer are compared with all titles."""
MAX_CANDIDATE_WORDS = 40

Span = tuple[int, int, str]
"""Start, end and paper id of a title in the folded answer."""

_GONE = "\0"  # replaces a title that was found: no title and no folding contains it

_SMALL = frozenset(
    re.findall(r"\w+", "a an and are as at be by can for from in into is it of on or the to via vs with without")
)
_QUOTED = re.compile(r"[\"“”«]([^\"“”«»\n]{8,200})[\"“”»]|(?<!\w)[*_]{1,2}([^*_\n]{8,200})[*_]{1,2}(?!\w)")
_CUE = re.compile(r"\b(?:(?:en)?titled|(?:the|this) (?:paper|study|article)|[Aa]ccording to)[,:]? (?=[A-Z])")
_TOKEN = re.compile(r"\s*([^\s,;.!?\"“”()]+(?:\.\d+)?)([,;.!?\"“”()]?)")


@dataclass(frozen=True)
class Citations:
    """Sorted ids of the corpus papers that an answer cites, and the titles that it fabricates."""

    cited: tuple[str, ...]
    fabricated: tuple[str, ...]


def _alias(title: str) -> str:
    return title.split(":", 1)[0].strip() if ":" in title else ""


def _in_citing_position(answer: str, alias: str) -> bool:
    name = re.escape(alias)
    return bool(
        re.search(
            rf"(?<!\w){name}(?:'s|’s)? (?:paper|study|article|authors)\b"
            rf"|\b(?i:according to|titled|authors of|paper|cited in|described in) (?:the )?{name}(?![\w+])"
            rf"|[\"“«\[]{name}[\"”»\]]",
            answer,
        )
    )


def _fuzzy_matches(rest: str, folded_titles: Mapping[str, str]) -> Iterator[tuple[float, int, int, str]]:
    """(score, start, end, id) of the best match of each long title in ``rest``."""
    for identifier, needle in folded_titles.items():
        if len(needle) < SHORT_TITLE_CHARACTERS:
            continue
        if len(rest) >= len(needle):
            match = fuzz.partial_ratio_alignment(needle, rest, score_cutoff=THRESHOLD)
            if match and match.score >= THRESHOLD:
                yield match.score, match.dest_start, match.dest_end, identifier
        elif (score := fuzz.ratio(needle, rest)) >= THRESHOLD:
            yield score, 0, len(rest), identifier


def _exact_spans(folded: str, folded_titles: Mapping[str, str]) -> list[Span]:
    """Every exact occurrence of a title, longer titles first, without overlaps."""
    spans: list[Span] = []
    rest = folded
    for identifier, needle in sorted(folded_titles.items(), key=lambda item: (-len(item[1]), item[0])):
        if len(needle) < SHORT_TITLE_CHARACTERS:
            places = find_phrase(rest, needle)
        else:
            places = [match.span() for match in re.finditer(re.escape(needle), rest)]
        spans += ((start, end, identifier) for start, end in places)
        rest = _without(rest, places)
    return spans


def _without(text: str, places: Sequence[tuple[int, int]]) -> str:
    """``text`` with the given places blanked out; its length does not change."""
    if not places:
        return text
    pieces, position = [], 0
    for start, end in sorted(places):
        pieces += [text[position:start], _GONE * (end - start)]
        position = end
    return "".join([*pieces, text[position:]])


def _title_spans(folded: str, titles: Mapping[str, str]) -> list[Span]:
    """Every title in the folded answer, repeats included, in order; of overlapping matches the best.

    Exact occurrences come first. Misspelled titles are found in at most ``MAX_FUZZY_ROUNDS`` rounds, each of
    which finds every title once, so that the time is linear in the length of the answer.
    """
    folded_titles = {identifier: fold(title) for identifier, title in titles.items()}
    spans = _exact_spans(folded, folded_titles)
    rest = _without(folded, [(start, end) for start, end, _ in spans])
    for _ in range(MAX_FUZZY_ROUNDS):
        accepted: list[Span] = []
        matches = sorted(
            _fuzzy_matches(rest, folded_titles), key=lambda match: (-match[0], match[1] - match[2], match[3])
        )
        for _score, start, end, identifier in matches:
            if all(end <= left or start >= right for left, right, _ in accepted):
                accepted.append((start, end, identifier))
        if not accepted:
            break
        rest = _without(rest, [(start, end) for start, end, _ in accepted])
        spans += accepted
    return sorted(spans)


def without_titles(answer: str, titles: Mapping[str, str]) -> str:
    """The folded answer without any corpus title: a title names a source and states nothing."""
    folded = fold(answer)
    spans = _title_spans(folded, titles)
    starts, ends = [start for start, _, _ in spans], [end for _, end, _ in spans]
    kept = zip([0, *ends], [*starts, len(folded)], strict=True)
    return " … ".join(folded[end:start] for end, start in kept)


def cited_papers(answer: str, titles: Mapping[str, str]) -> tuple[str, ...]:
    """Sorted ids of the papers in ``titles`` (id → title) that the answer cites by title or alias."""
    folded = fold(answer)
    spans = _title_spans(folded, titles)
    cited = {identifier for _, _, identifier in spans}
    for identifier, title in titles.items():
        alias = _alias(title)
        if len(alias.split()) >= 3:
            if any(_is_free(spans, start, end) for start, end in find_phrase(folded, alias)):
                cited.add(identifier)
        elif alias and _in_citing_position(answer, alias):
            cited.add(identifier)
    return tuple(sorted(cited))


def _is_free(spans: Sequence[Span], start: int, end: int) -> bool:
    """Whether no span overlaps ``[start, end)``; spans are ascending and do not overlap each other."""
    following = bisect_left(spans, start, key=lambda span: span[1] - 1)
    return following == len(spans) or spans[following][0] >= end


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


def _capitals(text: str) -> int:
    return sum(word[:1].isupper() for word in text.split())


def title_candidates(answer: str) -> tuple[str, ...]:
    """Pieces of the answer that look like a title, in order, at most ``MAX_CANDIDATES``.

    Quoted or emphasized text of at least three words, with at least half of its longer words capitalized;
    and capitalized words after "titled" or "the paper" (three of them) or "according to" (three with a
    colon, else five: fewer may be the authors' names).
    """
    candidates: dict[str, None] = {}
    for match in _QUOTED.finditer(answer):
        text = (match[1] or match[2]).strip(" .,;")
        long_words = [word for word in text.split() if word.lower().strip(":") not in _SMALL]
        if len(text.split()) >= 3 and 2 * _capitals(" ".join(long_words)) >= len(long_words) > 1:
            candidates[text] = None
    for match in _CUE.finditer(answer):
        text = _run_of_capitals(answer, match.end())
        least = 3 if ":" in text or "ccording" not in match[0] else 5
        if _capitals(text) >= least:
            candidates[text] = None
    return tuple(itertools.islice(candidates, MAX_CANDIDATES))


def _known(candidate: str, titles: Mapping[str, str], shown: str) -> bool:
    folded = fold(candidate)
    if folded in shown:
        return True
    for title in titles.values():
        whole = fold(title)
        if folded == fold(_alias(title)) or fuzz.ratio(folded, whole) >= THRESHOLD:
            return True
        shorter, longer = sorted((folded, whole), key=len)
        if len(shorter) >= SHORT_TITLE_CHARACTERS and fuzz.partial_ratio(shorter, longer) >= THRESHOLD:
            return True
    return False


def find_citations(answer: str, titles: Mapping[str, str], shown: Iterable[str] = ()) -> Citations:
    """The corpus papers that are cited and the titles that are fabricated. Text in ``shown`` is not fabricated."""
    source = fold("\n".join(shown))
    fabricated = (text for text in title_candidates(answer) if not _known(text, titles, source))
    return Citations(cited_papers(answer, titles), tuple(fabricated))


def citation_metrics(
    citations: Citations, *, gold: Iterable[str], in_context: Iterable[str], answerable: bool
) -> dict[str, float]:
    """The citation metrics of one answer; undefined ones are absent.

    - citation_rate: 1 when a corpus title is cited (answerable questions only)
    - citation_precision: share of gold papers among all cited titles, fabricated ones included (if any is cited)
    - citation_recall: share of the gold papers that are cited (answerable questions with gold papers)
    - outside_context_citation: 1 when a cited paper was not among the contexts
    - fabricated_title: 1 when a title is fabricated
    """
    cited, wanted = set(citations.cited), set(gold)
    metrics = {
        "outside_context_citation": float(bool(cited - set(in_context))),
        "fabricated_title": float(bool(citations.fabricated)),
    }
    total = len(cited) + len(citations.fabricated)
    if answerable:
        metrics["citation_rate"] = float(bool(cited))
        if total and wanted:
            metrics["citation_precision"] = len(cited & wanted) / total
        if wanted:
            metrics["citation_recall"] = len(cited & wanted) / len(wanted)
    return metrics
