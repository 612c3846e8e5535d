"""Passages for a question: best first, without barred papers, and always some."""

from dataclasses import replace
from pathlib import Path

import pytest

from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.records import Chunk, Question
from mlx_ragtune.retrieval.fusion import Hit
from mlx_ragtune.retrieval.index import Index, build_index
from mlx_ragtune.retrieval.retriever import DEPTH, Retriever
from mlx_ragtune.retrieval.vectors import VectorCache, VectorIndex, build_vectors
from tests.retrieval.made import CHUNKS, WordEmbedder, chunk

NOTES = Path(__file__).parents[2] / "data" / "rag_notes"


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Retriever:
    folder = tmp_path_factory.mktemp("corpus")
    build_index(folder / "index.sqlite", CHUNKS)
    return Retriever(Index(folder / "index.sqlite"), CHUNKS)


def ids(retriever: Retriever, question: str, k: int = 2, **options: tuple[str, ...]) -> list[str]:
    return [one.chunk_id for one in retriever.search(question, k, **options)]


def test_a_passage_is_the_chunks_text_under_its_papers_title(retriever: Retriever) -> None:
    (passage,) = retriever.search("What does a graph find?", 1)
    assert (passage.chunk_id, passage.document_id, passage.title) == ("hnsw", "hnsw", "Navigable Small World Graphs")
    assert passage.text == CHUNKS[2].text


def test_barred_papers_are_left_out_with_all_their_chunks(retriever: Retriever) -> None:
    assert set(ids(retriever, "passages of a retriever", 2)) == {"rag:0", "rag:1"}
    assert not set(ids(retriever, "passages of a retriever", 4, without_papers=("rag",))) & {"rag:0", "rag:1"}


def test_k_passages_come_even_for_a_question_that_shares_no_word(retriever: Retriever) -> None:
    assert ids(retriever, "capital France", 3) == ["lora", "qlora", "hnsw"]
    assert ids(retriever, "graph", 3, without_papers=("lora",)) == ["hnsw", "qlora", "rag:0"]
    assert ids(retriever, "???", 9, without_papers=("rag",)) == ["lora", "qlora", "hnsw"]
    assert ids(retriever, "graph", 0) == []


def test_the_search_goes_deeper_when_barred_papers_fill_its_top(tmp_path: Path) -> None:
    many = [chunk(f"many:{at}", "words words words", paper="many") for at in range(3 * DEPTH)]
    chunks = [
        *many,
        chunk("other", "nothing of that kind"),
        chunk("z", "words and a lot of other things that make this one the worst match"),
    ]
    build_index(tmp_path / "i.sqlite", chunks)
    one = Retriever(Index(tmp_path / "i.sqlite"), chunks)
    assert ids(one, "words", 1, without_papers=("many",)) == ["z"]


class Fixed:
    def __init__(self, *names: str) -> None:
        self.names = names

    def search(self, query: str, k: int) -> list[Hit]:
        return [Hit(name, 1.0) for name in self.names][:k]


def test_vectors_and_full_text_are_fused() -> None:
    one = Retriever(Fixed("lora", "hnsw"), CHUNKS, vectors=Fixed("qlora", "hnsw"))
    assert ids(one, "any", 3) == ["hnsw", "lora", "qlora"]


def test_vectors_find_what_shares_no_word_with_the_question(tmp_path: Path) -> None:
    build_index(tmp_path / "i.sqlite", CHUNKS)
    build_vectors(tmp_path / "v.npy", CHUNKS, WordEmbedder(), cache=VectorCache(tmp_path / "c.sqlite"))
    fused = Retriever(Index(tmp_path / "i.sqlite"), CHUNKS, vectors=VectorIndex(tmp_path / "v.npy", WordEmbedder()))
    assert ids(fused, "a graph", 1) == ["hnsw"]


def test_the_same_question_gets_the_same_passages(retriever: Retriever) -> None:
    assert retriever.search("frozen weights", 3) == retriever.search("frozen weights", 3)


def test_the_notes_are_found_by_their_questions(tmp_path: Path) -> None:
    from mlx_ragtune.papers.chunks import Chunking, split
    from mlx_ragtune.papers.folder import document_ids, list_papers
    from mlx_ragtune.papers.reading import open_paper

    papers = list_papers(NOTES / "papers")
    ids = document_ids(paper.name for paper in papers)
    notes = [open_paper(paper.path, id=ids[paper.name]).document for paper in papers]
    chunks = [chunk for note in notes for chunk in split(note, Chunking()).chunks]
    build_index(tmp_path / "i.sqlite", chunks)
    one = Retriever(Index(tmp_path / "i.sqlite"), chunks)
    asked = [question for question in read_rows(NOTES / "benchmark.jsonl", Question) if question.papers]
    asked = [question for question in asked if question.answerable]
    found = [
        bool(set(question.papers) & {passage.document_id for passage in one.search(question.question, 3)})
        for question in asked
    ]
    assert len(asked) > 50
    assert sum(found) / len(found) >= 0.97


def sections(*places: tuple[str, str]) -> list[Chunk]:
    return [
        replace(chunk(f"{paper}:{n}", "t", paper=paper), section=section) for n, (paper, section) in enumerate(places)
    ]


PLACES = sections(("p", "Method"), ("p", "Method"), ("p", "Results"), ("q", "Method"), ("q", "Method"))


def test_a_section_is_shown_once_before_the_cut_and_another_papers_section_of_that_name_is_another() -> None:
    once = Retriever(Fixed("p:1", "p:0", "q:4", "p:2", "q:3"), PLACES, dedup="section")
    assert ids(once, "any", 3) == ["p:1", "q:4", "p:2"]
    assert ids(once, "any", 2, without_papers=("p",)) == ["q:4"]
    assert ids(Retriever(Fixed("p:1", "p:0", "q:4"), PLACES), "any", 3) == ["p:1", "p:0", "q:4"]


def test_what_fills_up_is_of_other_sections_too() -> None:
    assert ids(Retriever(Fixed(), PLACES, dedup="section"), "any", 9) == ["p:0", "p:2", "q:3"]
    assert Retriever(Fixed(), PLACES, dedup="section").matches("any", 9) == []


def test_a_section_has_the_votes_of_both_indexes_though_each_prefers_another_chunk_of_it() -> None:
    by_words, by_meaning = Fixed("p:2", "q:3"), Fixed("q:4", "p:0")
    assert ids(Retriever(by_words, PLACES, vectors=by_meaning), "any", 1) == ["p:2"]
    found = Retriever(by_words, PLACES, vectors=by_meaning, dedup="section").matches("any", 3)
    assert found[0].chunk.document_id == "q"
    assert found[0].by == {"full text": (2, 1.0), "vectors": (1, 1.0)}


class Judge:
    depth = 2

    def __init__(self) -> None:
        self.read: list[str] = []

    def score(self, query: str, document: tuple[str, str]) -> float:
        self.read.append(document[0])
        return {"a": 1.0, "b": 3.0}.get(document[0], 9.0)


def test_a_reranker_orders_the_first_ones_only_and_reads_a_pair_once() -> None:
    judge = Judge()
    one = Retriever(Fixed("a", "b", "c"), [chunk(name, name) for name in "abc"], reranker=judge)
    assert ids(one, "any", 3) == ["b", "a", "c"]
    assert ids(one, "any", 1) == ["b"]
    assert judge.read == ["a", "b"]
    assert [found.by.get("reranker") for found in one.matches("any", 3)] == [(1, 3.0), (2, 1.0), None]
