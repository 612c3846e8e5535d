"""Asking both models: nothing is asked twice, a failed request is never taken for an answer."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from mlx_ragtune.errors import ToolError
from mlx_ragtune.evaluation.asker import TWO
from mlx_ragtune.evaluation.failed_requests import MAX_IN_A_ROW
from mlx_ragtune.evaluation.items import Item
from mlx_ragtune.jsonl import RowLog, write_rows
from mlx_ragtune.recipe import Recipe
from tests import ollama_server
from tests.evaluation.asked import answers_in, ask, chats, make_items, make_recipe, register_both, with_text
from tests.ollama_server import Fault, OllamaStandIn

Reply = Callable[[Any, Any, Any], None]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlx_ragtune.clients.http_retries.time.sleep", lambda _seconds: None)


@dataclass(frozen=True)
class World:
    """A stand-in with both models, questions, and the answers file of a complete run."""

    server: OllamaStandIn
    recipe: Recipe
    inputs: dict[str, Path]
    items: list[Item]
    complete: bytes

    def chats(self) -> int:
        """How many questions were asked so far."""
        return len(chats(self.server))


@pytest.fixture(scope="module")
def shared(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("asker")
    with OllamaStandIn(folder / "ollama") as server:
        recipe, inputs = make_recipe(folder), register_both(server, models, folder / "run")
        items = make_items(models / "qwen3", 4)
        ask(recipe, inputs, folder / "answers.jsonl", items)
        yield World(server, recipe, inputs, items, (folder / "answers.jsonl").read_bytes())


@pytest.fixture
def world(shared: World) -> Iterator[World]:
    yield shared
    shared.server.fault = ollama_server.NO_FAULT


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An answers file that is not there yet."""
    return tmp_path / "answers.jsonl"


def on_chat(fault: Fault) -> Callable[[str], Fault | None]:
    return lambda path: fault if path == "/api/chat" else None


def raw(body: bytes, kind: str) -> Reply:
    """A reply of 200 with these bytes."""

    def reply(handler: Any, _body: Any, _fault: Any) -> None:
        handler._send(body, 200, kind)

    return reply


FAULTS = {
    **{f"status {code}": Fault("status", status=code, message="no") for code in (302, 401, 403, 404, 429, 500, 503)},
    "error line": Fault("error"),
    "cut": Fault("cut", after=1),
    "no done": Fault("end", after=1),
    "refused": Fault("refuse"),
}
BODIES = {
    "HTML": raw(b"<html><body>Sign in</body></html>", "text/html"),
    "half JSON": raw(b'{"message": {"content": "LoRA', "application/json"),
    "empty": raw(b"", "application/json"),
    "wrong shape": raw(b'{"message": null, "done": true}\n', "application/x-ndjson"),
    "a list": raw(b"[1, 2]\n", "application/x-ndjson"),
    "not UTF-8": raw(b'{"message": {"content": "\xff"}}\n', "application/x-ndjson"),
}


@contextmanager
def broken(server: OllamaStandIn, how: str) -> Iterator[None]:
    """Every chat request is answered wrongly in one way."""
    with pytest.MonkeyPatch.context() as patch:
        if how in FAULTS:
            server.fault = on_chat(FAULTS[how])
        else:
            patch.setattr(ollama_server._Handler, "_chat", BODIES[how])
        yield
    server.fault = ollama_server.NO_FAULT


@pytest.mark.parametrize("how", [*FAULTS, *BODIES])
def test_a_server_that_answers_only_errors_leaves_the_run_unfinished(world: World, path: Path, how: str) -> None:
    with broken(world.server, how), pytest.raises(ToolError) as caught:
        ask(world.recipe, world.inputs, path, world.items[:2])
    assert "4 of 4 requests failed: " in caught.value.what
    assert "question 'q0', base model" in caught.value.what
    assert caught.value.where == world.server.host
    assert "ragtune evaluate RECIPE" in caught.value.fix
    assert answers_in(path) == []


@pytest.mark.parametrize("how", ["status 500", "cut", "HTML"])
def test_with_a_healthy_server_the_same_command_completes(world: World, path: Path, how: str) -> None:
    with broken(world.server, how), pytest.raises(ToolError, match="2 of 2 requests failed"):
        ask(world.recipe, world.inputs, path, world.items[:1])
    asker = ask(world.recipe, world.inputs, path, world.items[:1])
    assert [answer.error for model in TWO for answer in asker.answers(model, world.items[:1])] == ["", ""]


def test_answers_that_arrived_are_kept_and_only_failed_requests_are_sent_again(world: World, path: Path) -> None:
    seen: list[str] = []

    def every_fifth(target: str) -> Fault | None:
        seen.append(target) if target == "/api/chat" else None
        return Fault("status", status=500) if target == "/api/chat" and len(seen) % 5 == 0 else None

    world.server.fault = every_fifth
    with pytest.raises(ToolError, match=r"2 of 6 requests failed: 2 × Ollama answered 500"):
        ask(world.recipe, world.inputs, path, world.items[:3])
    kept = answers_in(path)
    assert len(kept) == 4
    world.server.fault = ollama_server.NO_FAULT
    before = world.chats()
    ask(world.recipe, world.inputs, path, world.items[:3])
    assert world.chats() - before == 2
    assert answers_in(path)[:4] == kept


def test_a_server_that_fails_every_time_is_noticed_early(world: World, models: Path, path: Path) -> None:
    refused: list[str] = []

    def refuse(target: str) -> Fault | None:
        refused.append(target) if target == "/api/chat" else None
        return Fault("status", status=500) if target == "/api/chat" else None

    world.server.fault = refuse
    with pytest.raises(ToolError, match=f"stopped after {MAX_IN_A_ROW} failed requests in a row"):
        ask(world.recipe, world.inputs, path, make_items(models / "qwen3", MAX_IN_A_ROW + 5))
    assert len(refused) == MAX_IN_A_ROW


def test_a_server_that_is_gone_ends_the_run_at_once(
    standin: OllamaStandIn, models: Path, tmp_path: Path, path: Path
) -> None:
    inputs = register_both(standin, models, tmp_path / "run")
    seen: list[str] = []

    def gone_after_two(target: str) -> Fault | None:
        seen.append(target) if target == "/api/chat" else None
        if len(seen) == 5:
            standin.stop_listening()
        return Fault("refuse") if len(seen) >= 5 else None

    standin.fault = gone_after_two
    with pytest.raises(ToolError, match="no Ollama server answers"):
        ask(make_recipe(tmp_path), inputs, path, make_items(models / "qwen3", 6))
    assert len(answers_in(path)) == 2


def test_a_prompt_that_does_not_fit_is_an_answer_with_an_error_and_not_asked_again(
    world: World, models: Path, path: Path
) -> None:
    items = make_items(models / "qwen3", 1, words=600)
    asker = ask(world.recipe, world.inputs, path, items)
    assert [answer.error.split(":")[0] for answer in asker.answers("tuned", items)] == ["prompt_overflow"]
    before = len(world.server.requests)
    ask(world.recipe, world.inputs, path, items)
    assert len(world.server.requests) == before


def test_a_torn_last_line_is_asked_again_and_nothing_else(world: World, path: Path) -> None:
    path.write_bytes(world.complete[:-20])
    before = world.chats()
    ask(world.recipe, world.inputs, path, world.items)
    assert world.chats() - before == 1
    lines = world.complete.splitlines()
    assert [answer.key for answer in answers_in(path)] == [json.loads(line)["key"] for line in lines]


UNUSUAL = [
    "two\u2028lines",
    "next\u0085line",
    "para\u2029graph",
    "\x1b[31m\x07\b",
    "a\r\nb\x0bc\x1c",
    "\x00",
    "🙂",
    " ",
]


def test_answers_with_unusual_characters_are_read_back_as_they_were(world: World, path: Path) -> None:
    path.write_bytes(world.complete)
    texts = dict(zip((answer.key for answer in answers_in(path)), UNUSUAL, strict=True))
    write_rows(path, [with_text(answer, texts[answer.key]) for answer in answers_in(path)])
    before = len(world.server.requests)
    asker = ask(world.recipe, world.inputs, path, world.items)
    assert len(world.server.requests) == before
    given = [answer for model in TWO for answer in asker.answers(model, world.items)]
    assert {answer.key: answer.text for answer in given} == texts


def test_half_an_emoji_in_an_answer_does_not_stop_the_next_run(world: World, path: Path) -> None:
    path.write_bytes(world.complete)
    write_rows(path, [with_text(answer, "half \ud83d") for answer in answers_in(path)])
    before = len(world.server.requests)
    ask(world.recipe, world.inputs, path, world.items)
    assert len(world.server.requests) == before


def test_recipes_that_share_a_model_share_its_answers(world: World, models: Path, tmp_path: Path, path: Path) -> None:
    path.write_bytes(world.complete)
    other = register_both(world.server, models, tmp_path / "other", name="another")
    before = len(world.server.requests)
    asker = ask(make_recipe(tmp_path, name="another"), other, path, world.items)
    assert len(world.server.requests) == before
    assert {answer.model for answer in asker.answers("tuned", world.items)} == {"tuned"}


def test_an_empty_file_asks_everything_again(world: World, path: Path) -> None:
    path.touch()
    before = world.chats()
    ask(world.recipe, world.inputs, path, world.items)
    assert world.chats() - before == 2 * len(world.items)


def test_of_several_rows_with_one_key_the_last_one_counts(world: World, path: Path) -> None:
    path.write_bytes(world.complete)
    with RowLog(path) as log:
        for answer in answers_in(path):
            log.append(with_text(answer, "later"))
    asker = ask(world.recipe, world.inputs, path, world.items)
    assert {answer.text for answer in asker.answers("base", world.items)} == {"later"}


def test_questions_with_one_prompt_are_asked_once_and_both_have_an_answer(world: World, path: Path) -> None:
    first = world.items[0]
    items = [first, replace(first, question=replace(first.question, id="copy"))]
    before = world.chats()
    asker = ask(world.recipe, world.inputs, path, items)
    assert world.chats() - before == 2
    assert [answer.question_id for answer in asker.answers("base", items)] == ["q0", "copy"]


def test_base_and_tuned_take_turns_and_the_first_answer_after_loading_is_cold(world: World) -> None:
    rows = [json.loads(line) for line in world.complete.splitlines()]
    assert [row["model"] for row in rows] == ["base"] * 2 + ["tuned"] * 4 + ["base"] * 2
    assert [row["cold"] for row in rows] == [True, False, True, False, False, False, True, False]
