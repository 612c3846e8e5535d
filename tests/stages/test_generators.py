"""Every backend of a generator is opened from a recipe; a model that writes no pairs is shown for what it is."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlx_ragtune.building.generators import addresses, open_generators, require_generator, say_what_leaves
from mlx_ragtune.clients.file_digests import file_digest
from mlx_ragtune.errors import InputError
from mlx_ragtune.recipe import GeneratorSettings
from tests.stages.project import edit, make_project, ragtune


@pytest.mark.parametrize("backend", ["mlx", "llamacpp"])
def test_a_local_model_is_asked_with_several_slots(
    backend: str, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlx_ragtune.commands.preview.SECONDS", 0.5)
    recipe = make_project(tmp_path)
    model = str(models / ("qwen3.gguf" if backend == "llamacpp" else "qwen3"))
    generator: dict[str, Any] = {"backend": backend, "model": model, "slots": 2, "pairs": 20, "pairs_per_call": 1}
    edit(recipe, dataset={"generator": {**generator, "context_tokens": 2048}, "pairs": None})
    done = ragtune("generate", recipe, "--preview", "1", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["asked"] > 0 == found["passed"], "its weights are random"
    assert sum(found["reasons"].values()) == found["asked"]


def test_an_mlx_model_whose_template_has_no_system_role_is_refused(toys: Path, tmp_path: Path) -> None:
    from tests.toy_models import copied

    folder = copied(toys / "qwen3", tmp_path / "m")
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    with pytest.raises(InputError, match="leaves out the user message"):
        require_generator(GeneratorSettings(backend="mlx", model=str(folder)))


def test_servers_outside_this_machine_are_named_once() -> None:
    said: list[str] = []
    for backend, hosts in (
        ("openai", ("http://127.0.0.1:1234/v1", "https://box/v1")),
        ("ollama", ("http://10.0.0.7:11434",)),
        ("ollama", ("http://127.0.0.1:11434",)),
    ):
        settings = GeneratorSettings(backend=backend, model="x", hosts=hosts)  # type: ignore[arg-type]
        assert len(addresses(settings)) == len(hosts)
        say_what_leaves(settings, said.append)
    say_what_leaves(GeneratorSettings(backend="mlx", model="a/b"), said.append)
    assert said == [
        "passages of the papers are sent to https://box/v1",
        "passages of the papers are sent to http://10.0.0.7:11434",
    ]


def test_a_model_folder_is_written_once_as_gguf_for_the_embedded_server(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAGTUNE_CACHE", str(tmp_path / "cache"))
    settings = GeneratorSettings(backend="llamacpp", model=str(models / "qwen3"), context_tokens=1024)
    require_generator(settings)
    (gguf,) = (tmp_path / "cache" / "generators").iterdir()
    before = gguf.stat()
    with open_generators(settings)[0] as backend:
        assert backend.identity()["digest"] == file_digest(gguf)
    assert gguf.stat().st_mtime_ns == before.st_mtime_ns
