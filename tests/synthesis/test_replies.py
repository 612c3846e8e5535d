"""JSON is found wherever a model put it, and its absence has a reason."""

import json

import pytest

from mlx_ragtune.errors import ToolError
from mlx_ragtune.records import ChatReply, ChatRequest, Message
from mlx_ragtune.synthesis.replies import UnusableReplyError, Windowed, ask, json_list

GOOD = '{"pairs": [{"question": "a {b} \\"c\\"?"}]}'
ROWS = [{"question": 'a {b} "c"?'}]


def reply(text: str, done: str = "stop", thinking: str = "") -> ChatReply:
    return ChatReply(text, done, 10, 5, 0.1, thinking=thinking)


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"```json\n{GOOD}\n```",
        f"Here you are: {GOOD} I hope that helps {{really}}.",
        f"<think>maybe {{}} or {{'pairs': 1}}</think>\n{GOOD}",
        f'<think>{{"pairs": [{{"question": "a draft"}}]}}</think>{GOOD}',
        f'{{"pairs": [{{"question": "a first try"}}]}}\nBetter: {GOOD}',
        json.dumps({"note": "x", "pairs": ROWS}, indent=2),
    ],
)
def test_the_last_json_object_with_the_list_is_read(text: str) -> None:
    assert json_list(reply(text), "pairs") == ROWS


def test_json_in_the_thinking_is_read_when_the_text_has_none() -> None:
    assert json_list(reply("", thinking=f"Well: {GOOD}"), "pairs") == ROWS
    assert json_list(reply("", "length", GOOD), "pairs") == ROWS
    assert json_list(reply(f"<think>{GOOD}</think>"), "pairs") == ROWS


def test_the_text_goes_before_the_thinking() -> None:
    assert json_list(reply(GOOD, thinking='{"pairs": []}'), "pairs") == ROWS


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (reply(""), "empty reply"),
        (reply("  ", thinking=" "), "empty reply"),
        (reply('{"pairs": ' + "[" * 100_000), "JSON nested too deeply"),
        (reply("No."), "no JSON object with a list 'pairs'"),
        (reply("[1, 2]"), "no JSON object with a list 'pairs'"),
        (reply('{"pairs": 1}'), "no JSON object with a list 'pairs'"),
        (reply('{"items": []}'), "no JSON object with a list 'pairs'"),
        (reply('{"pairs": [{"question": "cut', "length"), "max_tokens used up by the answer"),
        (reply("", "length", "I wonder"), "max_tokens used up by thinking"),
        (reply("{" * 3000), "no JSON object with a list 'pairs'"),
    ],
)
def test_a_reply_without_the_list_says_why(bad: ChatReply, reason: str) -> None:
    with pytest.raises(UnusableReplyError, match=f"^{reason}$"):
        json_list(bad, "pairs")


PAIR = '{"question": "How warm?", "reply": "It is 3 degrees."}'
PAIRS = [{"question": "How warm?", "reply": "It is 3 degrees."}]


@pytest.mark.parametrize(
    "text",
    [
        f'{{"Pairs": [{PAIR.replace("question", "Question").replace("reply", " REPLY")}]}}',
        f'{{"pairs": [{PAIR.replace("}", ",}")},],}}',
        f'{{"pairs": {PAIR}}}',
        f'{{"pairs": {{"1": {PAIR}}}}}',
        f'[{{"pairs": [{PAIR}]}}]',
        f"Here it is:\n```json\n[{PAIR}]\n```",
        PAIR,
        PAIR.replace('"It is 3 degrees."', '["It is 3 degrees."]'),
    ],
)
def test_what_changes_nothing_that_is_said_is_read_all_the_same(text: str) -> None:
    assert json_list(reply(text), "pairs") == PAIRS


def test_items_one_a_line_are_read_and_a_draft_list_before_the_last_is_not() -> None:
    other = PAIR.replace("3", "4")
    assert json_list(reply(f"{PAIR}\n{other}\n"), "pairs") == [*PAIRS, json.loads(other)]
    assert json_list(reply(f"[{other}]\nBetter:\n[{PAIR}]"), "pairs") == PAIRS
    assert json_list(reply(f'{{"pairs": [{PAIR}, {other[:-9]}', "length"), "pairs") == PAIRS


def test_numbers_line_breaks_and_latex_arrive_as_they_were_written() -> None:
    text = '{"pairs": [{"key": 0.60, "reply": "It is\n\\(\\alpha = 0.60\\)."}]}'
    assert json_list(reply(text), "pairs") == [{"key": "0.60", "reply": "It is\n\\(\\alpha = 0.60\\)."}]


ITEM = '{"question": "a {b} \\"c\\"?"}'


@pytest.mark.parametrize(
    "half",
    [
        reply(f'{{"pairs": [{ITEM}, {{"question": "cut', "length"),
        reply(f'```json\n{{"pairs" : [\n {ITEM},\n{{"question": "it is and is and is', "loop"),
        reply(f'{{"pairs": [{ITEM}, nothing more]}}'),
        reply(f'{{"pairs": [{ITEM}'),
        reply("", "length", f'{{"pairs": [{ITEM}, {{'),
    ],
)
def test_the_whole_items_of_half_a_reply_are_read(half: ChatReply) -> None:
    assert json_list(half, "pairs") == ROWS


class Replies:
    def __init__(self, *texts: str) -> None:
        self.texts, self.requests = list(texts), list[ChatRequest]()

    def chat(self, request: ChatRequest) -> ChatReply:
        self.requests.append(request)
        return reply(self.texts.pop(0))


REQUEST = ChatRequest((Message("user", "Write."),))


def test_a_good_reply_is_asked_for_once() -> None:
    backend = Replies(GOOD)
    rows, replies = ask(backend, REQUEST, lambda one: json_list(one, "pairs"))
    assert (rows, len(replies), len(backend.requests)) == (ROWS, 1, 1)


def test_a_bad_reply_is_repaired_once() -> None:
    backend = Replies("No.", GOOD)
    rows, replies = ask(backend, REQUEST, lambda one: json_list(one, "pairs"))
    assert (rows, len(replies)) == (ROWS, 2)
    assert backend.requests[1].messages[-2].content == "No."


def test_two_bad_replies_are_a_failure() -> None:
    backend = Replies("No.", "No!", GOOD)
    with pytest.raises(UnusableReplyError):
        ask(backend, REQUEST, lambda one: json_list(one, "pairs"))
    assert len(backend.requests) == 2


def test_a_request_is_fitted_to_the_window() -> None:
    backend = Replies("a", "b")
    Windowed(backend, 1024).chat(REQUEST)
    Windowed(backend, 100).chat(REQUEST)
    assert [(one.sampling.max_tokens, one.sampling.context_tokens) for one in backend.requests] == [
        (256, 1024),
        (50, 100),
    ]
    assert backend.requests[0].messages == REQUEST.messages


def test_a_server_failure_is_not_repaired() -> None:
    class Away:
        def chat(self, _request: ChatRequest) -> ChatReply:
            raise ToolError("away")

    with pytest.raises(ToolError):
        ask(Away(), REQUEST, lambda one: json_list(one, "pairs"))
