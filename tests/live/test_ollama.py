"""What the stand-in promises, checked with a real Ollama. Run with ``make test-live``."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mlx_ragtune.clients.chat_ollama import OllamaChat
from mlx_ragtune.clients.ollama_card import card_of
from mlx_ragtune.clients.ollama_http import Ollama
from mlx_ragtune.clients.ollama_registry import Registrar, register_model, remove_model, require_server
from mlx_ragtune.clients.ollama_replies import Rendered
from mlx_ragtune.clients.ollama_templates import check_talks
from mlx_ragtune.clients.receipts import Receipt, gguf_facts
from mlx_ragtune.clients.registered import Registered, find_named, look
from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer
from mlx_ragtune.errors import ToolError
from mlx_ragtune.evaluation.served_prompt import check_prompt
from mlx_ragtune.records import ChatRequest, Message, Sampling
from mlx_ragtune.retrieval.prompt import build_messages
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


CARD = card_of(Sampling(max_tokens=24, context_tokens=1024), tuned=True, base="owner/name")
PLAIN = "What is QLoRA?"


@pytest.mark.parametrize("file", ["qwen3.gguf", "smol.gguf"])
def test_a_plain_question_gets_the_prompt_and_the_options_of_training(
    file: str, host: str, name: str, models: Path
) -> None:
    """Both ways in which ``ollama run`` asks: one question on the command line, and a talk."""
    said: list[str] = []
    plain = register_model(host, f"{name}-plain", models / file, card=CARD, registrar=Registrar(say=said.append))
    template = gguf_facts(models / file).template
    try:
        with Ollama(host) as server:
            if server.era.reads_jinja and file == "qwen3.gguf":
                pytest.skip("this Ollama uses the file's own template: it gets the stored system text only")
            expected = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(template).render(
                messages=[{"role": turn.role, "content": turn.content} for turn in build_messages((), PLAIN)],
                add_generation_prompt=True,
                enable_thinking=False,
            )  # fmt: skip
            asked = {"model": plain.name, "stream": False, "_debug_render_only": True}
            talk = {**asked, "messages": [{"role": "user", "content": PLAIN}]}
            for path, body in (("/api/generate", {**asked, "prompt": PLAIN}), ("/api/chat", talk)):
                assert server.checked(Rendered, path, body).debug.rendered_template == expected
            answers = [server.request("POST", "/api/chat", {**talk, "_debug_render_only": False}) for _ in range(2)]
            assert answers[0]["message"]["content"] == answers[1]["message"]["content"]
            assert answers[0]["eval_count"] <= 24
            assert find_named(server.windows(), plain.name) == 1024
            shown = server.show(plain.name)
            assert shown.system == CARD.system
            assert shown.license.startswith(CARD.texts[0])
        with OllamaChat(host, plain.name, context_tokens=1024, digest=plain.digest, threads=1) as chat:
            ours = chat.chat(ChatRequest(build_messages((), PLAIN), Sampling(max_tokens=8, context_tokens=512)))
            assert ours.answer_tokens <= 8
    finally:
        assert remove_model(host, plain.name, digest=plain.digest) == "present"
    assert said == []
