"""Small real models as GGUF, and the stand-in server; everything in temporary folders."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlx_ragtune.gguf.writer import write_gguf
from mlx_ragtune.models.toy import write_toy_model
from mlx_ragtune.records import ChatRequest, Message, Sampling
from tests.clients.ollama_models import CHATML_JINJA
from tests.ollama_server import OllamaStandIn

TURNS = (Message("system", "Answer from the papers."), Message("user", "What does LoRA train?"))


def request(*, max_tokens: int = 12, context_tokens: int = 512, **more: object) -> ChatRequest:
    """A short greedy request."""
    sampling = Sampling(max_tokens=max_tokens, context_tokens=context_tokens)
    return ChatRequest(TURNS, sampling, **more)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache, or asks the hub."""
    monkeypatch.setenv("RAGTUNE_CACHE", str(tmp_path_factory.getbasetemp() / "ragtune-cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path_factory.getbasetemp() / "hub"))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``qwen3.gguf`` (F16, can think), ``qwen3-q8.gguf``, ``other.gguf`` (other weights), ``smol.gguf``.

    The last is a llama whose template is SmolLM2's: a default system prompt before a bare user turn.
    """
    folder = tmp_path_factory.mktemp("models")
    write_toy_model(folder / "qwen3", architecture="qwen3")
    write_toy_model(folder / "other", architecture="qwen3", seed=1)
    write_toy_model(folder / "smol", architecture="llama")
    config = folder / "smol" / "tokenizer_config.json"
    about = json.loads(config.read_text())
    config.write_text(json.dumps({**about, "chat_template": CHATML_JINJA[1]}))
    write_gguf(folder / "qwen3", folder / "qwen3.gguf", type="F16", name="tinyq")
    write_gguf(folder / "qwen3", folder / "qwen3-q8.gguf", type="Q8_0", name="tinyq")
    write_gguf(folder / "other", folder / "other.gguf", type="F16", name="other")
    write_gguf(folder / "smol", folder / "smol.gguf", type="Q8_0", name="smol")
    return folder


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[OllamaStandIn]:
    """An empty Ollama of the recorded version."""
    with OllamaStandIn(tmp_path / "ollama") as server:
        yield server
