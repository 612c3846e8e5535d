"""What the stand-in promises, checked with a real Ollama. Run with ``make test-live``."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mlx_ragtune.clients.chat_ollama import OllamaChat
from mlx_ragtune.clients.ollama_http import Ollama
from mlx_ragtune.clients.ollama_registry import register_model, remove_model, require_server
from mlx_ragtune.clients.receipts import Receipt
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
    with OllamaChat(host, receipt.name, context_tokens=512, digest=receipt.digest) as backend:
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


def test_an_answer_that_repeats_itself_is_a_reply(chat: OllamaChat) -> None:
    looping = replace(request(), sampling=Sampling(max_tokens=400, context_tokens=512))
    assert chat.chat(looping).done_reason in ("loop", "length", "stop")


def test_only_what_is_ours_is_removed(host: str, name: str, models: Path) -> None:
    ours = register_model(host, f"{name}-gone", models / "qwen3.gguf")
    assert remove_model(host, f"{name}-gone", digest="0" * 64) == "replaced"
    assert remove_model(host, f"{name}-gone", digest=ours.digest) == "present"
    assert remove_model(host, f"{name}-gone", digest=ours.digest) == "removed"
