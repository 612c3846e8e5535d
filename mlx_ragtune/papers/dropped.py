"""What a reader or the chunker left out of a paper, so that no word disappears unseen."""

from dataclasses import dataclass
from typing import NamedTuple

from mlx_ragtune.records import Document


@dataclass(frozen=True)
class Dropped:
    """Words of a paper that are in no chunk, and why. ``page`` counts from 1."""

    document_id: str
    page: int
    reason: str
    text: str


class Reading(NamedTuple):
    """A paper as it was read, and what its reader left out."""

    document: Document
    dropped: tuple[Dropped, ...] = ()
