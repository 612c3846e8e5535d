"""Servers that answer anything but Ollama's replies: always a ToolError with the address and a fix, within bounds."""

import json
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlx_ragtune.clients import ollama_http
from mlx_ragtune.clients.chat_ollama import OllamaChat
from mlx_ragtune.clients.embed_ollama import OllamaEmbed
from mlx_ragtune.clients.http_bounds import BoundedTransport, Limit, LimitError, split_lines
from mlx_ragtune.clients.ollama_http import Ollama
from mlx_ragtune.clients.ollama_registry import register_model, remove_model
from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer
from mlx_ragtune.errors import ToolError
from tests.ollama_server import NO_FAULT, Fault, OllamaStandIn
from tests.served_models import TURNS, request


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[OllamaStandIn]:
    with OllamaStandIn(tmp_path_factory.mktemp("ollama")) as standin:
        register_model(standin.host, "tinyq", models / "qwen3.gguf")
        yield standin


@pytest.fixture(scope="module")
def backend(hostile: OllamaStandIn) -> Iterator[OllamaChat]:
    server = Ollama(hostile.host, attempts=2, pause_seconds=0.001, timeout_seconds=20)
    with OllamaChat(hostile.host, "tinyq", context_tokens=512, server=server) as entered:
        yield entered


@pytest.fixture
def chat(backend: OllamaChat, hostile: OllamaStandIn) -> Iterator[OllamaChat]:
    yield backend
    hostile.fault = NO_FAULT


def replying(path: str, body: bytes, *, status: str = "200 OK", headers: str = "") -> Callable[[str], Fault | None]:
    """The fault that answers ``path`` with exactly this."""
    raw = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body
    return lambda at: Fault("raw", raw=raw) if at == path else None


ASKED: dict[str, Callable[[OllamaChat], object]] = {
    "/api/version": lambda chat: Ollama(chat._server.host, attempts=1).version,
    "/api/tags": lambda chat: chat._server.digests(),
    "/api/ps": lambda chat: chat._server.windows(),
    "/api/show": lambda chat: chat._server.show("tinyq"),
    "/api/embed": lambda chat: OllamaEmbed("", "tinyq", server=chat._server).embed(["x"], kind="query"),
    "/api/create": lambda chat: chat._server.create("tinyq", {}),
    "/api/chat": lambda chat: chat.chat(request()),
    "/api/generate": lambda chat: chat.same_length(TURNS, "x", think=False),
}
NOT_JSON = {
    "html": b"<html><body>It works!</body></html>",
    "half": b'{"models": [',
    "not UTF-8": b'{"version": "\xff"}',
    "UTF-16": '{"version": "1.2.3"}'.encode("utf-16"),
    "nested": b"[" * 100_000,
    "huge number": b'{"version": ' + b"9" * 10_000 + b"}",
    "NaN": b'{"version": NaN, "models": NaN, "done": NaN, "details": NaN, "embeddings": NaN, "status": NaN}',
}
WRONG_SHAPE: dict[str, Any] = {"list": [], "list of lists": [[1]], "number": 3, "null": None, "text": "x", "true": True}
REPLIES = {**NOT_JSON, **{name: json.dumps(value).encode() for name, value in WRONG_SHAPE.items()}}


@pytest.mark.parametrize("body", REPLIES.values(), ids=REPLIES)
@pytest.mark.parametrize("path", ASKED)
def test_a_reply_that_is_not_ollamas_is_a_tool_error(
    path: str, body: bytes, chat: OllamaChat, hostile: OllamaStandIn
) -> None:
    hostile.fault = replying(path, body)
    with pytest.raises(ToolError) as error:
        ASKED[path](chat)
    assert error.value.where == hostile.host
    assert error.value.what


NOT_COUNTS: tuple[Any, ...] = (-1, "3", True, 1.5, [], 2**80)
FIELDS: dict[str, list[Any]] = {
    "/api/version": [{}, {"version": None}, {"version": 1}, {"version": ["1"]}],
    "/api/tags": [{}, {"models": None}, {"models": 3}, {"models": [None]}, {"models": [{"model": 3}]}],
    "/api/ps": [{}, {"models": {"a": 1}}, {"models": [3]}, {"models": [{"name": "a", "context_length": "many"}]}],
    "/api/show": [
        {"details": []},
        {"details": {"quantization_level": 8}},
        {"template": None},
        {"parameters": ["stop"]},
        {"capabilities": "thinking"},
        {"capabilities": [1]},
        {"renderer": 1},
        {"template": "\ud800"},
    ],
    "/api/embed": [
        {},
        {"embeddings": None},
        {"embeddings": []},
        {"embeddings": [[]]},
        {"embeddings": [["x"]]},
        {"embeddings": [[1.0], [2.0]]},
        {"embeddings": [[1e300, 1e300]]},
        {"embeddings": [[0.0, 0.0]]},
    ],
    "/api/create": [{"status": 3}, {"status": "half done"}, {"error": {"no": "text"}}],
    "/api/chat": [
        {"message": None, "done": True},
        {"message": [], "done": True},
        {"message": "x", "done": True},
        {"message": {"content": None}, "done": True},
        {"message": {"content": ["x"]}, "done": True},
        {"message": {"content": 3}, "done": True},
        {"message": {"content": "\ud800"}, "done": True},
        {"message": {"content": "x", "thinking": 3}, "done": True},
        {"message": {"content": "x"}, "done": "yes"},
        {"message": {"content": "x"}, "done": True, "done_reason": None},
        *({"done": True, "eval_count": count} for count in NOT_COUNTS),
        *({"done": True, "prompt_eval_count": count} for count in (*NOT_COUNTS, None)),
        *({"done": True, "eval_duration": count} for count in (*NOT_COUNTS, None)),
        {"error": None},
        {"error": ["no", "text"]},
    ],
    "/api/generate": [{"prompt_eval_count": "3"}, {"done": 3}],
}


@pytest.mark.parametrize(
    ("path", "value"),
    [(path, value) for path, values in FIELDS.items() for value in values],
    ids=lambda value: ascii(value)[:60],
)
def test_a_field_of_the_wrong_kind_is_a_tool_error(
    path: str, value: Any, chat: OllamaChat, hostile: OllamaStandIn
) -> None:
    hostile.fault = replying(path, json.dumps(value).encode() + b"\n")
    with pytest.raises(ToolError) as error:
        ASKED[path](chat)
    assert error.value.where == hostile.host


@pytest.mark.parametrize(
    ("value", "rendered"),
    [({}, None), ({"_debug_info": {}}, None), ({"_debug_info": {"rendered_template": None}}, None)],
)
def test_a_server_that_does_not_return_a_prompt_is_not_taken_to_agree(
    value: Any, rendered: None, chat: OllamaChat, hostile: OllamaStandIn
) -> None:
    hostile.fault = replying("/api/chat", json.dumps(value).encode())
    assert chat.render(TURNS, think=False) is rendered


@pytest.mark.parametrize("value", [{"_debug_info": None}, {"_debug_info": {"rendered_template": 3}}])
def test_a_rendered_prompt_of_the_wrong_kind_is_a_tool_error(
    value: Any, chat: OllamaChat, hostile: OllamaStandIn
) -> None:
    hostile.fault = replying("/api/chat", json.dumps(value).encode())
    with pytest.raises(ToolError, match="unexpected reply"):
        chat.render(TURNS, think=False)


@pytest.mark.parametrize(
    ("status", "body", "fix"),
    [
        ("302 Found", b"", "correct the address"),
        ("307 Temporary Redirect", b"", "correct the address"),
        ("401 Unauthorized", b"<html>no</html>", "OLLAMA_HOST"),
        ("403 Forbidden", b"", "OLLAMA_HOST"),
        ("404 Not Found", b"404 page not found", "correct the address"),
        ("404 Not Found", b'{"error": "model \'tinyq\' not found"}', "ollama pull tinyq"),
        ("404 Not Found", b'{"error": "model \'x;rm -rf ~\' not found"}', "correct the address"),
        ("429 Too Many Requests", b'{"error": "slow down"}', "run the same command again"),
        ("500 Internal Server Error", b'["a list"]', "log"),
        ("500 Internal Server Error", b'{"error": ["no", "text"]}', "log"),
        ("500 Internal Server Error", b"\xff\xfe\x1b[2J", "log"),
    ],
)
@pytest.mark.parametrize("path", ["/api/tags", "/api/chat", "/api/show"])
def test_each_refusal_says_what_to_do(
    status: str, body: bytes, fix: str, path: str, chat: OllamaChat, hostile: OllamaStandIn, tmp_path: Path
) -> None:
    with OllamaStandIn(tmp_path / "other") as other:
        hostile.fault = replying(path, body, status=status, headers=f"Location: {other.host}{path}\r\n")
        with pytest.raises(ToolError) as error:
            ASKED[path](chat)
        assert not other.requests  # a redirect is not followed
    assert error.value.where == hostile.host
    if not (path == "/api/tags" and body.startswith(b"[")):  # the ollama package loses that status
        assert status[:3] in error.value.what
        assert fix in error.value.fix
    assert "\x1b" not in str(error.value)


def test_a_model_is_not_removed_on_a_broken_list(chat: OllamaChat, hostile: OllamaStandIn) -> None:
    hostile.fault = replying("/api/tags", b'{"models": [{"model": "tinyq:latest", "digest": 3}]}')
    hostile.requests.clear()
    with pytest.raises(ToolError):
        remove_model(hostile.host, "tinyq", digest="3")
    assert not [path for method, path, _ in hostile.requests if method == "DELETE"]


SEPARATORS = "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\x1eh"


def test_unicode_line_separators_stay_in_an_answer_of_ollama(chat: OllamaChat, hostile: OllamaStandIn) -> None:
    lines = [{"message": {"content": SEPARATORS}, "done": False}, {"message": {"content": SEPARATORS}, "done": True}]
    body = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
    hostile.fault = replying("/api/chat", body)
    assert chat.chat(request()).text == SEPARATORS * 2


def test_unicode_line_separators_stay_in_an_answer_of_the_embedded_server(models: Path) -> None:
    schema = {"type": "string", "enum": ["a\u2028b\u2029c\u0085d"]}
    with LlamaCppServer(models / "qwen3.gguf", context_tokens=512) as engine:
        assert engine.chat(request(max_tokens=40, schema=schema)).text == '"a\u2028b\u2029c\u0085d"'


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_lines_end_at_newlines_however_they_arrive(size: int) -> None:
    body = f"one {SEPARATORS}\r\ntwo\n\n{SEPARATORS}".encode()
    chunks = (body[at : at + size] for at in range(0, len(body), size))
    lines = [line.decode() for line in split_lines(chunks, max_bytes=1000)]
    assert lines == [f"one {SEPARATORS}", "two", "", SEPARATORS]


OK = b"HTTP/1.1 200 OK\r\n\r\n"
TOKEN = b'{"message": {"content": "a", "thinking": ""}, "done": false}\n'
ENDLESS = {
    "line": ("/api/chat", OK, b" " * 2**16),
    "tokens": ("/api/chat", OK, TOKEN * 100),
    "empty tokens": ("/api/chat", OK, TOKEN.replace(b'"a"', b'""') * 100),
    "blank lines": ("/api/chat", OK, b"\n" * 2**16),
    "last lines": ("/api/chat", OK, TOKEN.replace(b"false", b"true") * 100),
    "list": ("/api/tags", OK, b" " * 2**16),
    "reply": ("/api/show", OK, b" " * 2**16),
    "status lines": ("/api/create", OK, b'{"status": "parsing"}\n' * 1000),
    "headers": ("/api/show", b"HTTP/1.1 200 OK\r\n", b"X-Filler: x\r\n" * 1000),
    "one header": ("/api/tags", b"HTTP/1.1 200 OK\r\nX-Filler: ", b"x" * 2**16),
    "error": ("/api/chat", b"HTTP/1.1 500 Internal Server Error\r\n\r\n", b"x" * 2**16),
    "zeros, compressed": ("/api/show", b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", b"\0" * 2**16),
}


@pytest.mark.parametrize("endless", ENDLESS.values(), ids=ENDLESS)
def test_an_endless_reply_ends_in_an_error_within_bounds(
    endless: tuple[str, bytes, bytes], chat: OllamaChat, hostile: OllamaStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ollama_http, "MAX_REPLY_BYTES", 4 * 2**20)
    path, raw, repeat = endless
    hostile.fault = lambda at: Fault("raw", raw=raw, repeat=repeat) if at == path else None
    started = time.perf_counter()
    tracemalloc.start()
    try:
        with pytest.raises(ToolError) as error:
            ASKED[path](chat)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert error.value.where == hostile.host
    assert peak < 32 * 2**20
    assert time.perf_counter() - started < 10


def test_a_server_that_does_not_stop_at_the_tokens_asked_for_is_named(chat: OllamaChat, hostile: OllamaStandIn) -> None:
    hostile.fault = lambda at: Fault("raw", raw=OK, repeat=TOKEN) if at == "/api/chat" else None
    with pytest.raises(ToolError, match="does not stop after the 8 tokens that were asked for"):
        chat.chat(request(max_tokens=8))


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nX-A: ", OK, OK + b'{"models": ['], ids=repr)
def test_a_reply_that_does_not_end_is_over_at_its_deadline(
    sent: bytes, hostile: OllamaStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one whose headers arrive byte by byte, of which each would restart a timeout."""
    quiet = threading.Event()

    class Slow(Fault):
        pass

    def drip(handler: Any, fault: Fault, length: int) -> None:
        handler.rfile.read(length)
        handler.close_connection = True
        handler.wfile.write(fault.raw)
        while not quiet.wait(0.02):
            handler.wfile.write(b"x")

    monkeypatch.setattr("tests.ollama_server._Handler._raw", drip)
    hostile.fault = lambda _at: Slow("raw", raw=sent)
    transport = BoundedTransport(httpx.HTTPTransport(), Limit(2**20, 0.2))
    with httpx.Client(transport=transport, timeout=5) as client, pytest.raises(LimitError, match="took longer than"):
        client.get(f"{hostile.host}/api/tags")
    quiet.set()
    hostile.fault = NO_FAULT
