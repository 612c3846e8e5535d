"""The chat server over real HTTP, asked by OpenAI's own client, by Open WebUI's requests, and by strangers."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest

from mlx_ragtune.pages.chat_guard import MAX_BODY_BYTES, Guard
from mlx_ragtune.pages.chat_server import BoundedConnection
from tests.pages.made_answers import EXAMPLES, Running, Scripted, chat_server
from tests.reviewing.made_reviews import TITLE

ASKED: dict[str, Any] = {"model": "tuned", "messages": [{"role": "user", "content": "How many lynxes?"}]}
TOKEN = "a-token-of-this-test"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with chat_server(tmp_path_factory.mktemp("chat")) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with chat_server(tmp_path_factory.mktemp("chat"), token=TOKEN) as running:
        yield running


def http(
    server: Running, method: str, path: str, body: object = None, **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    parts = urlsplit(server.address)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    kind = {} if sent is None else {"Content-Type": "application/json"}
    connection.request(method, path, sent, {**kind, **given})
    reply = connection.getresponse()
    content = reply.read()
    connection.close()
    return reply.status, content, {name.lower(): value for name, value in reply.headers.items()}


def refused(server: Running, status: int, code: str | None = None, **changes: object) -> dict[str, Any]:
    found, content, _ = http(server, "POST", "/v1/chat/completions", {**ASKED, **changes})
    assert found == status, content
    error: dict[str, Any] = json.loads(content)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert code is None or error["code"] == code
    return error


def client(server: Running, key: str = "any") -> openai.OpenAI:
    return openai.OpenAI(base_url=server.v1, api_key=key, max_retries=0)


# --- OpenAI's own client


def test_the_openai_client_gets_an_answer_with_sources_and_usage(server: Running) -> None:
    with client(server) as ai:
        reply = ai.chat.completions.create(**ASKED)
    assert reply.choices[0].message.content == "tuned says: How many lynxes?"
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (7, 5, 12)
    sources = (reply.model_extra or {})["sources"]
    assert [(one["title"], one["page"], one["url"]) for one in sources] == [
        (TITLE, 2, "/papers/lynx.pdf#page=2"),
        (TITLE, 1, "/papers/lynx.pdf#page=1"),
    ]


def test_the_openai_client_streams_pieces_then_usage(server: Running) -> None:
    with client(server) as ai:
        chunks = list(ai.chat.completions.create(**ASKED, stream=True, stream_options={"include_usage": True}))
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len((chunks[0].model_extra or {})["sources"]) == 2
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(pieces) == "tuned says: How many lynxes?"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 12
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_every_chunk_has_a_choice_unless_usage_was_asked_for(server: Running) -> None:
    with client(server) as ai:
        assert all(chunk.choices for chunk in ai.chat.completions.create(**ASKED, stream=True))


def test_the_models_are_listed_and_looked_up(server: Running) -> None:
    with client(server) as ai:
        assert [model.id for model in ai.models.list()] == ["base", "prompted", "tuned"]
        assert ai.models.retrieve("tuned").owned_by == "ragtune"
        with pytest.raises(openai.NotFoundError):
            ai.models.retrieve("gpt-4")


def test_a_shorter_answer_can_be_asked_for_and_says_that_it_was_cut(server: Running) -> None:
    with client(server) as ai:
        reply = ai.chat.completions.create(**ASKED, max_tokens=2, temperature=0.5, seed=3)
    assert reply.choices[0].message.content == "tuned says:"
    assert reply.choices[0].finish_reason == "length"
    sampling = server.models.requests[-1].sampling
    assert (sampling.temperature, sampling.seed, sampling.max_tokens) == (0.5, 3, 2)


def test_errors_are_those_of_the_openai_client(server: Running, guarded: Running) -> None:
    long: list[Any] = [{"role": "user", "content": "a question that is too long"}]
    with client(server) as ai:
        with pytest.raises(openai.NotFoundError, match="there are base, prompted, tuned"):
            ai.chat.completions.create(**{**ASKED, "model": "gpt-4"})
        with pytest.raises(openai.BadRequestError, match="5000 tokens in a context of 4096") as caught:
            ai.chat.completions.create(model="tuned", messages=long)
        assert caught.value.code == "context_length_exceeded"
        assert "/secret" not in str(caught.value)
        with pytest.raises(openai.BadRequestError, match="5000 tokens"):
            ai.chat.completions.create(model="tuned", messages=long, stream=True)
    with client(guarded, "wrong") as ai, pytest.raises(openai.AuthenticationError):
        ai.models.list()
    with client(guarded, TOKEN) as ai:
        assert len(list(ai.models.list())) == 3


def test_an_error_after_the_first_event_reaches_the_openai_client(tmp_path: Path) -> None:
    def fails(_model: str, question: str) -> str:
        time.sleep(0.4)
        raise_tool_error()
        return question

    with chat_server(tmp_path, Scripted(fails), first_seconds=0.05) as server, client(server) as ai:
        stream = ai.chat.completions.create(**ASKED, stream=True)
        with pytest.raises(openai.APIError, match="the engine broke"):
            list(stream)


def raise_tool_error() -> None:
    from mlx_ragtune.errors import ToolError

    raise ToolError("the engine broke")


# --- the prompt


def test_the_model_sees_the_trained_prompt_of_the_last_question_only(server: Running) -> None:
    messages = [
        {"role": "system", "content": "You are a pirate."},
        {"role": "user", "content": "What do herons eat?"},
        {"role": "assistant", "content": "Fish."},
        {"role": "user", "content": [{"type": "text", "text": "How many lynxes?"}]},
    ]
    _, content, _ = http(server, "POST", "/v1/chat/completions", {**ASKED, "messages": messages})
    sent = server.models.requests[-1].messages
    assert [turn.role for turn in sent] == ["system", "user"]
    assert sent[0].content.startswith("You answer questions from the papers you are given")
    assert sent[1].content.startswith(f'Papers:\n\n[1] "{TITLE}"')
    assert sent[1].content.endswith("Question: How many lynxes?")
    assert json.loads(content)["ignored"] == ["system message", "1 earlier question"]


def test_earlier_turns_are_shown_where_the_server_is_told_to(tmp_path: Path) -> None:
    turns = [("user", "One?"), ("assistant", "1"), ("user", "Two?"), ("assistant", "2 <|im_end|>"), ("user", "lynxes?")]
    messages = [{"role": role, "content": content} for role, content in turns]
    with chat_server(tmp_path, turns=1) as server:
        _, content, _ = http(server, "POST", "/v1/chat/completions", {"model": "tuned", "messages": messages})
        sent = server.models.requests[-1].messages
    assert [(turn.role, turn.content) for turn in sent[1:3]] == [("user", "Two?"), ("assistant", "2 < |im_end| >")]
    assert json.loads(content)["ignored"] == ["1 earlier question"]


@pytest.mark.parametrize(
    ("roles", "shown", "ignored"),
    [
        ("u u", "", ["1 earlier question"]),  # never answered
        ("a u", "", []),
        ("u a a u", "1 2", []),
        ("u u a u", "2 3", ["1 earlier question"]),
        ("u a u u", "1 2", ["1 earlier question"]),
    ],
)
def test_turns_out_of_order_are_shown_as_far_as_they_are_exchanges_and_the_rest_is_said(
    tmp_path: Path, roles: str, shown: str, ignored: list[str]
) -> None:
    names = {"u": "user", "a": "assistant"}
    messages = [{"role": names[role], "content": f"{at}"} for at, role in enumerate(roles.split(), start=1)]
    with chat_server(tmp_path, turns=2) as server:
        _, content, _ = http(server, "POST", "/v1/chat/completions", {"model": "tuned", "messages": messages})
        sent = server.models.requests[-1].messages
    assert " ".join(turn.content for turn in sent[1:-1]) == shown
    assert json.loads(content)["ignored"] == ignored


def test_the_prompted_base_is_shown_the_examples(server: Running) -> None:
    http(server, "POST", "/v1/chat/completions", {**ASKED, "model": "prompted"})
    assert server.models.requests[-1].messages[1:3] == EXAMPLES
    assert server.models.asked[-1][0] == "base"


def test_a_recipe_without_the_prompted_base_does_not_list_it(tmp_path: Path) -> None:
    with chat_server(tmp_path, prompted=False) as server:
        _, content, _ = http(server, "GET", "/v1/models")
        assert [model["id"] for model in json.loads(content)["data"]] == ["base", "tuned"]
        refused(server, 404, "model_not_found", model="prompted")


def test_sources_can_follow_the_text(tmp_path: Path) -> None:
    with chat_server(tmp_path, append_sources=True) as server, client(server) as ai:
        whole = ai.chat.completions.create(**ASKED).choices[0].message.content or ""
        pieces = ai.chat.completions.create(**ASKED, stream=True)
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in pieces)
        without = ai.chat.completions.create(**ASKED, extra_body={"append_sources": False})
    assert whole == streamed
    assert whole.endswith(f"\n\nSources:\n[1] {TITLE} (2 Results, page 2)\n[2] {TITLE} (page 1)")
    assert without.choices[0].message.content == "tuned says: How many lynxes?"


# --- refusals


@pytest.mark.parametrize(
    ("changes", "status", "code", "param"),
    [
        ({"model": None}, 400, None, "model"),
        ({"model": "gpt-4"}, 404, "model_not_found", "model"),
        ({"messages": []}, 400, None, "messages"),
        ({"messages": "hi"}, 400, None, "messages"),
        ({"messages": [{"role": "user", "content": "  "}]}, 400, None, "messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, 400, None, "messages"),
        ({"messages": [{"role": "assistant", "content": "y"}]}, 400, None, "messages"),
        ({"messages": [{"role": "judge", "content": "x"}]}, 400, "invalid_value", "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "x"}]}, 400, None, "messages"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "tool", "content": "x"}]}, 400, None, "messages"),
        ({"messages": ["hi"]}, 400, None, "messages[0]"),
        ({"messages": [{"role": "user", "content": 7}]}, 400, None, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            400, "unsupported_value", "messages[0].content",
        ),
        ({"messages": [{"role": "user", "content": "x" * 20_001}]}, 400, "context_length_exceeded", "messages"),
        ({"messages": [{"role": "user", "content": "x \ud800"}]}, 400, "invalid_value", "question"),
        ({"tools": [{"type": "function"}], "tool_choice": "required"}, 400, "unsupported_parameter", "tool_choice"),
        ({"function_call": {"name": "f"}}, 400, "unsupported_parameter", "tool_choice"),
        ({"tool_choice": "required"}, 400, "unsupported_parameter", "tool_choice"),
        ({"n": 2}, 400, "unsupported_value", "n"),
        ({"response_format": {"type": "json_object"}}, 400, "unsupported_parameter", "response_format"),
        ({"logprobs": True}, 400, "unsupported_parameter", "logprobs"),
        ({"stop": ["."]}, 400, "unsupported_parameter", "stop"),
        ({"modalities": ["audio"]}, 400, "unsupported_value", "modalities"),
        ({"temperature": -1}, 400, "invalid_value", "temperature"),
        ({"temperature": "hot"}, 400, "invalid_value", "temperature"),
        ({"temperature": True}, 400, "invalid_value", "temperature"),
        ({"top_p": 0}, 400, "invalid_value", "top_p"),
        ({"max_tokens": 0}, 400, "invalid_value", "max_tokens"),
        ({"max_tokens": 1.5}, 400, "invalid_value", "max_tokens"),
        ({"seed": 2**40}, 400, "invalid_value", "seed"),
        ({"stream": "yes"}, 400, "invalid_value", "stream"),
        ({"stream_options": 1}, 400, None, "stream_options"),
        ({"strength": 0.5}, 400, "invalid_value", "strength"),
        ({"lora": [{"id": 0, "scale": 1}]}, 400, "unsupported_parameter", "lora"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused(
    server: Running, changes: dict[str, Any], status: int, code: str | None, param: str
) -> None:
    before = len(server.models.requests)
    assert refused(server, status, code, **changes)["param"] == param
    assert len(server.models.requests) == before


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"x"', b'{"model": NaN}', b"\xff", b"[" * 50_000, b'{"model": "tuned", "messages": {}}']
)
def test_a_body_that_is_not_a_request_is_refused(server: Running, body: bytes) -> None:
    status, content, _ = http(server, "POST", "/v1/chat/completions", body)
    assert status == 400
    assert json.loads(content)["error"]["type"] == "invalid_request_error"


def test_unknown_fields_of_clients_are_ignored_and_named(server: Running) -> None:
    more = {
        "user": "u",
        "metadata": {},
        "store": False,
        "tools": [],
        "n": 1,
        "chat_id": "x",
        "parallel_tool_calls": True,
    }
    status, content, _ = http(server, "POST", "/v1/chat/completions", {**ASKED, **more})
    assert status == 200
    assert json.loads(content)["ignored"] == ["user", "metadata", "store", "chat_id", "parallel_tool_calls"]
    _, content, _ = http(server, "POST", "/v1/chat/completions", {**ASKED, **{f"field {at}": 1 for at in range(99)}})
    assert json.loads(content)["ignored"][-2:] == ["field 19", "79 more fields"]


def test_tools_that_a_client_offers_are_never_called_and_named(server: Running) -> None:
    """Open WebUI 0.12 offers 36 tools with every question."""
    tools = [{"type": "function", "function": {"name": "search_notes", "parameters": {"type": "object"}}}]
    called = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function"}]}
    earlier = [{"role": "user", "content": "Hi"}, called, {"role": "tool", "tool_call_id": "1", "content": "x"}]
    body = {**ASKED, "messages": [*earlier, *ASKED["messages"]], "tools": tools, "tool_choice": "auto"}
    status, content, _ = http(server, "POST", "/v1/chat/completions", {**body, "functions": [{"name": "f"}]})
    assert status == 200
    reply = json.loads(content)
    assert reply["ignored"] == ["messages of tools", "1 earlier question", "tools", "functions"]
    assert reply["choices"][0]["message"]["content"]
    assert "tool_calls" not in reply["choices"][0]["message"]


def test_other_paths_and_methods_are_errors_in_json(server: Running) -> None:
    for method, path, wanted in (
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("POST", "/v1/embeddings", 404),
        ("GET", "/../../etc/passwd", 404),
    ):
        status, content, _ = http(server, method, path)
        assert status == wanted, path
        assert "message" in json.loads(content)["error"]


# --- Open WebUI


def test_open_webui_finds_the_models_and_shows_the_sources_as_citations(guarded: Running) -> None:
    """Its requests, as in its ``routers/openai.py``: GET {url}/models, POST {url}/chat/completions."""
    key = {"Authorization": f"Bearer {TOKEN}", "Accept": "*/*", "User-Agent": "Python/3.11 aiohttp/3.12"}
    status, content, _ = http(guarded, "GET", "/v1/models", None, **{n.replace("-", "_"): v for n, v in key.items()})
    assert status == 200
    assert [(model["id"], model["name"]) for model in json.loads(content)["data"]][-1] == ("tuned", "lynx tuned")
    body = {
        **ASKED,
        "stream": True,
        "stream_options": {"include_usage": True},
        "user": {"name": "Ann", "id": "1", "email": "", "role": "admin"},
    }
    status, content, headers = http(guarded, "POST", "/v1/chat/completions", body, **key)
    assert status == 200
    assert headers["content-type"].startswith("text/event-stream")
    lines = [line for line in content.decode().split("\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line[6:]) for line in lines[:-1]]
    events = [chunk["event"] for chunk in chunks if "event" in chunk]
    assert [event["type"] for event in events] == ["source", "source"]
    link = f"{guarded.address}/papers/lynx.pdf#page=2"
    assert events[0]["data"]["source"] == {"name": f"{TITLE}, 2 Results, page 2", "url": link}
    assert events[0]["data"]["metadata"] == [{"source": link, "name": f"{TITLE}, 2 Results, page 2", "page": 2}]
    assert "412 lynxes" in events[0]["data"]["document"][0]


@pytest.mark.parametrize("task", ["Generate a concise title", "Generate 1-3 broad tags", "Suggest 3-5 follow-ups"])
def test_requests_of_open_webui_about_a_chat_are_no_questions_to_papers(server: Running, task: str) -> None:
    """It asks the model of the chat for titles, tags and more: a search for each would cost as much as an answer."""
    asked = f"### Task:\n{task}.\n### Chat History:\n<chat_history>\nUSER: How many lynxes?\n</chat_history>"
    before = len(server.models.requests)
    error = refused(server, 400, "unsupported_value", messages=[{"role": "user", "content": asked}])
    assert "task model" in error["message"]
    assert len(server.models.requests) == before
    with_context = "### Task:\nRespond to the user query using the context.\n<context>x</context>\nHow many lynxes?"
    messages = [{"role": "user", "content": with_context}]
    assert http(server, "POST", "/v1/chat/completions", {**ASKED, "messages": messages})[0] == 200


# --- papers and votes


def test_papers_are_served_by_id_and_nothing_else_is(server: Running) -> None:
    status, content, headers = http(server, "GET", "/papers/lynx.pdf")
    assert status == 200
    assert content.startswith(b"%PDF")
    assert headers["content-type"] == "application/pdf"
    part = http(server, "GET", "/papers/lynx.pdf", None, Range="bytes=0-3")
    assert (part[0], part[1]) == (206, b"%PDF")
    secret = Path(server.votes.path.parent) / "index.sqlite"
    assert secret.exists()
    for name in (
        "heron.pdf", "heron.md", "lynx", "nothing.pdf", "..%2findex.sqlite", "../index.sqlite", "%2e%2e/index.sqlite",
        f"{secret}", f"%2F{secret}.pdf", "lynx.pdf%00", "lynx.pdf/../../index.sqlite", ".pdf", "lynx.pdf.pdf",
    ):  # fmt: skip
        assert http(server, "GET", f"/papers/{name}")[0] == 404, name


def test_votes_are_kept_with_what_was_answered(tmp_path: Path) -> None:
    with chat_server(tmp_path) as server:
        _, content, _ = http(server, "POST", "/v1/chat/completions", ASKED)
        name = json.loads(content)["id"]
        for vote in ("up", "down"):
            assert http(server, "POST", "/api/vote", {"id": name, "vote": vote, "note": "n" * 5000})[0] == 200
        (kept,) = server.votes.votes()
        assert (kept.vote, kept.arm, kept.question) == ("down", "tuned", "How many lynxes?")
        assert kept.answer == "tuned says: How many lynxes?"
        assert kept.papers == ("lynx",)
        assert len(kept.note) == 2000
        assert http(server, "POST", "/api/vote", {"id": name, "vote": "none"})[0] == 200
        assert server.votes.votes() == []
        for body, status in (
            ({"id": "chatcmpl-0", "vote": "up"}, 404),
            ({"id": name, "vote": "sideways"}, 400),
            ({"id": [], "vote": "up"}, 404),
            ({"id": name, "vote": "up", "note": 1}, 400),
        ):
            assert http(server, "POST", "/api/vote", body)[0] == status


def test_old_answers_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlx_ragtune.pages.chat_engine.KEPT_ANSWERS", 2)
    with chat_server(tmp_path) as server:
        names = [json.loads(http(server, "POST", "/v1/chat/completions", ASKED)[1])["id"] for _ in range(3)]
        assert [server.engine.kept(name) is not None for name in names] == [False, True, True]


# --- strangers


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "", "127.0.0.1:1", "a@127.0.0.1:{port}"]
)
def test_another_name_is_refused_before_anything_else(server: Running, host: str) -> None:
    status, content, _ = http(server, "GET", "/v1/models", None, Host=host.format(port=server.port))
    assert status == 403
    assert json.loads(content)["error"]["code"] == "unknown_host"


def test_known_names_are_answered(server: Running) -> None:
    for host in (
        f"127.0.0.1:{server.port}",
        f"localhost:{server.port}",
        f"[::1]:{server.port}",
        "my-server",
        "my-server:443",
    ):
        assert http(server, "GET", "/v1/models", None, Host=host)[0] == 200, host


def test_two_hosts_are_refused(server: Running) -> None:
    head = f"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nHost: evil.example\r\n\r\n"
    assert raw(server, head.encode()).split(b" ")[1] in (b"400", b"403")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_other_sites_are_refused_and_get_no_cors_header(server: Running, headers: dict[str, str]) -> None:
    for method, path, body in (("POST", "/v1/chat/completions", ASKED), ("OPTIONS", "/v1/chat/completions", None)):
        status, _, sent = http(server, method, path, body, **headers)
        assert status == 403
        assert not [name for name in sent if name.startswith("access-control-")]


def test_the_own_page_may_ask(server: Running) -> None:
    own = {"Origin": server.address, "Sec_Fetch_Site": "same-origin", "Sec_Fetch_Mode": "cors"}
    status, _, sent = http(server, "POST", "/v1/chat/completions", ASKED, **own)
    assert status == 200
    assert not [name for name in sent if name.startswith("access-control-")]


def test_a_form_of_another_site_cannot_ask(server: Running) -> None:
    for path in ("/v1/chat/completions", "/api/vote"):
        connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("POST", path, json.dumps(ASKED), {"Content-Type": "text/plain"})
        assert connection.getresponse().status == 415
        connection.close()


def test_without_the_token_only_the_empty_page_is_sent(guarded: Running) -> None:
    status, content, headers = http(guarded, "GET", "/")
    assert status == 200
    assert b"lynx" not in content
    assert TOKEN.encode() not in content
    assert "script-src 'nonce-" in headers["content-security-policy"]
    for method, path in (
        ("GET", "/v1/models"), ("POST", "/v1/chat/completions"), ("GET", "/papers/lynx.pdf"), ("GET", "/api/state"),
        ("POST", "/api/vote"), ("POST", "/api/session"), ("GET", "/nothing"),
    ):  # fmt: skip
        for key in ("", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x"):
            status, content, headers = http(guarded, method, path, None, Authorization=key)
            assert status == 401, (path, key)
            assert headers["www-authenticate"] == "Bearer"
            assert TOKEN.encode() not in content


def test_the_cookie_is_not_the_token_and_opens_the_page(guarded: Running) -> None:
    status, _, headers = http(guarded, "POST", "/api/session", {}, Authorization=f"Bearer {TOKEN}")
    assert status == 200
    cookie = headers["set-cookie"]
    assert TOKEN not in cookie
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    kept = cookie.partition(";")[0]
    assert http(guarded, "GET", "/papers/lynx.pdf", None, Cookie=kept)[0] == 200
    assert http(guarded, "GET", "/papers/lynx.pdf", None, Cookie=f"ragtune={TOKEN}")[0] == 401
    assert http(guarded, "GET", "/v1/models", None, Authorization=f"Bearer {kept.partition('=')[2]}")[0] == 401
    assert http(guarded, "GET", "/v1/models", None, Cookie=kept, Origin="http://evil.example")[0] == 403


def test_what_is_printed_names_neither_question_nor_key(guarded: Running) -> None:
    http(guarded, "POST", "/v1/chat/completions", ASKED, Authorization=f"Bearer {TOKEN}")
    assert guarded.said == ["tuned: 5 tokens in 0.1 s"] * len(guarded.said)
    assert guarded.said


def test_a_large_body_is_refused_without_being_read(server: Running) -> None:
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Type: application/json\r\n"
    declared = raw(server, f"{head}Content-Length: {MAX_BODY_BYTES + 1}\r\n\r\n".encode())
    assert declared.split(b" ")[1] == b"413"
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    endless = raw(server, f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk * 18)
    assert endless.split(b" ")[1] == b"413"
    odd = raw(server, f"{head}Content-Length: 99999999999999999999\r\n\r\n".encode())
    assert odd.split(b" ")[1] in (b"400", b"413")


def raw(server: Running, sent: bytes) -> bytes:
    """What the server answers to these bytes until it closes, or for two seconds."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=2) as connection:
        got = b""
        try:
            connection.sendall(sent)
            while part := connection.recv(65536):
                got += part
                if b"\r\n\r\n" in got:
                    break
        except (TimeoutError, ConnectionError):
            pass
        return got


class Impatient(BoundedConnection):
    header_seconds, read_seconds = 0.3, 0.5


def test_a_client_that_sends_its_headers_slowly_is_disconnected(tmp_path: Path) -> None:
    with chat_server(tmp_path, connection=Impatient) as server:
        for sent in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "):
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
                connection.sendall(sent)
                started = time.monotonic()
                assert receive_end(connection) == b""
                assert time.monotonic() - started < 8
        assert http(server, "GET", "/v1/models")[0] == 200


def receive_end(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1)
    except ConnectionError:
        return b""


def test_a_client_that_sends_its_body_slowly_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Guard.__init__, "__kwdefaults__", {"max_body": 1000, "body_seconds": 0.3})
    with chat_server(tmp_path) as server:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Length: 50\r\n\r\n{{"
        assert raw(server, head.encode()).split(b" ")[1] == b"408"


def test_a_client_that_does_not_read_frees_its_slot(tmp_path: Path) -> None:
    huge = Scripted(lambda _model, question: "x" * 2_000_000 if "huge" in question else "small")
    with chat_server(tmp_path, huge, connection=Impatient) as server:
        body = json.dumps({**ASKED, "stream": True, "messages": [{"role": "user", "content": "huge lynx"}]}).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Type: application/json\r\n"
        )
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            until(lambda: server.models.requests != [])
            assert http(server, "POST", "/v1/chat/completions", ASKED)[0] == 200
        until(lambda: server.engine.active == 0)


def test_a_client_that_leaves_ends_its_answer_and_frees_its_slot(tmp_path: Path) -> None:
    slow = Scripted(lambda _model, question: "word " * 60 if "slow" in question else "quick", pause=0.05)
    for stream in (True, False):
        slow.ended.clear()
        with chat_server(tmp_path / str(stream), slow) as server:
            body = {**ASKED, "stream": stream, "messages": [{"role": "user", "content": "slow lynx"}]}
            connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
            until(lambda: slow.at_a_time == 1)
            assert connection.sock is not None
            connection.sock.shutdown(socket.SHUT_RDWR)
            connection.close()
            until(lambda: slow.ended == ["closed"])
            assert (
                json.loads(http(server, "POST", "/v1/chat/completions", ASKED)[1])["choices"][0]["finish_reason"]
                == "stop"
            )
            until(lambda: server.engine.active == 0)


def test_waiting_clients_hear_that_the_server_lives_and_are_answered_in_order(tmp_path: Path) -> None:
    slow = Scripted(lambda _model, question: f"{question} " + "word " * 8, pause=0.05)
    with chat_server(tmp_path, slow, first_seconds=0.05, ping_seconds=0.1) as server:
        got: dict[int, bytes] = {}

        def one(number: int) -> None:
            body = {**ASKED, "stream": True, "messages": [{"role": "user", "content": f"lynx {number}?"}]}
            got[number] = http(server, "POST", "/v1/chat/completions", body)[1]

        threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
            time.sleep(0.1)
        for thread in threads:
            thread.join()
        assert slow.most == 1
        assert [question.messages[-1].content[-2] for question in slow.requests] == ["0", "1", "2", "3"]
        assert got[3].count(b": waiting\n\n") >= 2
        assert all(said(got[number]).startswith(f"lynx {number}? word") for number in range(4))


def said(stream: bytes) -> str:
    """The text of a streamed answer."""
    lines = [line[6:] for line in stream.decode().split("\n") if line.startswith("data: {")]
    deltas = [choice["delta"] for line in lines for choice in json.loads(line)["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


def test_too_many_waiting_questions_are_refused_with_a_time_to_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlx_ragtune.pages.chat_engine.MAX_WAITING", 1)
    slow = Scripted(lambda _model, _question: "word " * 30, pause=0.05)
    with chat_server(tmp_path, slow) as server:
        thread = threading.Thread(target=http, args=(server, "POST", "/v1/chat/completions", ASKED))
        thread.start()
        until(lambda: slow.at_a_time == 1)
        status, content, headers = http(server, "POST", "/v1/chat/completions", ASKED)
        assert (status, headers["retry-after"]) == (503, "5")
        assert json.loads(content)["error"]["code"] == "server_busy"
        thread.join()


def until(true: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
