"""A reply that is read while it is generated: the same text, in pieces; and an adapter's strength for one request."""

import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from mlx_ragtune.clients.chat_ollama import OllamaChat
from mlx_ragtune.clients.ollama_http import Ollama
from mlx_ragtune.clients.ollama_registry import register_model
from mlx_ragtune.clients.protocol import Piece, PromptOverflowError, StreamingBackend, drained
from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer
from mlx_ragtune.errors import ToolError
from mlx_ragtune.gguf.adapter import write_adapter
from mlx_ragtune.gguf.writer import write_gguf
from mlx_ragtune.records import ChatReply, ChatRequest, Message, Sampling
from tests.ollama_server import NO_FAULT, Fault, OllamaStandIn
from tests.served_models import request
from tests.tuning.made import made_adapter, toy_base


@pytest.fixture(scope="module")
def ollama(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[OllamaStandIn]:
    with OllamaStandIn(tmp_path_factory.mktemp("ollama")) as standin:
        register_model(standin.host, "tinyq", models / "qwen3.gguf")
        yield standin


def quick(ollama: OllamaStandIn) -> Ollama:
    return Ollama(ollama.host, attempts=3, pause_seconds=0.01, timeout_seconds=20)


def read(stream: Generator[Piece, None, ChatReply]) -> tuple[list[Piece], ChatReply]:
    pieces: list[Piece] = []

    def kept() -> Generator[Piece, None, ChatReply]:
        reply = yield from stream
        return reply

    own = kept()
    while True:
        try:
            pieces.append(next(own))
        except StopIteration as end:
            return pieces, end.value


def check_stream(server: StreamingBackend) -> None:
    whole = server.chat(request(max_tokens=12))
    pieces, reply = read(server.stream(request(max_tokens=12)))
    assert "".join(piece.text for piece in pieces) == reply.text == whole.text
    assert len(pieces) > 3
    assert (reply.prompt_tokens, reply.answer_tokens) == (whole.prompt_tokens, whole.answer_tokens)
    assert reply.done_reason == whole.done_reason
    stream = server.stream(request(max_tokens=200))
    assert next(stream).text
    stream.close()  # the request ends, and the next one is answered
    assert server.chat(request(max_tokens=12)).text == whole.text
    too_long = ChatRequest((Message("user", "word " * 400),), Sampling(context_tokens=512))
    with pytest.raises(PromptOverflowError):
        drained(server.stream(too_long))


def test_the_embedded_servers_pieces_are_its_reply(models: Path) -> None:
    with LlamaCppServer(models / "qwen3.gguf", context_tokens=512) as server:
        check_stream(server)


def test_ollamas_pieces_are_its_reply(ollama: OllamaStandIn) -> None:
    ollama.fault = NO_FAULT
    with OllamaChat(ollama.host, "tinyq", context_tokens=512, server=quick(ollama)) as chat:
        check_stream(chat)


def test_thinking_comes_in_pieces_of_its_own(models: Path) -> None:
    with LlamaCppServer(models / "qwen3.gguf", context_tokens=512) as server:
        pieces, reply = read(server.stream(request(max_tokens=12, think=True)))
    assert "".join(piece.thinking for piece in pieces) == reply.thinking
    assert "".join(piece.text for piece in pieces) == reply.text


def test_a_failure_before_the_first_piece_is_retried_and_a_later_one_is_not(ollama: OllamaStandIn) -> None:
    with OllamaChat(ollama.host, "tinyq", context_tokens=512, server=quick(ollama)) as chat:
        expected = chat.chat(request()).text
        ollama.fault = failing(2, Fault("status", status=503))
        assert read(chat.stream(request()))[1].text == expected
        ollama.fault = failing(1, Fault("cut", after=3))
        stream = chat.stream(request())
        assert next(stream).text
        with pytest.raises(ToolError, match="broke"):
            drained(stream)
        ollama.fault = NO_FAULT


def failing(times: int, fault: Fault) -> Callable[[str], Fault | None]:
    left = [times]

    def plan(path: str) -> Fault | None:
        if path != "/api/chat" or not left[0]:
            return None
        left[0] -= 1
        return fault

    return plan


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The GGUF files of a toy base and of an adapter that changes its answers."""
    folder = tmp_path_factory.mktemp("adapted")
    base = toy_base(folder / "base")
    write_gguf(base, folder / "base.gguf", type="F32", name="base")
    write_adapter(made_adapter(base, folder / "adapter", rank=8, alpha=64), base, folder / "adapter.gguf")
    return folder / "base.gguf", folder / "adapter.gguf"


def test_a_strength_of_0_is_the_base_and_1_the_adapter_as_it_is(adapted: tuple[Path, Path]) -> None:
    gguf, adapter = adapted
    with LlamaCppServer(gguf, context_tokens=512) as server:
        base = server.chat(request(max_tokens=24)).text
        with pytest.raises(ValueError, match="no adapter"):
            drained(server.stream(request(), strength=1.0))
    with LlamaCppServer(gguf, context_tokens=512, adapter=adapter) as server:
        tuned = server.chat(request(max_tokens=24)).text
        got = {
            factor: drained(server.stream(request(max_tokens=24), strength=factor)).text for factor in (0.0, 1.0, 0.5)
        }
        assert server.chat(request(max_tokens=24)).text == tuned
    assert base != tuned
    assert (got[0.0], got[1.0]) == (base, tuned)


def test_strengths_of_requests_at_the_same_time_are_not_mixed(adapted: tuple[Path, Path]) -> None:
    gguf, adapter = adapted
    with LlamaCppServer(gguf, context_tokens=512, adapter=adapter, slots=4) as server:
        alone = {factor: drained(server.stream(request(max_tokens=40), strength=factor)).text for factor in (0.0, 1.0)}
        assert alone[0.0] != alone[1.0]
        got: list[tuple[float, str]] = []

        def ask(factor: float) -> None:
            got.append((factor, drained(server.stream(request(max_tokens=40), strength=factor)).text))

        threads = [threading.Thread(target=ask, args=(float(number % 2),)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(got) == 16
    assert all(text == alone[factor] for factor, text in got)
