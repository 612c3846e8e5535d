"""Texts longer than a model's window are read in parts, all of them, each under the title."""

import re

import numpy as np
import pytest
from numpy.typing import NDArray

from mlx_ragtune.clients.protocol import PromptOverflowError
from mlx_ragtune.clients.text_vectors import TextEmbedder, TextReranker
from mlx_ragtune.errors import InputError
from mlx_ragtune.retrieval.prefixes import Prefixes

WINDOW = 12


class Words:
    """A model whose window is counted in words; a vector counts letters."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def vectors(self, texts: list[str]) -> NDArray[np.float32]:
        self.require(*texts)
        self.read += texts
        return np.array([[text.count("a"), len(text)] for text in texts], np.float32)

    def score(self, query: str, document: str) -> float:
        self.require(f"{query} {document}")
        return float(document.count("gold"))

    def require(self, *texts: str) -> None:
        if any(len(text.split()) > WINDOW for text in texts):
            raise PromptOverflowError(None, WINDOW, where="test")


def test_each_text_gets_prefix_and_title() -> None:
    model = Words()
    embedder = TextEmbedder(model.vectors, Prefixes("q: ", "d: "), digest="x")
    rows = embedder.embed_documents([("Title", "a text"), ("", "another")])
    assert model.read == ["d: Title\na text", "d: another"]
    assert [row.shape for row in rows] == [(1, 2), (1, 2)]
    embedder.embed_query("what?")
    assert model.read[-1] == "q: what?"


def test_no_word_of_a_long_text_is_lost_and_parts_end_at_sentences() -> None:
    model = Words()
    embedder = TextEmbedder(model.vectors, Prefixes("", "d: "), digest="x")
    text = " ".join(f"This is sentence number {number} of many." for number in range(9))
    short, long = embedder.embed_documents([("T", "short"), ("T", text)])
    parts = [part.removeprefix("d: T\n") for part in model.read if "short" not in part]
    assert "".join(parts) == text
    assert len(long) == len(parts) > 4
    assert all(part.startswith("This is") and part.rstrip().endswith("many.") for part in parts)
    assert len(short) == 1
    assert embedder.parted == 1


def test_text_without_sentences_or_spaces_is_divided_too() -> None:
    def vectors(texts: list[str]) -> NDArray[np.float32]:
        if any(len(text) > 40 for text in texts):
            raise PromptOverflowError(None, 40, where="test")
        return np.ones((len(texts), 2), np.float32)

    (rows,) = TextEmbedder(vectors, Prefixes(), digest="x").embed_documents([("", "電" * 200)])
    assert len(rows) == 8


def test_a_title_longer_than_the_window_is_an_error_that_names_it() -> None:
    embedder = TextEmbedder(Words().vectors, Prefixes(), digest="x")
    with pytest.raises(InputError, match=r"a title of .* is longer than the embedding model's window"):
        embedder.embed_documents([("word " * 20, "some text that is long enough to be divided")])


def test_the_best_part_of_a_long_text_counts_for_the_reranker() -> None:
    reranker = TextReranker(Words().score, depth=3)
    text = "Nothing is in here at all. " * 5 + "But gold and gold is in this one. " + "Nothing again is here. " * 5
    assert reranker.score("where is it", ("T", text)) == 2
    with pytest.raises(InputError, match="longer than the reranker's window"):
        reranker.score("word " * 20, ("T", "text"))


def test_vectors_depend_on_the_document_prefix_and_not_on_the_query_prefix() -> None:
    names = [
        TextEmbedder(Words().vectors, Prefixes(q, d), digest="x").name for q, d in (("a", ""), ("b", ""), ("", "d"))
    ]
    assert names[0] == names[1] != names[2]
    assert re.match("x ", names[0])
