"""Worker threads: a fixed number for each backend, results in the order in which they finish."""

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from mlx_ragtune.clients.http_retries import ServerGoneError

Tool = TypeVar("Tool")
Result = TypeVar("Result")


class Crew(Generic[Tool, Result]):
    """``slots`` daemon threads for each tool, so that an interrupted program does not wait for a server.

    A tool whose server no longer answers (ServerGoneError) is used no more as long as there is another one: what it
    was working on is done by the others, and ``lost`` is called with the error, in its thread.
    """

    def __init__(
        self, tools: Sequence[Tool], slots: int, *, lost: Callable[[ServerGoneError], None] = lambda _error: None
    ) -> None:
        self.size = len(tools) * slots
        self._lost = lost
        self._work: queue.SimpleQueue[tuple[int, Callable[[Tool], Result]] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[int, Result | Exception]] = queue.SimpleQueue()
        self._left = set(range(len(tools)))
        self._lock = threading.Lock()
        for place, tool in [entry for entry in enumerate(tools) for _ in range(slots)]:
            threading.Thread(target=self._work_off, args=(place, tool), daemon=True).start()

    def _work_off(self, place: int, tool: Tool) -> None:
        while (item := self._work.get()) is not None:
            if place not in self._left:
                self._work.put(item)
                return
            number, work = item
            try:
                result: Result | Exception = work(tool)
            except ServerGoneError as error:
                if self._retired(place, error):
                    self._work.put(item)
                    return
                result = error
            except Exception as error:
                result = error
            self._done.put((number, result))

    def _retired(self, place: int, error: ServerGoneError) -> bool:
        """Whether the work is left to other tools. The last tool is never retired: its failures are results."""
        with self._lock:
            first = place in self._left
            if first and len(self._left) == 1:
                return False
            self._left.discard(place)
        if first:
            self._lost(error)
        return True

    def submit(self, number: int, work: Callable[[Tool], Result]) -> None:
        """Give the work to the next free thread; ``number`` is returned with the result."""
        self._work.put((number, work))

    def next(self) -> tuple[int, Result | Exception]:
        """The next result, or the exception that the work raised. Waits for it; call it once per submit."""
        return self._done.get()

    def close(self) -> None:
        """Let each thread end after its current work."""
        for _ in range(self.size):
            self._work.put(None)
