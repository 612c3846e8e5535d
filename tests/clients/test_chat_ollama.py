"""Chat through Ollama: what is sent, what is checked, and what becomes of each way it can fail."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mlx_ragtune.clients.chat_ollama import LOOP_TOKENS, OllamaChat, _Stream
from mlx_ragtune.clients.ollama_http import Ollama
from mlx_ragtune.clients.ollama_registry import Registrar, register_model
from mlx_ragtune.clients.ollama_replies import ChatLine, Delta
from mlx_ragtune.clients.protocol import PromptOverflowError
from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer
from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.records import ChatRequest, Message, Sampling
from tests.ollama_server import NO_FAULT, Fault, OllamaStandIn
from tests.served_models import TURNS, request


def client(host: str, attempts: int = 3) -> Ollama:
    return Ollama(host, attempts=attempts, pause_seconds=0.01, timeout_seconds=20)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[OllamaStandIn]:
    with OllamaStandIn(tmp_path_factory.mktemp("ollama")) as standin:
        register_model(standin.host, "tinyq", models / "qwen3.gguf")
        register_model(standin.host, "smol", models / "smol.gguf")
        yield standin


@pytest.fixture
def served(server: OllamaStandIn) -> OllamaStandIn:
    """The stand-in with ``tinyq`` (can think) and ``smol``; nothing goes wrong yet."""
    server.fault = NO_FAULT
    server.requests.clear()
    return server


@pytest.fixture
def chat(served: OllamaStandIn) -> Iterator[OllamaChat]:
    with OllamaChat(served.host, "tinyq", context_tokens=512, server=client(served.host)) as backend:
        yield backend


def failing(times: int, fault: Fault, path: str = "/api/chat") -> Callable[[str], Fault | None]:
    """The fault for the first ``times`` requests to ``path``."""
    left = [times]

    def plan(at: str) -> Fault | None:
        if at != path or not left[0]:
            return None
        left[0] -= 1
        return fault

    return plan


def test_the_answer_is_that_of_the_registered_file(chat: OllamaChat, models: Path) -> None:
    with LlamaCppServer(models / "qwen3.gguf", context_tokens=512) as engine:
        expected = engine.chat(request())
    reply = chat.chat(request())
    assert (reply.text, reply.prompt_tokens, reply.answer_tokens, reply.done_reason) == (
        expected.text,
        expected.prompt_tokens,
        expected.answer_tokens,
        expected.done_reason,
    )


def test_every_option_is_sent_and_nothing_may_be_cut(chat: OllamaChat, served: OllamaStandIn) -> None:
    chat.chat(replace(request(), sampling=Sampling(0.5, 3, 0.9, 0.1, 1.2, 42, 7, 512)))
    body = next(body for _, path, body in served.requests if path == "/api/chat")
    sampled = {"temperature": 0.5, "top_k": 3, "top_p": 0.9, "min_p": 0.1, "repeat_penalty": 1.2, "seed": 42}
    assert body["options"] == {**sampled, "num_predict": 7, "num_ctx": 512, "stop": []}
    assert (body["truncate"], body["shift"], body["think"], body["stream"]) == (False, False, False, True)


def test_the_server_renders_what_the_file_renders(chat: OllamaChat, models: Path) -> None:
    with LlamaCppServer(models / "qwen3.gguf", context_tokens=512) as engine:
        for think in (False, True):
            assert chat.render(TURNS, think=think) == engine.render(TURNS, think=think)


def test_a_server_that_does_not_say_its_render_is_not_taken_to_agree(tmp_path: Path, models: Path) -> None:
    with OllamaStandIn(tmp_path, version="0.11.4") as old:
        register_model(old.host, "tinyq", models / "qwen3.gguf")
        with OllamaChat(old.host, "tinyq", context_tokens=512) as backend:
            assert backend.render(TURNS, think=False) is None


def test_thinking_is_refused_before_it_is_asked_of_a_model_that_cannot(served: OllamaStandIn) -> None:
    with (
        OllamaChat(served.host, "smol", context_tokens=512) as backend,
        pytest.raises(ToolError, match="cannot think"),
    ):
        backend.chat(request(think=True))
    assert not [path for _, path, _ in served.requests if path == "/api/chat"]


def test_a_prompt_longer_than_the_context_is_refused_by_name(chat: OllamaChat) -> None:
    with pytest.raises(PromptOverflowError, match=r"prompt_overflow: a prompt of \d+ tokens in a context of 512"):
        chat.chat(ChatRequest((Message("user", "word " * 400),), Sampling(context_tokens=512)))


def test_a_smaller_context_than_asked_for_is_found(
    chat: OllamaChat, served: OllamaStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = served.ps
    smaller = lambda: {"models": [{**loaded, "context_length": 256} for loaded in real()["models"]]}  # noqa: E731
    monkeypatch.setattr(served, "ps", smaller)
    with pytest.raises(ToolError, match="256 context tokens, not 512"):
        chat.chat(request())


def test_another_model_under_the_name_is_refused(served: OllamaStandIn, models: Path) -> None:
    receipt = register_model(served.host, "replaced", models / "qwen3.gguf")
    register_model(served.host, "replaced", models / "other.gguf", registrar=Registrar(replace=True))
    with (
        pytest.raises(ToolError, match="has another model named 'replaced'"),
        OllamaChat(served.host, "replaced", context_tokens=512, digest=receipt.digest),
    ):
        pass


def test_a_registered_model_that_is_gone_names_the_command_that_registers_it(served: OllamaStandIn) -> None:
    with (
        pytest.raises(ToolError, match="no longer has 'gone'") as error,
        OllamaChat(served.host, "gone", context_tokens=512, digest="0" * 64),
    ):
        pass
    assert error.value.fix == "ragtune register RECIPE; then run the same command again to continue"


def test_a_model_that_is_not_pulled_names_the_command_that_pulls_it(served: OllamaStandIn) -> None:
    with (
        pytest.raises(ToolError, match="does not have the model 'qwen3:4b'") as error,
        OllamaChat(served.host, "qwen3:4b", context_tokens=512),
    ):
        pass
    assert error.value.fix == f"OLLAMA_HOST={served.host} ollama pull qwen3:4b"


@pytest.mark.parametrize(
    "fault",
    [
        Fault("refuse"),
        Fault("cut", after=2),
        Fault("end", after=2),
        Fault("error", after=2, message="an error was encountered while running the model: unexpected EOF"),
        Fault("status", status=503, message="server busy, please try again"),
        Fault("status", status=500, message="llama runner process has terminated: exit status 2"),
    ],
    ids=["connection closed", "stream cut", "no done", "engine died", "busy", "runner gone"],
)
def test_what_can_heal_is_tried_again_and_gives_the_same_answer(
    fault: Fault, chat: OllamaChat, served: OllamaStandIn
) -> None:
    expected = chat.chat(request()).text
    served.fault = failing(2, fault)
    assert chat.chat(request()).text == expected


@pytest.mark.parametrize(
    "fault",
    [Fault("refuse"), Fault("cut", after=2), Fault("end", after=2), Fault("status", status=503)],
    ids=lambda fault: fault.kind,
)
def test_what_does_not_heal_ends_after_bounded_tries(fault: Fault, chat: OllamaChat, served: OllamaStandIn) -> None:
    served.fault = failing(99, fault)
    with pytest.raises(ToolError, match=r"tried 3 times") as error:
        chat.chat(request())
    assert error.value.where == served.host


@pytest.mark.parametrize(
    ("status", "message", "fix"),
    [
        (404, "model 'tinyq' not found", "register"),
        (400, "invalid options", "log"),
        (500, "write /models/blobs/x: no space left on device", "disk"),
    ],
)
def test_what_cannot_heal_is_not_tried_again(
    status: int, message: str, fix: str, chat: OllamaChat, served: OllamaStandIn
) -> None:
    served.fault = failing(1, Fault("status", status=status, message=message))
    with pytest.raises(ToolError) as error:
        chat.chat(request())
    assert message in error.value.what
    assert fix in error.value.fix


def test_silence_longer_than_the_timeout_is_an_error(chat: OllamaChat, served: OllamaStandIn) -> None:
    chat._server.close()
    chat._server = Ollama(served.host, attempts=1, timeout_seconds=0.2)
    resume = threading.Event()
    served.fault = failing(1, Fault("stall", resume=resume))
    with pytest.raises(ToolError, match="timed out"):
        chat.chat(request())
    resume.set()


def test_a_server_that_is_not_there_names_the_command_that_starts_it() -> None:
    with client("127.0.0.1:9") as server, pytest.raises(ToolError, match="no Ollama server answers") as error:
        _ = server.version
    assert error.value.where == "http://127.0.0.1:9"
    assert error.value.fix == "OLLAMA_HOST=127.0.0.1:9 ollama serve, then run the same command again: it continues"


def test_a_server_that_comes_back_is_used_again(tmp_path: Path, models: Path) -> None:
    with OllamaStandIn(tmp_path) as first:
        register_model(first.host, "tinyq", models / "qwen3.gguf")
        patient = Ollama(first.host, attempts=8, pause_seconds=0.05, timeout_seconds=20)
        backend = OllamaChat(first.host, "tinyq", context_tokens=512, server=patient).__enter__()
        expected = backend.chat(request()).text
        port = int(first.host.rsplit(":", 1)[1])
    revived: list[OllamaStandIn] = []
    timer = threading.Timer(0.3, lambda: revived.append(OllamaStandIn(tmp_path, port=port).__enter__()))
    timer.start()
    assert backend.chat(request()).text == expected
    timer.join()
    backend.__exit__()
    revived[0].__exit__(None, None, None)


def test_the_guard_against_loops_is_a_reply_and_not_a_broken_stream(
    chat: OllamaChat, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [{"content": "Ha:"}, *[{"content": " ha"}] * 400]
    monkeypatch.setattr(LlamaCppServer, "events", lambda *_: iter(said))
    reply = chat.chat(request())  # the stand-in stops as the recorded server did: no line has ``done``
    assert (reply.done_reason, reply.text) == ("loop", "Ha:" + " ha" * 31)
    assert reply.answer_tokens == 32


def test_a_stream_without_done_is_a_loop_only_if_one_token_repeats() -> None:
    stream = _Stream()
    for piece in ["a", "b"] * LOOP_TOKENS:
        stream.add(ChatLine(message=Delta(content=piece)))
    assert not stream.looped()
    for _ in range(LOOP_TOKENS):
        stream.add(ChatLine(message=Delta(content=" ha")))
    assert stream.looped()


def test_an_answer_that_is_to_be_ended_is_ended_as_the_embedded_server_does_and_the_next_one_is_whole(
    served: OllamaStandIn, models: Path
) -> None:
    def long(text: str) -> bool:
        return len(text) > 20

    ended = []
    embedded = LlamaCppServer(models / "qwen3.gguf", context_tokens=512, stop=long)
    for backend in (embedded, OllamaChat(served.host, "tinyq", context_tokens=512, stop=long)):
        with backend:
            ended.append(backend.chat(request(max_tokens=64)))
    with OllamaChat(served.host, "tinyq", context_tokens=512) as backend:
        whole = backend.chat(request(max_tokens=64))
    assert [reply.done_reason for reply in ended] == ["loop", "loop"]
    assert ended[0].text == ended[1].text == whole.text[: len(ended[0].text)]
    assert 0 < ended[1].answer_tokens <= ended[0].answer_tokens < whole.answer_tokens  # half a character is no piece
    assert whole.done_reason == "length"


def test_threads_are_sent_when_they_are_set(served: OllamaStandIn) -> None:
    with OllamaChat(served.host, "tinyq", context_tokens=512, threads=1) as backend:
        backend.chat(request())
    with OllamaChat(served.host, "tinyq", context_tokens=512) as backend:
        backend.chat(request())
    sent = [body["options"].get("num_thread") for _, path, body in served.requests if path == "/api/chat"]
    assert sent[-2:] == [1, None]


def test_another_version_of_the_server_than_the_receipts_is_refused(served: OllamaStandIn) -> None:
    known = served.store.get("tinyq", "").digest
    with OllamaChat(served.host, "tinyq", context_tokens=512, digest=known, version=served.version):
        pass
    with (
        pytest.raises(ToolError, match=r"registered with Ollama 0\.32\.1, and the server is 0\.33\.0-rc2 now") as error,
        OllamaChat(served.host, "tinyq", context_tokens=512, digest=known, version="0.32.1"),
    ):
        pass
    assert "ragtune register RECIPE --redo" in error.value.fix


def test_leaving_unloads_the_model(served: OllamaStandIn) -> None:
    with OllamaChat(served.host, "tinyq", context_tokens=512) as backend:
        backend.chat(request())
        assert served.engines.loaded()
    assert not served.engines.loaded()


def test_times_are_seconds_and_loading_is_apart(chat: OllamaChat) -> None:
    cold, warm = chat.chat(request()), chat.chat(request())
    assert cold.load_seconds is not None
    assert warm.load_seconds is not None
    assert cold.load_seconds > warm.load_seconds
    assert warm.generate_seconds is not None
    assert 0 < warm.generate_seconds < warm.latency_seconds


def test_the_identity_names_server_version_and_digest(chat: OllamaChat, served: OllamaStandIn) -> None:
    digest = served.store.get("tinyq", "").digest
    assert chat.identity() == {"server": "ollama", "version": "0.33.0-rc2", "digest": digest}


def test_a_prompt_that_is_not_valid_unicode_is_an_input_error(chat: OllamaChat) -> None:
    with pytest.raises(InputError, match="not valid Unicode at character 4"):
        chat.chat(ChatRequest((Message("user", "caf \udc80b"),), Sampling(context_tokens=512)))
