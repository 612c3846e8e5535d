"""Progress on stderr: bars with the time left on a terminal, a few lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from mlx_ragtune.artifact import Track
from mlx_ragtune.errors import printable

SPEED_SECONDS = 3600
"""The time left is estimated from the steps of this period: one update of a large model takes minutes."""
LINE_SECONDS = 10


class _Bar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, count: int = 1, note: str = "") -> None:
        self._progress.update(self._task, advance=count, note=printable(note))

    def reach(self, done: int, total: int, note: str = "") -> None:
        self._progress.update(self._task, completed=done, total=total, note=printable(note))


class _Lines:
    """For logs: at most one line every ten seconds."""

    def __init__(self, label: str, total: int) -> None:
        self._label, self._total, self._done, self._last = label, total, 0, time.monotonic()

    def advance(self, count: int = 1, note: str = "") -> None:
        self.reach(self._done + count, self._total, note)

    def reach(self, done: int, total: int, note: str = "") -> None:
        self._done, self._total, now = done, total, time.monotonic()
        if now - self._last >= LINE_SECONDS:
            self._last = now
            print(printable(f"  {self._label} {done}/{total} {note}").rstrip(), file=sys.stderr, flush=True)


@contextmanager
def bar(label: str, total: int) -> Iterator[Track]:
    """A bar on a terminal, a line now and then elsewhere."""
    if not sys.stderr.isatty():
        yield _Lines(label, total)
        return
    columns = (
        TextColumn("  {task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),  # moves between updates, also when one takes minutes
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}", markup=False),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, speed_estimate_period=SPEED_SECONDS) as progress:
        yield _Bar(progress, progress.add_task(label, total=total or None, note=""))
