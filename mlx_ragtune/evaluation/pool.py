"""Calls in several threads; results arrive in the caller's thread, so that one writer writes them."""

import queue
import threading
from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

_POLL_SECONDS = 0.2


def answered(
    tasks: Sequence[Task], call: Callable[[Task], Result], *, workers: int
) -> Generator[tuple[Task, Result | Exception], None, None]:
    """Each task with its result or the exception that it raised, as they arrive; ``workers`` at a time.

    When the caller stops early, for example by Ctrl-C, no further task begins. The threads do not keep the process
    alive: what they are waiting for ends with the connection.
    """
    todo: queue.SimpleQueue[Task] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[Task, Result | Exception]] = queue.SimpleQueue()
    stop = threading.Event()
    for task in tasks:
        todo.put(task)

    def work() -> None:
        while not stop.is_set():
            try:
                task = todo.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((task, call(task)))
            except Exception as error:
                done.put((task, error))

    for _ in range(min(workers, len(tasks))):
        threading.Thread(target=work, daemon=True).start()
    try:
        for _ in tasks:
            yield _next(done)
    finally:
        stop.set()


def _next(done: "queue.SimpleQueue[tuple[Task, Result | Exception]]") -> tuple[Task, Result | Exception]:
    while True:
        try:
            return done.get(timeout=_POLL_SECONDS)  # without a timeout, Ctrl-C would wait for the next result
        except queue.Empty:
            continue
