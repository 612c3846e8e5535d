"""Threads that work for several tools at once."""

import threading
import time

from mlx_ragtune.clients.http_retries import ServerGoneError
from mlx_ragtune.synthesis.crew import Crew


def test_every_result_comes_back_with_its_number() -> None:
    crew: Crew[int, int] = Crew([10, 20], slots=2)
    assert crew.size == 4
    for number in range(20):
        crew.submit(number, lambda tool, number=number: number * 2 + 0 * tool)  # type: ignore[misc]
    found = dict(crew.next() for _ in range(20))
    assert found == {number: number * 2 for number in range(20)}
    crew.close()


def test_an_exception_comes_back_as_a_result() -> None:
    crew: Crew[int, float] = Crew([0], slots=1)
    crew.submit(7, lambda tool: 1 / tool)
    number, result = crew.next()
    assert number == 7
    assert isinstance(result, ZeroDivisionError)
    crew.submit(8, lambda tool: 3.0)
    assert crew.next() == (8, 3.0)
    crew.close()


def test_each_tool_is_used_by_so_many_threads_at_a_time() -> None:
    crew: Crew[str, None] = Crew(["a", "b"], slots=2)
    busy = {"a": 0, "b": 0}
    most = {"a": 0, "b": 0}
    lock, gate = threading.Lock(), threading.Barrier(4, timeout=10)

    def work(tool: str) -> None:
        with lock:
            busy[tool] += 1
            most[tool] = max(most[tool], busy[tool])
        gate.wait()
        with lock:
            busy[tool] -= 1

    for number in range(8):
        crew.submit(number, work)
    for _ in range(8):
        assert crew.next()[1] is None
    assert most == {"a": 2, "b": 2}
    crew.close()


def test_closing_ends_the_threads_after_their_work() -> None:
    before = threading.active_count()
    crew: Crew[int, None] = Crew([0], slots=3)
    crew.submit(0, lambda _tool: time.sleep(0.05))
    crew.close()
    assert crew.next() == (0, None)
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_the_others_do_what_a_server_that_is_gone_leaves() -> None:
    said: list[str] = []
    crew: Crew[str, str] = Crew(["gone", "there"], slots=2, lost=lambda error: said.append(error.where))

    def work(tool: str) -> str:
        if tool == "gone":
            raise ServerGoneError("no server answers", where=tool)
        time.sleep(0.001)
        return tool

    for number in range(30):
        crew.submit(number, work)
    found = dict(crew.next() for _ in range(30))
    assert found == dict.fromkeys(range(30), "there")
    assert said == ["gone"]
    crew.close()


def test_the_last_server_is_not_given_up() -> None:
    crew: Crew[str, str] = Crew(["a", "b"], slots=2)
    away = True

    def work(tool: str) -> str:
        if away:
            raise ServerGoneError("no server answers", where=tool)
        return tool

    for number in range(8):
        crew.submit(number, work)
    found = dict(crew.next() for _ in range(8))
    assert {type(result) for result in found.values()} == {ServerGoneError}
    away = False
    crew.submit(8, work)
    number, result = crew.next()
    assert number == 8
    assert result in ("a", "b")
    crew.close()
