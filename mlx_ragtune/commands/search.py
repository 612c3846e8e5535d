"""``ragtune search``: the passages that a question finds, and which index found each at which rank."""

from collections.abc import Sequence
from typing import Any

from mlx_ragtune.artifact import OpenRun
from mlx_ragtune.errors import printable
from mlx_ragtune.pages.tables import fill
from mlx_ragtune.recipe import RetrievalSettings
from mlx_ragtune.retrieval.retriever import NEAREST, Found
from mlx_ragtune.searching.opened import open_retriever

LEXICAL_ONLY = "full text alone: 'retrieval.embedding' names no embedding model"
_SHOWN_CHARACTERS = 150


def search(run: OpenRun, question: str, *, top_k: int | None = None) -> dict[str, Any]:
    """The passages that match the question, best first, each with the rank and score that every source gave it.

    The corpus is built first if it is not up to date.
    """
    run.bring("corpus")
    settings = run.recipe.retrieval
    with open_retriever(settings, run.artifact("corpus").folder) as retriever:
        found = retriever.matches(question, top_k or settings.top_k)
    return {
        "question": question,
        "indexes": _indexes(settings),
        "dedup": settings.dedup,
        "passages": [_row(rank, item) for rank, item in enumerate(found, start=1)],
    }


def _indexes(settings: RetrievalSettings) -> list[str]:
    """What took part in the search."""
    named = {"full text": True, "vectors": settings.embedding is not None, "reranker": settings.rerank is not None}
    return [name for name, used in named.items() if used]


def _row(rank: int, item: Found) -> dict[str, Any]:
    chunk = item.chunk
    return {
        "rank": rank,
        "title": chunk.title,
        "section": chunk.section,
        "page": chunk.page,
        "paper": chunk.document_id,
        "chunk": chunk.id,
        "score": item.score,
        "found_by": {name: {"rank": at, "score": score} for name, (at, score) in item.by.items()},
        "text": chunk.text,
    }


def show(found: dict[str, Any]) -> str:
    """The result as text of at most 80 columns."""
    lines = [fill(_searched(found["indexes"]))]
    if not found["passages"]:
        lines.append("No passage matches the question.")
    elif not any("full text" in row["found_by"] for row in found["passages"]):
        lines.append(fill(NEAREST))
    for row in found["passages"]:
        number = f"{row['rank']:>2}. "
        place = f"{row['section']}, page {row['page']}" if row["section"] else f"page {row['page']}"
        lines += [
            "",
            fill(row["title"] or row["paper"], bullet=number),
            fill(place, bullet="    "),
            fill(_sources(row["found_by"]), bullet="    "),
            fill(_beginning(row["text"]), bullet="    "),
        ]
    return printable("\n".join(lines))


def _searched(indexes: Sequence[str]) -> str:
    return f"Searched: {', '.join(indexes)}" if len(indexes) > 1 else f"Searched: {LEXICAL_ONLY}"


def _sources(found_by: dict[str, dict[str, float]]) -> str:
    parts = (f"{name} #{place['rank']} ({place['score']:.3g})" for name, place in found_by.items())
    return "found by " + ", ".join(parts)


def _beginning(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _SHOWN_CHARACTERS else f"{flat[:_SHOWN_CHARACTERS].rstrip()} …"
