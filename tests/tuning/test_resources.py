"""Predicted memory and disk against what is measured on small models, and recipes that must not be refused."""

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from mlx_ragtune.clients import machine
from mlx_ragtune.clients.machine import memory_bytes, require_memory
from mlx_ragtune.clients.runtime_mlx import mx, nn, tree_flatten
from mlx_ragtune.errors import ToolError
from mlx_ragtune.gguf.sizes import cache_bytes, convert_memory, export_disk, serve_memory
from mlx_ragtune.models.architectures import tensor_shapes
from mlx_ragtune.models.model_folder import read_config
from mlx_ragtune.models.toy import write_toy_model
from mlx_ragtune.tuning import fused_folder, merge, resources
from mlx_ragtune.tuning.lean_kernels import lean_kernels
from mlx_ragtune.tuning.load import Precision, load_base
from mlx_ragtune.tuning.loop import group_objective
from mlx_ragtune.tuning.recompute import recomputing
from mlx_ragtune.tuning.resources import (
    adapter_parameters,
    fuse_disk,
    fuse_memory,
    load_memory,
    logits_memory,
    merge_memory,
    sized_config,
    train_disk,
    train_memory,
)
from mlx_ragtune.tuning.schedule import micro_batches
from mlx_ragtune.tuning.work import work_of_batch
from tests.toy_models import Written
from tests.tuning.made import KEYS_AS_VALUES, adapted, made_adapter, made_rows, toy_base, train_settings
from tests.tuning.test_fused_folder import stored_as

GIB = 2**30


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "model"
    write_toy_model(folder, architecture="llama", hidden=256, layers=4)
    return folder


def peak(run: Any) -> int:
    mx.clear_cache()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    run()
    return int(mx.get_peak_memory() - before)


@pytest.mark.parametrize("prefix", [200, 600])
@pytest.mark.parametrize("changes", [{}, {"layers": 2}, {"grad_checkpoint": True}, {"rank": 64}], ids=str)
def test_training_stays_below_its_prediction_which_is_not_far_off(
    base: Path, changes: dict[str, Any], prefix: int
) -> None:
    settings = train_settings(tokens_per_step=1024 if prefix == 200 else 1400, batch_size=8, accumulation=1, **changes)
    model = adapted(load_base(base, "fp32").model, settings)
    count = 4 if prefix == 200 else 2
    rows = made_rows(np.random.default_rng(0), [1] * count, prefix=(prefix, prefix + 1), tail=(20, 21))
    (groups,) = micro_batches(rows, settings.step_tokens)
    weights = sum(value.nbytes for _, value in tree_flatten(model.parameters()))
    with lean_kernels(model), recomputing(model, settings.grad_checkpoint):
        measured = weights + peak(lambda: mx.eval(nn.value_and_grad(model, group_objective)(model, groups)))
    row_tokens = work_of_batch(groups).layer_tokens // len(rows)
    predicted = train_memory(base, settings.model_copy(update={"batch_size": len(rows)}), "fp32", row_tokens=row_tokens)
    assert measured < 1.1 * predicted < 2.2 * measured


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16], ids=str)
def test_every_step_stays_below_its_prediction_which_is_at_most_twice_the_peak(
    tmp_path: Path, dtype: mx.Dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fusing, comparing and loading, on a model whose layers are many and small beside its embedding."""
    for module in (fused_folder, resources):
        monkeypatch.setattr(module, "BLOCK_VALUES", 2**14)
    base = tmp_path / "base"
    write_toy_model(base, architecture="llama", hidden=512, layers=6)
    stored_as(base, dtype)
    adapter = made_adapter(base, tmp_path / "adapter", rank=16)
    config = json.loads((base / "config.json").read_text())
    parameters = adapter_parameters(config, train_settings(rank=16))
    fused = peak(lambda: fused_folder.write_fused(base, adapter, tmp_path / "fused", config=config))
    assert fused < merge_memory(base, adapter=parameters) < 2 * fused
    for tokens in (300, 700):
        prompts = [[5] * tokens] * resources.COMPARED_PROMPTS
        compared = peak(lambda prompts=prompts: merge.adapted_logits(base, adapter, prompts))
        assert compared < logits_memory(base, prompt_tokens=tokens, adapter=parameters) < 2 * compared, tokens
    for precision in get_args(Precision):
        loaded = peak(lambda precision=precision: load_base(base, precision))
        assert loaded < load_memory(base, precision) < 2 * loaded, precision


@pytest.mark.parametrize("changes", [{}, {"grad_checkpoint": True}], ids=str)
@pytest.mark.parametrize(("layers", "kind"), [(6, {}), (4, KEYS_AS_VALUES)], ids=["shared keys", "keys as values"])
def test_training_gemma4_stays_below_its_prediction(
    tmp_path: Path, layers: int, kind: dict[str, Any], changes: dict[str, Any]
) -> None:
    """Layers of two widths, embeddings for each layer, keys and values that are shared."""
    base = tmp_path / "base"
    write_toy_model(base, architecture="gemma4_text", hidden=256, layers=layers, changes=kind)
    settings = train_settings(tokens_per_step=1400, batch_size=8, accumulation=1, **changes)
    model = adapted(load_base(base, "fp32").model, settings)
    rows = made_rows(np.random.default_rng(0), [1, 1], prefix=(600, 601), tail=(20, 21))
    (groups,) = micro_batches(rows, settings.step_tokens)
    weights = sum(value.nbytes for _, value in tree_flatten(model.parameters()))
    with lean_kernels(model), recomputing(model, settings.grad_checkpoint):
        measured = weights + peak(lambda: mx.eval(nn.value_and_grad(model, group_objective)(model, groups)))
    row_tokens = work_of_batch(groups).layer_tokens // len(rows)
    predicted = train_memory(base, settings.model_copy(update={"batch_size": 2}), "fp32", row_tokens=row_tokens)
    assert measured < 1.1 * predicted < 2.2 * measured


@pytest.mark.parametrize(("layers", "kind"), [(6, {}), (4, KEYS_AS_VALUES)], ids=["shared keys", "keys as values"])
def test_comparing_and_loading_gemma4_stay_below_their_predictions(
    tmp_path: Path, layers: int, kind: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Embeddings for each layer, and keys and values that are held for later layers."""
    monkeypatch.setattr(resources, "BLOCK_VALUES", 2**14)
    base = tmp_path / "base"
    write_toy_model(base, architecture="gemma4_text", hidden=256, layers=layers, changes=kind)
    adapter, config = made_adapter(base, tmp_path / "adapter", rank=16), read_config(base)
    parameters = adapter_parameters(config, train_settings(rank=16))
    prompts = [[5] * 300] * resources.COMPARED_PROMPTS
    compared = peak(lambda: merge.adapted_logits(base, adapter, prompts))
    assert compared < logits_memory(base, prompt_tokens=300, adapter=parameters) < 2 * compared
    loaded = peak(lambda: load_base(base, "4bit"))
    assert loaded < load_memory(base, "4bit") < 2 * loaded


def headers(folder: Path, config: dict[str, Any], dtype: str) -> Path:
    """A model folder of any size: real headers, and weights that are a hole in a sparse file."""
    write_toy_model(folder, architecture=config["model_type"])
    config = {**json.loads((folder / "config.json").read_text()), **config}
    (folder / "config.json").write_text(json.dumps(config))
    width, at, header = {"F32": 4, "BF16": 2}[dtype], 0, {}
    for name, shape in tensor_shapes(config).items():
        end = at + int(np.prod(shape)) * width
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + at)
    return folder


SMOLLM2 = {"model_type": "llama", "hidden_size": 576, "num_hidden_layers": 30, "intermediate_size": 1536,
           "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64, "vocab_size": 49152}  # fmt: skip
QWEN3_4B = {"model_type": "qwen3", "hidden_size": 2560, "num_hidden_layers": 36, "intermediate_size": 9728,
            "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
            "max_position_embeddings": 40960}  # fmt: skip


def test_the_demo_fits_a_machine_of_eight_gigabytes(tmp_path: Path) -> None:
    folder = headers(tmp_path / "smollm2", SMOLLM2, "F32")
    demo = train_settings(rank=16, alpha=32.0, batch_size=4, accumulation=1)
    assert 2 * GIB < train_memory(folder, demo, "fp32") < 7 * GIB
    assert fuse_memory(folder) < 2 * GIB
    assert logits_memory(folder) < 2 * GIB
    assert serve_memory(folder, "Q8_0", context_tokens=4096) < 2 * GIB
    assert convert_memory() < 16 * GIB


def test_four_billion_parameters_fit_a_machine_of_sixteen_gigabytes(tmp_path: Path) -> None:
    """Fuse used to peak at 3.25 × and the check of an export at 2.14 × the 8 GB of bfloat16 weights."""
    folder = headers(tmp_path / "qwen3", QWEN3_4B, "BF16")
    stored, largest = fuse_disk(folder), 2 * 151936 * 2560
    assert 7.4 * GIB < stored < 8.5 * GIB
    assert largest < merge_memory(folder) < 1.2 * largest + 10**9
    assert largest < logits_memory(folder) < 1.1 * stored
    assert fuse_memory(folder) < 4 * GIB
    low = train_settings(rank=16, alpha=32.0, batch_size=1, accumulation=16, grad_checkpoint=True)
    assert 2 * GIB < load_memory(folder, "4bit") < train_memory(folder, low, "4bit", platform="darwin") < 9 * GIB
    assert train_memory(folder, low, "bf16") > train_memory(folder, low, "8bit") > train_memory(folder, low, "4bit")
    assert 4 * GIB < serve_memory(folder, "Q8_0", context_tokens=8192) < 7 * GIB
    assert 7 * GIB < export_disk(folder, "Q8_0") < 9 * GIB


def test_a_config_alone_gives_what_the_headers_give(tmp_path: Path) -> None:
    folder = headers(tmp_path / "qwen3", QWEN3_4B, "BF16")
    sized = sized_config(json.loads((folder / "config.json").read_text()))
    assert sized.parameters == 4_022_468_096
    assert merge_memory(sized) == merge_memory(folder)
    assert logits_memory(sized) == logits_memory(folder)
    for precision in ("fp32", "bf16", "8bit", "4bit"):
        assert load_memory(sized, precision) == load_memory(folder, precision)
        settings = train_settings(rank=16, alpha=32.0)
        assert train_memory(sized, settings, precision) == train_memory(folder, settings, precision)


def test_the_cache_of_the_window_counts(tmp_path: Path) -> None:
    assert cache_bytes(QWEN3_4B, 8192) == 36 * 8192 * 8 * 128 * 2 * 2
    folder = headers(tmp_path / "qwen3", QWEN3_4B, "BF16")
    small, large = (serve_memory(folder, "Q8_0", context_tokens=tokens) for tokens in (1024, 10**9))
    assert large > 100_000 * GIB > small


def test_adapter_parameters_are_those_that_train(tmp_path: Path) -> None:
    settings = train_settings(rank=16, alpha=32.0)
    assert adapter_parameters(QWEN3_4B, settings) == 33_030_144
    base = toy_base(tmp_path / "base", "llama")
    for changes in ({}, {"layers": 1, "target_modules": ("q_proj", "down_proj")}, {"method": "dora"}):
        chosen = train_settings(**changes)
        loaded = load_base(base, "fp32")
        model = adapted(loaded.model, chosen)
        counted = sum(value.size for _, value in tree_flatten(model.trainable_parameters()))
        assert adapter_parameters(loaded.config, chosen) == counted


def test_checkpoints_and_the_frozen_store_need_disk(base: Path) -> None:
    plain, task = train_settings(), train_settings(select="task", select_best=4)
    assert train_disk(base, plain) < train_disk(base, task)
    stored = train_settings(layers=1, frozen_store=True)
    assert train_disk(base, stored, rows=1000, row_tokens=100) > 1000 * 100 * 256 * 4


def test_a_stage_that_does_not_fit_is_refused_with_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory_bytes", lambda: 16 * GIB)
    require_memory("fuse", 16 * GIB, fix="choose a smaller base")
    with pytest.raises(ToolError) as caught:
        require_memory("fuse", 26 * GIB, fix="choose a smaller base")
    assert caught.value.what == "fuse needs about 26.0 GiB of memory, this machine has 16.0 GiB"
    assert caught.value.fix == "choose a smaller base"


@pytest.mark.parametrize(("text", "limit"), [("1073741824", GIB), ("max", None), ("nonsense", None)])
def test_a_control_group_limits_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, limit: int | None
) -> None:
    (tmp_path / "memory.max").write_text(text + "\n")
    monkeypatch.setattr(machine, "_CGROUP_LIMIT", tmp_path / "none")
    physical = memory_bytes()
    monkeypatch.setattr(machine, "_CGROUP_LIMIT", tmp_path / "memory.max")
    assert memory_bytes() == (limit or physical)


def test_the_size_of_a_file_is_part_of_what_serving_needs(toys: Path, written: Written) -> None:
    assert serve_memory(toys / "qwen3", "F16", context_tokens=256) > written("qwen3", "F16").stat().st_size - 2**20


def test_the_typical_row_is_shorter_than_most_windows() -> None:
    assert resources.TYPICAL_ROW_TOKENS <= 1024
