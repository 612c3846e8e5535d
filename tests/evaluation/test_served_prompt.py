"""What is planted wrong is caught before a question is asked: template, quantization, thinking, context."""

from dataclasses import replace
from pathlib import Path

import pytest

from mlx_ragtune.clients.chat_ollama import OllamaChat
from mlx_ragtune.clients.ollama_registry import register_model
from mlx_ragtune.clients.ollama_templates import CHATML
from mlx_ragtune.clients.protocol import ChatBackend
from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer
from mlx_ragtune.errors import ToolError
from mlx_ragtune.evaluation.served_prompt import PromptGate, check_prompt
from mlx_ragtune.models.prompts import load_tokenizer
from mlx_ragtune.models.toy import write_toy_model
from mlx_ragtune.records import ChatRequest, Message
from tests.ollama_server import OllamaStandIn
from tests.served_models import TURNS, request


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[tuple[Message, ...], str]]:
    """The training render of one question, by the base's own tokenizer."""
    folder = tmp_path_factory.mktemp("base")
    write_toy_model(folder, architecture="qwen3")
    turns = [{"role": one.role, "content": one.content} for one in TURNS]
    rendered = load_tokenizer(folder).apply_chat_template(
        turns, add_generation_prompt=True, tokenize=False, enable_thinking=False
    )
    return {"q1": (TURNS, rendered)}


Trained = dict[str, tuple[tuple[Message, ...], str]]


def check_prompts(backend: ChatBackend, prompts: Trained, *, think: bool) -> PromptGate:
    """``check_prompt`` for every question."""
    results = [check_prompt(backend, name, *prompt, think=think) for name, prompt in prompts.items()]
    return PromptGate(equal=results.count(True), unproven=results.count(None))


def test_the_file_served_by_either_server_is_asked_as_it_was_trained(
    standin: OllamaStandIn, models: Path, trained: Trained
) -> None:
    with LlamaCppServer(models / "qwen3.gguf", context_tokens=512) as embedded:
        assert check_prompts(embedded, trained, think=False).equal == 1
    register_model(standin.host, "tinyq", models / "qwen3.gguf")
    with OllamaChat(standin.host, "tinyq", context_tokens=512) as ollama:
        gate = check_prompts(ollama, trained, think=False)
    assert (gate.equal, gate.unproven) == (1, 0)
    assert "byte for byte" in str(gate)


def test_a_wrong_template_is_caught(standin: OllamaStandIn, models: Path, trained: Trained) -> None:
    template = "{{ if .Think }}{{ end }}<<{{ .System }}|{{ .Prompt }}>>"
    register_model(standin.host, "tinyq", models / "qwen3.gguf", template=template)
    with OllamaChat(standin.host, "tinyq", context_tokens=512) as ollama, pytest.raises(ToolError) as error:
        check_prompts(ollama, trained, think=False)
    assert "at character 1, trained on '<|im_start|>system" in error.value.what
    assert error.value.where == "question 'q1'"


def test_thinking_left_on_is_caught(standin: OllamaStandIn, models: Path, trained: Trained) -> None:
    register_model(standin.host, "tinyq", models / "qwen3.gguf")
    with OllamaChat(standin.host, "tinyq", context_tokens=512) as ollama, pytest.raises(ToolError, match="<think>"):
        check_prompts(ollama, trained, think=True)


def test_a_different_quantization_is_caught(standin: OllamaStandIn, models: Path) -> None:
    from mlx_ragtune.evaluation.fairness import Conditions, require_equal

    receipts = [
        register_model(standin.host, name, models / file)
        for name, file in (("base", "qwen3.gguf"), ("tuned", "qwen3-q8.gguf"))
    ]
    base, tuned = (
        Conditions(one.type, one.template_sha256, 512, one.version, {}, (0,), parameters=one.parameters)
        for one in receipts
    )
    with pytest.raises(ToolError, match="quantization: base F16, tuned Q8_0"):
        require_equal(base, tuned)


def test_a_context_shorter_than_the_prompt_is_caught(standin: OllamaStandIn, models: Path) -> None:
    register_model(standin.host, "tinyq", models / "qwen3.gguf")
    long = ChatRequest((Message("user", "word " * 400),), request().sampling)
    with (
        OllamaChat(standin.host, "tinyq", context_tokens=512) as ollama,
        pytest.raises(ToolError, match="prompt_overflow"),
    ):
        ollama.chat(long)


def test_a_server_that_hides_its_prompts_proves_nothing(tmp_path: Path, models: Path, trained: Trained) -> None:
    with OllamaStandIn(tmp_path, version="0.11.4") as old:
        register_model(old.host, "tinyq", models / "qwen3.gguf")
        with OllamaChat(old.host, "tinyq", context_tokens=512) as ollama:
            gate = check_prompts(ollama, trained, think=False)
        assert (gate.equal, gate.unproven) == (0, 1)
        assert "not proven" in str(gate)
        assert "equal" not in str(gate)


def test_a_hidden_prompt_of_another_length_is_still_caught(tmp_path: Path, models: Path, trained: Trained) -> None:
    with OllamaStandIn(tmp_path, version="0.11.4") as old:
        register_model(old.host, "tinyq", models / "qwen3.gguf", template="{{ .Prompt }}")
        with (
            OllamaChat(old.host, "tinyq", context_tokens=512) as ollama,
            pytest.raises(ToolError, match="differ in their number of tokens"),
        ):
            check_prompts(ollama, trained, think=False)


def test_the_default_system_prompt_that_a_detected_template_loses_is_caught(
    standin: OllamaStandIn, models: Path
) -> None:
    bare = (Message("user", "What does LoRA train?"),)
    with LlamaCppServer(models / "smol.gguf", context_tokens=512) as embedded:
        expected = {"bare": (bare, embedded.render(bare)), "full": (TURNS, embedded.render(TURNS))}
    register_model(standin.host, "smol", models / "smol.gguf", template=CHATML)
    with OllamaChat(standin.host, "smol", context_tokens=512) as ollama:
        assert check_prompts(ollama, {"full": expected["full"]}, think=False).equal == 1
        with pytest.raises(ToolError, match="question 'bare'"):
            check_prompts(ollama, expected, think=False)


def test_a_sampling_of_another_size_reloads_nothing_silently(standin: OllamaStandIn, models: Path) -> None:
    register_model(standin.host, "tinyq", models / "qwen3.gguf")
    with OllamaChat(standin.host, "tinyq", context_tokens=512) as ollama:
        ollama.chat(request())
        ollama.render(TURNS, think=False)
        ollama.chat(replace(request(), sampling=replace(request().sampling, seed=3)))
    windows = {body["options"]["num_ctx"] for _, path, body in standin.requests if path == "/api/chat"}
    assert windows == {512}
