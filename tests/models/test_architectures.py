"""Names map both ways, and what llama.cpp would compute differently is refused before training."""

from typing import Any

import pytest

from mlx_ragtune.errors import InputError
from mlx_ragtune.models.architectures import ARCHITECTURES, flat_config, rope_parameters
from mlx_ragtune.models.unsupported import check_architecture

NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "model.layers.0.input_layernorm.weight": "blk.0.attn_norm.weight",
    "model.layers.11.self_attn.q_proj.weight": "blk.11.attn_q.weight",
    "model.layers.11.self_attn.q_proj.bias": "blk.11.attn_q.bias",
    "model.layers.3.mlp.down_proj.weight": "blk.3.ffn_down.weight",
}

COMMON = ("model.embed_tokens.weight", "model.layers.11.self_attn.q_proj.weight")


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_every_name_maps_there_and_back(kind: str) -> None:
    architecture = ARCHITECTURES[kind]
    for ours, theirs in NAMES.items():
        if architecture.transformers_class in ("Qwen3MoeForCausalLM", "Lfm2ForCausalLM") and ours not in COMMON:
            continue  # other names for the MLP, the norms or the head
        assert architecture.gguf_name(ours) == theirs
        assert architecture.model_name(theirs) == ours
    for name, theirs in architecture.bare.items():
        assert architecture.gguf_name(f"model.layers.5.{name}") == f"blk.5.{theirs}"
    for name in architecture.layer:
        full = f"model.layers.5.{name}.weight"
        assert architecture.model_name(architecture.gguf_name(full)) == full


def test_the_same_norm_has_another_name_in_gemma() -> None:
    name = "model.layers.0.post_attention_layernorm.weight"
    assert ARCHITECTURES["qwen3"].gguf_name(name) == "blk.0.ffn_norm.weight"
    assert ARCHITECTURES["gemma3_text"].gguf_name(name) == "blk.0.post_attention_norm.weight"


@pytest.mark.parametrize(
    "name",
    [
        "", "weight", "model.layers.x.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.scales", "lm_head.bias",
        "model.layers.0.mlp.experts.up_proj.weight", "vision.patch.weight", "model.layers.0.self_attn.q_norm.weight",
    ],
)  # fmt: skip
def test_a_tensor_without_a_name_in_gguf_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="has no name in GGUF"):
        ARCHITECTURES["llama"].gguf_name(name)


@pytest.mark.parametrize("name", ["", "blk.0.ffn_gate_exps.weight", "blk.x.ffn_up.weight", "rope_freqs", "output.bias"])
def test_an_unknown_name_of_a_file_is_refused(name: str) -> None:
    with pytest.raises(InputError):
        ARCHITECTURES["llama"].model_name(name)


def test_an_unknown_architecture_gets_the_list_and_the_thread_to_watch() -> None:
    with pytest.raises(InputError) as caught:
        check_architecture({"model_type": "phi3"})
    assert "gemma3_text, gemma4_text, lfm2, llama, mistral, qwen2, qwen3, qwen3_5, qwen3_moe" in caught.value.what
    assert "mlx-lm/issues/353" in caught.value.fix


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"quantization": {"bits": 4}}, "quantized"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantized"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope scaling 'yarn'"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope scaling 'linear'"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope scaling 'llama3'"),
        ({"use_sliding_window": True}, "sliding-window"),
        ({"num_experts": 8}, "mixture of experts"),
        ({"hidden_act": "relu"}, "activation 'relu'"),
        ({"model_type": "gemma3_text", "head_dim": 256, "query_pre_attn_scalar": 168}, "query_pre_attn_scalar 168"),
        ({"model_type": "gemma3_text", "rope_local_base_freq": 5000.0}, "rope_local_base_freq 5000"),
        ({"model_type": "gemma3_text", "sliding_window_pattern": 2}, "sliding_window_pattern 2"),
        ({"model_type": "gemma3_text", "final_logit_softcapping": 30.0}, "soft-capping"),
    ],
)
def test_what_would_be_computed_differently_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        check_architecture({"model_type": "qwen3", **changes})
    assert said in caught.value.what


def test_all_differences_are_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        check_architecture({"model_type": "qwen3", "use_sliding_window": True, "num_experts": 8, "hidden_act": "relu"})
    assert caught.value.what.count(";") == 2


@pytest.mark.parametrize(
    ("config", "theta", "kind"),
    [
        ({}, 10000.0, "default"),
        ({"rope_theta": 5e5}, 5e5, "default"),
        ({"model_type": "gemma3_text"}, 1e6, "default"),
        ({"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}, 1e6, "default"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 2e6}, "sliding_attention": {}}}, 2e6, "default"),
        ({"rope_scaling": {"type": "linear"}, "rope_theta": 1e4}, 1e4, "linear"),
    ],
)
def test_rotary_settings_are_found_wherever_they_are_kept(config: dict[str, Any], theta: float, kind: str) -> None:
    found = rope_parameters(config)
    assert (found["rope_theta"], found["rope_type"]) == (theta, kind)


@pytest.mark.parametrize(
    "given", [None, {}, {"full_attention": {"rope_type": "proportional"}}, {"sliding_attention": {}}]
)
def test_rotary_keys_that_a_gemma4_leaves_out_have_their_defaults(given: object) -> None:
    flat = flat_config({"model_type": "gemma4_text", "num_hidden_layers": 6, "rope_parameters": given})
    full, local = (flat["rope_parameters"][kind] for kind in ("full_attention", "sliding_attention"))
    assert (full["partial_rotary_factor"], full["rope_theta"], local["rope_theta"]) == (0.25, 1e6, 1e4)
