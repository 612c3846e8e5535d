"""What ``ragtune ask`` says about its passages, and how it writes an answer that arrives in pieces."""

import textwrap

import pytest

from mlx_ragtune.answering.paper_answers import Source
from mlx_ragtune.commands.ask import Wrapped, passages_text


def sources(*found_by: list[str]) -> list[Source]:
    return [
        Source(at + 1, f"p{at}", f"Paper {at}", "Method", 3, 3 + at, f"p{at}#0", "Some text.", tuple(by))
        for at, by in enumerate(found_by)
    ]


def test_it_says_that_no_passage_matched() -> None:
    text = passages_text(sources([], []))
    assert text.startswith("No passage matches the question: the models were shown the first passages of the corpus.")
    assert "[1] Paper 0 (Method, page 3) (does not match the question)" in text


def test_it_says_which_passages_only_fill_up() -> None:
    lines = passages_text(sources(["full text"], [])).split("\n")
    assert lines[0] == "[1] Paper 0 (Method, page 3)"
    assert lines[2] == "[2] Paper 1 (Method, pages 3–4) (does not match the question)"


def test_it_says_when_only_vectors_found_anything() -> None:
    assert passages_text(sources(["vectors"])).startswith("No passage shares a word with the question")
    assert passages_text(sources(["vectors"], ["full text", "vectors"])).startswith("[1] Paper 0")


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_an_answer_in_pieces_is_wrapped_like_a_whole_one(size: int) -> None:
    text = " ".join(f"word{'x' * (at % 11)}" for at in range(90))
    written: list[str] = []
    lines = Wrapped(written.append)
    for start in range(0, len(text), size):
        lines.add(text[start : start + size])
    lines.end(empty="(no answer)")
    assert "".join(written) == textwrap.fill(text, 78) + "\n"


def test_a_word_is_written_before_the_next_one_is_whole() -> None:
    written: list[str] = []
    Wrapped(written.append).add("LoRA trains few par")
    assert "".join(written) == "LoRA trains few"


def test_line_breaks_stay_and_an_empty_answer_says_so() -> None:
    written: list[str] = []
    lines = Wrapped(written.append)
    lines.add("  one\n\n\n\ntwo\x1b[31m\nthree ")
    lines.end(empty="(no answer)")
    assert "".join(written).startswith("one\n\ntwo")
    assert "\x1b" not in "".join(written)
    blank: list[str] = []
    nothing = Wrapped(blank.append)
    nothing.add(" \n ")
    nothing.end(empty="(no answer)")
    assert "".join(blank) == "(no answer)\n"
