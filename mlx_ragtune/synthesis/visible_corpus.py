"""The chunks that the contexts of a split may come from: by id, by paper, and by the served retriever's results."""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Protocol

from mlx_ragtune.records import Chunk, Pair, Passage
from mlx_ragtune.synthesis.checks import quote_in
from mlx_ragtune.synthesis.paper_copies import copies_by_paper

SEARCH_DEPTH = 20


class Retriever(Protocol):
    """The served retriever: the best ``k`` passages for a question, best first."""

    def search(self, question: str, k: int, *, without_papers: Collection[str] = ()) -> list[Passage]:
        """At most ``k`` passages, none of a paper in ``without_papers``."""
        ...


class VisibleCorpus:
    """The chunks that contexts may come from, by id, by paper and by search result."""

    def __init__(self, chunks: Iterable[Chunk], retriever: Retriever) -> None:
        self.chunks = {chunk.id: chunk for chunk in chunks}
        self.by_paper: dict[str, list[Chunk]] = defaultdict(list)
        for chunk in self.chunks.values():
            self.by_paper[chunk.document_id].append(chunk)
        self.retriever = retriever
        texts = {paper: " ".join(chunk.text for chunk in own) for paper, own in self.by_paper.items()}
        self.same = copies_by_paper(texts)
        self._results: dict[tuple[str, frozenset[str]], list[str]] = {}

    def versions(self, papers: Iterable[str]) -> set[str]:
        """The papers and all copies of them."""
        first = {self.same.get(paper, paper) for paper in papers}
        return {paper for paper, same in self.same.items() if same in first} | first

    def search(self, question: str, *, without: Iterable[str] = ()) -> list[str]:
        """Ids of these chunks that the retriever finds, best first; searches deeper while there are too few of them."""
        key = (question, frozenset(without))
        if key not in self._results:
            depth, ids = SEARCH_DEPTH, list[str]()
            while True:
                passages = self.retriever.search(question, depth, without_papers=tuple(sorted(key[1])))
                ids = [passage.chunk_id for passage in passages if passage.chunk_id in self.chunks]
                if len(passages) < depth or len(ids) >= SEARCH_DEPTH:
                    break
                depth *= 2
            self._results[key] = ids[:SEARCH_DEPTH]
        return self._results[key]

    def gold(self, pair: Pair) -> tuple[str, ...] | None:
        """Ids of the chunks that hold the pair's evidence, sorted; None when a quote is in no chunk."""
        gold: set[str] = set()
        for evidence in pair.evidence:
            own = self.by_paper.get(evidence.paper, ())
            holders = [chunk.id for chunk in own if quote_in(evidence.quote, chunk.text) is None]
            if not holders:
                return None
            gold.add(next((identifier for identifier in holders if identifier in gold), holders[0]))
        return tuple(sorted(gold))

    def passages(self, ids: Iterable[str]) -> list[Passage]:
        """The chunks of these ids, as the model sees them."""
        chosen = (self.chunks[identifier] for identifier in ids)
        return [Passage(chunk.id, chunk.document_id, chunk.title, chunk.text) for chunk in chosen]


def by_hash(seed: int, *parts: str) -> str:
    """A sort key that depends on the seed and the parts alone."""
    return hashlib.sha256("\0".join((str(seed), *parts)).encode()).hexdigest()
