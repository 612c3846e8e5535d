"""A model in MLX writes pairs: several requests in one batch, each as if it were alone."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlx_ragtune.clients.protocol import PromptOverflowError
from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.records import ChatRequest, Message, Sampling
from mlx_ragtune.tuning.chat_mlx import MlxChat
from tests.toy_models import copied

TURNS = (Message("system", "You write."), Message("user", "Write about papers."))
SCHEMA = {"type": "object", "properties": {"pairs": {"type": "array"}}}


def request(seed: int = 0, *, temperature: float = 0.7, max_tokens: int = 24, **more: Any) -> ChatRequest:
    return ChatRequest(TURNS, Sampling(temperature=temperature, top_p=0.9, seed=seed, max_tokens=max_tokens), **more)


@pytest.fixture(scope="module")
def chat(toys: Path) -> Iterator[MlxChat]:
    with MlxChat(toys / "qwen3", context_tokens=1024, slots=3) as backend:
        yield backend


def test_requests_of_several_threads_get_the_replies_that_they_get_alone(chat: MlxChat) -> None:
    alone = [chat.chat(request(seed)).text for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        together = [reply.text for reply in pool.map(chat.chat, map(request, range(8)))]
    assert together == alone
    assert len(set(alone)) == 8, "each seed draws its own"


def test_temperature_0_is_greedy_whatever_the_seed(chat: MlxChat) -> None:
    assert len({chat.chat(request(seed, temperature=0)).text for seed in range(3)}) == 1


def test_a_reply_with_a_schema_is_begun(chat: MlxChat) -> None:
    reply = chat.chat(request(schema=SCHEMA))
    assert reply.text.startswith('{"pairs": [')
    assert reply.done_reason in ("length", "stop")
    assert 0 < reply.answer_tokens <= 24


def test_a_reply_ends_with_its_object(toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = '{"pairs": [{"question": "Why?"}]} and more, and more'
    monkeypatch.setattr(MlxChat, "_text", lambda _self, row: text[: 11 + 5 * len(row.tokens)])
    with MlxChat(toys / "qwen3", context_tokens=1024) as backend:
        reply = backend.chat(request(schema=SCHEMA, max_tokens=200))
    assert reply.done_reason == "stop"
    assert reply.answer_tokens == 8
    assert json.JSONDecoder().raw_decode(reply.text)[0] == {"pairs": [{"question": "Why?"}]}


def test_a_looping_reply_is_cut_off(toys: Path) -> None:
    with MlxChat(toys / "qwen3", context_tokens=1024, stop=lambda text: len(text) > 3) as backend:
        reply = backend.chat(request(max_tokens=500))
    assert (reply.done_reason, reply.answer_tokens) == ("loop", 8)


def test_a_prompt_beyond_the_window_is_refused_and_a_long_reply_ends_at_it(chat: MlxChat) -> None:
    with pytest.raises(PromptOverflowError):
        chat.chat(replace(request(), messages=(Message("user", "word " * 1000),)))
    prompt = replace(request(max_tokens=5000), messages=(Message("user", "word " * 190),))
    reply = chat.chat(prompt)
    assert reply.prompt_tokens + reply.answer_tokens <= 1024


def test_half_a_surrogate_pair_is_an_input_error(chat: MlxChat) -> None:
    with pytest.raises(InputError, match="not valid Unicode"):
        chat.chat(replace(request(), messages=(Message("user", "half \ud83d"),)))


def test_a_failure_ends_every_request_with_its_reason(toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise RuntimeError("[metal::malloc] out of memory")

    with MlxChat(toys / "qwen3", context_tokens=1024, slots=2) as backend:
        monkeypatch.setattr(MlxChat, "_advance", fail)
        with ThreadPoolExecutor(4) as pool:
            futures = [pool.submit(backend.chat, request(seed)) for seed in range(4)]
        for future in futures:
            with pytest.raises(ToolError, match="out of memory") as caught:
                future.result()
            assert "dataset.generator.slots" in caught.value.fix


def test_a_folder_that_cannot_be_loaded_is_an_input_error(toys: Path, tmp_path: Path) -> None:
    folder = copied(toys / "qwen3", tmp_path / "m")
    (folder / "model.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match="cannot load the model"):
        MlxChat(folder, context_tokens=512).__enter__()


def test_the_identity_is_the_content_of_the_files(toys: Path, chat: MlxChat) -> None:
    identity = chat.identity()
    assert (identity["server"], len(identity["digest"])) == ("mlx", 64)
    with MlxChat(toys / "llama", context_tokens=512) as other:
        assert other.identity()["digest"] != identity["digest"]
