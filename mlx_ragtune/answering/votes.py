"""Thumbs on served answers, in an append-only file of the run: ``ragtune review`` reads them as pairs to review.

The last row for an answer counts, so that a vote can be changed or taken back.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlx_ragtune.answering.paper_answers import Answered
from mlx_ragtune.jsonl import RowLog
from mlx_ragtune.records import Arm

VOTES = "votes.jsonl"
"""The file in a run's folder; nothing ever removes it."""
MOST_NOTE = 2000
Thumb = Literal["up", "down", "none"]


@dataclass(frozen=True)
class Vote:
    """One row: a thumb on an answer, with all that is needed to review it. ``at`` is the time in UTC.

    ``papers`` and ``chunks`` are those of the passages that the model was shown, in their order.
    """

    answer_id: str
    vote: Thumb
    arm: Arm
    question: str
    answer: str
    papers: tuple[str, ...]
    chunks: tuple[str, ...]
    strength: float | None = None
    note: str = ""
    at: str = ""


class VoteLog:
    """The file of votes of one run. Several threads and processes may add to it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, answer_id: str, answered: Answered, vote: Thumb, *, note: str = "") -> None:
        """Append a vote, fsynced. Raises ToolError when it cannot be saved."""
        row = Vote(
            answer_id,
            vote,
            answered.arm,
            answered.question,
            answered.text,
            tuple(dict.fromkeys(source.paper for source in answered.sources)),
            tuple(source.chunk for source in answered.sources),
            strength=answered.strength,
            note=note[:MOST_NOTE],
            at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with RowLog(self.path) as log:
            log.append(row)

    def votes(self) -> list[Vote]:
        """The votes that count, in the order of the answers' first votes. Raises InputError for a damaged file."""
        if not self.path.exists():
            return []
        with RowLog(self.path) as log:
            return last_votes(log.rows(Vote))


def last_votes(rows: Iterable[Vote]) -> list[Vote]:
    """The last vote on each answer, without those that were taken back."""
    last: dict[str, Vote] = {}
    for row in rows:
        last[row.answer_id] = row
    return [row for row in last.values() if row.vote != "none"]
