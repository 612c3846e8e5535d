"""Calls to the writing model, in the order of a plan: each made once, stored, and handed on; failures are counted.

works ─► finished earlier? ─► crew (threads × hosts) ─► jobs (SQLite) ─► deliver
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from mlx_ragtune.errors import RagtuneError, ToolError
from mlx_ragtune.synthesis.crew import Crew
from mlx_ragtune.synthesis.jobs import Jobs, Outcome
from mlx_ragtune.synthesis.replies import Backend

FAILURES_IN_A_ROW = 3
AGAIN = "run the same command again"
Task = TypeVar("Task", bound=str)


class Progress(Protocol):
    """Receives how far the calls have come."""

    def reach(self, done: int, total: int, note: str = "") -> None:
        """Set progress to ``done`` of ``total`` kept rows."""


@dataclass(frozen=True)
class Work(Generic[Task]):
    """One call: the task it is for, the key of its job, the name in the table of jobs, and what to do."""

    task: Task
    key: str
    label: str
    do: Callable[[Backend], Outcome]


class CallLoop(Generic[Task]):
    """Makes the calls that no earlier run has finished, as many at a time as the crew has threads.

    ``deliver`` gets the number of each call (from 0), the call, and its outcome, or None when it failed; calls come in
    the order in which they end. ``spent`` counts requests and tokens of this run, ``seconds`` what the model took.
    """

    def __init__(self, jobs: Jobs, deliver: Callable[[int, Work[Task], Outcome | None], None]) -> None:
        self.spent: Counter[str] = Counter()
        self.seconds = 0.0
        self._jobs, self._deliver = jobs, deliver
        self._begun = self._failures = 0

    def execute(self, works: Iterable[Work[Task]], crew: Crew[Backend, Outcome]) -> None:
        """Make the calls, and store each outcome before the next call is made.

        Raises ToolError when calls fail three times in a row, and any exception that is a bug.
        """
        in_flight: dict[int, Work[Task]] = {}
        for work in works:
            number, self._begun = self._begun, self._begun + 1
            if (known := self._jobs.finished(work.key)) is not None:
                self._deliver(number, work, known)
                continue
            while len(in_flight) >= crew.size:
                self._receive(crew, in_flight)
            self._jobs.begin([(work.key, work.label)])
            in_flight[number] = work
            crew.submit(number, work.do)
        while in_flight:
            self._receive(crew, in_flight)

    def _receive(self, crew: Crew[Backend, Outcome], in_flight: dict[int, Work[Task]]) -> None:
        number, result = crew.next()
        work = in_flight.pop(number)
        if isinstance(result, Exception):
            self._fail(work, result)
            self._deliver(number, work, None)
            return
        self._failures = 0
        self._jobs.finish(work.key, work.label, result)
        self.spent.update(requests=result.requests, tokens=result.answer_tokens)
        self.seconds += result.seconds
        self._deliver(number, work, result)

    def _fail(self, work: Work[Task], error: Exception) -> None:
        """Store a server's failure. Raises ToolError at the third in a row, and any exception that is a bug."""
        if not isinstance(error, RagtuneError):
            raise error
        self._jobs.fail(work.key, work.label, error.what)
        self._failures += 1
        if self._failures >= FAILURES_IN_A_ROW:
            fix = error.fix if AGAIN in error.fix else "; then ".join(filter(None, (error.fix, f"{AGAIN} to resume")))
            raise ToolError(
                f"{self._failures} calls failed in a row; the last error: {error.what}", where=error.where, fix=fix
            ) from error
