"""A base that Ollama already holds: found by its manifest or by the server, checked by its digest, imported."""

import hashlib
import json
from pathlib import Path

import pytest

from mlx_ragtune.bases.ollama_base import MODEL_LAYER, Name, ollama_gguf, parse_name
from mlx_ragtune.bases.resolve import resolve_base
from mlx_ragtune.clients.ollama_registry import register_model
from mlx_ragtune.errors import InputError, RecipeError, ToolError
from mlx_ragtune.gguf.reader import import_gguf
from mlx_ragtune.gguf.writer import write_gguf
from mlx_ragtune.models.toy import write_toy_model
from mlx_ragtune.recipe import BaseModelSettings
from mlx_ragtune.tuning.logits import next_token_logits
from tests.ollama_server import OllamaStandIn


def test_names_are_filled_in_as_ollama_does() -> None:
    assert parse_name("qwen3:4b") == Name("registry.ollama.ai", "library", "qwen3", "4b")
    assert parse_name("me/mine") == Name("registry.ollama.ai", "me", "mine", "latest")
    assert parse_name("hf.co/Org/Repo-GGUF:Q8_0") == Name("hf.co", "Org", "Repo-GGUF", "Q8_0")


@pytest.mark.parametrize("name", ["../x", "a/../b", "", "a//b", "a:b/c", "a/b/c/d", "x:../y"])
def test_a_name_that_leaves_the_folder_is_none(name: str) -> None:
    with pytest.raises(RecipeError, match="is not the name of an Ollama model"):
        parse_name(name)


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``tiny:latest`` in a models folder as Ollama keeps it; returns the folder."""
    home = tmp_path / "models"
    write_toy_model(tmp_path / "toy", architecture="qwen3")
    write_gguf(tmp_path / "toy", tmp_path / "toy.gguf", type="F32", name="tiny")
    digest = hashlib.sha256((tmp_path / "toy.gguf").read_bytes()).hexdigest()
    (home / "blobs").mkdir(parents=True)
    (tmp_path / "toy.gguf").rename(home / "blobs" / f"sha256-{digest}")
    manifest = home / "manifests" / "registry.ollama.ai" / "library" / "tiny" / "latest"
    manifest.parent.mkdir(parents=True)
    layers = [
        {"mediaType": MODEL_LAYER, "digest": f"sha256:{digest}"},
        {"mediaType": "application/vnd.ollama.image.params", "digest": f"sha256:{'0' * 64}"},
    ]
    manifest.write_text(json.dumps({"layers": layers}))
    monkeypatch.setenv("OLLAMA_MODELS", str(home))
    monkeypatch.setenv("RAGTUNE_CACHE", str(tmp_path / "cache"))
    return home


def test_a_held_model_becomes_the_same_model_in_mlx(held: Path, tmp_path: Path) -> None:
    said: list[str] = []
    folder = resolve_base(BaseModelSettings(model="ollama:tiny"), say=said.append, import_gguf=import_gguf)
    prompt = [[1, 2, 3, 4, 5]]
    difference = abs(next_token_logits(folder, prompt) - next_token_logits(tmp_path / "toy", prompt)).max()
    assert difference < 1e-5
    assert "converted" in said[0]
    assert resolve_base(BaseModelSettings(model="ollama:tiny"), import_gguf=import_gguf) == folder


def test_a_damaged_blob_is_refused(held: Path) -> None:
    blob = next((held / "blobs").iterdir())
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="its digest does not match"):
        resolve_base(BaseModelSettings(model="ollama:tiny"), import_gguf=import_gguf)


@pytest.mark.parametrize(
    ("layers", "what"),
    [
        ([], "0 weight files"),
        ([{"mediaType": MODEL_LAYER, "digest": "sha256:../../etc"}], "1 weight files"),
        ([{"mediaType": MODEL_LAYER, "digest": f"sha256:{'a' * 64}"}], "is missing"),
        ("x", "cannot read Ollama's manifest"),
    ],
)
def test_a_manifest_that_names_no_file_is_refused(held: Path, layers: object, what: str) -> None:
    manifest = held / "manifests" / "registry.ollama.ai" / "library" / "tiny" / "latest"
    manifest.write_text(json.dumps({"layers": layers}))
    with pytest.raises(InputError, match=what):
        ollama_gguf("tiny")


def test_a_server_with_its_own_folder_is_asked(
    tmp_path: Path, models: Path, standin: OllamaStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_model(standin.host, "tinyq", models / "qwen3.gguf")
    monkeypatch.setenv("OLLAMA_HOST", standin.host)
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "none"))
    gguf, digest = ollama_gguf("tinyq")
    assert hashlib.sha256(gguf.read_bytes()).hexdigest() == digest
    with pytest.raises(ToolError, match="cannot load base model 'ollama:nobody'"):
        ollama_gguf("nobody")
