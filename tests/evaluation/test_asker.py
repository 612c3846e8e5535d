"""Asking both models: nothing is asked twice, a failed request is never taken for an answer."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlx_ragtune.errors import ToolError
from mlx_ragtune.evaluation.failed_requests import MAX_IN_A_ROW
from mlx_ragtune.jsonl import RowLog, write_rows
from mlx_ragtune.recipe import Recipe
from tests import ollama_server
from tests.evaluation.asked import answers_in, ask, chats, make_items, make_recipe, register_both, with_text
from tests.ollama_server import Fault, OllamaStandIn

Reply = Callable[[Any, Any, Any], None]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlx_ragtune.clients.ollama_http.time.sleep", lambda _seconds: None)


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return make_recipe(tmp_path)


@pytest.fixture
def inputs(standin: OllamaStandIn, models: Path, tmp_path: Path) -> dict[str, Path]:
    return register_both(standin, models, tmp_path / "run")


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


@pytest.fixture(params=[*FAULTS, *BODIES])
def broken(request: pytest.FixtureRequest, standin: OllamaStandIn) -> Iterator[Callable[[], None]]:
    """A stand-in whose every answer is broken in one way; calling the fixture heals it."""
    patch = pytest.MonkeyPatch()
    if request.param in FAULTS:
        standin.fault = on_chat(FAULTS[request.param])
    else:
        patch.setattr(ollama_server._Handler, "_chat", BODIES[request.param])

    def heal() -> None:
        standin.fault = ollama_server.NO_FAULT
        patch.undo()

    yield heal
    heal()


def test_a_server_that_answers_only_errors_leaves_the_run_unfinished_and_is_asked_again(
    recipe: Recipe, inputs: dict[str, Path], standin: OllamaStandIn, models: Path, tmp_path: Path,
    broken: Callable[[], None],
) -> None:  # fmt: skip
    items, path = make_items(models / "qwen3", 2), tmp_path / "answers.jsonl"
    with pytest.raises(ToolError) as caught:
        ask(recipe, inputs, path, items)
    assert "4 of 4 requests failed: " in caught.value.what
    assert "question 'q0', base model" in caught.value.what
    assert caught.value.where == standin.host
    assert "ragtune evaluate RECIPE" in caught.value.fix
    assert answers_in(path) == []
    broken()
    asker = ask(recipe, inputs, path, items)
    assert len(answers_in(path)) == 4
    assert all(not answer.error for model in ("base", "tuned") for answer in asker.answers(model, items))


def test_answers_that_arrived_are_kept_and_only_failed_requests_are_sent_again(
    recipe: Recipe, inputs: dict[str, Path], standin: OllamaStandIn, models: Path, tmp_path: Path
) -> None:
    items, path = make_items(models / "qwen3", 3), tmp_path / "answers.jsonl"
    seen: list[str] = []

    def every_fifth(target: str) -> Fault | None:
        seen.append(target) if target == "/api/chat" else None
        return Fault("status", status=500) if target == "/api/chat" and len(seen) % 5 == 0 else None

    standin.fault = every_fifth
    with pytest.raises(ToolError, match=r"2 of 6 requests failed: 2 × Ollama answered 500"):
        ask(recipe, inputs, path, items)
    kept = answers_in(path)
    assert len(kept) == 4
    standin.fault = ollama_server.NO_FAULT
    before = len(chats(standin))
    ask(recipe, inputs, path, items)
    assert len(chats(standin)) - before == 2
    assert answers_in(path)[:4] == kept


def test_a_server_that_fails_every_time_is_noticed_early(
    recipe: Recipe, inputs: dict[str, Path], standin: OllamaStandIn, models: Path, tmp_path: Path
) -> None:
    standin.fault = on_chat(Fault("status", status=500))
    with pytest.raises(ToolError, match=f"stopped after {MAX_IN_A_ROW} failed requests in a row"):
        ask(recipe, inputs, tmp_path / "answers.jsonl", make_items(models / "qwen3", MAX_IN_A_ROW + 5))
    tried = [body for _, path, body in standin.requests if path == "/api/chat"]
    assert tried == []  # every request was refused before it was read


def test_a_server_that_is_gone_ends_the_run_at_once(
    recipe: Recipe, inputs: dict[str, Path], standin: OllamaStandIn, models: Path, tmp_path: Path
) -> None:
    path = tmp_path / "answers.jsonl"
    seen: list[str] = []

    def gone_after_two(target: str) -> Fault | None:
        seen.append(target) if target == "/api/chat" else None
        if len(seen) == 5:
            standin.stop_listening()
        return Fault("refuse") if len(seen) >= 5 else None

    standin.fault = gone_after_two
    with pytest.raises(ToolError, match="no Ollama server answers"):
        ask(recipe, inputs, path, make_items(models / "qwen3", 6))
    assert len(answers_in(path)) == 2


def test_a_prompt_that_does_not_fit_is_an_answer_with_an_error_and_not_asked_again(
    recipe: Recipe, inputs: dict[str, Path], standin: OllamaStandIn, models: Path, tmp_path: Path
) -> None:
    items, path = make_items(models / "qwen3", 1, words=600), tmp_path / "answers.jsonl"
    asker = ask(recipe, inputs, path, items)
    assert [answer.error.split(":")[0] for answer in asker.answers("tuned", items)] == ["prompt_overflow"]
    before = len(standin.requests)
    ask(recipe, inputs, path, items)
    assert len(standin.requests) == before


def test_a_torn_last_line_is_asked_again_and_nothing_else(
    recipe: Recipe, inputs: dict[str, Path], standin: OllamaStandIn, models: Path, tmp_path: Path
) -> None:
    items, path = make_items(models / "qwen3", 2), tmp_path / "answers.jsonl"
    ask(recipe, inputs, path, items)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    before = len(chats(standin))
    ask(recipe, inputs, path, items)
    assert len(chats(standin)) - before == 1
    assert [answer.key for answer in answers_in(path)] == [answer.key for answer in answers_in(path)]
    assert len(answers_in(path)) == 4


@pytest.mark.parametrize(
    "text", ["two\u2028lines", "next\u0085line", "para\u2029graph", "\x1b[31m\x07\b", "a\r\nb\x0bc\x1c", "\x00", "🙂"]
)
def test_an_answer_with_unusual_characters_is_read_back_as_it_was(
    recipe: Recipe, inputs: dict[str, Path], standin: OllamaStandIn, models: Path, tmp_path: Path, text: str
) -> None:
    items, path = make_items(models / "qwen3", 1), tmp_path / "answers.jsonl"
    ask(recipe, inputs, path, items)
    write_rows(path, [with_text(answer, text) for answer in answers_in(path)])
    before = len(standin.requests)
    asker = ask(recipe, inputs, path, items)
    assert len(standin.requests) == before
    assert {answer.text for model in ("base", "tuned") for answer in asker.answers(model, items)} == {text}


def test_half_an_emoji_in_an_answer_does_not_stop_the_next_run(
    recipe: Recipe, inputs: dict[str, Path], standin: OllamaStandIn, models: Path, tmp_path: Path
) -> None:
    items, path = make_items(models / "qwen3", 1), tmp_path / "answers.jsonl"
    ask(recipe, inputs, path, items)
    write_rows(path, [with_text(answer, "half \ud83d") for answer in answers_in(path)])
    before = len(standin.requests)
    ask(recipe, inputs, path, items)
    assert len(standin.requests) == before


def test_recipes_that_share_a_model_share_its_answers(
    recipe: Recipe, inputs: dict[str, Path], standin: OllamaStandIn, models: Path, tmp_path: Path
) -> None:
    items, path = make_items(models / "qwen3", 2), tmp_path / "answers.jsonl"
    ask(recipe, inputs, path, items)
    other = register_both(standin, models, tmp_path / "other", name="another")
    before = len(standin.requests)
    asker = ask(make_recipe(tmp_path, name="another"), other, path, items)
    assert len(standin.requests) == before
    assert [answer.model for answer in asker.answers("tuned", items)] == ["tuned", "tuned"]


def test_another_file_asks_everything_again_and_the_last_row_of_a_key_counts(
    recipe: Recipe, inputs: dict[str, Path], standin: OllamaStandIn, models: Path, tmp_path: Path
) -> None:
    items, path = make_items(models / "qwen3", 2), tmp_path / "answers.jsonl"
    ask(recipe, inputs, path, items)
    before = len(chats(standin))
    ask(recipe, inputs, tmp_path / "redo.jsonl", items)
    assert len(chats(standin)) - before == 4
    with RowLog(path) as log:
        for answer in answers_in(path):
            log.append(with_text(answer, "later"))
    asker = ask(recipe, inputs, path, items)
    assert {answer.text for answer in asker.answers("base", items)} == {"later"}


def test_questions_with_one_prompt_are_asked_once_and_both_have_an_answer(
    recipe: Recipe, inputs: dict[str, Path], standin: OllamaStandIn, models: Path, tmp_path: Path
) -> None:
    from dataclasses import replace

    [item] = make_items(models / "qwen3", 1)
    items = [item, replace(item, question=replace(item.question, id="copy"))]
    asker = ask(recipe, inputs, tmp_path / "answers.jsonl", items)
    assert len(chats(standin)) == 2
    assert [answer.question_id for answer in asker.answers("base", items)] == ["q0", "copy"]


def test_base_and_tuned_take_turns_and_the_first_answer_after_loading_is_cold(
    recipe: Recipe, inputs: dict[str, Path], standin: OllamaStandIn, models: Path, tmp_path: Path
) -> None:
    items, path = make_items(models / "qwen3", 4), tmp_path / "answers.jsonl"
    ask(recipe, inputs, path, items)
    order = [name.removeprefix("small-") for name in chats(standin)]
    assert order == ["base"] * 2 + ["tuned"] * 4 + ["base"] * 2
    assert [answer.cold for answer in answers_in(path)] == [True, False, True, False, True, False, True, False]
