"""Worker threads: a fixed number for each backend, results in the order in which they finish."""

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Tool = TypeVar("Tool")
Result = TypeVar("Result")


class Crew(Generic[Tool, Result]):
    """``slots`` daemon threads for each tool, so that an interrupted program does not wait for a server."""

    def __init__(self, tools: Sequence[Tool], slots: int) -> None:
        self.size = len(tools) * slots
        self._work: queue.SimpleQueue[tuple[int, Callable[[Tool], Result]] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[int, Result | Exception]] = queue.SimpleQueue()
        for tool in [tool for tool in tools for _ in range(slots)]:
            threading.Thread(target=self._work_off, args=(tool,), daemon=True).start()

    def _work_off(self, tool: Tool) -> None:
        while (item := self._work.get()) is not None:
            number, work = item
            try:
                result: Result | Exception = work(tool)
            except Exception as error:
                result = error
            self._done.put((number, result))

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
