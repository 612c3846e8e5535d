"""``ragtune search`` with a small real embedding model: what it says, and what is computed again."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gguf.bert_folder import bert_folder
from tests.stages.project import edit, make_project, ragtune, stage_folder

QUESTION = "How does LoRA+ set the learning rates?"
NO_PREFIX = {"query_prefix": "", "document_prefix": ""}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAGTUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("hybrid")
    recipe = make_project(home)
    bert_folder(home / "bert")
    bert_folder(home / "cross", rerank=True)
    edit(recipe, retrieval={"embedding": {"model": "../bert", **NO_PREFIX}, "dedup": "section"})
    done = ragtune("corpus", recipe, cwd=home)
    assert done.returncode == 0, done.stderr
    return home


@pytest.fixture
def home(searched: Path, tmp_path: Path) -> Path:
    shutil.copytree(searched, tmp_path / "copy", symlinks=True)
    return tmp_path / "copy"


def recipe(home: Path) -> Path:
    return home / "recipes" / "small.yaml"


def found(home: Path, question: str = QUESTION, *options: str) -> dict[str, Any]:
    done = ragtune("search", recipe(home), question, "--json", *options, cwd=home)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def parts(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "runs" / ".store" / "parts").iterdir())


def test_each_passage_says_which_index_found_it(home: Path) -> None:
    result = found(home, QUESTION, "--top-k", "8")
    assert result["indexes"] == ["full text", "vectors"]
    ranks = [row["found_by"] for row in result["passages"]]
    assert all(by["vectors"]["rank"] >= 1 and -1 <= by["vectors"]["score"] <= 1 for by in ranks if "vectors" in by)
    assert any("full text" in by for by in ranks)
    assert [row["rank"] for row in result["passages"]] == list(range(1, 9))
    scores = [row["score"] for row in result["passages"]]
    assert scores == sorted(scores, reverse=True)


def test_at_most_one_passage_of_a_section_of_a_paper(home: Path) -> None:
    places = [(row["paper"], row["section"]) for row in found(home, QUESTION, "--top-k", "30")["passages"]]
    assert len(places) == len(set(places)) > 10


def test_more_passages_begin_with_the_fewer(home: Path) -> None:
    few, many = (found(home, QUESTION, "--top-k", k)["passages"] for k in ("2", "9"))
    assert [row["chunk"] for row in many[:2]] == [row["chunk"] for row in few]


def test_top_k_and_query_prefix_embed_no_passage_again_and_another_document_prefix_does(home: Path) -> None:
    before, corpus = parts(home), stage_folder(home, "1-corpus")
    edit(recipe(home), retrieval={"top_k": 4, "embedding": {"model": "../bert", **NO_PREFIX, "query_prefix": "graph "}})
    found(home)
    assert (parts(home), stage_folder(home, "1-corpus")) == (before, corpus)
    edit(recipe(home), retrieval={"embedding": {"model": "../bert", "query_prefix": "", "document_prefix": "paper "}})
    found(home)
    assert len(parts(home)) == len(before) + 1


def test_a_renamed_model_is_the_same_and_a_changed_one_is_not(home: Path) -> None:
    corpus = stage_folder(home, "1-corpus")
    (home / "bert").rename(home / "renamed")
    edit(recipe(home), retrieval={"embedding": {"model": "../renamed", **NO_PREFIX}})
    found(home)
    assert stage_folder(home, "1-corpus") == corpus
    bert_folder(home / "other", seed=6)
    edit(recipe(home), retrieval={"embedding": {"model": "../other", **NO_PREFIX}})
    found(home)
    assert stage_folder(home, "1-corpus") != corpus


def test_a_reranker_orders_the_best_passages_and_its_digest_counts(home: Path) -> None:
    edit(recipe(home), retrieval={"rerank": {"model": "../cross", "depth": 5}})
    result = found(home, QUESTION, "--top-k", "8")
    assert result["indexes"] == ["full text", "vectors", "reranker"]
    judged = [row["found_by"]["reranker"] for row in result["passages"] if "reranker" in row["found_by"]]
    assert [place["rank"] for place in judged] == sorted(place["rank"] for place in judged)
    assert 2 <= len(judged) <= 5
    assert all("reranker" in row["found_by"] for row in result["passages"][: len(judged)])
    assert "reranker" in found(home)["passages"][0]["found_by"]


def test_prefixes_that_nobody_knows_must_be_given(home: Path) -> None:
    edit(recipe(home), retrieval={"embedding": {"model": "../bert"}})
    done = ragtune("corpus", recipe(home), cwd=home)
    assert done.returncode == 3
    assert "what '" in done.stderr
    assert "give 'query_prefix' and 'document_prefix'" in done.stderr


def test_without_models_the_search_is_lexical_and_says_so(home: Path) -> None:
    edit(recipe(home), retrieval={"embedding": None})
    done = ragtune("search", recipe(home), QUESTION, cwd=home)
    assert done.stdout.startswith("Searched: full text alone: 'retrieval.embedding' names no embedding model")
    assert "found by full text #1" in done.stdout
    assert max(map(len, done.stdout.split("\n"))) <= 80
    nothing = ragtune("search", recipe(home), "zzzzqqq xyzzy", cwd=home)
    assert "No passage matches the question." in nothing.stdout


def test_passages_that_share_no_word_are_called_nearest_by_meaning(home: Path) -> None:
    done = ragtune("search", recipe(home), "zzzzqqq xyzzy", cwd=home)
    assert "No passage shares a word with the question" in done.stdout
    assert "found by vectors #1" in done.stdout
