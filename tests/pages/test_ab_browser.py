"""The blind page in a real browser: keys vote, scripts run under the page's own policy, a reload goes on."""

import os
import shutil
from pathlib import Path

import pytest

from mlx_ragtune.pages.ab_server import serve
from mlx_ragtune.pages.ab_session import open_session
from tests.pages.browser import chromium
from tests.pages.test_ab_server import items

BINARY = shutil.which("chromium") or shutil.which("google-chrome") or ""
pytestmark = pytest.mark.skipif(
    not BINARY or not os.environ.get("RAGTUNE_BROWSER"), reason="set RAGTUNE_BROWSER=1 and install chromium"
)


def test_a_session_is_voted_through_by_keys_alone(tmp_path: Path) -> None:
    session = open_session(tmp_path / "ab", items(), n=4)
    count = "document.querySelector('h1').textContent"
    total = len(session.trials)
    with serve(session) as address, chromium(BINARY, tmp_path / "profile") as tab:
        tab.go(address, "#start")
        tab.says("document.getElementById('start').click()")
        tab.until(count, f"Comparison 1 of {total}")
        tab.press("r")
        tab.until("document.body.classList.contains('show-raw')", True)
        tab.press("c")
        tab.until("document.getElementById('context').open", True)
        tab.press("2")
        if os.environ.get("RAGTUNE_PICTURES"):
            tab.picture(Path(os.environ["RAGTUNE_PICTURES"]) / "ab-trial.png")
        tab.press("ArrowLeft")
        tab.until(count, f"Comparison 2 of {total}")
        tab.press("Backspace")
        tab.until(count, f"Comparison 1 of {total}")
        tab.press("b")
        tab.until(count, f"Comparison 2 of {total}")
        tab.go(address, "#start")  # as after closing the window: it goes on
        assert "1 are done" in tab.says("document.body.textContent")
        tab.go(f"{address}?at=1", "#tie")
        for at, key in zip(range(1, total), ("ArrowRight", "t", "ArrowLeft", "ArrowRight", "t"), strict=False):
            tab.until(count, f"Comparison {at + 1} of {total}")
            tab.press(key)
        tab.until(count, f"All {total} comparisons are done")
        tab.says("document.getElementById('unblind').click()")
        tab.until(count, "Result")
    chosen = [session.votes[trial.id] for trial in session.trials]
    assert chosen == ["both_bad", "right", "tie", "left", "right", "tie"][:total]
    first = (tmp_path / "ab" / "votes.jsonl").read_text().splitlines()[0]
    assert '"reasons": ["grounded"]' in first
