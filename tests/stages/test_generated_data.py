"""The data set stage with a generator that is a rule-made writer: what it writes, refuses and gives back."""

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest

from mlx_ragtune.building import generators, pair_sources
from mlx_ragtune.errors import InputError
from mlx_ragtune.jsonl import read_dicts, read_rows
from mlx_ragtune.recipe_load import load_recipe
from mlx_ragtune.records import ChatReply, ChatRequest, Example, Pair
from tests.stages.dataset_run import base, build, corpus
from tests.stages.project import edit, make_project
from tests.stages.test_corpus_dataset import run_corpus
from tests.synthesis.writer import Writer

__all__ = ["base", "corpus"]


class Served(Writer):
    """The writer as a backend that is entered and left."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        pass

    def identity(self) -> dict[str, str]:
        return {"digest": "sha256:writer"}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    writer = Served()
    monkeypatch.setattr(pair_sources, "open_generators", lambda _settings: [writer])
    monkeypatch.setattr(generators, "require_generator", lambda _settings: None)
    return writer


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = make_project(tmp_path / "project")
    settings = {"backend": "openai", "model": "writer", "hosts": ["http://127.0.0.1:9"], "pairs": 30}
    edit(path, dataset={"pairs": None, "generator": settings, "max_tokens": 8192,
                        "shares": {"grounded": 0.6, "synthesis": 0.1, "refusal": 0.3}})  # fmt: skip
    return path


def examples(folder: Path) -> dict[str, list[Example]]:
    return {split: list(read_rows(folder / f"examples-{split}.jsonl", Example)) for split in ("train", "valid")}


def test_generated_pairs_given_back_as_authored_ones_give_the_same_rows(
    recipe: Path, base: Path, corpus: Path, served: Served
) -> None:
    first, said = build(recipe, base, corpus)
    kept = list(read_rows(first / "pairs.jsonl", Pair))
    assert [pair.id for pair in kept] == [row["pair"]["id"] for row in read_dicts(first / "generated.jsonl")]
    assert {pair.kind for pair in kept} == {"grounded", "synthesis", "refusal"}
    assert any(line.startswith("generated pairs ") for line in said)
    asked = len(served.requests)
    edit(recipe, dataset={"generator": None, "pairs": str(first / "pairs.jsonl")})
    again, _ = build(recipe, base, corpus, "again")
    assert examples(again.folder) == examples(first.folder)
    assert len(served.requests) == asked
    account = json.loads((again / "statistics.json").read_text())["account"]
    assert sum(account["read"].values()) == len(kept)


@pytest.mark.parametrize(
    ("changes", "where", "problem"),
    [
        ({"max_tokens": 256}, "dataset.max_tokens", "of the rows will be longer than 256 tokens"),
        ({"generator": {"pairs": 100_000}}, "dataset.generator.pairs", "the papers cannot give 100000 pairs"),
    ],
)
def test_bounds_are_checked_before_the_first_request(
    recipe: Path, base: Path, corpus: Path, served: Served, changes: dict[str, Any], where: str, problem: str
) -> None:
    generator = load_recipe(recipe).dataset.generator
    assert generator is not None
    if "generator" in changes:
        changes = {"generator": {**generator.model_dump(mode="json", exclude_defaults=True), **changes["generator"]}}
    edit(recipe, dataset=changes)
    with pytest.raises(InputError) as caught:
        build(recipe, base, corpus)
    assert problem in caught.value.what
    assert caught.value.where == where
    assert caught.value.fix
    assert served.requests == []


def test_the_limit_that_the_error_names_is_enough(recipe: Path, base: Path, corpus: Path, served: Served) -> None:
    edit(recipe, dataset={"max_tokens": 256})
    with pytest.raises(InputError) as caught:
        build(recipe, base, corpus)
    named = int(caught.value.fix.partition("dataset.max_tokens: ")[2].split(",")[0])
    edit(recipe, dataset={"max_tokens": named, "on_too_long": "drop"})
    draft, _ = build(recipe, base, corpus, "enough")
    assert draft.facts["too_long"] <= 1


def test_nothing_is_written_on_passages_that_state_nothing(
    recipe: Path, base: Path, tmp_path: Path, served: Served
) -> None:
    papers = recipe.parents[1] / "papers"
    (papers / "front.md").write_text("# A Long Title Of A Paper\n\nAda Lovelace, Alan Turing\n\nada@example.org\n")
    folder, _ = run_corpus(recipe)
    _, said = build(recipe, base, folder.folder)
    assert any(line.startswith("nothing is written on ") for line in said)
    assert not any("Ada Lovelace" in request.messages[1].content for request in served.requests
                   if request.schema and "pairs" in request.schema["properties"])  # fmt: skip
    subjects = [request.messages[1].content for request in served.requests]
    assert not any("nothing to do with computing" in text for text in subjects)


class Habit(Served):
    """Writes "the paper" instead of its title, as many models do."""

    def chat(self, request: ChatRequest) -> ChatReply:
        reply = super().chat(request)
        return replace(reply, text=re.sub(r'(?<="reply": ")\\"[^"\\]+\\" reports:', "The paper reports:", reply.text))


def test_pairs_that_a_rule_mended_are_counted_in_the_account(
    recipe: Path, base: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pair_sources, "open_generators", lambda _settings: [Habit()])
    draft, said = build(recipe, base, corpus)
    mended = [row["pair"]["kind"] for row in read_dicts(draft / "generated.jsonl") if row["repairs"]]
    account = json.loads((draft / "statistics.json").read_text())["account"]
    assert account["repaired"] == dict(Counter(mended))
    assert account["repaired"]["grounded"] > 0
    assert any("repaired" in line for line in said)
