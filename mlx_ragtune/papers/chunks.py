"""Documents become chunks of limited length that never cross a section; what is in no chunk is listed."""

from bisect import bisect_right
from collections.abc import Iterator

import semchunk

from mlx_ragtune.papers.dropped import Dropped
from mlx_ragtune.records import Chunk, Document, Section

CHARACTERS_PER_WORD = 12
"""Text without spaces, such as Chinese or an unbroken string, counts as one word per this many characters."""


def size_in_words(text: str) -> int:
    """The number of words between spaces, or one per ``CHARACTERS_PER_WORD`` characters if that is more."""
    return max(len(text.split()), -(-len(text) // CHARACTERS_PER_WORD))


def _spans(text: str, words: int) -> Iterator[tuple[int, int]]:
    """Spans of at most ``words`` words and nearly equal size that cover the text, without spaces at their ends.

    The target is as small as the number of pieces allows. It avoids a last piece of a few words, which
    retrieval finds by chance and which answers nothing.
    """
    pieces = -(-size_in_words(text) // words)
    even = -(-size_in_words(text) // max(1, pieces))
    target = min(words, even + even // 8)
    _, offsets = semchunk.chunk(text, target, size_in_words, memoize=False, offsets=True)
    for start, end in offsets:
        piece = text[start:end]
        yield start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())


def _page(document: Document, offset: int) -> int:
    return max(1, bisect_right(document.page_starts, offset))


def split(document: Document, *, words: int = 350) -> tuple[list[Chunk], list[Dropped]]:
    """The document's chunks in order, with section, page and offsets, and what is in none of them.

    ``chunk.text == document.text[chunk.start:chunk.end]``. A heading without text below it is dropped, so
    that no chunk consists of a heading only.
    """
    chunks: list[Chunk] = []
    dropped: list[Dropped] = []
    for section in document.sections or (Section("", 0, len(document.text)),):
        text = document.text[section.start : section.end]
        body = text.strip()
        if not body:
            continue
        if section.title and _is_heading_alone(body, section.title):
            dropped.append(Dropped(document.id, _page(document, section.start), "heading without text", body))
            continue
        for start, end in _spans(text, words):
            first, last = section.start + start, section.start + end
            chunks.append(
                Chunk(
                    f"{document.id}:{len(chunks)}",
                    document.id,
                    document.title,
                    section.title,
                    _page(document, first),
                    first,
                    last,
                    document.text[first:last],
                )
            )
    return chunks, dropped


def _is_heading_alone(body: str, title: str) -> bool:
    """Whether the body is only the heading, apart from Markdown's marks."""
    body, title = (" ".join(text.split()) for text in (body, title))
    return body == title or body.strip("#=- ") == title.strip("#=- ")
