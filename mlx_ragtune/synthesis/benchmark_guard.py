"""Rows that teach the benchmark: near paraphrases of its questions, and answers that contain its references.

A paraphrase has the same names (words with a digit, or with a capital after the first word) and a weighted Jaccard
similarity of at least 0.5 of its content words, compared by their first five letters and weighted by rarity. It says
that two questions ask for much the same, and cannot know synonyms. An answer contains a reference when 8 of its words
in a row, taken at every fourth word, occur in it outside of quoted titles: each copy of 11 words is found.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from mlx_ragtune.records import Pair
from mlx_ragtune.scoring.answers.normalize import fold, words
from mlx_ragtune.synthesis.benchmark_view import BenchmarkView
from mlx_ragtune.synthesis.content_words import content_stems
from mlx_ragtune.synthesis.dedupe import SAMPLE, QuestionIndex, Vectorizer

ASKS = "asks a benchmark question"
PARAPHRASES = "paraphrases a benchmark question"
REFERENCE = "contains a benchmark reference"
ALIKE = 0.5
"""24 of 24 paraphrases of questions of ``data/rag_notes/benchmark.jsonl`` reach it, none of its 112 questions among
themselves, and none of the 360 training questions."""
RUN = 8
STRIDE = 4
_PLACE = re.compile(r"(?: (?:in|of|by|from|according to))? [\"“][^\"“”\n]{3,300}[\"”]")
_TITLE = re.compile(r"[\"“][^\"“”\n]{3,300}[\"”]")


def _names(text: str) -> frozenset[str]:
    """Words with a digit or an inner capital, or with a capital after the first word; folded."""
    tokens = re.findall(r"[^\W_](?:[\w.+-]*[\w+])?", text)
    return frozenset(
        fold(token)
        for position, token in enumerate(tokens)
        if re.search(r"\d|.[A-Z]", token) or (position and token[:1].isupper())
    )


def _runs(text: str, stride: int) -> Iterator[int]:
    """Hashes of the runs of 8 words of a text without its quoted titles, at every ``stride``-th word."""
    spoken = words(fold(_TITLE.sub(" . ", text)))
    for start in range(0, len(spoken) - RUN + 1, stride):
        yield hash(tuple(spoken[start : start + RUN]))


class BenchmarkGuard:
    """Says why a pair would teach the benchmark. Built once; each look-up reads a few of the questions."""

    def __init__(self, benchmark: BenchmarkView) -> None:
        questions = benchmark.questions
        self._index = QuestionIndex(Vectorizer(questions[:: -(-len(questions) // SAMPLE)] if questions else ()))
        self._stems: list[set[str]] = []
        self._named: list[frozenset[str]] = []
        self._holders: dict[str, list[int]] = defaultdict(list)
        self._frequency: Counter[str] = Counter()
        for question in questions:
            self._index.add(question, question)
            self._add(question)
        self._references = {run for reference in benchmark.references for run in _runs(reference, STRIDE)}

    def _add(self, question: str) -> None:
        stems = content_stems(question)
        for stem in stems:
            self._holders[stem].append(len(self._stems))
        self._frequency.update(stems)
        self._stems.append(stems)
        self._named.append(_names(question))

    def _weight(self, stem: str) -> float:
        return math.log((2 + len(self._stems)) / (1 + self._frequency[stem])) + 1

    def paraphrased(self, question: str) -> bool:
        """Whether a benchmark question asks for much the same."""
        stems, names = content_stems(question), _names(question)
        candidates = {number for stem in stems for number in self._holders.get(stem, ())}
        for number in candidates:
            if names != self._named[number]:
                continue
            other = self._stems[number]
            union = sum(map(self._weight, stems | other))
            if union and sum(map(self._weight, stems & other)) >= ALIKE * union:
                return True
        return False

    def contains_reference(self, answer: str) -> bool:
        """Whether the answer has a run of words of a benchmark reference."""
        return bool(self._references) and any(run in self._references for run in _runs(answer, 1))

    def reason(self, pair: Pair) -> str:
        """Why the pair would teach the benchmark; "" if it would not. Its question is read with and without titles."""
        bare = _PLACE.sub("", pair.question)
        asked = (pair.question, bare) if bare != pair.question else (pair.question,)
        if any(self._index.matches(question) for question in asked):
            return ASKS
        if self.contains_reference(pair.answer):
            return REFERENCE
        return PARAPHRASES if any(map(self.paraphrased, asked)) else ""


def guard_report(pairs: Sequence[Pair], guard: BenchmarkGuard) -> dict[str, list[str]]:
    """Reason → ids of the pairs that it holds for."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for pair in pairs:
        if reason := guard.reason(pair):
            reasons[reason].append(pair.id)
    return dict(reasons)
