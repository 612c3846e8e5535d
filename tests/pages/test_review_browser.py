"""The review page in a real browser: by keys alone, with text that tries to be markup, in narrow and wide windows."""

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mlx_ragtune.pages.review_server import serve
from tests.pages.browser import Tab, chromium
from tests.pages.test_review_server import with_file
from tests.reviewing.made_reviews import EVIL, session

BINARY = shutil.which("chromium") or shutil.which("google-chrome") or ""
pytestmark = pytest.mark.skipif(
    not BINARY or not os.environ.get("RAGTUNE_BROWSER"), reason="set RAGTUNE_BROWSER=1 and install chromium"
)
AT = "document.getElementById('position')?.textContent ?? 'overview'"
SAID = "document.getElementById('message').textContent"


def window(tab: Tab, width: int, *, dark: bool = False) -> None:
    tab.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    tab.call("Emulation.setEmulatedMedia", features=[scheme])


def picture(tab: Tab, name: str) -> None:
    if os.environ.get("RAGTUNE_PICTURES"):
        tab.picture(Path(os.environ["RAGTUNE_PICTURES"]) / f"{name}.png")


def test_a_review_by_keys_alone(tmp_path: Path) -> None:
    made = with_file(session(tmp_path, questions=2, refusals=1, pairs=2), tmp_path / "out.jsonl")
    with serve(made) as address, chromium(BINARY, tmp_path / "profile") as tab:
        tab.go(address, "#question")
        tab.until(AT, "question 1 of 3")
        assert "Review all 3" in tab.says(SAID)
        tab.press("j")
        tab.until(AT, "question 2 of 3")
        tab.press("ArrowLeft")
        tab.until(AT, "question 1 of 3")
        tab.press("a")
        tab.until(AT, "question 2 of 3")
        tab.press("u")
        tab.until(AT, "question 1 of 3")
        assert "decide again" in tab.says(SAID)
        tab.press("a")
        tab.until(AT, "question 2 of 3")
        tab.press("r")
        tab.until("document.querySelectorAll('input[name=reason]').length > 5", True)
        tab.press("a")  # not a key of the panel
        tab.press("Enter")
        tab.until(SAID, "Choose a reason first.")
        tab.press("2")
        tab.press("Enter")
        tab.until(AT, "question 3 of 3")
        tab.press("s")
        tab.until(AT, "pair 1 of 2")
        tab.press("a")
        tab.until(AT, "pair 2 of 2")
        tab.go(f"{address}#", "#question, #finish")  # as in a new window: it continues
        tab.call("Page.reload")
        tab.until(AT, "pair 2 of 2")
        tab.press("?")
        tab.until("document.getElementById('help').open", True)
        tab.says("document.getElementById('help').close()")
        tab.press("o")
        tab.until(AT, "overview")
        tab.press("j")
        tab.until(AT, "pair 2 of 2")
        tab.press("o")
        tab.until(AT, "overview")
        tab.says("document.getElementById('apply-benchmark').click()")
        tab.until("document.getElementById('applied-benchmark')?.textContent.includes('1 removed')", True)
        tab.says("document.getElementById('finish').click()")
        tab.until("document.body.innerText.includes('You can close this window')", True)
    assert made.finished.is_set()
    assert [row.action for rows in made.log.reviews.by_item.values() for row in rows] == [
        "accept", "reject", "skip", "accept"
    ]  # fmt: skip
    assert (tmp_path / "out.jsonl").exists()


def test_an_edit_is_checked_while_it_is_typed_and_saved_by_keys(tmp_path: Path) -> None:
    made = session(tmp_path, questions=1, refusals=0, pairs=0)
    verdict = "(document.getElementById('verdict')?.innerText ?? '')"
    with serve(made) as address, chromium(BINARY, tmp_path / "profile") as tab:
        tab.go(address, "#question")
        tab.press("e")
        tab.until(verdict, "Every check passes.")
        assert tab.says("document.activeElement.id") == "edit-question"
        change = "answer => { answer.value = '%s'; answer.dispatchEvent(new Event('input', {bubbles: true})); }"
        tab.says(f"({change % 'It counted 500 lynxes.'})(document.getElementById('edit-answer'))")
        tab.until(f"{verdict}.includes('lacks')", True)
        assert tab.says("document.getElementById('save').disabled") is True
        tab.says("document.getElementById('add-fact').click()")
        assert tab.says("document.activeElement.id") == "nugget-1"
        tab.press("Escape")
        tab.until("document.getElementById('edit-answer')", None)
        assert not made.log.path.exists()
        tab.press("e")
        tab.until(verdict, "Every check passes.")
        tab.says(f"({change % 'The survey counted 412 lynxes there.'})(document.getElementById('edit-answer'))")
        tab.until(verdict, "Every check passes.")
        tab.call("Input.dispatchKeyEvent", type="keyDown", key="Enter", modifiers=2)
        tab.until(AT, "overview")
    review = made.log.reviews.current(made.shown[0])
    assert review is not None
    assert review.edited is not None
    assert review.edited["reference"] == "The survey counted 412 lynxes there."


def test_the_page_of_the_paper_is_shown_and_markup_in_a_title_is_text(tmp_path: Path) -> None:
    made = session(tmp_path, questions=1, refusals=0, pairs=1)
    with serve(made) as address, chromium(BINARY, tmp_path / "profile") as tab:
        tab.go(address, "#question")
        assert tab.says("document.querySelector('mark').textContent").startswith("The survey of 1998")
        tab.press("p")
        tab.until("document.querySelector('.sheet img')?.naturalWidth > 500", True)
        assert "page 2 of 2, the quote is marked" in tab.says("document.querySelector('.turn').textContent")
        tab.press("p")
        tab.until("document.querySelector('.sheet img')", None)
        tab.press("j")
        tab.until(AT, "pair 1 of 1")
        assert tab.says("document.querySelector('.titles').innerText") == EVIL
        assert tab.says("document.querySelectorAll('main script, main b').length") == 0


@pytest.mark.parametrize("width", [1280, 900, 390])
def test_nothing_is_wider_than_the_window(tmp_path: Path, width: int) -> None:
    made = session(tmp_path, questions=1, refusals=1, pairs=1)
    long = replace(made.shown[0].row, id="x" * 90, question=f"What does {'q' * 200} mean for 猞猁的数量调查?")
    made.shown[0] = replace(made.shown[0], row=long)
    with serve(made) as address, chromium(BINARY, tmp_path / "profile") as tab:
        for dark in (False, True):
            window(tab, width, dark=dark)
            tab.go(address, "#question")
            for key, ready in (("", "#question"), ("e", "#verdict .found"), ("Escape", "#question"), ("r", "#confirm")):
                if key:
                    tab.press(key)
                tab.until(f"document.querySelector('{ready}') !== null", True)
                time.sleep(0.1)
                assert tab.says("document.documentElement.scrollWidth") <= width, key
                picture(tab, f"review-{width}-{'dark' if dark else 'light'}-{key or 'item'}")
            tab.press("Escape")
            tab.press("o")
            tab.until(AT, "overview")
            assert tab.says("document.documentElement.scrollWidth") <= width
            tab.go("about:blank", "body")
