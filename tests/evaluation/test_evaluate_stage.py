"""The whole evaluate stage on a tiny corpus: failing servers leave it unfinished, the same call completes it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlx_ragtune.artifact import Draft
from mlx_ragtune.errors import ToolError
from mlx_ragtune.jsonl import read_rows, write_rows
from mlx_ragtune.recipe import Recipe
from mlx_ragtune.records import Document, Nugget, Question, Score
from mlx_ragtune.retrieval.index import build_index
from mlx_ragtune.scoring.answers.probes import ExactCheck, Probe
from mlx_ragtune.stages.evaluate import evaluate
from tests import ollama_server
from tests.evaluation.asked import chats, make_recipe, register_both
from tests.ollama_server import Fault, OllamaStandIn
from tests.retrieval.made import CHUNKS

FROZEN = Nugget("The weights stay frozen.", (("frozen",),))
QUESTIONS = [
    Question("q1", "lora", "Which weights stay frozen?", True, ("lora",), "The weights stay frozen.", (), (FROZEN,)),
    Question(
        "q2", "rag", "What finds passages?", True, ("rag",), "A retriever.", (), (replace(FROZEN, text="A retriever."),)
    ),
    Question("q3", "football", "Who won the match?", False, refusal_kind="off_corpus"),
]
PROBES = [Probe("p1", "fact", "Capital of France?", ExactCheck("exact", ("Paris",)), "Paris", "Rome")]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlx_ragtune.clients.ollama_http.time.sleep", lambda _seconds: None)


@pytest.fixture
def inputs(standin: OllamaStandIn, models: Path, tmp_path: Path) -> dict[str, Path]:
    """A corpus of five chunks, the toy base, and both models registered with the stand-in."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    papers = {chunk.document_id: chunk for chunk in CHUNKS}
    write_rows(corpus / "documents.jsonl", [Document(name, name, one.title, one.text) for name, one in papers.items()])
    write_rows(corpus / "chunks.jsonl", CHUNKS)
    build_index(corpus / "index.sqlite", CHUNKS)
    write_rows(tmp_path / "benchmark.jsonl", QUESTIONS)
    write_rows(tmp_path / "probes.jsonl", PROBES)
    return {"corpus": corpus, "base": models / "qwen3", **register_both(standin, models, tmp_path / "run")}


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    sampling = {"max_tokens": 4, "context_tokens": 1024}
    probes = tmp_path / "probes.jsonl"
    return make_recipe(tmp_path, evaluate={"sampling": sampling, "probes": probes, "distractors": True})


def new_draft(folder: Path) -> Draft:
    folder.mkdir()
    return Draft(folder)


def on_chat(answer: Callable[[int], Fault | None]) -> Callable[[str], Fault | None]:
    """Faults by the number of the chat request."""
    seen: list[str] = []

    def fault(path: str) -> Fault | None:
        if path != "/api/chat":
            return None
        seen.append(path)
        return answer(len(seen))

    return fault


def test_a_stage_whose_requests_failed_has_no_verdict_and_the_next_call_asks_only_those(
    recipe: Recipe, inputs: dict[str, Path], standin: OllamaStandIn, tmp_path: Path
) -> None:
    draft = new_draft(tmp_path / "draft")
    standin.fault = on_chat(lambda number: Fault("status", status=401) if number % 7 == 0 else None)
    with pytest.raises(ToolError, match=r"\d of \d+ requests failed: \d × Ollama answered 401"):
        evaluate(recipe, inputs, draft)
    assert not (draft / "verdict.json").exists()
    standin.fault = ollama_server.NO_FAULT
    answered = len(chats(standin))
    evaluate(recipe, inputs, draft)
    asked_again = len(chats(standin)) - answered
    assert 0 < asked_again < answered
    verdict = json.loads((draft / "verdict.json").read_text())
    assert verdict["against_base"]["n_questions"] == 3
    assert draft.facts["answers"] == 6
    scores = list(read_rows(draft / "scores.jsonl", Score))
    assert [(score.question_id, score.model) for score in scores] == [
        (question.id, model) for model in ("base", "tuned") for question in QUESTIONS
    ]
    assert [row["id"] for row in map(json.loads, (draft / "probes.jsonl").read_text().splitlines())] == ["p1"]
    assert "byte for byte (6 prompts)" in json.loads((draft / "gates.json").read_text())["served_prompts"]
    assert (draft / "distractors.jsonl").exists()
    before = len(standin.requests)
    evaluate(recipe, inputs, draft)  # scoring again asks nothing
    assert len(standin.requests) == before


def test_a_server_that_fails_everything_is_an_error_and_not_a_result(
    recipe: Recipe, inputs: dict[str, Path], standin: OllamaStandIn, tmp_path: Path
) -> None:
    standin.fault = on_chat(lambda _number: Fault("status", status=500))
    draft = new_draft(tmp_path / "draft")
    with pytest.raises(ToolError, match="requests"):
        evaluate(recipe, inputs, draft)
    assert not (draft / "verdict.json").exists()
    assert not (draft / "scores.jsonl").exists()
