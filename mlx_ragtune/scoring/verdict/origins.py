"""Who stands behind the questions that a verdict rests on: a person who wrote or reviewed them, or a model alone."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import get_args

from mlx_ragtune.records import Origin, Question


def origin_counts(questions: Iterable[Question]) -> dict[str, int]:
    """Origin → questions; origins without any are left out."""
    counts = Counter(question.origin for question in questions)
    return {origin: counts[origin] for origin in get_args(Origin) if counts[origin]}


def provenance(questions: Sequence[Question]) -> str:
    """One sentence on who wrote and who reviewed the questions; "" where people wrote all of them."""
    counts = origin_counts(questions)
    if not counts.keys() - {"authored"}:
        return ""
    writers = ", ".join(sorted({question.writer for question in questions if question.origin == "drafted"} - {""}))
    reviewed, drafted, authored = (counts.get(origin, 0) for origin in ("reviewed", "drafted", "authored"))
    parts = [f"{reviewed} of {len(questions)} questions were reviewed by a person"]
    if authored:
        parts.append(f"{authored} written by one")
    if drafted:
        parts.append(f"{drafted} only drafted by {writers or 'a model'}")
    return f"{', '.join(parts)}."
