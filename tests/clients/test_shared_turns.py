"""Shared turns are computed once: answers depend neither on the order of questions nor on what was asked before."""

import random
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer
from mlx_ragtune.errors import ToolError
from mlx_ragtune.evaluation.pool import answered
from mlx_ragtune.records import ChatRequest, Message, Sampling
from tests.toy_models import Written

EXAMPLES = (
    Message("system", "Answer from the papers."),
    Message("user", "What does LoRA train? " * 8),
    Message("assistant", "It trains two small matrices. " * 4),
)
QUESTIONS = [f"What is study {number} about, and who wrote it?" for number in range(6)]


def asked(question: str, *, shared: int) -> ChatRequest:
    messages = (*EXAMPLES, Message("user", question))
    return ChatRequest(messages, Sampling(max_tokens=12, context_tokens=512), shared_turns=shared)


@pytest.mark.parametrize("architecture", ["qwen3", "llama", "gemma3_text"])
def test_the_order_of_questions_does_not_change_answers(architecture: str, written: Written) -> None:
    texts = []
    for seed in range(2):
        order = random.Random(seed).sample(QUESTIONS, len(QUESTIONS))
        with LlamaCppServer(written(architecture, "F32"), context_tokens=512) as server:
            replies = {question: server.chat(asked(question, shared=3)) for question in order}
            again = {question: server.chat(asked(question, shared=3)).text for question in order}
        texts.append({question: replies[question].text for question in QUESTIONS})
        assert again == texts[-1]
        with LlamaCppServer(written(architecture, "F32"), context_tokens=512) as server:
            alone = server.chat(asked(QUESTIONS[0], shared=0))
        assert replies[QUESTIONS[0]].prompt_tokens == alone.prompt_tokens
    assert texts[0] == texts[1]


def test_several_slots_have_the_whole_window_each(models: Path) -> None:
    requests = [asked(question, shared=3) for question in QUESTIONS]
    longest = replace(requests[0], sampling=Sampling(max_tokens=300, context_tokens=512), shared_turns=3)
    with LlamaCppServer(models / "qwen3.gguf", context_tokens=512, slots=3) as server:
        beside = dict(answered(requests, server.chat, workers=3))
        full = server.chat(longest)
        alone = [server.chat(request).prompt_tokens for request in requests]
    assert [getattr(beside[request], "prompt_tokens", beside[request]) for request in requests] == alone
    assert full.prompt_tokens + full.answer_tokens == 512


def test_a_failed_task_is_handed_over_and_an_early_end_starts_no_further_task() -> None:
    begun: list[int] = []

    def call(task: int) -> int:
        begun.append(task)
        if task == 1:
            raise ValueError("no")
        return task

    def slow(task: int) -> int:
        time.sleep(0.02)
        return call(task)

    results = dict(answered([0, 1, 2], call, workers=1))
    assert results[0] == 0
    assert isinstance(results[1], ValueError)
    begun.clear()
    replies = answered(list(range(50)), slow, workers=2)
    next(replies)
    replies.close()
    time.sleep(0.1)
    assert len(begun) < 8


def test_leaving_ends_the_requests_of_other_threads(models: Path) -> None:
    with LlamaCppServer(models / "qwen3.gguf", context_tokens=512, slots=2) as server:
        request = replace(asked(QUESTIONS[0], shared=3), sampling=Sampling(max_tokens=150, context_tokens=512))
        replies = answered([request] * 20, server.chat, workers=2)
        next(replies)
        replies.close()
    with pytest.raises(ToolError, match="being closed"):
        server.render(request.messages)
