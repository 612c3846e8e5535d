"""The full-text index: any text is a safe query, titles weigh more, ties are settled, files are only read."""

import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlx_ragtune.errors import ArtifactError, ToolError
from mlx_ragtune.retrieval.index import Index, build_index
from mlx_ragtune.retrieval.terms import MAX_TERMS, match_expression
from tests.retrieval.made import CHUNKS, chunk


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    path = tmp_path_factory.mktemp("index") / "index.sqlite"
    build_index(path, CHUNKS)
    return Index(path)


def ids(index: Index, query: str, k: int = 10) -> list[str]:
    return [hit.chunk_id for hit in index.search(query, k)]


def made(folder: Path, *texts: tuple[str, str, str]) -> Index:
    path = folder / "index.sqlite"
    build_index(path, [chunk(name, text, title=title) for name, title, text in texts])
    return Index(path)


def test_words_are_found_in_any_of_their_forms(index: Index) -> None:
    assert ids(index, "What does retrieving find?")[0] == "rag:0"
    assert ids(index, "neighbour")[0] == "hnsw"


def test_accents_and_case_make_no_difference(tmp_path: Path) -> None:
    one = made(tmp_path, ("a", "t", "Poincaré discs"), ("b", "t", "plain discs"))
    assert ids(one, "POINCARE") == ids(one, "Poincare\u0301") == ids(one, "poincaré") == ["a"]


def test_a_word_in_the_title_weighs_more_than_one_in_the_text(tmp_path: Path) -> None:
    texts = [("in_text", "Other", "pruning of models"), ("in_title", "Pruning", "models of others")]
    texts += [(f"z{at}", "Filler", "nothing here") for at in range(8)]
    assert ids(made(tmp_path, *texts), "pruning") == ["in_title", "in_text"]


def test_stop_words_do_not_count_unless_nothing_else_is_there(index: Index) -> None:
    assert match_expression("What is the rank of it?") == '"rank"'
    assert match_expression("What is it?") == '"what" OR "is" OR "it"'
    assert ids(index, "of the")


def test_scores_fall_from_hit_to_hit_and_equal_ones_are_in_the_order_of_ids(tmp_path: Path) -> None:
    one = made(tmp_path, ("c", "t", "same words"), ("a", "t", "same words"), ("b", "t", "same words twice same"))
    hits = one.search("same", 3)
    assert sorted((-hit.score, hit.chunk_id) for hit in hits) == [(-hit.score, hit.chunk_id) for hit in hits]
    assert [hit.chunk_id for hit in hits if hit.chunk_id != "b"] == ["a", "c"]


def test_at_most_k_are_found_and_none_without_a_word(index: Index) -> None:
    assert len(index.search("passages finds a frozen base", 2)) == 2
    assert index.search("passages", 0) == index.search("?! --", 5) == index.search("", 5) == []


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.text(max_size=80), st.text('"*^():-+{}NEAR AND OR NOT title:', max_size=40)))
def test_no_text_is_syntax(index: Index, query: str) -> None:
    for hit in index.search(query, 3):
        assert hit.chunk_id in {one.id for one in CHUNKS}


def test_words_of_the_query_language_are_words(tmp_path: Path) -> None:
    one = made(tmp_path, ("a", "t", "near and far"), ("b", "t", "nothing"))
    assert ids(one, "NEAR(far, 2) NOT title:nothing*") == ["a", "b"] or set(ids(one, "NEAR far nothing")) == {"a", "b"}


def test_an_endless_query_is_cut() -> None:
    assert match_expression(" ".join(f"word{number}" for number in range(50_000))).count(" OR ") == MAX_TERMS - 1


def test_a_query_of_ten_thousand_words_is_answered(index: Index) -> None:
    assert "hnsw" in ids(index, " ".join(f"word{at}" for at in range(10_000)) + " graph")


def test_a_path_with_marks_of_an_address_is_opened(tmp_path: Path) -> None:
    folder = tmp_path / "50% of #1? yes"
    folder.mkdir()
    assert ids(made(folder, ("a", "t", "words")), "words") == ["a"]


def test_building_again_replaces_and_the_same_chunks_give_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    build_index(path, CHUNKS[:1])
    build_index(path, CHUNKS)
    once = path.read_bytes()
    build_index(path, CHUNKS)
    assert path.read_bytes() == once
    assert ids(Index(path), "graph") == ["hnsw"]


def test_the_file_is_only_read(index: Index) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        index._connection.execute("DELETE FROM chunk")


@pytest.mark.parametrize("content", [None, b"not a database at all, but long enough to be looked at", b""])
def test_what_is_no_index_says_so(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "index.sqlite"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match="not a full-text index") as caught:
        Index(path)
    assert caught.value.fix == "ragtune corpus RECIPE --redo"
    assert path.exists() == (content is not None)


def test_an_index_damaged_behind_its_head_says_so_when_it_is_searched(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    build_index(path, CHUNKS)
    content = path.read_bytes()
    path.write_bytes(content[:8192] + bytes(len(content) - 8192))
    with pytest.raises(ArtifactError, match="not a full-text index"):
        Index(path).search("graph", 1)


def test_an_index_that_cannot_be_written_is_a_tool_error(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="the full-text index cannot be written"):
        build_index(tmp_path / "absent" / "index.sqlite", [])
