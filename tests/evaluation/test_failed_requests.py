"""Failed requests: counted by reason, reported once, and never more than so many in a row."""

import pytest

from mlx_ragtune.clients.http_retries import ServerGoneError
from mlx_ragtune.clients.protocol import PromptOverflowError
from mlx_ragtune.errors import ToolError
from mlx_ragtune.evaluation.failed_requests import MAX_IN_A_ROW, FailedRequests
from mlx_ragtune.records import ChatReply, ChatRequest, Message

REQUEST = ChatRequest((Message("user", "?"),))


def refused(what: str = "status 500") -> ToolError:
    return ToolError(what, where="http://127.0.0.1:1", fix="see the server's log")


def test_reasons_are_counted_and_the_most_common_ones_shown_with_the_first_example() -> None:
    failures = FailedRequests()
    for number, what in enumerate(["b", "a", "a", "a", "b", "c", "d", "e"]):
        failures.failed(refused(what), example=f"question {number}")
        failures.succeeded()
    with pytest.raises(ToolError) as caught:
        failures.require_none()
    assert caught.value.what == ("8 of 16 requests failed: 3 × a; 2 × b; 1 × c; 2 other reasons (first: question 0)")
    assert caught.value.fix.startswith("see the server's log; then run the same command again")


def test_without_a_failure_nothing_is_raised() -> None:
    failures = FailedRequests()
    failures.succeeded()
    failures.require_none()


def test_a_success_in_between_starts_the_count_again() -> None:
    failures = FailedRequests("judge requests")
    for _ in range(MAX_IN_A_ROW - 1):
        failures.failed(refused(), example="x")
    failures.succeeded()
    for _ in range(MAX_IN_A_ROW - 1):
        failures.failed(refused(), example="x")
    with pytest.raises(ToolError, match=f"stopped after {MAX_IN_A_ROW} failed judge requests in a row"):
        failures.failed(refused(), example="x")


def test_a_server_that_is_gone_is_not_counted_but_raised() -> None:
    with pytest.raises(ServerGoneError):
        FailedRequests().failed(ServerGoneError("no server"), example="x")


def test_a_prompt_that_does_not_fit_has_no_reply_and_is_not_a_failure() -> None:
    failures = FailedRequests()

    def chat(_request: ChatRequest) -> ChatReply:
        raise PromptOverflowError(600, 512, where="server")

    assert failures.ask(chat, REQUEST, example="x") is None
    failures.require_none()


def test_a_long_reason_is_shortened() -> None:
    failures = FailedRequests()
    failures.failed(refused("x" * 5000), example="x")
    with pytest.raises(ToolError) as caught:
        failures.require_none()
    assert len(caught.value.what) < 400
