"""Worker threads: so many at a time for each backend, results in the order in which they finish."""

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Tool = TypeVar("Tool")
Result = TypeVar("Result")


class Crew(Generic[Tool, Result]):
    """``slots`` threads for each tool, daemons: an interrupted program need not wait for a server."""

    def __init__(self, tools: Sequence[Tool], slots: int) -> None:
        self.size = len(tools) * slots
        self._work: queue.SimpleQueue[tuple[int, Callable[[Tool], Result]] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[int, Result | Exception]] = queue.SimpleQueue()
        for tool in [tool for tool in tools for _ in range(slots)]:
            threading.Thread(target=self._labour, args=(tool,), daemon=True).start()

    def _labour(self, tool: Tool) -> None:
        while (item := self._work.get()) is not None:
            number, work = item
            try:
                result: Result | Exception = work(tool)
            except Exception as error:
                result = error
            self._done.put((number, result))

    def submit(self, number: int, work: Callable[[Tool], Result]) -> None:
        """Have the work done by the next free thread; ``number`` comes back with the result."""
        self._work.put((number, work))

    def next(self) -> tuple[int, Result | Exception]:
        """The next result, or the exception that the work ended with. Waits; call it once per submit."""
        return self._done.get()

    def close(self) -> None:
        """Let each thread end after the work it has begun."""
        for _ in range(self.size):
            self._work.put(None)
