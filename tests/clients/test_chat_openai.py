"""Any server with an OpenAI-compatible API can write pairs; what it refuses is said, and a key stays secret."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlx_ragtune.clients.chat_openai import OpenAiChat
from mlx_ragtune.clients.http_retries import ServerGoneError
from mlx_ragtune.clients.openai_http import OpenAiServer, endpoint, is_loopback
from mlx_ragtune.clients.protocol import PromptOverflowError
from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer
from mlx_ragtune.errors import RecipeError, ToolError
from mlx_ragtune.records import ChatReply, ChatRequest, Message, Sampling
from tests.clients.openai_server import OpenAiStandIn

SCHEMA = {"type": "object", "properties": {"pairs": {"type": "array", "items": {"type": "object"}}}}
REQUEST = ChatRequest(
    (Message("system", "You write."), Message("user", "Write.")),
    Sampling(temperature=0.7, top_p=0.9, seed=5, max_tokens=99),
    schema=SCHEMA,
)
KEY = "sk-a-secret-of-the-user"


def answer(_request: ChatRequest) -> ChatReply:
    return ChatReply('{"pairs": [{"question": "Why?"}]}', "stop", 12, 8, 0.0, thinking="Hm.")


@pytest.fixture
def server() -> Iterator[OpenAiStandIn]:
    with OpenAiStandIn(answer) as standin:
        yield standin


def chat(server: OpenAiStandIn, *, said: list[str] | None = None, **options: Any) -> OpenAiChat:
    quick = OpenAiServer(server.host, attempts=2, pause_seconds=0.001)
    say = (lambda _text: None) if said is None else said.append
    return OpenAiChat(server.host, "writer", context_tokens=2048, server=quick, say=say, **options)


@pytest.mark.parametrize("plain", [False, True])
def test_a_reply_has_its_text_thinking_and_counts(server: OpenAiStandIn, plain: bool) -> None:
    server.plain = plain
    with chat(server) as backend:
        reply = backend.chat(REQUEST)
    assert (reply.text, reply.thinking, reply.done_reason) == (answer(REQUEST).text, "Hm.", "stop")
    assert (reply.prompt_tokens, reply.answer_tokens) == (12, 8)


def test_the_options_and_a_closed_schema_are_sent(server: OpenAiStandIn) -> None:
    with chat(server) as backend:
        backend.chat(REQUEST)
    (body,) = server.bodies
    assert (body["model"], body["temperature"], body["top_p"]) == ("writer", 0.7, 0.9)
    assert (body["seed"], body["max_tokens"]) == (5, 99)
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["pairs"]["items"]["additionalProperties"] is False


def test_an_answer_cut_for_length_says_so(server: OpenAiStandIn) -> None:
    server.answer = lambda _request: ChatReply('{"pairs": [', "length", 12, 99, 0.0)
    with chat(server) as backend:
        assert backend.chat(REQUEST).done_reason == "length"


def test_a_server_that_refuses_the_schema_is_asked_without_it_and_that_is_said_once(server: OpenAiStandIn) -> None:
    server.refuse = lambda body: (
        (400, {"error": {"message": "response_format json_schema is not supported"}})
        if "response_format" in body
        else None
    )
    said: list[str] = []
    with chat(server, said=said) as backend:
        assert [backend.chat(REQUEST).done_reason for _ in range(2)] == ["stop", "stop"]
    assert len(said) == 1
    assert "refuses 'response_format'" in said[0]
    assert "not held to a JSON schema" in said[0]
    assert ["response_format" in body for body in server.bodies] == [True, False, False]


def test_what_a_message_does_not_name_is_tried(server: OpenAiStandIn) -> None:
    server.refuse = lambda body: (422, {"detail": "bad request"}) if "chat_template_kwargs" in body else None
    said: list[str] = []
    with chat(server, said=said) as backend:
        assert backend.chat(REQUEST).text
    assert "refuses 'chat_template_kwargs'" in said[-1]


def test_a_request_that_is_refused_in_every_form_raises_the_first_message(server: OpenAiStandIn) -> None:
    server.refuse = lambda body: (400, {"error": {"message": f"no credit left {len(body)}"}}) if body else None
    said: list[str] = []
    with chat(server, said=said) as backend, pytest.raises(ToolError, match=r"answered 400: no credit left 10"):
        backend.chat(REQUEST)
    assert said == []


def test_a_newer_name_of_the_length_is_used_where_it_is_asked_for(server: OpenAiStandIn) -> None:
    told = {"error": {"message": "'max_tokens' is not supported. Use 'max_completion_tokens' instead."}}
    server.refuse = lambda body: (400, told) if "max_tokens" in body else None
    with chat(server) as backend:
        backend.chat(REQUEST)
    assert server.bodies[-1]["max_completion_tokens"] == 99


def test_a_prompt_beyond_the_window_is_an_overflow(server: OpenAiStandIn) -> None:
    message = "This model's maximum context length is 2048 tokens, however you requested 3000"
    server.refuse = lambda body: (400, {"error": {"message": message}}) if body else None
    with chat(server) as backend, pytest.raises(PromptOverflowError):
        backend.chat(REQUEST)


def test_a_busy_server_is_asked_again_and_a_broken_stream_too(server: OpenAiStandIn) -> None:
    replies = [(503, {"error": "loading"}), None]
    server.refuse = lambda body: replies.pop(0) if body and replies else None
    with chat(server) as backend:
        assert backend.chat(REQUEST).text
        server.cut = 2
        with pytest.raises(ToolError, match=r"ended before it was done \(tried 2 times\)"):
            backend.chat(REQUEST)


def test_a_looping_answer_is_cut_off(server: OpenAiStandIn) -> None:
    server.answer = lambda _request: ChatReply("and so on " * 500, "length", 1, 1, 0.0)
    with chat(server, stop=lambda text: text.count("and so on") > 5) as backend:
        reply = backend.chat(REQUEST)
    assert reply.done_reason == "loop"
    assert len(reply.text) < 200


# --- before anything begins


def test_a_model_that_is_not_listed_is_refused_with_the_names(server: OpenAiStandIn) -> None:
    server.models = [{"id": f"model-{number}"} for number in range(10)]
    with pytest.raises(ToolError, match=r"does not list the model 'writer'; it lists model-0, .*model-7 and 2 more"):
        chat(server).__enter__()


def test_a_window_that_is_too_short_is_refused(server: OpenAiStandIn) -> None:
    server.models = [{"id": "writer", "max_model_len": 1024}]
    with pytest.raises(ToolError, match="with 1024 context tokens, not 2048"):
        chat(server).__enter__()


def test_what_is_not_such_a_server_is_named_with_the_usual_mistake(server: OpenAiStandIn) -> None:
    with pytest.raises(ToolError, match="answered 404") as caught:
        OpenAiChat(f"{server.host}/api", "writer", context_tokens=1024).__enter__()
    assert "ends in /v1" in caught.value.fix


def test_a_server_that_is_away_is_gone() -> None:
    quick = OpenAiServer("http://127.0.0.1:9", attempts=2, pause_seconds=0.001)
    with pytest.raises(ServerGoneError, match="no server answers"):
        OpenAiChat("", "writer", context_tokens=1024, server=quick).__enter__()


def test_models_of_one_name_differ_by_what_the_server_lists(server: OpenAiStandIn) -> None:
    digests: list[str] = []
    for meta in ({"n_params": 1}, {"n_params": 1}, {"n_params": 2}):
        server.models = [{"id": "writer", "meta": meta, "created": len(digests)}]
        with chat(server) as backend:
            digests.append(backend.identity()["digest"])
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("http://127.0.0.1:1234", "http://127.0.0.1:1234/v1"),
        ("http://127.0.0.1:1234/v1/", "http://127.0.0.1:1234/v1"),
        ("https://box/openai/v2", "https://box/openai/v2"),
    ],
)
def test_an_address_without_a_path_means_v1(host: str, url: str) -> None:
    assert endpoint(host) == url


@pytest.mark.parametrize(
    ("url", "local"),
    [("http://127.0.0.1:1/v1", True), ("http://[::1]:1", True), ("http://localhost", True), ("http://10.0.0.2", False),
     ("https://api.example.org/v1", False), ("http://127.0.0.1.example.org", False)],
)  # fmt: skip
def test_only_this_machine_is_loopback(url: str, local: bool) -> None:
    assert is_loopback(url) is local


# --- the key


def test_the_key_is_sent_and_appears_in_no_message(
    server: OpenAiStandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAGTUNE_API_KEY", KEY)
    with chat(server) as backend:
        backend.chat(REQUEST)
        assert set(server.authorizations) == {f"Bearer {KEY}"}
        server.refuse = lambda _body: (401, {"error": {"message": f"Incorrect API key provided: {KEY}"}})
        with pytest.raises(ToolError) as caught:
            backend.chat(REQUEST)
    assert KEY not in f"{caught.value} {caught.value.what} {caught.value!r} {capsys.readouterr()}"
    assert "RAGTUNE_API_KEY" in caught.value.fix


def test_without_a_key_nothing_is_sent_and_netrc_is_not_read(server: OpenAiStandIn) -> None:
    with chat(server) as backend:
        backend.chat(REQUEST)
    assert set(server.authorizations) == {None}


def test_a_key_never_crosses_a_network_unencrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGTUNE_API_KEY", KEY)
    with pytest.raises(RecipeError, match=r"would be sent unencrypted to http://10\.0\.0\.2/v1") as caught:
        OpenAiServer("http://10.0.0.2")
    assert KEY not in str(caught.value)
    OpenAiServer("https://10.0.0.2").close()


@pytest.mark.parametrize("key", ["a\nb", "schlüssel"])
def test_a_key_that_no_header_can_hold_is_refused(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGTUNE_API_KEY", key)
    with pytest.raises(RecipeError, match="characters that a key cannot have") as caught:
        OpenAiServer("http://127.0.0.1:1")
    assert key not in str(caught.value)


def test_the_api_of_a_real_llama_cpp_server_is_understood(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    item = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 4}}, "required": ["a"]}
    rows = {"type": "array", "items": item, "minItems": 1, "maxItems": 1}
    schema = {"type": "object", "properties": {"pairs": rows}, "required": ["pairs"]}
    with LlamaCppServer(models / "qwen3.gguf", context_tokens=512) as engine:
        client = engine._open()
        monkeypatch.setenv("RAGTUNE_API_KEY", client.headers["Authorization"].removeprefix("Bearer "))
        name = client.get("/v1/models").json()["data"][0]["id"]
        said: list[str] = []
        with OpenAiChat(str(client.base_url), name, context_tokens=512, say=said.append) as backend:
            reply = backend.chat(replace(REQUEST, schema=schema))
            with pytest.raises(PromptOverflowError):
                backend.chat(replace(REQUEST, messages=(Message("user", "word " * 2000),)))
    assert said == []
    assert set(json.loads(reply.text)["pairs"][0]) == {"a"}
    assert reply.prompt_tokens > 0 < reply.answer_tokens
