"""The shipped pairs, through the rooms with the served retriever, as the dataset stage joins them."""

from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.papers.chunks import Chunking, split
from mlx_ragtune.papers.folder import document_ids, list_papers
from mlx_ragtune.papers.reading import open_paper
from mlx_ragtune.records import Chunk, Document, Example, Kind, Pair, Question
from mlx_ragtune.retrieval.index import Index, build_index
from mlx_ragtune.retrieval.prompt import build_messages
from mlx_ragtune.retrieval.retriever import Retriever
from mlx_ragtune.synthesis.assemble import AssemblyReport, assemble
from mlx_ragtune.synthesis.authored import read_pairs
from mlx_ragtune.synthesis.balance import balance
from mlx_ragtune.synthesis.benchmark_view import held_out, read_view
from mlx_ragtune.synthesis.checks import quote_in
from mlx_ragtune.synthesis.dedupe import contamination, without_duplicates
from mlx_ragtune.synthesis.splits import split_by_paper

FOLDER = Path(__file__).parents[2] / "data" / "rag_notes"
SHARES: Mapping[Kind, float] = {"grounded": 0.6, "synthesis": 0.2, "refusal": 0.2}


@cache
def documents() -> tuple[Document, ...]:
    papers = list_papers(FOLDER / "papers")
    ids = document_ids(paper.name for paper in papers)
    return tuple(open_paper(paper.path, id=ids[paper.name]).document for paper in papers)


@cache
def pairs() -> tuple[Pair, ...]:
    return tuple(read_pairs(FOLDER / "pairs.jsonl", documents()))


@cache
def chunks() -> tuple[Chunk, ...]:
    return tuple(chunk for one in documents() for chunk in split(one, Chunking()).chunks)


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Example], AssemblyReport]:
    path = tmp_path_factory.mktemp("index") / "index.sqlite"
    build_index(path, chunks())
    splits = split_by_paper(pairs(), documents(), valid_share=0.1, test_share=0.0, seed=7)
    mine = [pair for pair in pairs() if splits.get(pair.id) == "train"]
    papers = {paper for pair in mine for paper in pair.papers}
    return assemble(
        mine,
        Retriever(Index(path), chunks()),
        [chunk for chunk in chunks() if chunk.document_id in papers],
        top_k=3,
        seed=7,
        shares=SHARES,
        build_messages=build_messages,
    )


def test_no_pair_is_left_out_for_the_shares() -> None:
    kept, left_out = balance(pairs(), SHARES, seed=7)
    assert len(kept) == len(pairs()) >= 160
    assert left_out == []


def test_no_question_is_asked_twice_and_none_is_the_benchmarks() -> None:
    assert without_duplicates(pairs())[1] == []
    benchmark = read_view(FOLDER / "benchmark.jsonl")
    held = held_out(benchmark.papers, documents())
    assert held.copies == ()
    assert not contamination(pairs(), benchmark, held)


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_splitting_cuts_few_pairs_and_holds_out_a_tenth_of_the_papers(seed: int) -> None:
    splits = split_by_paper(pairs(), documents(), valid_share=0.1, test_share=0.0, seed=seed)
    assert len(pairs()) - len(splits) <= 0.03 * len(pairs())
    used = {paper for pair in pairs() for paper in pair.papers}
    held = {paper for pair in pairs() if splits.get(pair.id) == "valid" for paper in pair.papers}
    assert abs(len(held) - 0.1 * len(used)) <= 1
    kinds = Counter(pair.kind for pair in pairs() if splits.get(pair.id) == "valid")
    assert set(kinds) == {"grounded", "synthesis", "refusal"}


def test_training_computes_each_context_once_for_more_than_four_rows(
    training: tuple[list[Example], AssemblyReport],
) -> None:
    rows, report = training
    groups = {row.group for row in rows}
    assert len(rows) / len(groups) > 4
    assert report.dropped == ()
    assert all(abs(report.shares_got[kind] - share) < 0.05 for kind, share in SHARES.items())


def test_the_served_retriever_finds_the_gold_of_nearly_all_questions(
    training: tuple[list[Example], AssemblyReport],
) -> None:
    assert (training[1].gold_found or 0) > 0.9


def test_each_answer_has_its_evidence_in_the_prompt_and_each_refusal_lacks_its_paper(
    training: tuple[list[Example], AssemblyReport],
) -> None:
    by_id = {pair.id: pair for pair in pairs()}
    papers = {chunk.id: chunk.document_id for chunk in chunks()}
    for row in training[0]:
        shown = {papers[one] for one in row.context_ids}
        assert len(row.context_ids) == 3
        if row.kind == "refusal":
            assert not shown & set(row.papers)
        for evidence in by_id[row.id].evidence:
            assert quote_in(evidence.quote, row.messages[1].content) is None


def test_no_paper_of_the_benchmark_is_in_any_training_prompt(
    training: tuple[list[Example], AssemblyReport],
) -> None:
    held = {paper for one in read_rows(FOLDER / "benchmark.jsonl", Question) for paper in one.papers}
    titles = [one.title for one in documents() if one.id in held]
    assert len(titles) >= 20
    assert not [title for title in titles for row in training[0] if f'] "{title}"\n' in row.messages[1].content]


def test_the_gold_passage_is_at_each_place_about_equally_often(
    training: tuple[list[Example], AssemblyReport],
) -> None:
    places = training[1].gold_positions
    assert set(places) == {1, 2, 3}
    assert max(places.values()) < 2 * min(places.values())
