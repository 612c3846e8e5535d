"""M7: did retrieval find the gold papers? Computed once, because both models get the same contexts."""

import math
from collections.abc import Collection, Iterable, Sequence

NDCG_DEPTH = 10


def ranked_documents(document_ids: Sequence[str]) -> list[str]:
    """Documents in order of their first passage: several chunks of one paper count once."""
    return list(dict.fromkeys(document_ids))


def hit_at(k: int, ranked: Sequence[str], gold: Collection[str]) -> float | None:
    """1 when a gold document is among the first ``k``, else 0; None without gold documents."""
    if not gold:
        return None
    return float(any(document in gold for document in ranked[:k]))


def recall_at(k: int, ranked: Sequence[str], gold: Collection[str]) -> float | None:
    """Share of the gold documents among the first ``k``; None without gold documents."""
    if not gold:
        return None
    return len(set(ranked[:k]) & set(gold)) / len(set(gold))


def reciprocal_rank(ranked: Sequence[str], gold: Collection[str]) -> float | None:
    """1 / rank of the first gold document, 0 when none is there; None without gold documents."""
    if not gold:
        return None
    return next((1 / rank for rank, document in enumerate(ranked, start=1) if document in gold), 0.0)


def ndcg(ranked: Sequence[str], gold: Collection[str]) -> float | None:
    """nDCG@10 with binary gains (Järvelin & Kekäläinen 2002); None without gold documents."""
    if not gold:
        return None
    ranked = ranked_documents(ranked)
    gain = sum(
        1 / math.log2(rank + 1) for rank, document in enumerate(ranked[:NDCG_DEPTH], start=1) if document in gold
    )
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(set(gold)), NDCG_DEPTH) + 1))
    return gain / ideal


def retrieval_metrics(document_ids: Sequence[str], gold: Collection[str]) -> dict[str, float]:
    """hit@1, hit@3, recall@3, recall@10, mrr and ndcg@10 of one ranking; empty without gold documents."""
    ranked = ranked_documents(document_ids)
    values = {
        "hit@1": hit_at(1, ranked, gold),
        "hit@3": hit_at(3, ranked, gold),
        "recall@3": recall_at(3, ranked, gold),
        "recall@10": recall_at(10, ranked, gold),
        "mrr": reciprocal_rank(ranked, gold),
        "ndcg@10": ndcg(ranked, gold),
    }
    return {name: value for name, value in values.items() if value is not None}


def mean_retrieval_metrics(rankings: Iterable[tuple[Sequence[str], Collection[str]]]) -> dict[str, float]:
    """Means of ``retrieval_metrics`` over (document ids, gold) pairs that have gold documents, and their number."""
    rows = [retrieval_metrics(document_ids, gold) for document_ids, gold in rankings if gold]
    means = {
        name: sum(row[name] for row in rows) / len(rows) for name in sorted({name for row in rows for name in row})
    }
    return {**means, "questions": len(rows)}
