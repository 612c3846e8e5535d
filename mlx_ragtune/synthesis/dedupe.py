"""Questions that ask the same: exactly, nearly, or as the benchmark does.

Nearly means a cosine of at least 0.92 between TF-IDF vectors of hashed words and character 4-grams.
The threshold keeps "How many bits does QLoRA save?" and "How many bits does DoRA save?" apart.
"""

import math
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlx_ragtune.records import Pair, Question
from mlx_ragtune.scoring.answers.normalize import fold

NEAR = 0.92
DIMENSIONS = 4096
BLOCK = 512
WORD_WEIGHT = 3.0

Vectors = NDArray[np.float32]


def normal_form(question: str) -> str:
    """What two questions share that are exactly the same but for case, punctuation and spelling variants."""
    return " ".join(re.findall(r"\w+(?:[.+]\w+)*\+*", fold(question)))


def _features(text: str) -> Counter[str]:
    words = normal_form(text).split()
    counts: Counter[str] = Counter()
    for word in words:
        counts[word] += 1
    joined = f" {' '.join(words)} "
    for at in range(len(joined) - 3):
        counts["#" + joined[at : at + 4]] += 1
    return counts


class Vectoriser:
    """TF-IDF vectors of unit length, by feature hashing; document frequencies come from ``texts``."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._frequency: Counter[str] = Counter()
        self._texts = 0
        for text in texts:
            self._frequency.update(_features(text).keys())
            self._texts += 1

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """``(N, 4096)`` float32 rows of length 1 (0 for a text without a letter or digit)."""
        rows = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for feature, count in _features(text).items():
                mark = zlib.crc32(feature.encode())
                rarity = math.log((1 + self._texts) / (1 + self._frequency[feature])) + 1
                weight = (1 + math.log(count)) * rarity * (1 if feature[0] == "#" else WORD_WEIGHT)
                row[(mark >> 1) % DIMENSIONS] += weight if mark & 1 else -weight
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        lengths[lengths == 0] = 1
        rows /= lengths
        return rows


@dataclass(frozen=True)
class Duplicate:
    """A row that asks what an earlier row (or a benchmark question) asks; ``cosine`` is 1 when exact."""

    id: str
    of: str
    cosine: float


class Seen:
    """The questions so far, asked whether a new one is among them; grows by those that are not."""

    def __init__(self, vectoriser: Vectoriser) -> None:
        self._vectoriser = vectoriser
        self._exact: dict[str, str] = {}
        self._ids: list[str] = []
        self._columns: Vectors = np.zeros((DIMENSIONS, BLOCK), dtype=np.float32)

    def add(self, identifier: str, question: str) -> Duplicate | None:
        """The earlier question that this one repeats; None (and from now on it is one of them) if none."""
        form = normal_form(question)
        if form in self._exact:
            return Duplicate(identifier, self._exact[form], 1.0)
        vector = self._vectoriser.vectors([question])[0]
        used = np.flatnonzero(vector)  # some sixty of the dimensions
        count = len(self._ids)
        if count:
            cosines = np.einsum("dn,d->n", self._columns[used, :count], vector[used])
            best = int(np.argmax(cosines))
            if cosines[best] >= NEAR:
                return Duplicate(identifier, self._ids[best], float(cosines[best]))
        if count == self._columns.shape[1]:
            self._columns = np.concatenate([self._columns, np.zeros_like(self._columns)], axis=1)
        self._columns[used, count] = vector[used]
        self._ids.append(identifier)
        self._exact[form] = identifier
        return None


def without_duplicates(pairs: Sequence[Pair]) -> tuple[list[Pair], list[Duplicate]]:
    """The pairs whose question no earlier pair of the same kind of answer asks, and the others.

    A refusal may repeat an answerable question (the same question with and without its paper).
    """
    vectoriser = Vectoriser(pair.question for pair in pairs)
    seen = {refuses: Seen(vectoriser) for refuses in (True, False)}
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
    """What training would give away of the benchmark.

    ``questions``: pairs that ask a benchmark question. ``papers``: pair id → benchmark papers it uses.
    """

    questions: tuple[Duplicate, ...]
    papers: dict[str, tuple[str, ...]]

    def __bool__(self) -> bool:
        return bool(self.questions or self.papers)


def contamination(pairs: Sequence[Pair], benchmark: Sequence[Question]) -> Contamination:
    """Pairs that repeat a benchmark question (cosine ≥ 0.92) or rest on a paper of the benchmark."""
    gold = {paper for question in benchmark for paper in question.papers}
    used = {pair.id: tuple(sorted(gold & set(pair.papers))) for pair in pairs}
    papers = {identifier: found for identifier, found in used.items() if found}
    if not pairs or not benchmark:
        return Contamination((), papers)
    asked = [question.question for question in benchmark]
    vectoriser = Vectoriser([*asked, *(pair.question for pair in pairs)])
    targets = vectoriser.vectors(asked)
    found: list[Duplicate] = []
    for start in range(0, len(pairs), BLOCK):
        block = pairs[start : start + BLOCK]
        cosines = vectoriser.vectors([pair.question for pair in block]) @ targets.T
        for pair, row in zip(block, cosines, strict=True):
            best = int(np.argmax(row))
            if row[best] >= NEAR:
                found.append(Duplicate(pair.id, benchmark[best].id, float(row[best])))
    return Contamination(tuple(found), papers)
