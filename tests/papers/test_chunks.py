"""Chunks: exact offsets, bounded size, and no word lost."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_ragtune.papers.chunks import size_in_words, split
from mlx_ragtune.papers.sections import cover
from mlx_ragtune.records import Document

SENTENCE = "Adapters of low rank change a small share of the weights."


def document(text: str, marks: list[tuple[str, int]] | None = None, pages: tuple[int, ...] = (0,)) -> Document:
    return Document("doc", "doc.md", "A Title", text, sections=cover(marks or [], len(text)), page_starts=pages)


PIECES = st.lists(
    st.one_of(
        st.text(st.characters(categories=("L", "N", "P", "Zs", "Cc", "So")), max_size=40),
        st.sampled_from(["\n\n", "\n", " ", ". ", "word ", "# Heading\n", "論文の題名", "x" * 300]),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(PIECES, st.integers(1, 30), st.lists(st.integers(0, 300), max_size=4), st.lists(st.integers(0, 300), max_size=3))
def test_no_word_is_lost_and_offsets_are_exact(
    pieces: list[str], words: int, marks: list[int], pages: list[int]
) -> None:
    text = "".join(pieces)
    places = sorted({place for place in marks if place < len(text)})
    one = document(text, [(text[place : place + 9].strip(), place) for place in places], (0, *sorted(pages)))
    chunks, dropped = split(one, words=words)
    for chunk in chunks:
        assert chunk.text == text[chunk.start : chunk.end]
        assert size_in_words(chunk.text) <= max(words, 1) or len(chunk.text) == 1
        assert 1 <= chunk.page <= len(one.page_starts)
    kept = "".join(chunk.text for chunk in chunks) + "".join(left.text for left in dropped)
    assert Counter(char for char in kept if not char.isspace()) == Counter(char for char in text if not char.isspace())
    assert [chunk.start for chunk in chunks] == sorted(chunk.start for chunk in chunks)


def test_a_chunk_never_crosses_a_section() -> None:
    text = "one two three\nfour five six\n"
    chunks, _ = split(document(text, [("first", 0), ("second", 14)]))
    assert [(chunk.section, chunk.text) for chunk in chunks] == [
        ("first", "one two three"), ("second", "four five six"),
    ]  # fmt: skip


def test_a_text_a_little_too_long_is_cut_into_halves_not_into_a_chunk_and_a_crumb() -> None:
    chunks, _ = split(document(" ".join([SENTENCE] * 34)), words=350)
    sizes = [len(chunk.text.split()) for chunk in chunks]
    assert len(sizes) == 2
    assert min(sizes) > 150


def test_chunks_end_where_sentences_end() -> None:
    chunks, _ = split(document(" ".join([SENTENCE] * 40)), words=100)
    assert all(chunk.text.endswith("weights.") for chunk in chunks)


def test_scripts_without_spaces_are_bounded_too() -> None:
    chunks, _ = split(document("論文の題名" * 1000), words=50)
    assert max(len(chunk.text) for chunk in chunks) <= 50 * 12


def test_a_heading_with_nothing_below_is_dropped_with_the_reason() -> None:
    text = "# Empty\n\n## Full\n\nwords\n"
    chunks, dropped = split(document(text, [("Empty", 0), ("Full", 9)]))
    assert [chunk.text for chunk in chunks] == ["## Full\n\nwords"]
    assert [(one.document_id, one.reason, one.text) for one in dropped] == [("doc", "heading without text", "# Empty")]


def test_a_chunk_is_on_the_page_where_it_begins() -> None:
    text = "a b c\n\nd e f\n\ng h i"
    chunks, _ = split(document(text, pages=(0, 7, 14)), words=3)
    assert [(chunk.text, chunk.page) for chunk in chunks] == [("a b c", 1), ("d e f", 2), ("g h i", 3)]


def test_ids_count_up_within_the_document_and_splitting_twice_is_the_same() -> None:
    one = document(" ".join([SENTENCE] * 40))
    chunks, _ = split(one, words=100)
    assert [chunk.id for chunk in chunks] == [f"doc:{at}" for at in range(len(chunks))]
    assert split(one, words=100)[0] == chunks


def test_a_document_without_sections_is_one() -> None:
    assert [chunk.text for chunk in split(Document("d", "d.txt", "T", "some words"))[0]] == ["some words"]
