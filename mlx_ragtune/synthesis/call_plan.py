"""The calls to the generator: evenly over papers, sections and kinds, the same for the same corpus and seed.

The plan is longer than the quota, by as much as the lowest accepted yield requires. The generator stops each
kind at its quota.
"""

import hashlib
import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from mlx_ragtune.errors import InputError
from mlx_ragtune.recipe import GeneratorSettings
from mlx_ragtune.records import Chunk, Kind
from mlx_ragtune.synthesis.dedupe import Vectorizer
from mlx_ragtune.synthesis.off_corpus import FIELDS

Task = Literal["grounded", "partial", "synthesis", "off_corpus", "false_premise", "without_paper", "wrong_section"]
"""Kinds of generated pairs; the last two are made from accepted grounded pairs."""

WRITTEN: tuple[Task, ...] = get_args(Task)[:5]
PARTS: Mapping[Kind, Mapping[Task, float]] = {
    "grounded": {"grounded": 0.9, "partial": 0.1},
    "synthesis": {"synthesis": 1.0},
    "refusal": {"off_corpus": 0.35, "without_paper": 0.35, "false_premise": 0.2, "wrong_section": 0.1},
}
ANGLES = (
    "what was measured and what the numbers are",
    "how the method works, step by step",
    "why the authors chose what they did",
    "how it compares with what came before",
    "where it fails, and what it does not cover",
    "which data, models or settings were used",
)
LEAST_YIELD = 0.1
SPARE_CALLS = 8
PARTNERS = 64
BLOCK = 256
OWN = -2.0


@dataclass(frozen=True)
class Call:
    """One request for ``pairs`` pairs of a task on the same chunks, about ``angle``; repeated in each ``turn``."""

    task: Task
    chunk_ids: tuple[str, ...]
    pairs: int
    angle: str
    turn: int = 0


@dataclass(frozen=True)
class Plan:
    """Calls in the order in which they are made, and how many pairs of each task are wanted."""

    calls: tuple[Call, ...]
    quotas: dict[Task, int]
    seed: int


def _hash(seed: int, *parts: str) -> str:
    return hashlib.sha256("\0".join((str(seed), *parts)).encode()).hexdigest()


def _interleaved(rows: Sequence[Sequence[Chunk]]) -> list[Chunk]:
    """The first of each row, then the second of each, and so on."""
    return [chunk for layer in itertools.zip_longest(*rows) for chunk in layer if chunk is not None]


def even_order(chunks: Sequence[Chunk], seed: int) -> list[Chunk]:
    """All chunks, ordered so that any first part of them covers the papers, and each paper's sections, evenly."""
    papers: dict[str, dict[str, list[Chunk]]] = defaultdict(lambda: defaultdict(list))
    for chunk in sorted(chunks, key=lambda chunk: _hash(seed, "chunk", chunk.id)):
        papers[chunk.document_id][chunk.section].append(chunk)
    order = sorted(papers, key=lambda paper: _hash(seed, "paper", paper))
    return _interleaved([_interleaved(list(papers[paper].values())) for paper in order])


def quotas(pairs: int, shares: Mapping[Kind, float], *, sections: bool, outside: bool = True) -> dict[Task, int]:
    """Task → number of pairs; they sum to ``pairs``. Without ``sections`` there are no wrong-section pairs.

    Without ``outside`` (no field is outside the corpus) there are no off-corpus pairs.
    """
    wanted: dict[Task, float] = {}
    for kind, share in shares.items():
        for task, part in PARTS[kind].items():
            wanted[task] = pairs * share * part
    for task, possible in (("wrong_section", sections), ("off_corpus", outside)):
        if not possible and task in wanted:
            wanted["without_paper"] += wanted.pop(task)
    counts = {task: math.floor(count) for task, count in wanted.items()}
    by_rest = sorted(wanted, key=lambda task: (counts[task] - wanted[task], task))
    for task in by_rest[: pairs - sum(counts.values())]:
        counts[task] += 1
    return {task: count for task, count in counts.items() if count}


def _partners(order: Sequence[Chunk]) -> Iterator[tuple[str, ...]]:
    """Pairs of chunks of two papers: each chunk with the most similar one, then with the next."""
    vectorizer = Vectorizer(chunk.text for chunk in order)
    vectors = vectorizer.vectors([f"{chunk.title} {chunk.text}" for chunk in order])
    owners = np.array([chunk.document_id for chunk in order])
    nearest: list[list[int]] = []
    for start in range(0, len(order), BLOCK):
        likeness = vectors[start : start + BLOCK] @ vectors.T
        likeness[owners[start : start + BLOCK, None] == owners] = OWN
        ranked = np.argsort(-likeness, axis=1, kind="stable")[:, :PARTNERS]
        nearest += [
            [int(other) for other in row if values[other] > OWN] for row, values in zip(ranked, likeness, strict=True)
        ]
    seen: set[frozenset[int]] = set()
    for layer in itertools.zip_longest(*nearest):
        for number, other in enumerate(layer):
            if other is not None and frozenset((number, other)) not in seen:
                seen.add(frozenset((number, other)))
                yield (order[number].id, order[other].id)


def _calls(task: Task, order: Sequence[Chunk], size: int, fields: Sequence[str]) -> Iterator[Call]:
    """Calls of one task without end, or (synthesis) until the corpus has no other pair of chunks."""
    if task == "synthesis":
        for number, chunk_ids in enumerate(_partners(order)):
            yield Call(task, chunk_ids, min(size, 2), ANGLES[number % len(ANGLES)])
        return
    for turn in itertools.count():
        if task == "off_corpus":
            yield from (Call(task, (), size, field, turn) for field in fields)
            continue
        for number, chunk in enumerate(order):
            yield Call(task, (chunk.id,), size, ANGLES[(number + turn) % len(ANGLES)], turn)


def make_plan(
    chunks: Sequence[Chunk],
    settings: GeneratorSettings,
    shares: Mapping[Kind, float],
    *,
    seed: int,
    fields: Sequence[str] = tuple(FIELDS),
) -> Plan:
    """The plan for ``settings.pairs`` pairs on these chunks (leave out papers that must not be seen).

    Off-corpus questions are about ``fields``, in their order. Raises InputError when there are no chunks, or synthesis
    is asked for and there is only one paper.
    """
    papers: dict[str, set[str]] = defaultdict(set)
    for chunk in chunks:
        papers[chunk.document_id].add(chunk.id)
    if not papers:
        raise InputError(
            "there are no chunks to write questions on: the benchmark asks about every paper",
            fix="add papers that the benchmark does not ask about",
        )
    wanted = quotas(settings.pairs, shares, sections=any(len(own) > 1 for own in papers.values()), outside=bool(fields))
    if "synthesis" in wanted and len(papers) < 2:
        raise InputError(
            f"synthesis pairs need two papers; the corpus has one outside the benchmark: '{chunks[0].document_id}'",
            fix="add papers, or set dataset.shares: {grounded: 0.75, synthesis: 0, refusal: 0.25}",
        )
    order = even_order(chunks, seed)
    placed: list[tuple[float, int, Call]] = []
    size = settings.pairs_per_call
    for rank, task in enumerate(WRITTEN):
        quota, asked = wanted.get(task, 0), 0
        if not quota:
            continue
        most = math.ceil(quota / max(settings.min_yield, LEAST_YIELD)) + SPARE_CALLS * size
        for call in _calls(task, order, size, fields):
            if asked >= most:
                break
            placed.append((asked / most, rank, call))
            asked += call.pairs
    placed.sort(key=lambda item: item[:2])
    return Plan(tuple(call for *_, call in placed), wanted, seed)
