"""Which papers are set aside for a benchmark, before anything is written: seeded, of all lengths, copies together.

A group of copies counts as one paper: questions are written on one of its members, and all of them are kept out of
training. The groups are sorted by the length of their text and cut into as many parts of equal size as papers are
wanted; one group of each part is drawn.
"""

import hashlib
import itertools
import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from mlx_ragtune.errors import InputError
from mlx_ragtune.records import Chunk, Document
from mlx_ragtune.synthesis.paper_copies import copies_by_paper
from mlx_ragtune.synthesis.writable import is_writable

SHARE = 1 / 3
"""Of the papers, set aside by default."""
LEAST, MOST = 6, 40
"""Fewest and most papers that are set aside by default."""
TRAINED = 2
"""Papers that must remain: one to train on and one to validate on."""


@dataclass(frozen=True)
class Candidates:
    """The papers that may be set aside, by length of text, and how many groups of copies the corpus has.

    ``used`` is how many groups the recipe's own pairs use; these are never set aside.
    """

    papers: tuple[str, ...]
    groups: int
    used: int

    @property
    def most(self) -> int:
        """How many can be set aside so that enough remain to train on."""
        return min(len(self.papers), max(0, self.groups - TRAINED))


def candidates(documents: Sequence[Document], chunks: Sequence[Chunk], used: Collection[str]) -> Candidates:
    """The papers that may be set aside: one of each group of copies, with chunks that questions can be written on.

    ``used``: papers of the user's own pairs; a copy of one is used too.
    """
    groups = copies_by_paper({document.id: document.text for document in documents})
    members: dict[str, list[str]] = defaultdict(list)
    for paper, group in groups.items():
        members[group].append(paper)
    writable = {chunk.document_id for chunk in chunks if is_writable(chunk)}
    length = {document.id: len(document.text) for document in documents}
    taken = {groups[paper] for paper in used if paper in groups}
    free = []
    for group, papers in members.items():
        own = sorted(writable.intersection(papers), key=lambda paper: (-length[paper], paper))
        if group not in taken and own:
            free.append(own[0])
    return Candidates(tuple(sorted(free, key=lambda paper: (length[paper], paper))), len(members), len(taken))


def default_count(found: Candidates) -> int:
    """How many papers are set aside unless the user says: a third, from 6 to 40, and never more than half.

    Papers that the user's own pairs leave free cost no training rows, so all of them are taken, up to 40.
    """
    if found.used:
        return min(len(found.papers), MOST, found.most)
    return min(max(math.ceil(SHARE * found.groups), LEAST), found.groups // 2, MOST, found.most)


def set_aside(found: Candidates, count: int, *, seed: int, kept: Collection[str] = ()) -> tuple[str, ...]:
    """``count`` papers, sorted by id: those in ``kept``, and one drawn from each part of the others.

    Raises InputError when there are not so many, or too few would remain to train on.
    """
    if count > found.most or count < 1:
        own = " that your pairs do not use" if found.used else ""
        raise InputError(
            f"{_papers(count)} cannot be set aside: the corpus has {_papers(len(found.papers))}{own} with text to ask "
            f"about (copies count as one), and {TRAINED} papers must remain to train on",
            fix=f"ragtune draft RECIPE --papers {found.most}" if found.most else "add papers to corpus.folder",
        )
    before = [paper for paper in found.papers if paper in kept]
    free = [paper for paper in found.papers if paper not in kept]
    wanted = max(0, count - len(before))
    cuts = [round(part * len(free) / wanted) for part in range(wanted + 1)] if wanted else []
    drawn = [min(free[start:end], key=lambda paper: _rank(seed, paper)) for start, end in itertools.pairwise(cuts)]
    return tuple(sorted([*before, *drawn]))


def _papers(count: int) -> str:
    return f"{count} paper{'s' * (count != 1)}"


def _rank(seed: int, paper: str) -> str:
    return hashlib.sha256(f"{seed}\0set aside\0{paper}".encode()).hexdigest()


def by_paper(chunks: Sequence[Chunk], papers: Collection[str]) -> Mapping[str, list[Chunk]]:
    """The chunks of each of these papers that questions can be written on, in the order of the paper."""
    own: dict[str, list[Chunk]] = defaultdict(list)
    for chunk in chunks:
        if chunk.document_id in papers and is_writable(chunk):
            own[chunk.document_id].append(chunk)
    return own
