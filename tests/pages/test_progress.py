"""Progress: a bar where a person looks, few lines elsewhere."""

import io
import sys
import time

import pytest

from mlx_ragtune.pages.progress import bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_at_most_every_ten_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 1.0, 9.9, 10.5, 11.0, 21.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with bar("asking", 5) as track:
        for number in range(5):
            track.advance(note=f"question {number}")
    said = capsys.readouterr()
    assert said.err.splitlines() == ["  asking 3/5 question 2", "  asking 5/5 question 4"]
    assert said.out == ""


def test_what_is_done_and_how_much_there_is_can_be_set(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 20.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with bar("training", 0) as track:
        track.reach(7, 107)
    assert capsys.readouterr().err == "  training 7/107\n"


def test_a_quick_task_says_nothing_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with bar("reading", 3) as track:
        track.advance(3)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_that_disappears(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with bar("writing base.gguf", 0) as track:
        track.reach(1, 4, note="a piece")
        track.advance(2)
    assert "writing base.gguf" in screen.getvalue()


def test_the_time_left_is_shown_though_one_step_takes_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, clock = Terminal(), [0.0]
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr("rich.console.monotonic", lambda: clock[0])
    with bar("training", 10) as track:
        for done in range(1, 4):
            clock[0] += 120
            track.reach(done, 10)
    assert "14:00" in screen.getvalue()


def test_notes_cannot_control_the_terminal_or_break_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with bar("asking [/x]", 2) as track:
        track.advance(note="[/] \x1b]0;title\x07")
    assert "\x1b]0" not in screen.getvalue()
    assert "asking [/x]" in screen.getvalue()


def test_an_error_inside_comes_out(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="a bug"), bar("reading", 3):
        raise ValueError("a bug")
    assert capsys.readouterr().err == ""
