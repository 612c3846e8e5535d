"""Mixtures of experts, hybrid models and Gemma 4: both stored layouts, llama.cpp's own converter, fusing, adapters."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from safetensors.numpy import load_file, save_file

from mlx_ragtune.bases.soundness import check_sound
from mlx_ragtune.clients.serve_llamacpp import LlamaCppServer
from mlx_ragtune.errors import InputError
from mlx_ragtune.gguf.adapter import write_adapter
from mlx_ragtune.gguf.convert import ValueHeads
from mlx_ragtune.gguf.engine_parity import check_parity, compare_next_tokens, effect_size
from mlx_ragtune.gguf.quantize import QuantType
from mlx_ragtune.gguf.writer import estimate_bytes, write_gguf
from mlx_ragtune.models.model_folder import check_base, read_config
from mlx_ragtune.models.prompts import load_tokenizer, prompt_tokens
from mlx_ragtune.models.toy import Architecture, write_toy_model
from mlx_ragtune.recipe_train import PROJECTIONS
from mlx_ragtune.tuning.merge import adapted_logits, fuse
from tests.gguf.test_engine import QUESTIONS, turn
from tests.models.hub_layout import as_on_the_hub
from tests.toy_models import change
from tests.tuning.made import made_adapter

FAMILIES: dict[Architecture, tuple[str, ...]] = {
    "qwen3_moe": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "qwen3_5": (*PROJECTIONS, "in_proj_qkv", "in_proj_z", "out_proj"),
    "lfm2": (*PROJECTIONS, "in_proj", "out_proj"),
    "gemma4_text": PROJECTIONS,
}
CONVERTED = json.loads((Path(__file__).parent / "converter_digests.json").read_text())
"""sha256 of every tensor that llama.cpp's convert_hf_to_gguf.py writes for these toys: model → type → tensor."""


def two_layouts(folder: Path, architecture: Architecture, **options: Any) -> tuple[Path, Path]:
    """The same toy as mlx-lm writes it and as the hub has it."""
    write_toy_model(folder / "mlx", architecture=architecture, seed=1, **options)
    return folder / "mlx", as_on_the_hub(folder / "mlx", folder / "hub")


def digests(file: Path) -> dict[str, str]:
    return {
        tensor.name: f"{tensor.tensor_type.name} {hashlib.sha256(tensor.data.tobytes()).hexdigest()}"
        for tensor in GGUFReader(file).tensors
    }


@pytest.mark.parametrize("architecture", FAMILIES)
@pytest.mark.parametrize("kind", ["F32", "Q8_0"])
def test_every_tensor_is_that_of_llama_cpps_converter(
    tmp_path: Path, architecture: Architecture, kind: QuantType
) -> None:
    """``ssm_a`` is an exponential, which PyTorch rounds to another last bit now and then.

    The converter also writes keys and values of a Gemma 4 that are never read, where a checkpoint has them.
    """
    for name, folder in zip(("mlx", "hub"), two_layouts(tmp_path, architecture, hidden=128, layers=4), strict=True):
        write_gguf(folder, tmp_path / f"{name}.gguf", type=kind, name="toy")
        found, expected = digests(tmp_path / f"{name}.gguf"), CONVERTED[architecture][kind]
        assert set(found) == set(expected)
        assert not [tensor for tensor in found if found[tensor] != expected[tensor] and not tensor.endswith(".ssm_a")]
        assert abs((tmp_path / f"{name}.gguf").stat().st_size - estimate_bytes(folder, kind)) < 100_000


@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_base_of_the_hub_is_sound_and_its_config_is_flat(tmp_path: Path, architecture: Architecture) -> None:
    for folder in two_layouts(tmp_path, architecture):
        check_sound(folder)
        config = check_base(folder)
        assert config["model_type"] == architecture
        assert config["hidden_size"] == 64
        assert "text_config" not in config


@pytest.mark.parametrize("architecture", FAMILIES)
@pytest.mark.parametrize("layout", ["mlx", "hub"])
def test_fused_and_previewed_are_base_plus_adapter_in_the_engine(
    tmp_path: Path, architecture: Architecture, layout: str
) -> None:
    base = dict(zip(("mlx", "hub"), two_layouts(tmp_path, architecture), strict=True))[layout]
    adapter = made_adapter(base, tmp_path / "adapter", target_modules=FAMILIES[architecture])
    report = fuse(base, adapter, tmp_path / "fused", prompts=[turn(QUESTIONS[0])], thinking=False)
    assert report.max_logit_difference < 1e-4
    tokenizer = load_tokenizer(base)
    prompts = [prompt_tokens(turn(question), tokenizer, thinking=False) for question in QUESTIONS[:4]]
    expected = adapted_logits(base, adapter, prompts)
    write_gguf(base, tmp_path / "base.gguf", type="F32", name="base")
    write_gguf(tmp_path / "fused", tmp_path / "fused.gguf", type="F32", name="fused")
    write_adapter(adapter, base, tmp_path / "lora.gguf")
    listed = {}
    for name, file, lora in (
        ("base", "base.gguf", None),
        ("fused", "fused.gguf", None),
        ("preview", "base.gguf", tmp_path / "lora.gguf"),
    ):
        with LlamaCppServer(tmp_path / file, context_tokens=1024, adapter=lora) as server:
            listed[name] = [server.next_tokens(prompt, 32) for prompt in prompts]
            assert all(
                server.tokenize(server.render(turn(question)), whole=True) == prompt
                for question, prompt in zip(QUESTIONS, prompts, strict=False)
            )
    for name in ("fused", "preview"):
        check_parity(compare_next_tokens("F32", expected, listed[name], tokens_equal=True), what=name)
    assert effect_size(listed["base"], listed["fused"]) > 1e-3


def test_value_heads_take_turns() -> None:
    rows = np.arange(2 + 8).reshape(10, 1)
    order = ValueHeads(axis=0, start=2, key_heads=2, per_key=2, width=2)
    assert order.tiled(rows)[:, 0].tolist() == [0, 1, 2, 3, 6, 7, 4, 5, 8, 9]
    columns = ValueHeads(axis=1, start=0, key_heads=2, per_key=2, width=1)
    assert columns.tiled(np.array([[0, 1, 2, 3]])).tolist() == [[0, 2, 1, 3]]


def test_experts_that_are_missing_are_told(tmp_path: Path) -> None:
    _, hub = two_layouts(tmp_path, "qwen3_moe")
    weights = load_file(hub / "model.safetensors")
    del weights["model.layers.1.mlp.experts.3.up_proj.weight"]
    save_file(weights, hub / "model.safetensors")
    with pytest.raises(InputError, match=r"5 experts of 1 shapes, config\.json says 6 of one"):
        check_base(hub)


@pytest.mark.parametrize(
    ("architecture", "changes", "said"),
    [
        ("qwen3_moe", {"norm_topk_prob": False}, "norm_topk_prob false"),
        ("qwen3_moe", {"mlp_only_layers": [0]}, "layers without experts"),
        ("qwen3_moe", {"decoder_sparse_step": 2}, "layers without experts"),
        ("qwen3_moe", {"num_experts": None}, "num_experts is missing"),
        ("qwen3_5", {"linear_key_head_dim": 32}, "linear_key_head_dim different"),
        ("qwen3_5", {"full_attention_interval": 4}, "do not follow full_attention_interval"),
        ("qwen3_5", {"num_hidden_layers": 10**30}, "do not follow full_attention_interval"),
        ("qwen3_5", {"num_hidden_layers": 10**30, "layer_types": None}, "num_hidden_layers is 1000"),
        ("qwen3_5", {"attn_output_gate": False}, "attn_output_gate false"),
        ("qwen3_5", {"linear_num_key_heads": 3}, "does not divide"),
        ("qwen3_5", {"linear_num_key_heads": 0}, "wrong type"),
        ("qwen3_5", {"linear_key_head_dim": None}, "config.json has no linear_key_head_dim"),
        ("qwen3_5", {"rope_parameters": {"rope_theta": 1e4, "mrope_section": [11, 11, 10]}}, "mrope_section"),
        ("lfm2", {"conv_bias": True}, "conv_bias"),
        ("lfm2", {"tie_word_embeddings": False}, "an output head of its own"),
        ("lfm2", {"layer_types": ["conv", "conv"]}, "layer_types"),
        ("lfm2", {"layer_types": ["full_attention"]}, "layer_types"),
        ("lfm2", {"norm_eps": None}, "rms_norm_eps is"),
        ("lfm2", {"conv_L_cache": "3"}, "conv_L_cache is '3'"),
    ],
)  # fmt: skip
def test_what_the_two_engines_do_not_compute_alike_is_refused(
    tmp_path: Path, architecture: Architecture, changes: dict[str, Any], said: str
) -> None:
    write_toy_model(tmp_path / "toy", architecture=architecture)
    change(tmp_path / "toy" / "config.json", **changes)
    with pytest.raises(InputError) as caught:
        read_config(tmp_path / "toy")
    assert said in caught.value.what


def test_lfm2s_mlp_is_as_wide_as_mlx_lm_makes_it(tmp_path: Path) -> None:
    from mlx_ragtune.models.architectures import flat_config

    config = {
        "model_type": "lfm2", "norm_eps": 1e-5, "block_ff_dim": 6656, "block_auto_adjust_ff_dim": True,
        "block_ffn_dim_multiplier": 1.0, "block_multiple_of": 256,
    }  # fmt: skip
    flat = flat_config(config)
    assert flat["intermediate_size"] == 4608  # LFM2-350M
    assert flat_config(flat) == flat
