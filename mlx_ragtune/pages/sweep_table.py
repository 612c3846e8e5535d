"""The trials of a sweep while it runs: a table drawn in place on a terminal, one line for each event elsewhere."""

import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType, TracebackType
from typing import Any, Literal

from mlx_ragtune.errors import printable
from mlx_ragtune.pages.setting_words import settings_text, short_names, value_text
from mlx_ragtune.pages.tables import clock, render_table, short_clock

TrialState = Literal["waiting", "running", "paused", "finished", "pruned", "interrupted"]
WIDTH = 80
REDRAW_SECONDS = 0.1
MAX_COLUMNS = 4
"""More settings than this share one column."""


@dataclass(frozen=True)
class SweepRow:
    """One trial. ``trial`` counts from 1.

    ``settings`` maps dotted keys to what this trial tries. ``loss`` is the validation loss in nats per answer token,
    ``score`` the development score, 0 to 1. ``note`` says why it was pruned. None is not known.
    """

    trial: int
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    state: TrialState = "waiting"
    loss: float | None = None
    score: float | None = None
    tokens_per_second: float | None = None
    seconds_left: float | None = None
    note: str = ""


class SweepTable:
    """Shows the trials of a sweep on stderr; use it as a context manager and call ``update`` for every change.

    At a terminal it is redrawn in place, at most ten times a second, and the whole table stays when it ends. Elsewhere
    a line is printed when a trial's state, loss or score changes. Not together with another progress bar.
    """

    def __init__(self, trials_planned: int | None = None) -> None:
        """``trials_planned`` is None when the budget is in updates or minutes."""
        self._planned = trials_planned
        self._rows: dict[int, SweepRow] = {}
        self._drawn = -math.inf
        self._live: Any = None

    def __enter__(self) -> "SweepTable":
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                console=Console(stderr=True, color_system=None),
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
            if self._rows:
                print(self.render(), file=sys.stderr, flush=True)

    @property
    def rows(self) -> list[SweepRow]:
        """The latest row of every trial, in their order."""
        return [self._rows[trial] for trial in sorted(self._rows)]

    def update(self, row: SweepRow) -> None:
        """Show the new state of one trial."""
        before = self._rows.get(row.trial)
        self._rows[row.trial] = row
        if self._live is not None:
            now = time.monotonic()
            if before is None or before.state != row.state or now - self._drawn >= REDRAW_SECONDS:
                self._drawn = now
                from rich.text import Text

                height = self._live.console.height
                self._live.update(Text(self.render(lines=max(4, height - 1))), refresh=True)
        elif before is None or _event(before) != _event(row):
            print(self._line(row), file=sys.stderr, flush=True)

    def render(self, *, lines: int | None = None) -> str:
        """The table in 80 columns; in at most ``lines`` lines, where trials that are running and the best stay."""
        shown = self.rows
        table = self._table(shown)
        while lines is not None and len(shown) > 1 and len(table.split("\n")) > lines:
            shown = shown_first(shown, max(1, len(shown) - 1 - (len(table.split("\n")) - lines) // 4))
            table = self._table(shown)
        return table

    def _table(self, shown: list[SweepRow]) -> str:
        rest = len(self._rows) - len(shown)
        done = sum(row.state not in ("waiting", "running", "paused") for row in self.rows)
        of = f" of {self._planned}" if self._planned else ""
        more = f"; {rest} more not shown" if rest else ""
        best = best_row(self.rows)
        leads = f"; trial {best.trial} leads" if best else ""
        title = f"{done}{of} trials done{leads}{more}"
        keys = list(dict.fromkeys(key for row in self.rows for key in row.settings))
        columns = keys if len(keys) <= MAX_COLUMNS else []
        labels = [name.replace("_", " ") for name in short_names(columns).values()]
        headers = ["trial", *(labels or ["settings"]), "loss", "score", "tok/s", "left", "state"]
        cells = [_cells(row, columns) for row in shown]
        return f"{title}\n{render_table(headers, cells, width=WIDTH)}"

    def _line(self, row: SweepRow) -> str:
        """One event: ``trial 3 of 8: finished, loss 1.2345, score 0.612 (rank 8)``."""
        of = f" of {self._planned}" if self._planned else ""
        parts: list[str] = [row.state]
        parts += [f"loss {row.loss:.4f}"] if row.loss is not None else []
        parts += [f"score {row.score:.3f}"] if row.score is not None else []
        parts += [f"{row.tokens_per_second:,.0f} tokens/s"] if row.tokens_per_second is not None else []
        running = row.state == "running"
        parts += [f"{clock(row.seconds_left)} left"] if running and row.seconds_left is not None else []
        parts += [row.note] if row.note else []
        return printable(f"trial {row.trial}{of}: {', '.join(parts)} ({settings_text(row.settings)})")


def best_row(rows: list[SweepRow]) -> SweepRow | None:
    """The row with the highest score, then with the lowest loss; None before either is known."""
    known = [row for row in rows if row.score is not None or _finite(row.loss)]
    return min(known, key=_rank, default=None)


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _rank(row: SweepRow) -> tuple[float, float]:
    score = row.score if row.score is not None else -math.inf
    return -score, row.loss if row.loss is not None and math.isfinite(row.loss) else math.inf


def shown_first(rows: list[SweepRow], count: int) -> list[SweepRow]:
    """``count`` rows in their order: those that are running, then the best, then the latest."""
    ordered = sorted(rows, key=lambda row: (row.state != "running", *_rank(row), -row.trial))
    return sorted(ordered[:count], key=lambda row: row.trial)


def _event(row: SweepRow) -> tuple[Any, ...]:
    return row.state, row.loss, row.score, row.note


def _cells(row: SweepRow, columns: Sequence[str]) -> list[str]:
    settings = [value_text(row.settings[key]) if key in row.settings else "" for key in columns]
    running = row.state == "running"
    return [
        str(row.trial),
        *(settings or [settings_text(row.settings)]),
        "" if row.loss is None else f"{row.loss:.4f}",
        "" if row.score is None else f"{row.score:.3f}",
        f"{row.tokens_per_second:,.0f}" if row.tokens_per_second is not None else "",
        short_clock(row.seconds_left) if running and row.seconds_left is not None else "",
        f"{row.state}: {row.note}" if row.note else row.state,
    ]
