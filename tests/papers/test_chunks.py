"""No word is lost, offsets are exact, no chunk crosses a section or has too many tokens, and sentences stay whole."""

import itertools
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_ragtune.models.toy import toy_tokenizer_json
from mlx_ragtune.papers.chunks import Chunked, Chunking, split
from mlx_ragtune.papers.sections import cover
from mlx_ragtune.papers.sentences import units
from mlx_ragtune.papers.token_counts import Estimate, TokenCounter, TokenizerFile
from mlx_ragtune.records import Document

SENTENCE = "Adapters of low rank change a small share of the weights."
TOKENS = len(Estimate().ends(SENTENCE))


def document(text: str, marks: list[tuple[str, int]] | None = None, pages: tuple[int, ...] = (0,)) -> Document:
    return Document("doc", "doc.md", "A Title", text, sections=cover(marks or [], len(text)), page_starts=pages)


def texts(chunked: Chunked) -> list[str]:
    return [chunk.text for chunk in chunked.chunks]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> TokenizerFile:
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    file.write_text(toy_tokenizer_json("qwen3"))
    return TokenizerFile(file)


PIECES = st.lists(
    st.one_of(
        st.text(st.characters(categories=("L", "M", "N", "P", "Zs", "Cc", "So")), max_size=40),
        st.sampled_from(
            ["\n\n", "\n", " ", ". ", "word ", "# Heading\n", "論文の題名。", "x" * 300, "\n| a | b |\n| c | d |\n"]
        ),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(
    pieces=PIECES,
    tokens=st.integers(1, 40),
    overlap=st.sampled_from([0, 0, 7, 30]),
    by_toy=st.booleans(),
    marks=st.lists(st.integers(0, 300), max_size=4),
    pages=st.lists(st.integers(0, 300), max_size=3),
)
def test_no_word_is_lost_and_offsets_are_exact(
    toy: TokenizerFile, pieces: list[str], tokens: int, overlap: int, by_toy: bool, marks: list[int], pages: list[int]
) -> None:
    text = "".join(pieces)
    places = sorted({place for place in marks if place < len(text)})
    paper = document(text, [(text[place : place + 9].strip(), place) for place in places], (0, *sorted(pages)))
    counter: TokenCounter = toy if by_toy else Estimate()
    chunked = split(paper, Chunking(tokens, overlap, counter))
    held = [0] * len(text)
    for chunk, size in zip(chunked.chunks, chunked.tokens, strict=True):
        assert chunk.text == text[chunk.start : chunk.end] == chunk.text.strip()
        assert size == len(counter.ends(chunk.text))
        assert size <= tokens or len(chunk.text) == 1
        assert 1 <= chunk.page <= len(paper.page_starts)
        assert any(part.start <= chunk.start and chunk.end <= part.end for part in paper.sections)
        for at in range(chunk.start, chunk.end):
            held[at] += 1
    left = Counter(char for drop in chunked.dropped for char in drop.text if not char.isspace())
    missing = Counter(char for char, count in zip(text, held, strict=True) if not count and not char.isspace())
    assert missing == left
    if not overlap:
        assert max(held, default=0) <= 1
    starts = [chunk.start for chunk in chunked.chunks]
    assert starts == sorted(set(starts))


def test_a_chunk_never_crosses_a_section() -> None:
    text = "one two three\nfour five six\n"
    chunked = split(document(text, [("first", 0), ("second", 14)]), Chunking())
    assert [(chunk.section, chunk.text) for chunk in chunked.chunks] == [
        ("first", "one two three"), ("second", "four five six"),
    ]  # fmt: skip


def test_a_text_a_little_too_long_is_cut_into_halves_not_into_a_chunk_and_a_crumb() -> None:
    chunked = split(document(" ".join([SENTENCE] * 34)), Chunking(tokens=33 * TOKENS))
    assert len(chunked.tokens) == 2
    assert max(chunked.tokens) - min(chunked.tokens) <= 2 * TOKENS


@pytest.mark.parametrize("tokens", [TOKENS, 2 * TOKENS, 100, 333])
def test_chunks_begin_and_end_where_sentences_do(tokens: int) -> None:
    notes = Path(__file__).parents[2] / "data" / "rag_notes" / "papers"
    text = " ".join([SENTENCE] * 7) + "\n\n" + (notes / "qlora.md").read_text().split("---")[2]
    longest = max(len(Estimate().ends(text[unit.start : unit.end])) for unit in units(text))
    starts, ends = ({getattr(unit, side) for unit in units(text)} for side in ("start", "end"))
    chunked = split(document(text), Chunking(tokens=tokens))
    within = [chunk for chunk in chunked.chunks if chunk.start in starts and chunk.end in ends]
    assert len(within) == len(chunked.chunks) or tokens < longest
    assert len(within) >= 7 / max(1, tokens // TOKENS)


def test_chunks_of_text_without_spaces_end_where_sentences_do() -> None:
    text = "本論文では、量子化された大規模言語モデルの低ランク適応を提案する。結果は「良好である。」と述べた。" * 20
    chunked = split(document(text), Chunking(tokens=90))
    assert len(chunked.chunks) > 10
    assert {chunk[-1] for chunk in texts(chunked)} == {"。"}
    assert not [chunk for chunk in texts(chunked) if chunk.startswith("と")]


def test_chunks_share_whole_sentences_and_no_more_than_asked_for() -> None:
    sentences = [f"Sentence {number} says that adapters have a low rank." for number in range(60)]
    size = len(Estimate().ends(" " + sentences[-1]))
    chunked = split(document(" ".join(sentences)), Chunking(tokens=10 * size, overlap=2 * size + 3))
    assert max(chunked.tokens) <= 10 * size
    found = [re.findall(r"Sentence (\d+) says", chunk) for chunk in texts(chunked)]
    assert len(found) > 6
    for before, after in itertools.pairwise(found):
        assert before[-2:] == after[:2], "two sentences fit into the overlap"
        assert before[-3:] != after[:3]
    assert all(chunk.startswith("Sentence") and chunk.endswith("rank.") for chunk in texts(chunked))


def test_an_overlap_repeats_no_table_and_does_not_cross_a_section() -> None:
    table = "\n".join(["| a | b |", "| - | - |", *["| one | two |"] * 6])
    text = f"{SENTENCE} {SENTENCE}\n{table}\n{SENTENCE} {SENTENCE}\n# Next\n{SENTENCE} {SENTENCE}"
    chunked = split(document(text, [("Next", text.index("# Next"))]), Chunking(tokens=60, overlap=40))
    assert sum(chunk.count("one") for chunk in texts(chunked)) == 6
    assert next(chunk for chunk in texts(chunked) if "# Next" in chunk).startswith("# Next")


def test_a_table_and_a_formula_are_whole_when_they_fit_and_cut_at_lines_when_they_do_not() -> None:
    table = "\n".join(
        ["| name | value |", "| --- | --- |", *(f"| row {number} | 0.{number} |" for number in range(30))]
    )
    formula = "$$\nL = 1. W\n+ b\n$$"
    chunked = split(document(f"{SENTENCE}\n\n{table}\n\n{SENTENCE}\n{formula}"), Chunking(tokens=400))
    assert [chunk for chunk in texts(chunked) if table in chunk]
    assert [chunk for chunk in texts(chunked) if formula in chunk]
    chunked = split(document(f"{SENTENCE}\n\n{table}"), Chunking(tokens=64))
    parts = [chunk for chunk in texts(chunked) if "|" in chunk]
    assert len(parts) > 4
    assert all(line.startswith("|") and line.endswith("|") for part in parts for line in part.split("\n"))


def test_a_sentence_longer_than_a_chunk_is_cut_after_a_clause_else_between_words_else_anywhere() -> None:
    clause = "adapters of low rank change the weights, "
    chunked = split(document((clause * 20).strip()), Chunking(tokens=48))
    assert all(chunk.endswith("weights,") for chunk in texts(chunked))
    assert len(chunked.chunks) > 3
    chunked = split(document("adapters of low rank change weights " * 20), Chunking(tokens=48))
    assert {word for chunk in texts(chunked) for word in chunk.split()} == set(re.findall(r"\w+", clause)) - {"the"}
    chunked = split(document("x" * 5000), Chunking(tokens=48))
    assert "".join(texts(chunked)) == "x" * 5000


def test_a_heading_with_nothing_below_is_dropped_with_the_reason() -> None:
    text = "# Empty\n\n## Full\n\nwords\n"
    chunked = split(document(text, [("Empty", 0), ("Full", 9)]), Chunking())
    assert texts(chunked) == ["## Full\n\nwords"]
    assert [(drop.document_id, drop.reason, drop.text) for drop in chunked.dropped] == [
        ("doc", "heading without text", "# Empty")
    ]


def test_a_chunk_is_on_the_page_where_it_begins() -> None:
    text = "a b c.\n\nd e f.\n\ng h i."
    chunked = split(document(text, pages=(0, 8, 16)), Chunking(tokens=4))
    assert [(chunk.text, chunk.page) for chunk in chunked.chunks] == [("a b c.", 1), ("d e f.", 2), ("g h i.", 3)]


def test_a_sentence_that_goes_on_over_a_page_is_not_cut_there() -> None:
    text = f"{SENTENCE} {SENTENCE[:30]}\n\n{SENTENCE[30:]} {SENTENCE}"
    chunked = split(document(text, pages=(0, len(SENTENCE) + 33)), Chunking(tokens=TOKENS + 4))
    assert [" ".join(chunk.split()) for chunk in texts(chunked)] == [SENTENCE] * 3


def test_ids_count_up_within_the_document_and_splitting_twice_is_the_same() -> None:
    paper = document(" ".join([SENTENCE] * 40))
    chunked = split(paper, Chunking(tokens=100))
    assert [chunk.id for chunk in chunked.chunks] == [f"doc:{at}" for at in range(len(chunked.chunks))]
    assert split(paper, Chunking(tokens=100)) == chunked


def test_a_document_without_sections_is_one() -> None:
    assert texts(split(Document("d", "d.txt", "T", "some words"), Chunking())) == ["some words"]
