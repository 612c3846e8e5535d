"""Progress bars with the time left, on stderr, only where a person looks."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from mlx_ragtune.artifact import Track


class _Bar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, count: int = 1, note: str = "") -> None:
        self._progress.update(self._task, advance=count, note=note)

    def reach(self, done: int, total: int, note: str = "") -> None:
        self._progress.update(self._task, completed=done, total=total, note=note)


class _Lines:
    """For logs: one line at most every ten seconds."""

    def __init__(self, label: str, total: int) -> None:
        self._label, self._total, self._done, self._last = label, total, 0, time.monotonic()

    def advance(self, count: int = 1, note: str = "") -> None:
        self.reach(self._done + count, self._total, note)

    def reach(self, done: int, total: int, note: str = "") -> None:
        self._done, self._total, now = done, total, time.monotonic()
        if now - self._last >= 10:
            self._last = now
            print(f"  {self._label} {done}/{total} {note}".rstrip(), file=sys.stderr, flush=True)


@contextmanager
def bar(label: str, total: int) -> Iterator[Track]:
    """A bar on a terminal, sparse lines elsewhere."""
    if not sys.stderr.isatty():
        yield _Lines(label, total)
        return
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield _Bar(progress, progress.add_task(label, total=total or None, note=""))
