"""The whole evaluate stage on a tiny corpus: failing servers leave it unfinished, the same call completes it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlx_ragtune.artifact import Draft
from mlx_ragtune.clients.ollama_http import Ollama
from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.jsonl import read_rows, write_rows
from mlx_ragtune.recipe import PromptedSettings, Recipe
from mlx_ragtune.records import Answer, Chunk, Document, Example, Message, Nugget, Passage, Question, Score
from mlx_ragtune.retrieval.index import build_index
from mlx_ragtune.retrieval.prompt import build_messages
from mlx_ragtune.scoring.answers.probes import ExactCheck, Probe
from mlx_ragtune.scoring.verdict.comparison import read_outcome
from mlx_ragtune.stages.evaluate import evaluate
from tests import ollama_server
from tests.evaluation.asked import chats, make_recipe, register_both
from tests.ollama_server import Fault, OllamaStandIn
from tests.retrieval.made import CHUNKS

FROZEN = Nugget("The weights stay frozen.", (("frozen",),))
QUESTIONS = [
    Question("q1", "lora", "Which weights stay frozen?", True, ("lora",), "The weights stay frozen.", (), (FROZEN,)),
    Question(
        "q2",
        "rag",
        "What finds passages?",
        True,
        ("rag",),
        "A retriever.",
        (),
        (replace(FROZEN, text="A retriever."),),
        origin="drafted",
        writer="qwen3:4b",
    ),
    Question("q3", "football", "Who won the match?", False, refusal_kind="off_corpus"),
]
PROBES = [Probe("p1", "fact", "Capital of France?", ExactCheck("exact", ("Paris",)), "Paris", "Rome")]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlx_ragtune.clients.http_retries.time.sleep", lambda _seconds: None)


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
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    write_rows(dataset / "examples-train.jsonl", [example_row(chunk) for chunk in CHUNKS])
    served = register_both(standin, models, tmp_path / "run")
    return {"corpus": corpus, "dataset": dataset, "base": models / "qwen3", **served}


def example_row(chunk: Chunk) -> Example:
    """A training row about a chunk."""
    messages = build_messages([Passage(chunk.id, chunk.document_id, chunk.title, chunk.text)], "What is it about?")
    answer = Message("assistant", chunk.text.split(".")[0] + ".")
    return Example(f"row-{chunk.id}", "grounded", chunk.id, (*messages, answer), (chunk.document_id,), (chunk.id,))


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


def with_evaluate(recipe: Recipe, **changes: object) -> Recipe:
    return recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update=changes)})


def test_three_arms_are_scored_and_every_file_tells_how_they_were_asked(
    recipe: Recipe,
    inputs: dict[str, Path],
    standin: OllamaStandIn,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mlx_ragtune.evaluation.asker.overlap", lambda _timed: 1.0)  # the stand-in is too quick to tell
    draft = new_draft(tmp_path / "draft")
    said: list[str] = []
    draft.say = said.append
    recipe = with_evaluate(recipe, prompted=PromptedSettings(examples=2, tokens=600), slots=2)
    evaluate(recipe, inputs, draft)
    outcome = read_outcome(draft / "verdict.json")
    assert outcome.against_prompted is not None
    assert outcome.origins == {"drafted": 1, "authored": 2}
    assert outcome.provenance.endswith("2 written by one, 1 only drafted by qwen3:4b.")
    arms = ["base", "prompted", "tuned"]
    assert [row.model for row in read_rows(draft / "used.jsonl", Answer)] == [arm for arm in arms for _ in QUESTIONS]
    assert list(json.loads((draft / "conditions.json").read_text())) == arms
    gates = json.loads((draft / "gates.json").read_text())
    assert gates["asked"] == {"questions": 3, "of": 3, "minutes": None}
    assert [line for line in said if "start it with OLLAMA_NUM_PARALLEL=2, or set evaluate.slots: 1" in line]
    assert gates["parallel"] == {
        "slots": 2,
        "serial": 3,
        "overlap": 1.0,
        "differ": dict.fromkeys(arms, 0),
        "compared": dict.fromkeys(arms, 3),
    }
    examples = json.loads((draft / "prompted.json").read_text())
    gold = {paper for question in QUESTIONS for paper in question.papers}
    used = {chunk.id: chunk.document_id for chunk in CHUNKS}
    assert examples["examples"]
    assert not {used[row["id"].removeprefix("row-")] for row in examples["examples"]} & gold
    noise = json.loads((draft / "noise.json").read_text())
    assert noise["varied"] == ["slots 1 -> 2", "threads of the server -> 1", "Ollama -> embedded server"]
    assert noise["no_second_engine"] == ""
    assert noise["compared"] == 3 + 1  # and a probe
    assert set(noise["floors"].values()) == {0.0}
    assert json.loads((draft / "shown.json").read_text())["of"]
    prompts = [body["messages"] for _, path, body in standin.requests if path == "/api/chat"]
    turns = {len(messages) for messages in prompts}
    assert turns == {2, 2 + 2 * len(examples["examples"])}
    before = [messages[:-1] for messages in prompts if len(messages) > 2]
    assert all(messages == before[0] for messages in before)  # the same examples, byte for byte


def test_prompts_that_do_not_fit_are_refused_before_anything_is_asked(
    recipe: Recipe, inputs: dict[str, Path], standin: OllamaStandIn, tmp_path: Path
) -> None:
    draft = new_draft(tmp_path / "draft")
    sampling = recipe.evaluate.sampling.model_copy(update={"context_tokens": 256, "max_tokens": 250})
    with pytest.raises(InputError, match=r"the longest has \d+ tokens, and with an answer of 250") as caught:
        evaluate(with_evaluate(recipe, sampling=sampling), inputs, draft)
    needed = int(caught.value.fix.split("context_tokens: ")[1].split(",")[0])
    assert chats(standin) == []
    one_less = sampling.model_copy(update={"context_tokens": needed - 1})
    with pytest.raises(InputError, match="do not fit"):
        evaluate(with_evaluate(recipe, sampling=one_less), inputs, draft)
    fits = recipe.evaluate.sampling.model_copy(update={"context_tokens": needed - 250 + 4})
    evaluate(with_evaluate(recipe, sampling=fits), inputs, draft)


def test_a_redo_asks_again_and_fails_when_the_models_are_gone_although_its_answers_are_there(
    recipe: Recipe, inputs: dict[str, Path], standin: OllamaStandIn, tmp_path: Path
) -> None:
    draft = new_draft(tmp_path / "draft")
    evaluate(recipe, inputs, draft)
    asked = len(chats(standin))
    redo = new_draft(tmp_path / "redo")
    redo.fresh = True
    evaluate(recipe, inputs, redo)
    assert len(chats(standin)) == 2 * asked
    for name in ("small-base", "small-tuned"):
        with Ollama(standin.host) as server:
            server.delete(name)
    with pytest.raises(ToolError, match="no longer has"):
        evaluate(recipe, inputs, redo)
    evaluate(recipe, inputs, draft)  # scoring again needs no model


def test_a_server_that_fails_everything_is_an_error_and_not_a_result(
    recipe: Recipe, inputs: dict[str, Path], standin: OllamaStandIn, tmp_path: Path
) -> None:
    standin.fault = on_chat(lambda _number: Fault("status", status=500))
    draft = new_draft(tmp_path / "draft")
    with pytest.raises(ToolError, match="requests"):
        evaluate(recipe, inputs, draft)
    assert not (draft / "verdict.json").exists()
    assert not (draft / "scores.jsonl").exists()
