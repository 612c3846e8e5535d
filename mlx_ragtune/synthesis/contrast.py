"""Contrast pairs: an answerable question once more, without its paper, and a refusal as its answer.

    question, with its paper among the passages  ─► its answer      (the pair itself)
    question, top_k of the other papers          ─► a refusal       (made here)

Both rows have the same question, so only the passages tell the model which of the two is right. The reverse, an answer
to a near-miss question whose paper is shown, is not made: its answer would have to be written first.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mlx_ragtune.records import Chunk, Pair, Passage
from mlx_ragtune.synthesis.checks import one_line, quote_in
from mlx_ragtune.synthesis.judging import agreement
from mlx_ragtune.synthesis.visible_corpus import VisibleCorpus, by_hash

WITHOUT = "~without"
"""Ending of the id of a contrast pair; before it stands the id of the pair that it was made of."""
MAY_ANSWER = 0.5
"""From this share of what an answer adds to its question, a passage may answer the question too."""
NOTHING_ELSE = "no passage of another paper is found"
ANSWERED = "a passage of another paper may answer it"
TAKEN = "its id is taken"
REFUSED = "the data set has a refusal of its question"

Refuse = Callable[[Pair], str]
"""The refusal of a pair's question."""


@dataclass(frozen=True)
class ContrastReport:
    """Pairs wanted (the share of the answerable ones) and made, and why others could not be, by reason."""

    wanted: int
    made: int
    skipped: dict[str, int]


def contrast_pair(pair: Pair, refuse: Refuse) -> Pair:
    """The pair's question without its papers: a near miss."""
    return Pair(f"{pair.id}{WITHOUT}", "refusal", pair.question, refuse(pair), pair.papers, (), "near_miss")


def may_answer(pair: Pair, passages: Sequence[Chunk | Passage]) -> bool:
    """Whether a passage holds the pair's evidence, or at least half of what its answer adds to the question.

    Numbers and identifiers count where the answer adds any, words else, as in ``judging.agreement``.
    """
    titles = re.findall(r'"([^"]{4,})"', pair.answer)
    return any(
        agreement(chunk.text, pair, titles) >= MAY_ANSWER
        or any(quote_in(evidence.quote, chunk.text) is None for evidence in pair.evidence)
        for chunk in passages
    )


@dataclass
class Contrast:
    """Makes the contrast pairs of one split. ``made`` and ``report`` are those of the last ``make``."""

    share: float
    refuse: Refuse
    made: list[Pair] = field(default_factory=list)
    report: ContrastReport = field(default_factory=lambda: ContrastReport(0, 0, {}))

    def make(
        self, pairs: Sequence[Pair], refusals: Sequence[Pair], corpus: VisibleCorpus, *, top_k: int, seed: int
    ) -> list[tuple[Pair, list[str]]]:
        """(contrast pair, chunk ids of its passages in the order in which they are shown) of a share of the pairs.

        The passages are what the retriever finds without the pair's papers and their copies. Pairs are tried in an
        order that depends on the seed alone; one whose question the passages may answer, or that is among the
        ``refusals`` already, is passed over.
        """
        wanted, refused = round(self.share * len(pairs)), {one_line(pair.question).casefold() for pair in refusals}
        taken = {pair.id for pair in (*pairs, *refusals)}
        skipped: Counter[str] = Counter()
        rows: list[tuple[Pair, list[str]]] = []
        for pair in sorted(pairs, key=lambda pair: by_hash(seed, "contrast", pair.id)):
            if len(rows) == wanted:
                break
            found = corpus.search(pair.question, without=corpus.versions(pair.papers))[:top_k]
            made = contrast_pair(pair, self.refuse)
            again = one_line(pair.question).casefold() in refused
            problem = TAKEN if made.id in taken else REFUSED if again else _problem(pair, corpus, found)
            if problem:
                skipped[problem] += 1
            else:
                rows.append((made, sorted(found, key=lambda name: by_hash(seed, "place", made.id, name))))
        self.made = [pair for pair, _ in rows]
        self.report = ContrastReport(wanted, len(rows), dict(skipped.most_common()))
        return rows


def _problem(pair: Pair, corpus: VisibleCorpus, found: Sequence[str]) -> str:
    """Why the question cannot be refused on these chunks, or an empty text."""
    if not found:
        return NOTHING_ELSE
    return ANSWERED if may_answer(pair, [corpus.chunks[name] for name in found]) else ""
