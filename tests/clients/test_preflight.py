"""What is known before a stage begins: the server answers, has the model, and a GGUF file is one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlx_ragtune.building.generators import require_generator
from mlx_ragtune.clients.ollama_address import DEFAULT_HOST
from mlx_ragtune.clients.ollama_registry import register_model
from mlx_ragtune.clients.serving import open_judge, require_embedder, require_judge
from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.recipe import GeneratorSettings, JudgeSettings, SimilaritySettings
from tests.ollama_server import OllamaStandIn


def generator(backend: str, model: str, host: str = DEFAULT_HOST) -> None:
    require_generator(GeneratorSettings(backend=backend, model=model, hosts=(host,)))  # type: ignore[arg-type]


def judge(backend: str, model: str, host: str = DEFAULT_HOST) -> None:
    require_judge(JudgeSettings(backend=backend, model=model, host=host))  # type: ignore[arg-type]


def embedder(backend: str, model: str, host: str = DEFAULT_HOST) -> None:
    require_embedder(SimilaritySettings(backend=backend, model=model, host=host))  # type: ignore[arg-type]


each = pytest.mark.parametrize("require", [generator, judge, embedder])
Require = Callable[..., None]


@each
def test_a_server_that_has_the_model_passes(require: Require, standin: OllamaStandIn, models: Path) -> None:
    register_model(standin.host, "writer", models / "qwen3.gguf")
    require("ollama", "writer", standin.host)
    require("ollama", "writer:latest", standin.host)


@each
def test_a_model_that_is_not_there_names_the_command_that_pulls_it(require: Require, standin: OllamaStandIn) -> None:
    with pytest.raises(ToolError, match="does not have the model 'qwen3:8b'") as error:
        require("ollama", "qwen3:8b", standin.host)
    assert error.value.where == standin.host
    assert error.value.fix.endswith("ollama pull qwen3:8b")


@each
def test_a_server_that_does_not_answer_is_named(require: Require) -> None:
    with pytest.raises(ToolError, match="no Ollama server answers") as error:
        require("ollama", "qwen3:8b", "http://127.0.0.1:9")
    assert error.value.where == "http://127.0.0.1:9"
    assert error.value.fix == "OLLAMA_HOST=127.0.0.1:9 ollama serve, then run the same command again: it continues"


@each
def test_the_default_host_is_ollama_host(
    require: Require, standin: OllamaStandIn, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_model(standin.host, "writer", models / "qwen3.gguf")
    monkeypatch.setenv("OLLAMA_HOST", standin.host)
    require("ollama", "writer")


def test_the_default_host_is_ollama_host_when_a_model_is_opened(
    standin: OllamaStandIn, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_model(standin.host, "judge", models / "qwen3.gguf")
    monkeypatch.setenv("OLLAMA_HOST", standin.host)
    with open_judge(JudgeSettings(model="judge"), context_tokens=512) as backend:
        assert backend.identity()["server"] == "ollama"


@each
@pytest.mark.parametrize("content", [None, b"", b"GGUF", b"PK\x03\x04" * 100])
def test_a_path_that_is_not_a_gguf_is_an_input_error(require: Require, content: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"no such GGUF file|not a GGUF file") as error:
        require("llamacpp", str(path))
    assert error.value.where == str(path)


@each
def test_a_gguf_passes(require: Require, models: Path) -> None:
    require("llamacpp", str(models / "qwen3.gguf"))


def test_a_generator_whose_context_exceeds_the_memory_is_refused(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlx_ragtune.clients.serve_llamacpp.os.sysconf", lambda _name: 2**12)  # 16 MiB
    settings = GeneratorSettings(backend="llamacpp", model=str(models / "qwen3.gguf"), context_tokens=2**20)
    with pytest.raises(ToolError, match="GiB of memory"):
        require_generator(settings)
