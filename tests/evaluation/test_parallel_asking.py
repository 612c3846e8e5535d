"""Three arms, several slots, a budget: who is asked when, what is kept apart, and what a stop leaves."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlx_ragtune.artifact import silent
from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer
from mlx_ragtune.errors import ToolError
from mlx_ragtune.evaluation.asker import Asker
from mlx_ragtune.evaluation.asking_order import SERIAL_QUESTIONS, make_schedule
from mlx_ragtune.evaluation.items import Item
from mlx_ragtune.recipe import Recipe
from mlx_ragtune.records import ARMS, ChatReply, ChatRequest
from mlx_ragtune.scoring.answers.cost import cost_metrics
from tests.evaluation.asked import answers_in, ask, embed_both, make_items, make_recipe, with_examples

SAMPLING = {"max_tokens": 4, "context_tokens": 512}


def three_arms(folder: Path, **evaluate: Any) -> Recipe:
    prompted = {"examples": 1, "tokens": 64}
    return make_recipe(folder, evaluate={"sampling": SAMPLING, "prompted": prompted, **evaluate})


@pytest.fixture(scope="module")
def items(models: Path) -> list[Item]:
    return with_examples(make_items(models / "qwen3", 15), models / "qwen3")


@pytest.fixture
def inputs(models: Path, tmp_path: Path) -> dict[str, Path]:
    return embed_both(models, tmp_path / "run")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were loaded, in order."""
    names: list[str] = []
    enter = LlamaCppServer.__enter__

    def watched(server: LlamaCppServer) -> LlamaCppServer:
        names.append(Path(server._gguf).name.removesuffix(".gguf"))
        return enter(server)

    monkeypatch.setattr(LlamaCppServer, "__enter__", watched)
    return names


def watch_chats(monkeypatch: pytest.MonkeyPatch, before: Callable[[int], None]) -> list[int]:
    """Call ``before`` with the number of each request; returns the numbers of requests in flight, at their starts."""
    chat, lock, running, seen = LlamaCppServer.chat, threading.Lock(), [0], list[int]()

    def watched(server: LlamaCppServer, request: ChatRequest) -> ChatReply:
        with lock:
            running[0] += 1
            seen.append(running[0])
            number = len(seen)
        try:
            before(number)
            return chat(server, request)
        finally:
            with lock:
                running[0] -= 1

    monkeypatch.setattr(LlamaCppServer, "chat", watched)
    return seen


def test_no_arm_always_comes_first_and_the_base_file_is_not_loaded_for_each_of_its_arms(
    items: list[Item], inputs: dict[str, Path], path: Path, tmp_path: Path, opened: list[str]
) -> None:
    asker = ask(three_arms(tmp_path), inputs, path, items[:4])
    order = [answer.model for answer in answers_in(path)]
    assert order == [arm for arm in ("base", "prompted", "tuned", "tuned", "prompted", "base") for _ in range(2)]
    assert opened == ["base", "tuned", "base"]
    for arm in ARMS:
        assert [answer.question_id for answer in asker.answers(arm, items[:4])] == ["q0", "q1", "q2", "q3"]
    tokens = {arm: {answer.prompt_tokens for answer in asker.answers(arm, items[:1])} for arm in ARMS}
    assert tokens["prompted"] == {items[0].prompt("prompted").tokens}
    assert tokens["base"] == tokens["tuned"] == {items[0].prompt_tokens}
    assert asker.gate(items[:4]).equal == 12


def test_only_questions_asked_one_by_one_have_times_and_they_are_asked_in_parallel_too(
    items: list[Item], inputs: dict[str, Path], path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = watch_chats(monkeypatch, lambda _number: time.sleep(0.01))
    asker = ask(three_arms(tmp_path, slots=3), inputs, path, items)
    assert max(running) == 3
    rows = answers_in(path)
    assert len({row.key for row in rows}) == len(rows) == 3 * (len(items) + SERIAL_QUESTIONS)
    for arm in ARMS:
        given = asker.answers(arm, items)
        assert sum(not answer.parallel for answer in given) == SERIAL_QUESTIONS
        assert all(("latency_seconds" in cost_metrics(one)) == (not one.parallel and not one.cold) for one in given)
        assert not any(answer.cold for answer in rows if answer.parallel)
        again = asker.answers_under(arm, asker.serial_items(), parallel=True)
        assert [answer.question_id for answer in again] == [item.question.id for item in asker.serial_items()]
    before = len(rows)
    ask(three_arms(tmp_path, slots=3), inputs, path, items)
    assert len(answers_in(path)) == before


def test_other_slots_or_threads_are_other_answers(
    items: list[Item], inputs: dict[str, Path], path: Path, tmp_path: Path
) -> None:
    for number, evaluate in enumerate([{}, {"slots": 2}, {"threads": 2}, {"threads": 1}], start=1):
        asker = ask(three_arms(tmp_path, **evaluate), inputs, path, items[:1])
        conditions = asker.conditions("base", ())
        assert (conditions.slots, conditions.threads) == (evaluate.get("slots", 1), evaluate.get("threads", 1))
        wanted = {1: 3, 2: 9, 3: 12, 4: 12}[number]  # with slots each is also compared; one thread is the default here
        assert len(answers_in(path)) == wanted
    assert "xllamacpp" in conditions.engine
    assert conditions.batch


def test_above_temperature_0_nothing_is_asked_a_second_time(
    items: list[Item], inputs: dict[str, Path], path: Path, tmp_path: Path
) -> None:
    sampling = {**SAMPLING, "temperature": 0.7}
    ask(three_arms(tmp_path, slots=2, sampling=sampling, seeds=(1, 2)), inputs, path, items[:3])
    assert len(answers_in(path)) == 18


def test_a_failure_in_one_thread_is_counted_and_the_rest_is_kept(
    items: list[Item], inputs: dict[str, Path], path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(number: int) -> None:
        if number % 10 == 0:
            raise ToolError("no", where="here")

    watch_chats(monkeypatch, fail)
    with pytest.raises(ToolError, match=r"8 of 81 requests failed: 8 × no"):
        ask(three_arms(tmp_path, slots=3), inputs, path, items)
    assert len(answers_in(path)) == 73
    monkeypatch.undo()
    ask(three_arms(tmp_path, slots=3), inputs, path, items)
    assert len(answers_in(path)) == 81


def test_ctrl_c_ends_at_once_and_loses_no_answer_that_arrived(
    items: list[Item], inputs: dict[str, Path], path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = three_arms(tmp_path, slots=3)

    class Stopped:
        done = 0

        def advance(self, count: int = 1, note: str = "") -> None:
            self.done += count
            if self.done >= 25 and note:
                raise KeyboardInterrupt

        def reach(self, done: int, total: int, note: str = "") -> None:
            raise AssertionError

        def __enter__(self) -> "Stopped":
            return self

        def __exit__(self, *_: object) -> None:
            pass

    running = watch_chats(monkeypatch, lambda _number: None)
    with pytest.raises(KeyboardInterrupt):
        Asker(recipe, inputs, path).ask_all(items, lambda _label, _total: Stopped())
    kept = answers_in(path)
    assert len(kept) == 25
    assert len(running) <= 25 + 2 * 3
    ask(recipe, inputs, path, items)
    assert answers_in(path)[:25] == kept
    assert len(answers_in(path)) == 81


def test_when_the_budget_is_spent_every_arm_has_answered_the_same_questions(
    items: list[Item], inputs: dict[str, Path], path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = three_arms(tmp_path, budget=5)
    clock = [0.0]
    monkeypatch.setattr("mlx_ragtune.evaluation.asking_order.time.monotonic", lambda: clock[0])

    def pass_ten_seconds(_number: int) -> None:
        clock[0] += 10

    watch_chats(monkeypatch, pass_ten_seconds)
    asker = Asker(recipe, inputs, path)
    asker.ask_all(items, silent)
    asked = [item.question.id for item in asker.progress.asked]
    assert 0 < len(asked) < len(items)
    for arm in ARMS:
        assert sorted(answer.question_id for answer in asker.answers(arm, items)) == sorted(asked)
    assert len(asked) == 8, "a third block of 4 questions would end after 6 minutes"
    resumed = Asker(recipe, inputs, path)
    resumed.ask_all(items, silent)  # what is there costs nothing, so the second call gets further
    further = [item.question.id for item in resumed.progress.asked]
    assert further[: len(asked)] == asked
    assert len(further) > len(asked)


def test_the_order_depends_on_the_seed_alone_and_extras_are_spread_over_the_blocks(items: list[Item]) -> None:
    extras = [
        replace(item, question=replace(item.question, id=f"probe:{item.question.id}"), once=True) for item in items
    ]
    plan = make_schedule([*items, *extras], seed=3, slots=4, budget=True)
    assert plan == make_schedule([*extras[::-1], *items[::-1]], seed=3, slots=4, budget=True)
    assert plan != make_schedule([*items, *extras], seed=4, slots=4, budget=True)
    sizes = [sum(item.once for item in block.items) for block in plan.blocks]
    assert max(sizes) - min(sizes) <= 1
    assert len(plan.serial) == SERIAL_QUESTIONS
    assert [block.arms[0] for block in plan.blocks[:4]] == ["base", "tuned", "base", "tuned"]
