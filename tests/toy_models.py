"""Toy models of every architecture, once a session, and their GGUF files on demand."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
from safetensors.numpy import load_file, save_file

from mlx_ragtune.gguf.quantize import QuantType
from mlx_ragtune.gguf.writer import write_gguf
from mlx_ragtune.models.toy import Architecture, write_toy_model

ARCHITECTURES: tuple[Architecture, ...] = get_args(Architecture)
Written = Callable[[str, QuantType], Path]


def change(file: Path, **changes: Any) -> None:
    """Set keys of a JSON file; None removes one."""
    value = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: one for key, one in value.items() if one is not None}))


def copied(source: Path, target: Path, **changes: Any) -> Path:
    """A model folder of one's own to spoil, with changes to its config."""
    target.mkdir()
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    change(target / "config.json", **changes)
    return target


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of toy models, named by architecture, and three more.

    ``wide``: a qwen3 whose rows 256 divides; ``deep``: a llama of 20 layers; ``untied``: a qwen3 with lm_head.
    """
    folder = tmp_path_factory.mktemp("toys")
    for architecture in ARCHITECTURES:
        write_toy_model(folder / architecture, architecture=architecture, seed=1, layers=2)
    write_toy_model(folder / "wide", architecture="qwen3", seed=2, hidden=256, layers=3)
    write_toy_model(folder / "deep", architecture="llama", seed=3, hidden=32, layers=20)
    write_toy_model(folder / "untied", architecture="qwen3", seed=4)
    weights = load_file(folder / "untied" / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"][::-1].copy()
    save_file(weights, folder / "untied" / "model.safetensors")
    change(folder / "untied" / "config.json", tie_word_embeddings=False)
    return folder


@pytest.fixture(scope="session")
def written(toys: Path, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """The GGUF file of a toy model in a type, written once."""
    folder = tmp_path_factory.mktemp("gguf")

    @cache
    def write(model: str, kind: QuantType) -> Path:
        target = folder / f"{model}-{kind}.gguf"
        write_gguf(toys / model, target, type=kind, name=f"toy-{model}")
        return target

    return write
