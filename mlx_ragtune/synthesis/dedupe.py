"""Questions that ask the same: exactly, nearly, or as the benchmark does.

Nearly means a cosine of at least 0.92 between TF-IDF vectors of words and character 4-grams.
The threshold keeps "How many bits does QLoRA save?" and "How many bits does DoRA save?" apart.
"""

import math
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mlx_ragtune.records import Pair
from mlx_ragtune.scoring.answers.normalize import fold
from mlx_ragtune.synthesis.benchmark_view import BenchmarkView, HeldOut

NEAR = 0.92
DIMENSIONS = 4096
WORD_WEIGHT = 3.0
LACKING = 1 - NEAR**2 + 1e-9
"""The most that a match can lack of a question: a share of the squared length of its vector."""
CACHED = 2048
SAMPLE = 5000
"""How many questions of a benchmark the word frequencies are taken from."""

Vectors = NDArray[np.float32]


def normal_form(question: str) -> str:
    """The words of a question without differences in case, punctuation and spelling variants."""
    return " ".join(re.findall(r"\w+(?:[.+]\w+)*\+*", fold(question)))


def _features(form: str) -> Counter[str]:
    """Words and (marked by ``#``) character 4-grams of a text in normal form, with their counts."""
    padded = f" {form} "
    counts = Counter(form.split())
    counts.update("#" + padded[start : start + 4] for start in range(len(padded) - 3))
    return counts


class Vectorizer:
    """TF-IDF vectors of unit length; document frequencies come from ``texts``."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._frequency: Counter[str] = Counter()
        self._texts = 0
        self.weights = lru_cache(maxsize=CACHED)(self._weights)
        """``_weights``, remembering the last few texts."""
        for text in texts:
            self._frequency.update(_features(normal_form(text)).keys())
            self._texts += 1

    def rank(self, feature: str) -> tuple[int, str]:
        """A sort key that puts rare features first."""
        return self._frequency[feature], feature

    def _weights(self, form: str) -> dict[str, float]:
        """Feature → weight of a text in normal form; the squares sum to 1. Empty without a letter or digit."""
        weights = {
            feature: (1 + math.log(count))
            * (math.log((1 + self._texts) / (1 + self._frequency[feature])) + 1)
            * (1 if feature[0] == "#" else WORD_WEIGHT)
            for feature, count in _features(form).items()
        }
        length = math.sqrt(sum(weight * weight for weight in weights.values()))
        return {feature: weight / length for feature, weight in weights.items()} if form else {}

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """``(N, 4096)`` float32 rows of length 1 by feature hashing (0 for a text without a letter or digit)."""
        rows = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for feature, weight in self.weights(normal_form(text)).items():
                code = zlib.crc32(feature.encode())
                row[(code >> 1) % DIMENSIONS] += weight if code & 1 else -weight
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        lengths[lengths == 0] = 1
        rows /= lengths
        return rows


@dataclass(frozen=True)
class Duplicate:
    """A row ``id`` that asks what an earlier row or a benchmark question ``of`` asks; ``cosine`` is 1 when exact."""

    id: str
    of: str
    cosine: float


@dataclass(frozen=True)
class _Question:
    """A question in normal form. ``shares`` is word → its share of the squared length of the vector."""

    name: str
    form: str
    shares: dict[str, float]


class QuestionIndex:
    """Questions by name, searched for those that ask the same (cosine of at least ``NEAR``).

    A cosine with a unit vector is at most the length of what the two have in common (Cauchy-Schwarz). So a
    match has, of the indexed question, features that make up ``NEAR ** 2`` of its squared length, and at
    least one of any features that make up more than the rest. Only a few rare words of each question are
    indexed for that: 100,000 questions take seconds and little memory, and no match is missed.
    """

    def __init__(self, vectorizer: Vectorizer) -> None:
        self._vectorizer = vectorizer
        self._exact: dict[str, str] = {}
        self._questions: list[_Question] = []
        self._holders: dict[str, list[int]] = defaultdict(list)
        self._common: Counter[str] = Counter()
        """How many indexed questions have each word."""
        self._grams_indexed = False

    def add(self, name: str, question: str) -> None:
        """Remember the question; of two that are exactly the same, the first counts."""
        form = normal_form(question)
        if form in self._exact:
            return
        self._exact[form] = name
        weights = self._vectorizer.weights(form)
        for feature in self._prefix(weights):
            self._holders[feature].append(len(self._questions))
            self._grams_indexed = self._grams_indexed or feature[0] == "#"
        shares = {feature: weight**2 for feature, weight in weights.items() if feature[0] != "#"}
        self._common.update(shares.keys())
        self._questions.append(_Question(name, form, shares))

    def _prefix(self, weights: Mapping[str, float]) -> list[str]:
        """Words, the rarest first, and 4-grams only if needed, that make up more than a match can lack.

        Rare among the questions so far: what papers hardly use, such as "what" and "does", is in half of them.
        """
        prefix: list[str] = []
        total = 0.0

        def rank(feature: str) -> tuple[bool, int, int, str]:
            return feature[0] == "#", self._common[feature], *self._vectorizer.rank(feature)

        for feature in sorted(weights, key=rank):
            if total > LACKING:
                break
            prefix.append(feature)
            total += weights[feature] ** 2
        return prefix

    def matches(self, question: str) -> list[tuple[str, float]]:
        """(name, cosine) of every question that asks the same, most similar first; ties in the order of addition."""
        form = normal_form(question)
        matches = [(self._exact[form], 1.0)] if form in self._exact else []
        words = set(form.split())
        features = words | _features(form).keys() if self._grams_indexed else words
        for number in sorted({number for feature in features for number in self._holders.get(feature, ())}):
            other = self._questions[number]
            lacking = sum(share for word, share in other.shares.items() if word not in words)
            if lacking <= LACKING and other.form != form and (cosine := self._cosine(form, other.form)) >= NEAR:
                matches.append((other.name, cosine))
        return sorted(matches, key=lambda match: -match[1])

    def _cosine(self, left: str, right: str) -> float:
        others = self._vectorizer.weights(right)
        return sum(weight * others.get(feature, 0.0) for feature, weight in self._vectorizer.weights(left).items())


class Seen:
    """The questions so far; grows by those that repeat none of them."""

    def __init__(self, vectorizer: Vectorizer) -> None:
        self._index = QuestionIndex(vectorizer)

    def add(self, identifier: str, question: str) -> Duplicate | None:
        """The earlier question that this one repeats. If there is none, it is remembered and None is returned."""
        for name, cosine in self._index.matches(question):
            return Duplicate(identifier, name, cosine)
        self._index.add(identifier, question)
        return None


def without_duplicates(pairs: Sequence[Pair]) -> tuple[list[Pair], list[Duplicate]]:
    """The pairs that repeat no question of an earlier pair, and the duplicates.

    Refusals are compared with refusals only: one may repeat an answerable question (the same question
    with and without its paper).
    """
    vectorizer = Vectorizer(pair.question for pair in pairs)
    seen = {refuses: Seen(vectorizer) for refuses in (True, False)}
    kept: list[Pair] = []
    duplicates: list[Duplicate] = []
    for pair in pairs:
        duplicate = seen[pair.kind == "refusal"].add(pair.id, pair.question)
        if duplicate is None:
            kept.append(pair)
        else:
            duplicates.append(duplicate)
    return kept, duplicates


@dataclass(frozen=True)
class Contamination:
    """What the pairs would teach of the benchmark.

    ``questions``: pairs that ask a benchmark question. ``papers``: pair id → held-out papers that it uses.
    """

    questions: tuple[Duplicate, ...]
    papers: dict[str, tuple[str, ...]]

    def __bool__(self) -> bool:
        return bool(self.questions or self.papers)


def contamination(pairs: Sequence[Pair], benchmark: BenchmarkView, held: HeldOut) -> Contamination:
    """Pairs that repeat a benchmark question (cosine ≥ 0.92) or use a paper of the benchmark or a copy of one."""
    used = {pair.id: tuple(sorted(held.papers & set(pair.papers))) for pair in pairs}
    papers = {identifier: shared for identifier, shared in used.items() if shared}
    if not pairs or not benchmark.questions:
        return Contamination((), papers)
    sample = benchmark.questions[:: -(-len(benchmark.questions) // SAMPLE)]
    index = QuestionIndex(Vectorizer([*sample, *(pair.question for pair in pairs)]))
    ids: dict[str, list[str]] = defaultdict(list)
    for pair in pairs:
        form = normal_form(pair.question)
        ids[form].append(pair.id)
        index.add(form, pair.question)
    nearest: dict[str, tuple[str, float]] = {}
    for question in benchmark.questions:
        for form, cosine in index.matches(question):
            if cosine > nearest.get(form, ("", 0.0))[1]:
                nearest[form] = question, cosine
    repeated = (Duplicate(name, *nearest[form]) for form, names in ids.items() if form in nearest for name in names)
    return Contamination(tuple(repeated), papers)
