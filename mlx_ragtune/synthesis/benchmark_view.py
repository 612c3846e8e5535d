"""What the data set depends on of a benchmark: the papers that it asks about, its questions and their references.

Nuggets, keywords, topics, ids and the order of the questions change no training row.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mlx_ragtune.records import Document, Question
from mlx_ragtune.scoring.answers.benchmark_rows import read_questions
from mlx_ragtune.synthesis.paper_copies import Overlap, benchmark_copies


@dataclass(frozen=True)
class BenchmarkView:
    """The benchmark's gold papers, and its different questions and the references of answerable ones, sorted."""

    papers: frozenset[str]
    questions: tuple[str, ...]
    references: tuple[str, ...] = ()


def view_of(questions: Iterable[Question]) -> BenchmarkView:
    """The view of questions that were read."""
    papers: set[str] = set()
    texts: set[str] = set()
    references: set[str] = set()
    for question in questions:
        papers.update(question.papers)
        texts.add(question.question)
        if question.answerable:
            references.add(question.reference)
    return BenchmarkView(frozenset(papers), tuple(sorted(texts)), tuple(sorted(references - {""})))


def read_view(benchmark: Path) -> BenchmarkView:
    """The view of a benchmark file, with papers as they are written there, which need not be their ids.

    Raises InputError with ``file:line`` for a row that is not a question.
    """
    return view_of(read_questions(benchmark))


@dataclass(frozen=True)
class HeldOut:
    """What must teach nothing before the evaluation: the benchmark's gold papers, and the copies of them.

    ``papers`` holds the ids of both.
    """

    papers: frozenset[str]
    copies: tuple[Overlap, ...]

    def copies_of(self, papers: Iterable[str]) -> frozenset[str]:
        """The ids of the copies of some gold papers."""
        originals = set(papers)
        return frozenset(overlap.paper for overlap in self.copies if overlap.original in originals)


def held_out(papers: frozenset[str], documents: Iterable[Document]) -> HeldOut:
    """The gold papers, by their ids, with their copies in the corpus: the only rule for what training may not see."""
    copies = benchmark_copies({document.id: document.text for document in documents}, papers)
    return HeldOut(papers | {overlap.paper for overlap in copies}, copies)


def dataset_view(benchmark: Path) -> list[list[str]]:
    """The view as JSON values, for the data set's key: equal exactly when the view is equal."""
    view = read_view(benchmark)
    return [sorted(view.papers), list(view.questions), list(view.references)]
