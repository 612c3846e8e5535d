"""A damaged base model is the user's file to repair, named with what is wrong, and never a bug of ragtune."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlx_ragtune.bases.resolve import find_base, resolve_base
from mlx_ragtune.bases.soundness import check_sound
from mlx_ragtune.errors import InputError
from mlx_ragtune.gguf.reader import import_gguf
from mlx_ragtune.models.toy import write_toy_model
from mlx_ragtune.recipe import BaseModelSettings

Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound") / "model"
    write_toy_model(folder)
    return folder


@pytest.fixture
def model(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "model"))


def head_of(file: Path) -> tuple[dict[str, Any], bytes]:
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the description of the tensors, and leave their bytes."""
    file = folder / "model.safetensors"
    head, rest = head_of(file)
    change(head)
    text = json.dumps(head).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + rest)


def cut(name: str, length: int) -> Damage:
    def damage(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[:length])

    return damage


def longer(name: str) -> Damage:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes() + b"x")


def put(name: str, content: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content)


def drop(tensor: str) -> Damage:
    return lambda folder: rewrite(folder, lambda head: head.pop(tensor))


def config(**changed: Any) -> Damage:
    def damage(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))

    return damage


def dangling(name: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(folder / "nowhere")

    return damage


def a_folder(name: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return damage


INDEX = "model.safetensors.index.json"
NORM = "model.norm.weight"
DAMAGES: dict[str, Damage] = {
    "config empty": put("config.json", b""),
    "config cut": cut("config.json", 20),
    "config a list": put("config.json", b"[]"),
    "config null": put("config.json", b"null"),
    "config not UTF-8": put("config.json", b"\xff\xfe{}"),
    "config nested": put("config.json", b"[" * 100_000),
    "config a folder": a_folder("config.json"),
    "config dangling": dangling("config.json"),
    "weights empty": cut("model.safetensors", 0),
    "weights cut in their size": cut("model.safetensors", 5),
    "weights cut in their head": cut("model.safetensors", 100),
    "weights cut": cut("model.safetensors", -1),
    "weights dangling": dangling("model.safetensors"),
    "weights a folder": a_folder("model.safetensors"),
    "weights not safetensors": put("model.safetensors", b"PK\x03\x04" * 1000),
    "weights a git-lfs pointer": put("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n"),
    "weights of a huge head": put("model.safetensors", struct.pack("<Q", 2**60) + b"{}"),
    "weights of a list": put("model.safetensors", struct.pack("<Q", 2) + b"[]"),
    "weights longer than said": longer("model.safetensors"),
    "tensor without shape": lambda folder: rewrite(folder, lambda head: head[NORM].pop("shape")),
    "tensor null": lambda folder: rewrite(folder, lambda head: head.update({NORM: None})),
    "tensor of texts": lambda folder: rewrite(folder, lambda head: head[NORM].update(data_offsets=["a", "b"])),
    "tensor of another size": lambda folder: rewrite(folder, lambda head: head[NORM].update(shape=[3])),
    "tensor outside the file": lambda folder: rewrite(folder, lambda head: head[NORM].update(data_offsets=[0, 2**40])),
    "norm missing": drop(NORM),
    "weight of a layer missing": drop("model.layers.0.mlp.up_proj.weight"),
    "more layers than weights": config(num_hidden_layers=99),
    "another width": config(hidden_size=96),
    "another vocabulary": config(vocab_size=7),
    "tokenizer empty": cut("tokenizer.json", 0),
    "tokenizer cut": cut("tokenizer.json", 200),
    "tokenizer a list": put("tokenizer.json", b"[1, 2]"),
    "tokenizer of the wrong shape": put("tokenizer.json", b'{"model": 3}'),
    "tokenizer without a model": put("tokenizer.json", b"{}"),
    "tokenizer settings a list": put("tokenizer_config.json", b"[]"),
    "tokenizer settings cut": cut("tokenizer_config.json", 10),
    "index empty": put(INDEX, b""),
    "index a list": put(INDEX, b"[]"),
    "index without a map": put(INDEX, b"{}"),
    "index map a list": put(INDEX, b'{"weight_map": ["model.safetensors"]}'),
    "index of numbers": put(INDEX, b'{"weight_map": {"a": 1}}'),
    "index of a shard that is missing": put(INDEX, b'{"weight_map": {"a": "model-2.safetensors"}}'),
    "index that leaves the folder": put(INDEX, b'{"weight_map": {"a": "../../etc/x.safetensors"}}'),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_base_is_an_input_error(damage: Damage, model: Path) -> None:
    settings = BaseModelSettings(model=str(model))
    damage(model)
    with pytest.raises(InputError) as error:
        resolve_base(settings, import_gguf=import_gguf)
    assert error.value.where.startswith(str(model))
    assert error.value.fix
    find_base(settings)  # answers, whatever is in the folder


def test_a_sound_model_passes(sound: Path) -> None:
    check_sound(sound)
    assert resolve_base(BaseModelSettings(model=str(sound)), import_gguf=import_gguf) == sound


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_file_that_may_not_be_read_is_named(name: str, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def refusing(path: Path, *how: Any, **more: Any) -> Any:
        if path == model / name:
            raise PermissionError(13, "Permission denied")
        return opened(path, *how, **more)

    monkeypatch.setattr(Path, "open", refusing)
    with pytest.raises(InputError, match="cannot read a file of the base model: Permission denied") as error:
        check_sound(model)
    assert error.value.where == str(model / name)


@pytest.mark.parametrize("length", [0, 3, 30, 3000, -1000])
def test_a_damaged_gguf_is_an_input_error(length: int, models: Path, tmp_path: Path) -> None:
    gguf = tmp_path / "cut.gguf"
    gguf.write_bytes((models / "qwen3.gguf").read_bytes()[:length])
    with pytest.raises(InputError) as error:
        resolve_base(BaseModelSettings(model=str(gguf)), import_gguf=import_gguf)
    assert error.value.where == str(gguf)
