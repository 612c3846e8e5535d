"""The base: what is refused before training, how it is held, what gets an adapter."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlx_ragtune.clients.runtime_mlx import mx, nn, tree_flatten, tree_map
from mlx_ragtune.errors import InputError
from mlx_ragtune.models.model_folder import check_base
from mlx_ragtune.models.toy import write_toy_model
from mlx_ragtune.tuning.adapters import adapter_config, apply_adapter, count_parameters
from mlx_ragtune.tuning.head import check_head
from mlx_ragtune.tuning.load import load_base, load_stored
from tests.tuning.made import load_arrays, made_model, toy_base, train_settings


def change(folder: Path, name: str, **keys: Any) -> None:
    path = folder / name
    config = json.loads(path.read_text()) | keys
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json"):
        check_base(tmp_path)


def test_an_architecture_that_cannot_be_exported_is_refused_before_loading(tmp_path: Path) -> None:
    base = toy_base(tmp_path)
    change(base, "config.json", model_type="mamba")
    (base / "model.safetensors").unlink()
    with pytest.raises(InputError, match="mamba"):
        check_base(base)


def test_a_base_without_chat_template_is_refused(tmp_path: Path) -> None:
    base = toy_base(tmp_path)
    change(base, "tokenizer_config.json", chat_template=None)
    with pytest.raises(InputError, match="no chat template"):
        check_base(base)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "8bit", "4bit"])
def test_weights_are_held_as_asked(tmp_path: Path, precision: Any) -> None:
    model = load_base(toy_base(tmp_path), precision).model
    layer = model.layers[0].mlp.up_proj
    if precision in ("8bit", "4bit"):
        assert isinstance(layer, nn.QuantizedLinear)
        assert (layer.bits, layer.group_size) == (int(precision[0]), 64)
        assert model.model.norm.weight.dtype == mx.bfloat16
    else:
        wanted = mx.float32 if precision == "fp32" else mx.bfloat16
        assert {value.dtype for _, value in tree_flatten(model.parameters())} == {wanted}
    assert not tree_flatten(model.trainable_parameters())


@pytest.mark.parametrize("precision", ["fp32", "bf16", "8bit", "4bit"])
def test_weights_loaded_a_module_at_a_time_are_those_of_a_whole_model_cast_and_quantized(
    tmp_path: Path, precision: Any
) -> None:
    """And a module at a time is all that is in memory beside what is held."""
    base = tmp_path / "base"
    write_toy_model(base, architecture="qwen2", hidden=256, layers=8)
    whole = load_stored(base)
    dtype = mx.float32 if precision == "fp32" else mx.bfloat16
    whole.update(tree_map(lambda weight: weight.astype(dtype), whole.parameters()))
    if precision in ("8bit", "4bit"):
        nn.quantize(
            whole,
            group_size=64,
            bits=int(precision[0]),
            class_predicate=lambda _, module: isinstance(module, nn.Linear),
        )
    expected = dict(tree_flatten(whole.parameters()))
    stored = sum(value.nbytes for value in load_arrays(base / "model.safetensors").values())
    mx.eval(expected)
    mx.clear_cache()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    ours = dict(tree_flatten(load_base(base, precision).model.parameters()))
    held = sum(value.nbytes for value in ours.values())
    assert mx.get_peak_memory() - before < held + 0.1 * stored
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        assert ours[name].dtype == value.dtype
        assert mx.array_equal(ours[name], value).item(), name


def test_constants_that_are_no_weights_keep_their_type(tmp_path: Path) -> None:
    """Scaled rotary frequencies in bfloat16 would be other positions."""
    base = toy_base(tmp_path, "llama")
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 1024}  # fmt: skip
    change(base, "config.json", rope_scaling=scaling)
    rope = load_base(base, "bf16").model.layers[0].self_attn.rope
    assert rope._freqs.dtype == mx.float32


def test_only_the_chosen_projections_of_the_last_layers_train() -> None:
    model = made_model("llama")
    apply_adapter(model, train_settings(layers=2, target_modules=("q_proj", "down_proj")), seed=0)
    names = {name.rsplit(".", 1)[0] for name, _ in tree_flatten(model.trainable_parameters())}
    assert names == {f"model.layers.{n}.{part}" for n in (1, 2) for part in ("self_attn.q_proj", "mlp.down_proj")}


def test_an_untrained_adapter_changes_nothing_and_its_seed_decides_it() -> None:
    tokens = mx.array([[1, 2, 3]])
    plain = made_model("qwen3")
    expected = plain(tokens)
    drawn = []
    for seed in (1, 1, 2):
        model = made_model("qwen3")
        apply_adapter(model, train_settings(), seed=seed)
        assert mx.allclose(model(tokens), expected, atol=1e-6).item()
        drawn.append(model.layers[0].mlp.up_proj.lora_a)
    assert mx.array_equal(drawn[0], drawn[1]).item()
    assert not mx.array_equal(drawn[0], drawn[2]).item()


def test_trainable_parameters_are_counted_as_rank_times_both_sides() -> None:
    model = made_model("llama")
    apply_adapter(model, train_settings(rank=4, target_modules=("up_proj",)), seed=0)
    trainable, total = count_parameters(model)
    assert trainable == 3 * 4 * (64 + 128)
    assert total == trainable + sum(value.size for _, value in tree_flatten(made_model("llama").parameters()))


def test_the_source_experiments_adapter_has_its_33_million_parameters() -> None:
    """r 16 on all seven projections of Qwen3-4B: 33,030,144."""
    hidden, inner, queries, keys = 2560, 9728, 32 * 128, 8 * 128
    sides = [(hidden, queries), (hidden, keys), (hidden, keys), (queries, hidden)]
    sides += [(hidden, inner), (hidden, inner), (inner, hidden)]
    assert 36 * 16 * sum(a + b for a, b in sides) == 33_030_144
    keys_of = adapter_config(train_settings(rank=16, alpha=32.0), 36)["lora_parameters"]["keys"]
    assert len(keys_of) == len(sides)


def test_a_head_that_does_more_than_multiply_is_found_out() -> None:
    model = made_model("llama")
    check_head(model)
    kind = type(model)

    class Capped(kind):  # type: ignore[misc, valid-type]
        def __call__(self, *args: Any, **options: Any) -> mx.array:
            return mx.tanh(super().__call__(*args, **options))

    capped = Capped(model.args)
    with pytest.raises(InputError, match="not a plain matrix product"):
        check_head(capped)


UP = "model.layers.1.mlp.up_proj.weight"


def damaged(folder: Path, damage: str) -> Path:
    base = toy_base(folder)
    file = base / "model.safetensors"
    weights = load_arrays(file)
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "missing tensor":
        del weights[UP]
    elif damage == "extra tensor":
        weights["model.visual.weight"] = weights[UP]
    elif damage == "shape":
        weights[UP] = weights[UP][:-1]
    elif damage == "NaN":
        weights[UP] = weights[UP] * float("nan")
    if damage not in ("truncated", "empty"):
        mx.save_safetensors(str(file), weights, metadata={"format": "mlx"})
    return base


@pytest.mark.parametrize("damage", ["truncated", "empty", "missing tensor", "extra tensor", "shape", "NaN"])
def test_damaged_weights_are_the_users_input(tmp_path: Path, damage: str) -> None:
    with pytest.raises(InputError) as caught:
        load_base(damaged(tmp_path / "base", damage), "fp32")
    assert caught.value.where == str(tmp_path / "base")
    assert "\n" not in caught.value.what
    assert caught.value.fix == "fetch the model again"


@pytest.mark.parametrize("file", ["tokenizer.json", "generation_config.json"])
def test_a_damaged_file_beside_the_weights_is_the_users_input(tmp_path: Path, file: str) -> None:
    base = toy_base(tmp_path / "base")
    (base / file).write_text("[]")
    with pytest.raises(InputError):
        load_base(base, "fp32")


def test_mistral_loads_as_mlx_lm_maps_it(tmp_path: Path) -> None:
    assert load_base(toy_base(tmp_path / "base", "mistral"), "fp32").config["model_type"] == "mistral"
