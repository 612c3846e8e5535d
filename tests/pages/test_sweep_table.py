"""The table of a sweep: what stays on a terminal, what a log gets, and that it fits."""

import io
import math
import sys
from typing import Any

import pytest

from mlx_ragtune.pages.sweep_table import SweepRow, SweepTable, best_row, shown_first

SPACE: dict[str, Any] = {"train.learning_rate": 1e-4, "train.rank": 8, "train.target_modules": ("q_proj", "v_proj")}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def filled(count: int) -> SweepTable:
    table = SweepTable(count)
    for trial in range(1, count + 1):
        table.update(SweepRow(trial, SPACE | {"train.rank": trial}, "finished", 2 - trial / 100, 0.5, 1234.5))
    return table


def test_a_log_gets_one_line_for_each_event(capsys: pytest.CaptureFixture[str]) -> None:
    with SweepTable(2) as table:
        table.update(SweepRow(1, SPACE, "running"))
        table.update(SweepRow(1, SPACE, "running", tokens_per_second=900, seconds_left=60))
        table.update(SweepRow(1, SPACE, "running", 1.5, tokens_per_second=1234.4, seconds_left=125))
        table.update(SweepRow(1, SPACE, "pruned", 1.5, note="not among the best 4 at update 20"))
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "trial 1 of 2: running (learning_rate 0.0001, rank 8, target_modules q+v)",
        "trial 1 of 2: running, loss 1.5000, 1,234 tokens/s, 2 min 05 s left "
        "(learning_rate 0.0001, rank 8, target_modules q+v)",
        "trial 1 of 2: pruned, loss 1.5000, not among the best 4 at update 20 "
        "(learning_rate 0.0001, rank 8, target_modules q+v)",
    ]


def test_a_terminal_keeps_the_whole_table_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with SweepTable(3) as table:
        for trial in (1, 2):
            table.update(SweepRow(trial, SPACE | {"train.rank": trial}, "running"))
            table.update(SweepRow(trial, SPACE | {"train.rank": trial}, "finished", 1.0 + trial, None))
        assert "\x1b[1A" in screen.getvalue(), "it is redrawn in place"
    assert screen.getvalue().endswith(table.render() + "\n")
    assert "2 of 3 trials done" in table.render()


@pytest.mark.parametrize("count", [1, 8, 40])
def test_it_fits_into_80_columns_and_the_lines_of_the_terminal(count: int) -> None:
    table = filled(count)
    for lines in (10, 24, 60):
        text = table.render(lines=lines)
        assert max(map(len, text.split("\n"))) <= 80
        assert len(text.split("\n")) <= lines
    whole = table.render()
    assert [line.split()[0] for line in whole.split("\n")[-count:]] == [str(trial) for trial in range(1, count + 1)]


def test_what_does_not_fit_is_counted_and_running_and_best_trials_stay() -> None:
    table = filled(40)
    table.update(SweepRow(3, SPACE, "running"))
    table.update(SweepRow(7, SPACE, "finished", 0.5, 0.9))
    text = table.render(lines=12)
    shown = {line.split()[0] for line in text.split("\n") if line[:5].strip().isdigit()}
    assert f"{40 - len(shown)} more not shown" in text
    assert {"3", "7"} <= shown


def test_many_settings_and_long_values_lose_nothing() -> None:
    settings = {f"train.key_{index}": index for index in range(6)} | {"dataset.rank": 1, "train.rank": 2}
    table = SweepTable()
    table.update(SweepRow(1, settings, "pruned", math.nan, note="out of memory " * 10))
    text = " ".join(table.render().split())
    for part in ("key_5 5", "dataset.rank 1", "train.rank 2", "nan"):
        assert part in text
    assert text.count("memory") == 10


def test_the_best_trial_is_the_one_with_the_highest_score_then_the_lowest_loss() -> None:
    rows = [SweepRow(1, loss=0.1), SweepRow(2, loss=0.9, score=0.5), SweepRow(3, loss=0.5, score=0.5), SweepRow(4)]
    assert best_row(rows) is rows[2]
    assert best_row(rows[:1]) is rows[0]
    assert best_row([SweepRow(1), SweepRow(2, loss=math.nan)]) is None
    assert [row.trial for row in shown_first(rows, 2)] == [2, 3]


def test_notes_cannot_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with SweepTable(1) as table:
        table.update(SweepRow(1, {"base.model": "\x1b[2J"}, "pruned", note="\x1b]0;title\x07"))
    assert "\x1b" not in capsys.readouterr().err + table.render()
