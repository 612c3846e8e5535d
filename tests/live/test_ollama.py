"""What the stand-in promises, checked with a real Ollama. Run with ``make test-live``."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from mlx_ragtune.clients.chat_ollama import OllamaChat
from mlx_ragtune.clients.ollama_http import Ollama
from mlx_ragtune.clients.ollama_registry import Registrar, register_model, remove_model, require_server
from mlx_ragtune.clients.ollama_templates import check_talks
from mlx_ragtune.clients.receipts import Receipt, gguf_facts
from mlx_ragtune.clients.registered import Registered, look
from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer
from mlx_ragtune.errors import ToolError
from mlx_ragtune.evaluation.served_prompt import check_prompt
from mlx_ragtune.records import ChatRequest, Message, Sampling
from tests.served_models import TURNS, request


@pytest.fixture
def receipt(host: str, name: str, models: Path) -> Iterator[Receipt]:
    """A registered toy Qwen3, removed afterwards."""
    yield register_model(host, name, models / "qwen3.gguf")
    with Ollama(host) as server:
        server.delete(name)


@pytest.fixture
def chat(host: str, receipt: Receipt) -> Iterator[OllamaChat]:
    """One thread: beside other work, threads that wait for each other take minutes for a toy model."""
    with OllamaChat(host, receipt.name, context_tokens=512, digest=receipt.digest, threads=1) as backend:
        yield backend


def test_the_version_has_an_era(host: str) -> None:
    assert require_server(host)


def test_the_server_holds_the_type_that_was_sent(receipt: Receipt) -> None:
    assert receipt.type == "F16"
    assert receipt.digest
    assert "completion" in receipt.capabilities


def test_the_prompt_is_served_as_the_file_renders_it(chat: OllamaChat, models: Path) -> None:
    with LlamaCppServer(models / "qwen3.gguf", context_tokens=512) as engine:
        expected = engine.render(TURNS, think=False)
        tokens = len(engine.tokenize(expected))
    assert check_prompt(chat, "q", TURNS, expected, think=False)
    assert chat.chat(request()).prompt_tokens == tokens


def test_one_file_under_two_names_has_one_digest(host: str, name: str, receipt: Receipt, models: Path) -> None:
    other = register_model(host, f"{name}-other", models / "qwen3.gguf")
    assert remove_model(host, f"{name}-other", digest=other.digest) == "present"
    assert other.digest == receipt.digest


def test_greedy_answers_repeat(chat: OllamaChat) -> None:
    assert chat.chat(request()).text == chat.chat(request()).text


def test_a_long_prompt_is_refused_and_not_cut(chat: OllamaChat) -> None:
    with pytest.raises(ToolError, match="prompt_overflow"):
        chat.chat(ChatRequest((Message("user", "word " * 1000),), Sampling(context_tokens=512)))


@pytest.mark.parametrize("token", ["a", " ", "!"])
def test_an_answer_that_the_servers_guard_ends_is_a_loop(token: str, chat: OllamaChat) -> None:
    """A format that allows one token only; the guard ends the stream without ``done`` at the 32nd."""
    schema = {"type": "string", "pattern": f"^{token}{{200}}$"}
    reply = chat.chat(replace(request(max_tokens=300), schema=schema))
    assert reply.done_reason == "loop"
    assert 30 <= len(reply.text) <= 33


def test_talks_without_a_system_turn_are_rendered_as_the_file_does(host: str, name: str, models: Path) -> None:
    said: list[str] = []
    smol = register_model(host, f"{name}-smol", models / "smol.gguf", registrar=Registrar(say=said.append))
    try:
        with Ollama(host) as server:
            assert check_talks(server, smol.name, gguf_facts(models / "smol.gguf").template) == ()
    finally:
        assert remove_model(host, smol.name, digest=smol.digest) == "present"
    assert said == []


def test_a_model_made_by_hand_is_not_replaced_unless_asked(
    host: str, name: str, receipt: Receipt, models: Path, tmp_path: Path
) -> None:
    mine, ours = f"{name}-mine", Registrar(Registered(tmp_path))
    with Ollama(host) as server:
        server.create(mine, {"x.gguf": f"sha256:{receipt.gguf_sha256}"}, system="Made by hand.")
        theirs = server.digests()[f"{mine}:latest"]
        try:
            with pytest.raises(ToolError, match="was not registered from this runs folder"):
                register_model(host, mine, models / "other.gguf", registrar=ours)
            assert server.digests()[f"{mine}:latest"] == theirs
            forced = register_model(host, mine, models / "other.gguf", registrar=replace(ours, replace=True))
            assert server.digests()[f"{mine}:latest"] == forced.digest != theirs
            again = register_model(host, mine, models / "qwen3.gguf", registrar=ours)
            row = asdict(again)
            assert [served.presence for served in look([row])] == ["present"]
            assert [served.presence for served in look([{**row, "digest": theirs}])] == ["replaced"]
        finally:
            server.delete(mine)
        assert [served.presence for served in look([row])] == ["removed"]
        assert not [left for left in server.digests() if "unfinished" in left and left.startswith(name)]


def test_only_what_is_ours_is_removed(host: str, name: str, models: Path) -> None:
    ours = register_model(host, f"{name}-gone", models / "qwen3.gguf")
    assert remove_model(host, f"{name}-gone", digest="0" * 64) == "replaced"
    assert remove_model(host, f"{name}-gone", digest=ours.digest) == "present"
    assert remove_model(host, f"{name}-gone", digest=ours.digest) == "removed"
