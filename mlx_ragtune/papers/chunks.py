"""Documents become chunks: never across a section, at most so many words, every word accounted for."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import semchunk

from mlx_ragtune.records import Chunk, Document, Section


@dataclass(frozen=True)
class Dropped:
    """A span of a document that is in no chunk, and why."""

    document_id: str
    start: int
    end: int
    reason: str


def _word_count(text: str) -> int:
    return len(text.split())


def _spans(document: Document, section: Section, words: int) -> Iterator[tuple[int, int]]:
    """Spans of at most ``words`` words that together hold every word of the section."""
    text = document.text[section.start : section.end]
    if not text.strip():
        return
    _, offsets = semchunk.chunk(text, words, _word_count, memoize=False, offsets=True)
    for start, end in offsets:
        yield section.start + start, section.start + end


def split(document: Document, *, words: int = 350) -> tuple[list[Chunk], list[Dropped]]:
    """The document's chunks in order, with section, page and offsets, and what was left out.

    ``chunk.text == document.text[chunk.start:chunk.end]``. A section that is only its heading is dropped.
    """
    chunks: list[Chunk] = []
    dropped: list[Dropped] = []
    for section in document.sections or (Section("", 0, len(document.text)),):
        body = document.text[section.start : section.end].strip()
        if not body:
            continue
        if body.lstrip("# ").strip() == section.title:
            dropped.append(Dropped(document.id, section.start, section.end, "heading without text"))
            continue
        for start, end in _spans(document, section, words):
            page = bisect_right(document.page_starts, start)
            identifier = f"{document.id}:{len(chunks)}"
            text = document.text[start:end]
            chunks.append(
                Chunk(identifier, document.id, document.title, section.title, page, start, end, text)
            )
    return chunks, dropped
