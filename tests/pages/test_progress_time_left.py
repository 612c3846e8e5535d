"""The time left is shown for slow work too, and the bar moves between updates."""

import io
import sys

import pytest

from mlx_ragtune.pages.progress import bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_time_left_is_shown_when_an_update_takes_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    now, screen = [0.0], Terminal()
    monkeypatch.setattr("rich.console.monotonic", lambda: now[0])
    monkeypatch.setattr(sys, "stderr", screen)
    with bar("training", 0) as track:
        for update in range(1, 4):
            now[0] += 150.0
            track.reach(update, 10)
        now[0] += 75.0  # half an update later
        track._progress.refresh()  # type: ignore[attr-defined]
    assert "3/10" in screen.getvalue()
    assert "17:30" in screen.getvalue(), "seven updates of two and a half minutes are left"
    assert "0:08:45" in screen.getvalue(), "the elapsed time goes on between updates"
