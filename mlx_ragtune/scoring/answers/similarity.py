"""Similarity to the reference answer: embedding cosine and BERTScore. Secondary: a negation fools both.

They measure what an answer is about, not whether it is true, so they decide nothing. ``planted_rows`` shows
their values for answers that are known to be right or wrong.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.floating]
Embed = Callable[[Sequence[str]], Vectors]
TokenVectors = Callable[[str], Vectors]


def _unit(vectors: Vectors) -> NDArray[np.float64]:
    """Rows scaled to length 1, in float64; a zero row stays zero."""
    rows = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.where(lengths == 0, 1.0, lengths))


def cosine(first: Vectors, second: Vectors) -> float | None:
    """Cosine of two embeddings of shape [D]; None when one is zero (an empty answer has no direction)."""
    left, right = _unit(first), _unit(second)
    if not left.any() or not right.any():
        return None
    return float(left @ right)


@dataclass(frozen=True)
class BertScore:
    """Precision, recall and F1 of greedy token matching."""

    precision: float
    recall: float
    f1: float


def bertscore(candidate: Vectors, reference: Vectors) -> BertScore | None:
    """BERTScore (Zhang et al. 2020, arXiv 1904.09675) without idf and without baseline rescaling.

    ``candidate`` [T, D] and ``reference`` [S, D] are contextual token vectors, without special tokens.
    Precision: mean over candidate tokens of the best cosine with a reference token; recall the reverse;
    F1 their harmonic mean. None when either has no tokens; F1 is 0 unless both are positive.
    """
    if len(candidate) == 0 or len(reference) == 0:
        return None
    similarities = _unit(candidate) @ _unit(reference).T
    precision, recall = float(similarities.max(axis=1).mean()), float(similarities.max(axis=0).mean())
    f1 = 2 * precision * recall / (precision + recall) if precision > 0 and recall > 0 else 0.0
    return BertScore(precision, recall, f1)


def similarity_metrics(text: str, reference: str, embed: Embed, token_vectors: TokenVectors | None) -> dict[str, float]:
    """``similarity`` and, with token vectors, ``bertscore_f1`` of a valid answer; undefined ones are absent."""
    metrics = {"similarity": cosine(*embed([text, reference]))}
    if token_vectors is not None:
        score = bertscore(token_vectors(text), token_vectors(reference))
        metrics["bertscore_f1"] = None if score is None else score.f1
    return {name: value for name, value in metrics.items() if value is not None}


@dataclass(frozen=True)
class Planted:
    """An answer known to be right or wrong, to show the reader its similarity."""

    name: str
    text: str
    right: bool


REFERENCE = (
    "QLoRA quantizes the frozen base model to 4 bits and trains low-rank adapters in 16 bits, which lowers "
    "the memory for a 65B model from more than 780GB to less than 48GB without losing performance."
)
PLANTED = (
    Planted("concise and correct", "It fits a 65B model into 48GB, at full 16-bit quality.", True),
    Planted(
        "negated",
        REFERENCE.replace("which lowers", "which does not lower"),
        False,
    ),
    Planted("wrong numbers", REFERENCE.replace("780GB", "870GB").replace("48GB", "84GB"), False),
    Planted("refusal", "The provided papers do not contain this information.", False),
    Planted("cut at three words", "QLoRA quantizes the", False),
)


@dataclass(frozen=True)
class PlantedRow:
    """The similarity of a planted answer."""

    name: str
    right: bool
    similarity: float | None
    bertscore_f1: float | None


def planted_rows(embed: Embed, token_vectors: TokenVectors | None = None) -> list[PlantedRow]:
    """Each planted answer with its similarity to the reference."""
    rows = []
    for planted in PLANTED:
        metrics = similarity_metrics(planted.text, REFERENCE, embed, token_vectors)
        rows.append(PlantedRow(planted.name, planted.right, metrics.get("similarity"), metrics.get("bertscore_f1")))
    return rows
