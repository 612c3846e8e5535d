"""What a reader or the chunker left out of a paper, so that every omission is listed."""

from dataclasses import dataclass
from typing import NamedTuple

from mlx_ragtune.records import Document


@dataclass(frozen=True)
class Dropped:
    """Text of a paper that is in no chunk, and the reason. ``page`` counts from 1."""

    document_id: str
    page: int
    reason: str
    text: str


class Reading(NamedTuple):
    """A paper and what its reader left out of it."""

    document: Document
    dropped: tuple[Dropped, ...] = ()
