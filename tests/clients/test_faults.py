"""A long run over a bad connection: no answer is lost, none is changed, and every failure is reported."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from mlx_ragtune.clients.chat_ollama import OllamaChat
from mlx_ragtune.clients.ollama_http import Ollama
from mlx_ragtune.clients.ollama_registry import register_model
from mlx_ragtune.records import ChatRequest, Message
from tests.ollama_server import Fault, OllamaStandIn
from tests.served_models import request

QUESTIONS = 100
FAULTS = (
    Fault("refuse"),
    Fault("cut", after=1),
    Fault("end", after=1),
    Fault("error", after=1, message="an error was encountered while running the model: unexpected EOF"),
    Fault("status", status=503, message="server busy, please try again"),
)


def asked(number: int) -> ChatRequest:
    sampling = replace(request().sampling, max_tokens=3, context_tokens=256)
    return ChatRequest((Message("system", "Answer."), Message("user", f"Question {number}?")), sampling)


def test_a_hundred_questions_with_a_tenth_of_faults_lose_none(
    standin: OllamaStandIn, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register_model(standin.host, "tinyq", models / "qwen3.gguf")
    server = Ollama(standin.host, attempts=6, pause_seconds=0.001)
    draw, injected = random.Random(3), []

    def tenth(path: str) -> Fault | None:
        if path != "/api/chat" or draw.random() >= 0.1:
            return None
        injected.append(draw.choice(FAULTS))
        return injected[-1]

    with OllamaChat(standin.host, "tinyq", context_tokens=256, server=server) as backend:
        clean = [backend.chat(asked(number)).text for number in range(QUESTIONS)]
        standin.fault = tenth
        faulty = [backend.chat(asked(number)).text for number in range(QUESTIONS)]
    assert faulty == clean
    assert len(injected) > QUESTIONS / 20
    assert len(server.retried) == len(injected)
    assert capsys.readouterr().err.count("the retry succeeded") == len(injected)


def test_two_servers_answer_alike_and_one_that_is_gone_is_named(tmp_path: Path, models: Path) -> None:
    with OllamaStandIn(tmp_path / "1") as left, OllamaStandIn(tmp_path / "2") as right:
        for standin in (left, right):
            register_model(standin.host, "tinyq", models / "qwen3.gguf")
        with (
            OllamaChat(left.host, "tinyq", context_tokens=256) as first,
            OllamaChat(right.host, "tinyq", context_tokens=256) as second,
        ):
            assert first.chat(asked(1)).text == second.chat(asked(1)).text
            assert first.identity() == second.identity()
