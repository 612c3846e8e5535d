"""``ragtune generate --preview``: the first pairs, seen before hours are spent; nothing of it is done twice."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlx_ragtune.records import ChatReply, ChatRequest
from tests.clients.openai_server import OpenAiStandIn
from tests.stages.project import edit, make_project, ragtune
from tests.synthesis.small import Small
from tests.synthesis.writer import Writer


@pytest.fixture
def server() -> Iterator[OpenAiStandIn]:
    with OpenAiStandIn(Writer().chat) as standin:
        yield standin


@pytest.fixture
def recipe(tmp_path: Path, server: OpenAiStandIn) -> Path:
    path = make_project(tmp_path)
    generator = {"backend": "openai", "model": "writer", "hosts": [server.host], "pairs": 20, "slots": 2}
    edit(path, dataset={"generator": generator, "pairs": None})
    return path


def preview(recipe: Path, *more: str) -> Any:
    return ragtune("generate", recipe, "--preview", "5", *more, cwd=recipe.parents[1])


def test_five_pairs_with_their_quotes_and_no_artifact(recipe: Path) -> None:
    done = preview(recipe, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["pairs"]) == 5
    assert len({pair["task"] for pair in found["pairs"]}) > 2, "the kinds take turns"
    grounded = next(pair for pair in found["pairs"] if pair["task"] == "grounded")
    assert grounded["evidence"][0]["quote"]
    assert grounded["papers"][0]["title"] in grounded["answer"]
    assert not (recipe.parents[1] / "runs" / "small" / "2-dataset").exists()


def test_the_real_run_makes_none_of_these_calls_again(recipe: Path, server: OpenAiStandIn) -> None:
    assert preview(recipe).returncode == 0
    first = [json.dumps(body) for body in server.bodies]
    assert first
    server.bodies.clear()
    done = ragtune("dataset", recipe, cwd=recipe.parents[1])
    assert done.returncode == 0, done.stderr
    assert not set(first) & {json.dumps(body) for body in server.bodies}
    server.bodies.clear()
    assert preview(recipe).returncode == 0
    assert server.bodies == []


def test_what_is_rejected_is_shown_with_its_reason(recipe: Path, server: OpenAiStandIn) -> None:
    writer = Writer()

    def spoilt(request: ChatRequest) -> ChatReply:
        reply = writer.chat(request)
        return replace(reply, text=reply.text.replace('"evidence": "', '"evidence": "Made up, and nowhere: '))

    server.answer = spoilt
    done = preview(recipe)
    assert done.returncode == 0, done.stderr
    assert "rejected: evidence quote not in the text (grounded, " in done.stdout
    assert "× evidence quote not in the text" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120


def test_a_recipe_without_a_generator_has_nothing_to_preview(tmp_path: Path) -> None:
    done = ragtune("generate", make_project(tmp_path), "--preview", "3", cwd=tmp_path)
    assert done.returncode == 2
    assert "the recipe has no generator" in done.stderr


def test_quoted_answers_are_shown_with_the_sentence_that_they_quote(recipe: Path, server: OpenAiStandIn) -> None:
    generator = {"backend": "openai", "model": "writer", "hosts": [server.host], "pairs": 20, "answers": "quoted"}
    edit(recipe, dataset={"generator": generator, "shares": {"grounded": 0.7, "synthesis": 0, "refusal": 0.3}})
    server.answer = Small().chat
    done = preview(recipe, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    quoted = [pair for pair in found["pairs"] if pair["task"] == "grounded"]
    assert quoted
    assert all(pair["evidence"][0]["quote"][1:-1] in pair["answer"] for pair in quoted)
