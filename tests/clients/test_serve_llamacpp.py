"""The embedded server: repeatable, refuses what does not fit, says what went wrong."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlx_ragtune.clients.protocol import PromptOverflowError
from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer, chat_body
from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.records import ChatRequest, Message, Sampling
from tests.served_models import TURNS, request


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[LlamaCppServer]:
    with LlamaCppServer(models / "qwen3.gguf", context_tokens=512) as running:
        yield running


def test_the_same_request_gives_the_same_text_whatever_came_before(models: Path) -> None:
    longer = ChatRequest(
        (TURNS[0], Message("user", "What does LoRA train, and what does it freeze?")), request().sampling
    )
    with LlamaCppServer(models / "qwen3.gguf", context_tokens=512) as cold:
        first = cold.chat(request()).text
        cold.chat(longer)
        again = cold.chat(request()).text
        other = cold.chat(longer).text
    with LlamaCppServer(models / "qwen3.gguf", context_tokens=512) as warm:
        assert warm.chat(longer).text == other
        assert warm.chat(request()).text == first == again


def test_a_reply_counts_its_tokens_and_times_its_first(server: LlamaCppServer) -> None:
    reply = server.chat(request(max_tokens=5))
    assert (reply.answer_tokens, reply.done_reason) == (5, "length")
    assert reply.prompt_tokens == len(server.tokenize(server.render(TURNS, think=False)))
    assert reply.first_token_seconds is not None
    assert 0 < reply.first_token_seconds <= reply.latency_seconds


def test_thinking_is_switched_in_the_template(server: LlamaCppServer) -> None:
    off, on = server.render(TURNS, think=False), server.render(TURNS, think=True)
    assert off == on + "<think>\n\n</think>\n\n"
    assert on.endswith("<|im_start|>assistant\n")


def test_thinking_that_was_not_asked_for_stays_visible(server: LlamaCppServer) -> None:
    assert chat_body(request())["reasoning_format"] == "none"
    assert chat_body(request(think=True))["reasoning_format"] == "deepseek"


def test_every_option_is_sent() -> None:
    sampling = Sampling(0.5, 3, 0.9, 0.1, 1.2, 42, 7, 512)
    body = chat_body(replace(request(), sampling=sampling))
    wanted = {
        "temperature": 0.5,
        "top_k": 3,
        "top_p": 0.9,
        "min_p": 0.1,
        "repeat_penalty": 1.2,
        "seed": 42,
        "max_tokens": 7,
    }
    assert {name: body[name] for name in wanted} == wanted
    assert body["chat_template_kwargs"] == {"enable_thinking": False}


def test_a_seed_decides_what_is_sampled(server: LlamaCppServer) -> None:
    def text(seed: int) -> str:
        return server.chat(replace(request(), sampling=Sampling(temperature=2.0, seed=seed, max_tokens=12))).text

    assert text(1) == text(1) != text(2)


def test_an_answer_obeys_its_schema(server: LlamaCppServer) -> None:
    word = {"type": "string", "maxLength": 5}
    schema = {"type": "object", "properties": {"a": word, "b": word}, "required": ["a", "b"]}
    asked = replace(request(max_tokens=200, schema=schema), sampling=Sampling(temperature=1.0, max_tokens=200))
    answer = json.loads(server.chat(asked).text)
    assert set(answer) == {"a", "b"}


def test_a_prompt_longer_than_the_context_is_refused(server: LlamaCppServer) -> None:
    long = ChatRequest((Message("user", "word " * 400),), Sampling(context_tokens=512))
    with pytest.raises(
        PromptOverflowError, match=r"prompt_overflow: a prompt of \d+ tokens in a context of 512"
    ) as error:
        server.chat(long)
    assert error.value.what.startswith("prompt_overflow")  # which is what the validity check goes by


def test_the_context_is_not_rounded_up(models: Path) -> None:
    with LlamaCppServer(models / "qwen3.gguf", context_tokens=300) as server:
        fits = "x" * (290 - len(server.tokenize(server.render([Message("user", "")], think=False))))
        assert server.chat(ChatRequest((Message("user", fits),), Sampling(max_tokens=1))).prompt_tokens == 290
        with pytest.raises(PromptOverflowError):
            server.chat(ChatRequest((Message("user", fits + "x" * 10),), Sampling(max_tokens=1)))


def test_next_tokens_come_likeliest_first_and_lead_to_the_greedy_answer(server: LlamaCppServer) -> None:
    ids = server.tokenize(server.render(TURNS, think=False))
    ranked = server.next_tokens(ids, 5)
    logs = [log for _, log in ranked]
    assert logs == sorted(logs, reverse=True)
    assert all(log <= 0 for log in logs)
    reply = server.post("/completion", {"prompt": ids, "n_predict": 1, "temperature": 0, "return_tokens": True})
    assert reply["tokens"] == [ranked[0][0]]


def test_an_error_of_the_engine_is_a_tool_error_in_its_words(server: LlamaCppServer) -> None:
    with pytest.raises(ToolError, match="temperature"):
        server.post("/completion", {"prompt": "a", "temperature": "hot"})
    with pytest.raises(ToolError, match="temperature"):
        list(server.events("/completion", {"prompt": "a", "temperature": "hot"}))


def test_a_connection_dropped_before_the_answer_is_opened_again(
    server: LlamaCppServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, dropped = server._open(), [2]
    send = client.send

    def unreliable(*sent: Any, **more: Any) -> httpx.Response:
        if dropped[0]:
            dropped[0] -= 1
            raise httpx.RemoteProtocolError("Server disconnected without sending a response.")
        return send(*sent, **more)

    expected = server.chat(request()).text
    monkeypatch.setattr(client, "send", unreliable)
    assert server.chat(request()).text == expected
    dropped[0] = 3
    with pytest.raises(ToolError, match="does not answer"):
        server.tokenize("a")


def test_a_missing_or_damaged_file_is_named(tmp_path: Path, models: Path) -> None:
    with pytest.raises(InputError, match="no such GGUF"), LlamaCppServer(tmp_path / "no.gguf", context_tokens=512):
        pass
    cut = tmp_path / "cut.gguf"
    cut.write_bytes((models / "qwen3.gguf").read_bytes()[:-1000])
    with pytest.raises(InputError, match="cannot load") as error, LlamaCppServer(cut, context_tokens=512):
        pass
    assert error.value.where == str(cut)


def test_the_port_answers_only_to_its_key(server: LlamaCppServer) -> None:
    address = server._open().base_url
    url = f"{str(address).rstrip('/')}/completion"
    assert httpx.post(url, json={"prompt": "a"}, trust_env=False).status_code == 401


def test_the_engine_says_nothing_on_the_terminal(models: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with LlamaCppServer(models / "qwen3.gguf", context_tokens=512) as engine:
        engine.chat(request(max_tokens=2))
    assert capfd.readouterr() == ("", "")


def test_leaving_stops_the_engine(models: Path) -> None:
    with LlamaCppServer(models / "qwen3.gguf", context_tokens=512) as engine:
        address = str(engine._open().base_url)
    with pytest.raises(httpx.ConnectError):
        httpx.get(address, trust_env=False)
    assert threading.active_count() < 20


def test_two_models_are_served_side_by_side(models: Path) -> None:
    with (
        LlamaCppServer(models / "qwen3.gguf", context_tokens=512) as base,
        LlamaCppServer(models / "other.gguf", context_tokens=512) as tuned,
    ):
        assert base.chat(request()).text != tuned.chat(request()).text
        assert base.identity()["digest"] != tuned.identity()["digest"]
        assert base.identity()["version"] == tuned.identity()["version"]


@pytest.mark.parametrize("context_tokens", [10**9, 2**31, 10**30])
def test_a_context_beyond_the_memory_is_refused_before_it_is_allocated(models: Path, context_tokens: int) -> None:
    with (
        pytest.raises(
            ToolError, match=r"context tokens need about [\d.]+ GiB with this model; this machine has"
        ) as error,
        LlamaCppServer(models / "qwen3.gguf", context_tokens=context_tokens),
    ):
        pass
    assert error.value.fix == "lower 'context_tokens'"


def test_a_question_far_beyond_the_context_is_refused_before_it_reaches_the_engine(
    server: LlamaCppServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LlamaCppServer, "post", lambda *_: pytest.fail("the engine was asked"))
    with pytest.raises(PromptOverflowError, match="longer than the context of 512 tokens"):
        server.chat(ChatRequest((Message("user", "word " * 1_000_000),), Sampling(context_tokens=512)))


@pytest.mark.parametrize("sent", [b"data: {not json\n", b"error: [\n", b"data: " + b"[" * 100_000 + b"\n"])
def test_an_event_that_is_not_json_is_a_tool_error(
    server: LlamaCppServer, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    response = httpx.Response(200, content=sent)
    monkeypatch.setattr(server._open(), "send", lambda *_, **__: response)
    with pytest.raises(ToolError, match="not JSON"):
        list(server.events("/completion", {}))


def test_a_prompt_that_is_not_valid_unicode_is_an_input_error(server: LlamaCppServer) -> None:
    with pytest.raises(InputError, match=r"not valid Unicode at character 4: '\\udc80b'"):
        server.chat(ChatRequest((Message("user", "caf \udc80b"),), Sampling(context_tokens=512)))


def test_a_reply_that_the_engine_cannot_parse_is_read(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def events(self: LlamaCppServer, _path: str, _body: object) -> Iterator[dict[str, Any]]:
        yield {"choices": [{"delta": {"content": '{"pairs": [{"a": "half'}}]}
        text = "The model produced output that does not match the expected peg-native format"
        raise self._error(500, json.dumps({"error": {"message": text}}))

    with LlamaCppServer(models / "qwen3.gguf", context_tokens=512) as server:
        monkeypatch.setattr(LlamaCppServer, "events", events)
        reply = server.chat(request(schema={"type": "object"}))
    assert (reply.text, reply.done_reason, reply.answer_tokens) == ('{"pairs": [{"a": "half', "stop", 1)
    assert reply.prompt_tokens > 10


@pytest.mark.parametrize("keeps", [False, True])
def test_the_common_start_of_prompts_is_read_once_where_that_is_asked_for(
    models: Path, keeps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    passage = "A passage about LoRA and its many adapters. " * 6
    computed: list[int] = []
    events = LlamaCppServer.events

    def watched(self: LlamaCppServer, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for event in events(self, path, body):
            if event.get("usage"):
                computed.append(event["timings"]["prompt_n"])
            yield event

    monkeypatch.setattr(LlamaCppServer, "events", watched)
    with LlamaCppServer(models / "qwen3.gguf", context_tokens=512, slots=2, keeps_prompts=keeps) as server:
        for question in ("What does it train?", "And what does it freeze?"):
            server.chat(replace(request(), messages=(TURNS[0], Message("user", passage + question))))
    first, second = computed
    assert (second < first / 4) is keeps
