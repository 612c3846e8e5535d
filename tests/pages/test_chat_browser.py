"""The chat page in a real browser: asking by keys, sources with pages, votes, stop, side by side, narrow and dark."""

import os
import shutil
from pathlib import Path

import pytest

from tests.pages.browser import Tab, chromium
from tests.pages.made_answers import Running, Scripted, chat_server
from tests.pages.test_review_browser import picture, window
from tests.reviewing.made_reviews import EVIL, TITLE

BINARY = shutil.which("chromium") or shutil.which("google-chrome") or ""
pytestmark = pytest.mark.skipif(
    not BINARY or not os.environ.get("RAGTUNE_BROWSER"), reason="set RAGTUNE_BROWSER=1 and install chromium"
)
ANSWER = "(document.querySelector('.entry:last-of-type .answer')?.textContent ?? '')"
STATE = "(document.querySelector('.entry:last-of-type .state')?.textContent ?? '')"
READY = "#models button"


def says(model: str, question: str) -> str:
    return f'"{TITLE}" counted 412 lynxes, says {model}; asked: {question} {EVIL}'


def ask(tab: Tab, text: str) -> None:
    tab.says("document.getElementById('question').focus()")
    tab.call("Input.insertText", text=text)
    tab.press("Enter")


def test_a_question_by_keys_is_answered_with_its_passages_and_pages(tmp_path: Path) -> None:
    with chat_server(tmp_path, Scripted(says)) as server, chromium(BINARY, tmp_path / "profile") as tab:
        window(tab, 1280)
        tab.go(server.address, READY)
        tab.until("document.getElementById('invitation').textContent", "Ask a question about these 2 papers.")
        picture(tab, "chat-empty-light")
        ask(tab, "How many lynxes does the northern valley have?")
        tab.until(f"{STATE}.includes('tokens')", True)
        assert tab.says(ANSWER).startswith(f'"{TITLE}"1 counted 412 lynxes, says tuned')
        assert EVIL in tab.says(ANSWER)
        assert tab.says("document.querySelectorAll('.answer b, .answer script, .title b').length") == 0
        links = "[...document.querySelectorAll('.source a')].map((a) => a.textContent + ' ' + a.getAttribute('href'))"
        assert tab.says(links)[0] == "Open page 2 /papers/lynx.pdf#page=2"
        assert tab.says("document.querySelector('.source .place').textContent") == "2 Results, page 2"
        tab.says("document.querySelector('a.cite').click()")
        tab.until("document.querySelector('.sources li.marked details').open", True)
        picture(tab, "chat-answer-light")
        window(tab, 1280, dark=True)
        picture(tab, "chat-answer-dark")
        for dark in (False, True):
            window(tab, 390, dark=dark)
            assert tab.says("document.documentElement.scrollWidth") <= 390
            picture(tab, f"chat-answer-390-{'dark' if dark else 'light'}")


def test_a_thumb_is_saved_changed_and_taken_back(tmp_path: Path) -> None:
    with chat_server(tmp_path, Scripted(says)) as server, chromium(BINARY, tmp_path / "profile") as tab:
        tab.go(server.address, READY)
        ask(tab, "How many lynxes?")
        tab.until(f"{STATE}.includes('tokens')", True)
        for button, wanted in (("up", ["up"]), ("down", ["down"]), ("down", [])):
            tab.says(f"document.querySelector('.foot .{button}').click()")
            tab.until(
                f"document.querySelector('.foot .{button}').getAttribute('aria-pressed')", str(bool(wanted)).lower()
            )
            assert [vote.vote for vote in server.votes.votes()] == wanted
        assert tab.says("document.getElementById('message').textContent") == ""


def test_all_models_answer_side_by_side(tmp_path: Path) -> None:
    with chat_server(tmp_path, Scripted(says), slots=3) as server, chromium(BINARY, tmp_path / "profile") as tab:
        window(tab, 1280)
        tab.go(server.address, READY)
        tab.press("Escape")
        tab.press("s")
        ask(tab, "How many lynxes?")
        tab.until("[...document.querySelectorAll('.state')].filter((n) => n.textContent.includes('tokens')).length", 3)
        arms = "[...document.querySelectorAll('.answers .card')].map((card) => card.dataset.arm)"
        assert tab.says(arms) == ["base", "prompted", "tuned"]
        tops = (
            "new Set([...document.querySelectorAll('.answers .card')].map((c) => c.getBoundingClientRect().top)).size"
        )
        assert tab.says(tops) == 1
        assert tab.says("document.querySelectorAll('.sources ol').length") == 1
        picture(tab, "chat-side-by-side-light")
        window(tab, 390)
        assert tab.says(tops) == 3
        assert tab.says("document.documentElement.scrollWidth") <= 390
        picture(tab, "chat-side-by-side-390")
        assert sorted(model for model, _ in server.models.asked) == ["base", "base", "tuned"]


def test_escape_stops_the_answer_at_the_server_too(tmp_path: Path) -> None:
    slow = Scripted(lambda _model, _question: "word " * 60, pause=0.1)
    with chat_server(tmp_path, slow) as server, chromium(BINARY, tmp_path / "profile") as tab:
        tab.go(server.address, READY)
        ask(tab, "How many lynxes?")
        tab.until(f"{ANSWER}.includes('word word')", True)
        assert not tab.says("document.getElementById('stop').hidden")
        tab.press("Escape")
        tab.until(STATE, "stopped")
        assert tab.says("document.getElementById('stop').hidden")
        wait_until_closed(server)
        assert len(tab.says(ANSWER).split()) < 60


def wait_until_closed(server: Running) -> None:
    import time

    deadline = time.monotonic() + 20
    while server.models.ended != ["closed"]:
        assert time.monotonic() < deadline, server.models.ended
        time.sleep(0.05)


def test_the_strength_of_the_adapter_is_sent(tmp_path: Path) -> None:
    with chat_server(tmp_path, Scripted(says, strengths=True)) as server, chromium(BINARY, tmp_path / "profile") as tab:
        window(tab, 1280)
        tab.go(server.address, READY)
        tab.says(
            "{const s = document.getElementById('strength'); s.value = '0.5'; s.dispatchEvent(new Event('input'));}"
        )
        ask(tab, "How many lynxes?")
        tab.until(f"{STATE}.includes('tokens')", True)
        assert server.models.asked == [("tuned", 0.5)]
        assert tab.says("document.querySelector('.arm').textContent") == "tuned, strength 0.5"
        picture(tab, "chat-strength")


def test_the_token_leaves_the_address_and_becomes_a_cookie(tmp_path: Path) -> None:
    token = "a-token-of-this-test"
    with chat_server(tmp_path, Scripted(says), token=token) as server, chromium(BINARY, tmp_path / "profile") as tab:
        tab.go(server.address, "#sign-in:not([hidden])")
        assert tab.says("document.querySelectorAll('#models button').length") == 0
        picture(tab, "chat-sign-in")
        tab.call("Page.navigate", url="about:blank")
        tab.go(f"{server.address}/#token={token}", READY)
        assert tab.says("location.href") == f"{server.address}/"
        assert tab.says("document.cookie") == ""
        ask(tab, "How many lynxes?")
        tab.until(f"{STATE}.includes('tokens')", True)
        status = "window.got = 0; fetch('/papers/lynx.pdf').then((reply) => { window.got = reply.status; })"
        tab.says(status)
        tab.until("window.got", 200)
        tab.go(server.address, READY)  # again, without the token


def test_an_error_is_shown_in_its_place(tmp_path: Path) -> None:
    with chat_server(tmp_path, Scripted(says)) as server, chromium(BINARY, tmp_path / "profile") as tab:
        window(tab, 390)
        tab.go(server.address, READY)
        ask(tab, "A question that is too long for the context?")
        tab.until(f"{STATE}.includes('in a context of 4096')", True)
        picture(tab, "chat-error-390")
        ask(tab, "How many lynxes?")
        tab.until(f"{STATE}.includes('tokens')", True)
