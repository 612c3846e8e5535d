"""Pairs become training rows: contexts as the served retriever would give them, shared in groups.

A **group** is a few rows with identical contexts, which training computes once: up to four answerable
questions on the same few gold chunks, and refusals whose paper is not among them.

    gold chunks (hold the evidence)  ┐
    hard distractors (retrieved for  ├─► shuffled, at most top_k ─► build_messages ─► Example
    the group's own questions)       ┘
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mlx_ragtune.records import Chunk, Example, Kind, Message, Pair, Passage
from mlx_ragtune.synthesis.checks import quote_in
from mlx_ragtune.synthesis.contrast import Contrast
from mlx_ragtune.synthesis.visible_corpus import Retriever as Retriever
from mlx_ragtune.synthesis.visible_corpus import VisibleCorpus, by_hash

GROUNDED_PER_GROUP = 3
ANSWERS_PER_GROUP = 4
ROWS_PER_GROUP = 5
RANK_OFFSET = 60
NEAR_MISS_LOAD = 0.1
NOT_IN_A_CHUNK = "an evidence quote is in no chunk of its paper"
NO_QUOTE = "no evidence quote"
TOO_MANY_CHUNKS = "evidence in more chunks than retrieval.top_k"


class BuildMessages(Protocol):
    """The served prompt: a system and a user message."""

    def __call__(self, passages: Sequence[Passage], question: str, /) -> tuple[Message, Message]:
        """The messages that the model answers."""
        ...


@dataclass(frozen=True)
class Dropped:
    """A pair that became no row, the reason (a fixed text), and what is particular to the pair."""

    id: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class AssemblyReport:
    """Statistics of the rows and the dropped pairs. Shares and ``gold_found`` are between 0 and 1.

    ``gold_found``: share of answerable rows whose gold chunks are all among the retriever's own top_k
    (None without such rows). ``group_sizes``: rows in a group → groups. ``gold_positions``: position
    among the contexts, from 1 → gold chunks.
    """

    kinds: dict[str, int]
    refusals: dict[str, int]
    shares_wanted: dict[str, float]
    shares_got: dict[str, float]
    group_sizes: dict[int, int]
    gold_positions: dict[int, int]
    gold_found: float | None
    dropped: tuple[Dropped, ...]


@dataclass
class _Group:
    """Pairs that share their contexts, and the chunks that answer them."""

    gold: tuple[str, ...]
    pairs: list[Pair]
    barred: set[str] = field(default_factory=set)  # papers that must not be distractors


def _even(pairs: Sequence[Pair], most: int) -> list[list[Pair]]:
    """``pairs`` in as few pieces of at most ``most`` as possible, of nearly equal length."""
    pieces = -(-len(pairs) // most)
    return [list(pairs[first::pieces]) for first in range(pieces)]


def _answerable_groups(golds: Mapping[str, tuple[str, ...]], pairs: Sequence[Pair], seed: int) -> list[_Group]:
    """Groups of one gold set: synthesis pairs with grounded ones on the same chunks, then the rest."""
    by_gold: dict[tuple[Kind, tuple[str, ...]], list[Pair]] = defaultdict(list)
    for pair in sorted(pairs, key=lambda pair: by_hash(seed, "pair", pair.id)):
        by_gold[pair.kind, golds[pair.id]].append(pair)
    groups: list[_Group] = []
    for (kind, gold), members in sorted(by_gold.items(), key=lambda item: item[0]):
        if kind == "synthesis":
            groups += [_Group(gold, piece) for piece in _even(members, ANSWERS_PER_GROUP // 2)]
    for group in groups:
        for chunk in group.gold * GROUNDED_PER_GROUP:  # one after the other, so that each paper gets a question
            waiting = by_gold.get(("grounded", (chunk,)))
            if waiting and len(group.pairs) < ANSWERS_PER_GROUP:
                group.pairs.append(waiting.pop())
    for (kind, gold), members in sorted(by_gold.items(), key=lambda item: item[0]):
        if kind == "grounded" and members:
            groups += [_Group(gold, piece) for piece in _even(members, GROUNDED_PER_GROUP)]
    return groups


def _merged(groups: list[_Group], corpus: VisibleCorpus, top_k: int) -> list[_Group]:
    """Fewer and larger groups: two join when the retriever finds the gold of one for a question of the other.

    The gold of either is then a hard distractor for the other's questions. All gold must fit into ``top_k``.
    """
    holders: dict[str, list[int]] = defaultdict(list)
    for number, group in enumerate(groups):
        for chunk in group.gold:
            holders[chunk].append(number)
    gone: set[int] = set()
    for number in sorted(range(len(groups)), key=lambda number: (len(groups[number].pairs), number)):
        group = groups[number]
        near: dict[int, float] = defaultdict(float)
        for pair in group.pairs:
            for rank, chunk in enumerate(corpus.search(pair.question), 1):
                for other in holders.get(chunk, ()):
                    near[other] += 1 / (RANK_OFFSET + rank)
        for other in sorted(near, key=lambda other: (-near[other], other)):
            host = groups[other]
            gold = tuple(sorted({*group.gold, *host.gold}))
            fits = len(host.pairs) + len(group.pairs) <= ANSWERS_PER_GROUP and len(gold) <= top_k
            if fits and other != number and not {number, other} & gone:
                groups[other] = _Group(gold, host.pairs + group.pairs)
                gone.add(number)
                for chunk in group.gold:
                    holders[chunk].append(other)
                break
    return [group for number, group in enumerate(groups) if number not in gone]


def _host(groups: Sequence[_Group], pair: Pair, corpus: VisibleCorpus, top_k: int, seed: int) -> _Group | None:
    """The group whose contexts fit a refusal best, or None.

    A near miss joins the group whose gold chunk ranks highest for its question (within 2 × top_k), an
    off-corpus question the group with the fewest refusals. Groups with chunks that answer it are excluded.
    """
    answering = _answering(pair, corpus)
    ranks = {name: rank for rank, name in enumerate(corpus.search(pair.question, without=answering), 1)}
    near_miss = pair.refusal_kind == "near_miss"
    best: tuple[float, str] | None = None
    chosen: _Group | None = None
    for group in groups:
        gold = [corpus.chunks[name] for name in group.gold]
        if len(group.pairs) >= ROWS_PER_GROUP or any(chunk.document_id in answering for chunk in gold):
            continue
        if any(quote_in(evidence.quote, chunk.text) is None for evidence in pair.evidence for chunk in gold):
            continue
        near = max((1 / ranks[name] for name in group.gold if name in ranks), default=0.0)
        if near_miss and near < 1 / (2 * top_k):
            continue
        load = sum(member.kind == "refusal" for member in group.pairs)
        merit = near - load * (NEAR_MISS_LOAD if near_miss else 1)
        ranked = (merit, by_hash(seed, pair.id, *group.gold, group.pairs[0].id))
        if best is None or ranked > best:
            best, chosen = ranked, group
    return chosen


def _answering(pair: Pair, corpus: VisibleCorpus) -> set[str]:
    """Papers that a refusal must not be shown. One with evidence is of a wrong section: only that chunk is excluded."""
    return set() if pair.evidence else corpus.versions(pair.papers)


def _add_refusals(groups: list[_Group], refusals: Sequence[Pair], corpus: VisibleCorpus, top_k: int, seed: int) -> None:
    """Add each refusal to the group that fits it best, near misses first; others get groups of their own."""
    order = sorted(refusals, key=lambda pair: (pair.refusal_kind != "near_miss", by_hash(seed, pair.id)))
    answerable = list(groups)
    for pair in order:
        group = _host(answerable, pair, corpus, top_k, seed)
        if group is None:
            group = _Group((), [])
            groups.append(group)
        group.pairs.append(pair)
        group.barred |= _answering(pair, corpus)


def _contexts(group: _Group, corpus: VisibleCorpus, top_k: int, seed: int) -> list[str]:
    """Chunk ids: the gold ones and the best-ranked distractors of the group's questions, shuffled.

    Ranks are fused over the questions (reciprocal rank, k = 60). A distractor never comes from a gold paper,
    its copy, or a paper that would answer a refusal of the group, and it never holds a quote.
    """
    barred = group.barred | corpus.versions(corpus.chunks[name].document_id for name in group.gold)
    merit: dict[str, float] = defaultdict(float)
    for pair in group.pairs:
        for rank, identifier in enumerate(corpus.search(pair.question, without=barred), 1):
            merit[identifier] += 1 / (RANK_OFFSET + rank)
    ranked = sorted(merit, key=lambda name: (-merit[name], name))
    quotes = [evidence.quote for pair in group.pairs for evidence in pair.evidence]
    chosen = list(group.gold)
    for identifier in ranked:
        chunk = corpus.chunks[identifier]
        if len(chosen) >= top_k:
            break
        if all(quote_in(quote, chunk.text) for quote in quotes):
            chosen.append(identifier)
    ids = sorted(pair.id for pair in group.pairs)
    return sorted(chosen, key=lambda name: by_hash(seed, "place", *ids, name))


def _report(
    groups: Sequence[tuple[_Group, list[str]]],
    golds: Mapping[str, tuple[str, ...]],
    corpus: VisibleCorpus,
    wanted: Mapping[Kind, float],
    dropped: Sequence[Dropped],
) -> AssemblyReport:
    rows = [(pair, contexts) for group, contexts in groups for pair in group.pairs]
    kinds = Counter(pair.kind for pair, _ in rows)
    retrieved = [
        set(golds[pair.id]) <= set(corpus.search(pair.question)[: len(contexts)])
        for pair, contexts in rows
        if pair.kind != "refusal"
    ]
    places = Counter(contexts.index(name) + 1 for group, contexts in groups for name in group.gold)
    sizes = Counter(len(group.pairs) for group, _ in groups)
    return AssemblyReport(
        kinds={kind: kinds[kind] for kind in wanted},
        refusals=dict(sorted(Counter(str(p.refusal_kind) for p, _ in rows if p.kind == "refusal").items())),
        shares_wanted={str(kind): share for kind, share in wanted.items()},
        shares_got={kind: kinds[kind] / max(1, len(rows)) for kind in wanted},
        group_sizes=dict(sorted(sizes.items())),
        gold_positions=dict(sorted(places.items())),
        gold_found=sum(retrieved) / len(retrieved) if retrieved else None,
        dropped=tuple(dropped),
    )


def _golds(
    pairs: Sequence[Pair], corpus: VisibleCorpus, top_k: int
) -> tuple[dict[str, tuple[str, ...]], list[Dropped]]:
    """Gold chunks of each answerable pair, and the pairs whose gold chunks cannot be shown."""
    golds: dict[str, tuple[str, ...]] = {}
    dropped: list[Dropped] = []
    for pair in pairs:
        if pair.kind == "refusal":
            continue
        gold = corpus.gold(pair)
        if gold is None:
            dropped.append(Dropped(pair.id, NOT_IN_A_CHUNK))
        elif not gold:
            dropped.append(Dropped(pair.id, NO_QUOTE))
        elif len(gold) > top_k:
            dropped.append(Dropped(pair.id, TOO_MANY_CHUNKS, f"{len(gold)} chunks, retrieval.top_k is {top_k}"))
        else:
            golds[pair.id] = gold
    return golds, dropped


def assemble(
    pairs: Sequence[Pair],
    retriever: Retriever,
    chunks: Iterable[Chunk],
    *,
    top_k: int,
    seed: int,
    shares: Mapping[Kind, float],
    build_messages: BuildMessages,
    contrast: Contrast | None = None,
) -> tuple[list[Example], AssemblyReport]:
    """Training rows in groups of shared contexts, and statistics.

    ``chunks`` are those that contexts may come from: leave out papers that must not be seen. The result
    depends only on the arguments; rows of a group are adjacent. ``shares`` are only reported. ``contrast`` adds rows
    of its own, which the statistics do not count.
    """
    corpus = VisibleCorpus(chunks, retriever)
    golds, dropped = _golds(pairs, corpus, top_k)
    groups = _answerable_groups(golds, [pair for pair in pairs if pair.id in golds], seed)
    groups = _merged(groups, corpus, top_k)
    _add_refusals(groups, [pair for pair in pairs if pair.kind == "refusal"], corpus, top_k, seed)
    placed = [(group, _contexts(group, corpus, top_k, seed)) for group in groups]
    report = _report(placed, golds, corpus, shares, dropped)
    if contrast is not None:
        answerable, refusals = [pair for pair in pairs if pair.id in golds], [p for p in pairs if p.kind == "refusal"]
        made = contrast.make(answerable, refusals, corpus, top_k=top_k, seed=seed)
        placed += [(_Group((), [pair]), contexts) for pair, contexts in made]
    placed.sort(key=lambda item: by_hash(seed, "group", *sorted(pair.id for pair in item[0].pairs)))
    rows: list[Example] = []
    for group, contexts in placed:
        name = hashlib.sha256("\0".join(contexts).encode()).hexdigest()[:12]
        passages = corpus.passages(contexts)
        for pair in group.pairs:
            messages = (*build_messages(passages, pair.question), Message("assistant", pair.answer))
            rows.append(Example(pair.id, pair.kind, name, messages, pair.papers, tuple(contexts)))
    return rows, report
