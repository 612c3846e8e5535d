"""M3: which papers does the answer cite by title, and do they exist?

``titles`` says where a title of the corpus is cited. A title that several papers bear cites all of them at once:
it is right when one of them is. Text that looks like a title (``made_up_titles``) but matches no paper of the
corpus and nothing that was shown is fabricated.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rapidfuzz import fuzz

from mlx_ragtune.scoring.answers.made_up_titles import title_candidates
from mlx_ragtune.scoring.answers.normalize import fold
from mlx_ragtune.scoring.answers.titles import (
    GONE,
    SHORT_TITLE_CHARACTERS,
    THRESHOLD,
    alias_of,
    cut_titles,
    misspelled_quotes,
    misspelled_titles,
    papers_by_title,
)

_GONE = re.compile(f"{GONE}+")


@dataclass(frozen=True)
class Citations:
    """The corpus papers that an answer cites, and the titles that it fabricates.

    Each citation is the sorted ids of the papers that bear the cited title: mostly one, several if they have the
    same title.
    """

    cited: tuple[tuple[str, ...], ...]
    fabricated: tuple[str, ...]


def without_titles(answer: str, titles: Mapping[str, str]) -> str:
    """The folded answer without any cited title: a title names a source and states nothing."""
    rest, _ = cut_titles(answer, titles.values())
    folded = fold(rest)
    spans = misspelled_titles(folded, titles.values())
    starts, ends = [start for start, _, _ in spans], [end for _, end, _ in spans]
    kept = zip([0, *ends], [*starts, len(folded)], strict=True)
    return _GONE.sub(" … ", GONE.join(folded[end:start] for end, start in kept)).strip()


def cited_papers(answer: str, titles: Mapping[str, str]) -> tuple[str, ...]:
    """Sorted ids of the papers in ``titles`` (id → title) that the answer cites by title or alias."""
    return tuple(sorted({paper for papers in _citations(answer, titles) for paper in papers}))


def _citations(answer: str, titles: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    """The papers of each cited title. A title beside its own alias ("RAGAS") is one citation."""
    rest, cited = cut_titles(answer, titles.values())
    cited |= {title for _, _, title in misspelled_titles(fold(rest), titles.values())}
    cited |= misspelled_quotes(rest, titles.values())
    whole = papers_by_title(titles)
    aliases = papers_by_title({identifier: alias_of(title) for identifier, title in titles.items()})
    _, short = cut_titles(rest, [alias_of(title) for title in titles.values()])
    sets = {whole[title] for title in cited} | {aliases[alias] for alias in short}
    return tuple(sorted(papers for papers in sets if not any(set(other) < set(papers) for other in sets)))


def _known(candidate: str, titles: Mapping[str, str], shown: str) -> bool:
    """Whether a piece of text is a title of the corpus, a part of one, or was shown."""
    folded = fold(candidate)
    if folded in shown:
        return True
    for title in titles.values():
        whole = fold(title)
        alias = fold(alias_of(title))
        if folded == alias or folded.startswith(f"{whole} ") or fuzz.ratio(folded, whole) >= THRESHOLD:
            return True
        shorter, longer = sorted((folded, whole), key=len)
        if len(shorter) >= SHORT_TITLE_CHARACTERS and fuzz.partial_ratio(shorter, longer) >= THRESHOLD:
            return True
    return (
        len(folded) >= SHORT_TITLE_CHARACTERS
        and len(shown) >= len(folded)
        and fuzz.partial_ratio(folded, shown) >= THRESHOLD
    )


def find_citations(answer: str, titles: Mapping[str, str], shown: Iterable[str] = ()) -> Citations:
    """The corpus papers that are cited and the titles that are fabricated. Text in ``shown`` is not fabricated."""
    source = fold("\n".join(shown))
    fabricated = (text for text in title_candidates(answer) if not _known(text, titles, source))
    return Citations(_citations(answer, titles), tuple(fabricated))


def citation_metrics(
    citations: Citations, *, gold: Iterable[str], in_context: Iterable[str], answerable: bool
) -> dict[str, float]:
    """The citation metrics of one answer; undefined ones are absent.

    - citation_rate: 1 when a corpus title is cited (answerable questions only)
    - citation_precision: share of titles of gold papers among all cited titles, fabricated ones included (if any is
      cited)
    - citation_recall: share of the gold papers that are cited (answerable questions with gold papers)
    - outside_context_citation: 1 when no paper of a cited title was among the contexts
    - fabricated_title: 1 when a title is fabricated
    """
    wanted, present = set(gold), set(in_context)
    cited = {paper for papers in citations.cited for paper in papers}
    right = sum(not wanted.isdisjoint(papers) for papers in citations.cited)
    metrics = {
        "outside_context_citation": float(any(present.isdisjoint(papers) for papers in citations.cited)),
        "fabricated_title": float(bool(citations.fabricated)),
    }
    total = len(citations.cited) + len(citations.fabricated)
    if answerable:
        metrics["citation_rate"] = float(bool(cited))
        if total and wanted:
            metrics["citation_precision"] = right / total
        if wanted:
            metrics["citation_recall"] = len(cited & wanted) / len(wanted)
    return metrics
