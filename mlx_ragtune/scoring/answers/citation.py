"""M3: which papers does the answer cite by title, and do they exist?

A title is cited when rapidfuzz's ``partial_ratio`` of the folded title in the folded answer is at least
90; of overlapping matches the best counts (LoRA and LoRA+ are near neighbours). The part before a
title's colon is an alias: from three words on it counts wherever it stands, a shorter one ("RAGAS") only
where it cites ("the RAGAS paper", "according to RAGAS", quoted), since as the name of a method it cites
nothing. Text that looks like a title and belongs to no paper of the corpus is fabricated.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rapidfuzz import fuzz

from mlx_ragtune.scoring.answers.normalize import find_phrase, fold

THRESHOLD = 90.0
SHORT_TITLE_CHARACTERS = 15

_GONE = "\0"  # stands where a title was found: no title and no folding contains it

_SMALL = frozenset(
    re.findall(r"\w+", "a an and are as at be by can for from in into is it of on or the to via vs with without")
)
_QUOTED = re.compile(r"[\"“”«]([^\"“”«»\n]{8,200})[\"“”»]|(?<!\w)[*_]{1,2}([^*_\n]{8,200})[*_]{1,2}(?!\w)")
_CUE = re.compile(r"\b(?:(?:en)?titled|(?:the|this) (?:paper|study|article)|[Aa]ccording to)[,:]? (?=[A-Z])")
_TOKEN = re.compile(r"\s*([^\s,;.!?\"“”()]+(?:\.\d+)?)([,;.!?\"“”()]?)")


@dataclass(frozen=True)
class Citations:
    """Ids of the corpus papers that an answer cites, sorted, and the titles that it made up."""

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


def _title_matches(folded: str, titles: Mapping[str, str]) -> Iterable[tuple[float, int, int, str]]:
    """(score, start, end, id) of the best match of each title in the folded answer."""
    for identifier, title in titles.items():
        needle = fold(title)
        if len(needle) < SHORT_TITLE_CHARACTERS:
            yield from ((100.0, *span, identifier) for span in find_phrase(folded, title))
        elif len(folded) >= len(needle):
            found = fuzz.partial_ratio_alignment(needle, folded, score_cutoff=THRESHOLD)
            if found and found.score >= THRESHOLD:
                yield found.score, found.dest_start, found.dest_end, identifier
        elif fuzz.ratio(needle, folded) >= THRESHOLD:
            yield fuzz.ratio(needle, folded), 0, len(folded), identifier


def _title_spans(folded: str, titles: Mapping[str, str]) -> list[tuple[int, int, str]]:
    """(start, end, id) of every title in the folded answer, repeats too; of overlapping ones the best."""
    spans: list[tuple[int, int, str]] = []
    rest = folded
    while True:
        found: list[tuple[int, int, str]] = []
        ranked = sorted(_title_matches(rest, titles), key=lambda one: (-one[0], one[1] - one[2], one[3]))
        for _score, start, end, identifier in ranked:
            if all(end <= left or start >= right for left, right, _ in found):
                found.append((start, end, identifier))
        if not found:
            return spans
        for start, end, _ in found:
            rest = rest[:start] + _GONE * (end - start) + rest[end:]
        spans += found


def without_titles(answer: str, titles: Mapping[str, str]) -> str:
    """The folded answer with every corpus title cut out: a title names a source, it states nothing."""
    folded = fold(answer)
    for start, end, _ in sorted(_title_spans(folded, titles), reverse=True):
        folded = f"{folded[:start]} … {folded[end:]}"
    return folded


def cited_papers(answer: str, titles: Mapping[str, str]) -> tuple[str, ...]:
    """Sorted ids of the papers in ``titles`` (id → title) that the answer cites by title or alias."""
    folded = fold(answer)
    spans = _title_spans(folded, titles)
    cited = {identifier for _, _, identifier in spans}
    for identifier, title in titles.items():
        alias = _alias(title)
        if len(alias.split()) >= 3:
            places = find_phrase(folded, alias)
            if any(all(end <= left or start >= right for left, right, _ in spans) for start, end in places):
                cited.add(identifier)
        elif alias and _in_citing_position(answer, alias):
            cited.add(identifier)
    return tuple(sorted(cited))


def _run_of_capitals(text: str) -> str:
    """The title-like words that ``text`` begins with: capitalised, numbers and small words, to a stop."""
    kept: list[str] = []
    for match in _TOKEN.finditer(text):
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
    """Pieces of the answer that look like a title, in order.

    Quoted or emphasised text of at least three words, at least half of its longer ones capitalised;
    and capitalised words after "titled", "the paper" (three of them) or "according to" (three with a
    colon, else five: fewer may be the authors' names).
    """
    found: dict[str, None] = {}
    for match in _QUOTED.finditer(answer):
        text = (match[1] or match[2]).strip(" .,;")
        long_words = [word for word in text.split() if word.lower().strip(":") not in _SMALL]
        if len(text.split()) >= 3 and 2 * _capitals(" ".join(long_words)) >= len(long_words) > 1:
            found[text] = None
    for match in _CUE.finditer(answer):
        text = _run_of_capitals(answer[match.end() :])
        least = 3 if ":" in text or "ccording" not in match[0] else 5
        if _capitals(text) >= least:
            found[text] = None
    return tuple(found)


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
    """The corpus papers cited and the titles made up. Words that stand in ``shown`` are not made up."""
    source = fold("\n".join(shown))
    made_up = (text for text in title_candidates(answer) if not _known(text, titles, source))
    return Citations(cited_papers(answer, titles), tuple(made_up))


def citation_metrics(
    citations: Citations, *, gold: Iterable[str], in_context: Iterable[str], answerable: bool
) -> dict[str, float]:
    """The per-answer citation metrics; undefined ones absent.

    - citation_rate: 1 when a corpus title is cited (answerable questions only)
    - citation_precision: gold papers among all titles cited, made-up ones included (if any is cited)
    - citation_recall: cited papers among the gold ones (answerable questions with gold papers)
    - outside_context_citation: 1 when a cited paper was not among the contexts
    - fabricated_title: 1 when a title was made up
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
