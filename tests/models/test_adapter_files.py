"""Adapter folders of mlx-lm and PEFT: the same arrays in both, and clear words for what cannot be read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlx_ragtune.errors import InputError
from mlx_ragtune.models.adapter_files import (
    MLX_FILES,
    PEFT_FILES,
    find_adapter,
    peft_arrays,
    peft_config,
    read_adapter,
)

INPUTS, OUTPUTS, RANK = 6, 10, 3
SHAPES = {"self_attn.q_proj": (OUTPUTS, INPUTS), "mlp.down_proj": (INPUTS, OUTPUTS)}
PREFIX = "base_model.model.model.layers"


def mlx_folder(folder: Path, *, dora: bool = False, layers: tuple[int, ...] = (0, 1), scale: float = 2.0) -> Path:
    """An adapter as mlx-lm writes it."""
    draw, arrays = np.random.default_rng(0), {}
    for layer in layers:
        for matrix, (outputs, inputs) in SHAPES.items():
            leaves = {"lora_a": (inputs, RANK), "lora_b": (RANK, outputs)} | ({"m": (outputs,)} if dora else {})
            for leaf, shape in leaves.items():
                arrays[f"model.layers.{layer}.{matrix}.{leaf}"] = draw.normal(size=shape).astype(np.float32)
    folder.mkdir()
    save_file(arrays, folder / MLX_FILES[0])
    config = {
        "fine_tune_type": "dora" if dora else "lora",
        "num_layers": len(layers),
        "lora_parameters": {"rank": RANK, "scale": scale, "dropout": 0.0},
    }
    (folder / MLX_FILES[1]).write_text(json.dumps(config))
    return folder


def peft_folder(folder: Path, *, dora: bool = False, layers: tuple[int, ...] = (0, 1), **changes: Any) -> Path:
    """The same adapter as PEFT writes it, with other options."""
    source = read_adapter(mlx_folder(folder.with_name(f"{folder.name}-mlx"), dora=dora, layers=layers))
    folder.mkdir()
    save_file(dict(peft_arrays(source)), folder / PEFT_FILES[0])
    config = peft_config(source, base="Qwen/Qwen3-4B", layers=2, dropout=0.0) | changes
    (folder / PEFT_FILES[1]).write_text(json.dumps(config))
    return folder


def change_tensors(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    arrays = load_file(folder / PEFT_FILES[0])
    change(arrays)
    save_file(arrays, folder / PEFT_FILES[0])


@pytest.mark.parametrize("dora", [False, True])
def test_an_adapter_comes_back_from_pefts_format_as_it_was(tmp_path: Path, dora: bool) -> None:
    peft = read_adapter(peft_folder(tmp_path / "peft", dora=dora))
    before = load_file(tmp_path / "peft-mlx" / MLX_FILES[0])
    after = peft.arrays(2.0)
    assert after.keys() == before.keys()
    for name, value in before.items():
        assert np.array_equal(after[name], value), name
    assert (peft.method, peft.rank, peft.layers) == ("dora" if dora else "lora", RANK, [0, 1])
    assert peft.modules == ["down_proj", "q_proj"]


def test_pefts_names_and_shapes_are_those_that_peft_loads(tmp_path: Path) -> None:
    """As ``PeftModel.save_pretrained`` of peft 0.21 writes a DoRA adapter."""
    written = load_file(peft_folder(tmp_path / "peft", dora=True) / PEFT_FILES[0])
    assert {name: value.shape for name, value in written.items() if ".1.self_attn" in name} == {
        f"{PREFIX}.1.self_attn.q_proj.lora_A.weight": (RANK, INPUTS),
        f"{PREFIX}.1.self_attn.q_proj.lora_B.weight": (OUTPUTS, RANK),
        f"{PREFIX}.1.self_attn.q_proj.lora_magnitude_vector": (OUTPUTS,),
    }
    config = json.loads((tmp_path / "peft" / PEFT_FILES[1]).read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"], config["use_dora"]) == ("LORA", RANK, 6, True)
    assert (config["layers_to_transform"], config["layers_pattern"]) == (None, None)


def test_layers_that_are_not_all_are_named_for_peft(tmp_path: Path) -> None:
    config = json.loads((peft_folder(tmp_path / "peft", layers=(1,)) / PEFT_FILES[1]).read_text())
    assert (config["layers_to_transform"], config["layers_pattern"]) == ([1], "layers")


def effect(arrays: dict[str, Any], name: str, scale: float) -> Any:
    return scale * arrays[f"{name}.lora_a"] @ arrays[f"{name}.lora_b"]


@pytest.mark.parametrize(
    ("changes", "scales"),
    [
        ({"lora_alpha": 12}, (4.0, 4.0)),
        ({"lora_alpha": 12, "use_rslora": True}, (12 / RANK**0.5, 12 / RANK**0.5)),
        ({"lora_alpha": 12, "alpha_pattern": {"q_proj": 3}}, (1.0, 4.0)),
        ({"lora_alpha": 12, "alpha_pattern": {"layers.0.self_attn.q_proj": 3}}, (1.0, 4.0)),
        ({"lora_alpha": 12, "alpha_pattern": {"j_proj": 3}}, (4.0, 4.0)),
    ],
)
def test_every_way_to_write_the_scale_gives_the_same_function_at_any_other(
    tmp_path: Path, changes: dict[str, Any], scales: tuple[float, float]
) -> None:
    adapter = read_adapter(peft_folder(tmp_path / "peft", **changes))
    stored = load_file(tmp_path / "peft-mlx" / MLX_FILES[0])
    for own in (0.5, 2.0):
        arrays = adapter.arrays(own)
        for matrix, scale in zip(SHAPES, scales, strict=True):
            name = f"model.layers.0.{matrix}"
            assert np.allclose(effect(arrays, name, own), effect(stored, name, scale), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"bias": "all"}, "bias: all"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4, which changes the base"),
        ({"peft_type": "IA3"}, "peft_type: IA3"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"alpha_pattern": {"(a+)+b": 3}}, "regular expressions"),
        ({"r": 8}, "'r' is 8, its matrices have rank 3"),
        ({"lora_alpha": -1}, "'lora_alpha' is -1"),
        ({"lora_alpha": None}, "'lora_alpha' is None"),
    ],
)
def test_what_peft_can_do_and_we_cannot_is_named(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    folder = peft_folder(tmp_path / "peft", **changes)
    with pytest.raises(InputError) as caught:
        read_adapter(folder)
    assert named in caught.value.what
    assert caught.value.where == str(folder / PEFT_FILES[1])


def drop(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda arrays: arrays.pop(name)


A = f"{PREFIX}.0.self_attn.q_proj.lora_A.weight"
BAD: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "half a pair": (drop(A), "'layers.0.self_attn.q_proj' lacks lora_a"),
    "a bias": (lambda arrays: arrays.update({f"{PREFIX}.0.self_attn.q_proj.bias": np.ones(3, np.float32)}), "not of a"),
    "an embedding": (
        lambda arrays: arrays.update({"base_model.model.model.embed_tokens.lora_A": np.ones((3, 3), np.float32)}),
        "tensors that are not of a LoRA",
    ),
    "unlike shapes": (lambda arrays: arrays.update({A: np.ones((4, INPUTS), np.float32)}), "have shapes"),
    "unlike layers": (
        lambda arrays: [arrays.pop(name) for name in list(arrays) if "0.mlp" in name],
        "different projections in different layers",
    ),
    "nothing": (lambda arrays: arrays.clear(), "no tensors"),
}


@pytest.mark.parametrize("name", BAD)
def test_damaged_and_foreign_tensors_are_refused(tmp_path: Path, name: str) -> None:
    change, said = BAD[name]
    folder = peft_folder(tmp_path / "peft")
    change_tensors(folder, change)
    with pytest.raises(InputError) as caught:
        read_adapter(folder)
    assert said in caught.value.what
    assert caught.value.fix


def test_ranks_that_differ_between_matrices_are_refused(tmp_path: Path) -> None:
    def shrink(arrays: dict[str, Any]) -> None:
        arrays[A] = arrays[A][:2].copy()
        arrays[A.replace("lora_A", "lora_B")] = arrays[A.replace("lora_A", "lora_B")][:, :2].copy()

    folder = peft_folder(tmp_path / "peft", rank_pattern={"layers.0.self_attn.q_proj": 2})
    change_tensors(folder, shrink)
    with pytest.raises(InputError, match="different ranks: 2, 3"):
        read_adapter(folder)


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    folder = peft_folder(tmp_path / "peft")
    change_tensors(folder, lambda arrays: arrays[A].fill(np.nan))
    with pytest.raises(InputError, match="NaN"):
        read_adapter(folder).arrays(2.0)


@pytest.mark.parametrize("name", ["adapter_model.bin", "adapters.npz"])
def test_files_that_may_hold_code_are_never_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(InputError, match="may hold code") as caught:
        find_adapter(tmp_path)
    assert "safetensors" in caught.value.fix


def test_a_run_is_read_by_the_folder_of_its_training(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    trained = mlx_folder(tmp_path / "run" / "3-train")
    assert find_adapter(tmp_path / "run").weights.parent == trained


@pytest.mark.parametrize("text", ["", "[]", "{", '{"lora_parameters": {"scale": NaN}}', '{"lora_parameters": 3}'])
def test_a_damaged_config_is_an_error_with_its_file(tmp_path: Path, text: str) -> None:
    folder = mlx_folder(tmp_path / "a")
    (folder / MLX_FILES[1]).write_text(text)
    with pytest.raises(InputError) as caught:
        read_adapter(folder)
    assert caught.value.where == str(folder / MLX_FILES[1])


def test_a_folder_without_an_adapter_and_half_of_one_say_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no adapter"):
        find_adapter(tmp_path)
    folder = mlx_folder(tmp_path / "a")
    (folder / MLX_FILES[1]).unlink()
    with pytest.raises(InputError, match=r"adapter_config\.json is missing"):
        find_adapter(folder)
    (tmp_path / "a" / MLX_FILES[0]).write_bytes(b"\xff" * 20)
    (tmp_path / "a" / MLX_FILES[1]).write_text("{}")
    with pytest.raises(InputError, match="the adapter is damaged: not a safetensors file"):
        read_adapter(folder)
