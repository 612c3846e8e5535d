"""The key-value pairs of a GGUF file: what llama.cpp reads besides the tensors."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from gguf import GGUFWriter

from mlx_ragtune.gguf.quantize import FILE_TYPES, QuantType
from mlx_ragtune.models import gemma4
from mlx_ragtune.models.architectures import (
    Architecture,
    attention_layers,
    head_dimension,
    key_value_heads,
    rope_parameters,
    rope_sections,
)
from mlx_ragtune.models.vocabulary import Vocabulary

_QUANTIZATION_VERSION = 2


def rope_factors(config: Mapping[str, Any]) -> tuple[float, ...]:
    """The divisors of the rotary frequencies, one per pair of dimensions, of Llama 3 and Gemma 4; empty for others.

    In Llama 3, long wavelengths are stretched by ``factor``, short ones kept, those between interpolated (llama.cpp,
    conversion/llama.py; transformers, modeling_rope_utils.py).
    """
    rope = rope_parameters(config)
    if config["model_type"] == gemma4.MODEL_TYPE:
        return gemma4.rotary_divisors(config)
    if rope["rope_type"] != "llama3":
        return ()
    dimension = head_dimension(config)
    factor, low, high = (
        float(rope.get(key, default))
        for key, default in (("factor", 8), ("low_freq_factor", 1), ("high_freq_factor", 4))
    )
    context = float(rope.get("original_max_position_embeddings", 8192))
    powers = np.arange(0, dimension, 2, dtype=np.float32) / np.float32(dimension)
    frequencies = np.float32(1) / np.float32(rope["rope_theta"]) ** powers
    factors = []
    for wavelength in 2 * math.pi / frequencies.astype(np.float64):
        if wavelength < context / high:
            factors.append(1.0)
        elif wavelength > context / low:
            factors.append(factor)
        else:
            smooth = (context / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return tuple(float(np.float32(value)) for value in factors)


def add_model(writer: GGUFWriter, config: Mapping[str, Any], *, name: str, kind: QuantType, size: str) -> None:
    """Add ``general.*`` and the dimensions of the architecture."""
    writer.add_type("model")
    writer.add_name(name)
    writer.add_size_label(size)
    writer.add_file_type(FILE_TYPES[kind])
    writer.add_quantization_version(_QUANTIZATION_VERSION)
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_context_length(int(config["max_position_embeddings"]))
    writer.add_embedding_length(int(config["hidden_size"]))
    writer.add_feed_forward_length(_inner(config))
    writer.add_head_count(int(config["num_attention_heads"]))
    writer.add_head_count_kv(_key_value_heads(config))
    writer.add_rope_freq_base(rope_parameters(config)["rope_theta"])
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))


def _inner(config: Mapping[str, Any]) -> int | list[int]:
    """Width of the MLPs: one number, or one a layer where Gemma 4 has wider ones."""
    if config.get("use_double_wide_mlp"):
        return [gemma4.inner_width(config, layer) for layer in range(int(config["num_hidden_layers"]))]
    return int(config["intermediate_size"])


def _key_value_heads(config: Mapping[str, Any]) -> int | list[int]:
    """One number, or for LFM2 and some of Gemma 4 one a layer.

    llama.cpp takes a layer of LFM2 without key-value heads for a convolution.
    """
    heads = key_value_heads(config)
    if config.get("num_global_key_value_heads"):
        return [gemma4.layer_key_value_heads(config, layer) for layer in range(int(config["num_hidden_layers"]))]
    if config["model_type"] != "lfm2":
        return heads
    attention = attention_layers(config)
    return [heads if layer in attention else 0 for layer in range(int(config["num_hidden_layers"]))]


def add_particulars(writer: GGUFWriter, config: Mapping[str, Any], architecture: Architecture) -> None:
    """Add the keys that only some architectures have."""
    head = head_dimension(config)
    if architecture.gguf == "gemma4":
        _add_gemma4(writer, config)
        return
    if config.get("head_dim"):
        writer.add_key_length(head)
        writer.add_value_length(head)
    if architecture.gguf == "llama":
        writer.add_vocab_size(int(config["vocab_size"]))
        writer.add_rope_dimension_count(head)
    if architecture.gguf == "gemma3":
        writer.add_sliding_window(int(config["sliding_window"]))
    if architecture.gguf == "qwen3moe":
        writer.add_expert_count(int(config["num_experts"]))
        writer.add_expert_used_count(int(config["num_experts_per_tok"]))
        writer.add_expert_feed_forward_length(int(config["moe_intermediate_size"]))
    if architecture.gguf == "lfm2":
        writer.add_vocab_size(int(config["vocab_size"]))
        writer.add_shortconv_l_cache(int(config["conv_L_cache"]))
    if architecture.gguf == "qwen35":
        _add_delta_rule(writer, config)


def _add_gemma4(writer: GGUFWriter, config: Mapping[str, Any]) -> None:
    """The two kinds of Gemma 4's layers, what the last ones share, and the width of each layer's embeddings."""
    wide, narrow = int(config["global_head_dim"]), int(config["head_dim"])
    writer.add_key_length(wide)
    writer.add_value_length(wide)
    writer.add_key_length_swa(narrow)
    writer.add_value_length_swa(narrow)
    writer.add_rope_dimension_count(wide)  # rope_freqs.weight leaves most of them as they are
    writer.add_rope_dimension_count_swa(narrow)
    local = config["rope_parameters"][gemma4.SLIDING]
    writer.add_rope_freq_base_swa(float(local.get("rope_theta", 10_000.0)))
    writer.add_sliding_window(int(config["sliding_window"]))
    writer.add_sliding_window_pattern([kind == gemma4.SLIDING for kind in config["layer_types"]])
    writer.add_shared_kv_layers(int(config["num_kv_shared_layers"]))
    writer.add_embedding_length_per_layer_input(int(config["hidden_size_per_layer_input"]))
    if config["final_logit_softcapping"]:
        writer.add_final_logit_softcapping(float(config["final_logit_softcapping"]))


def _add_delta_rule(writer: GGUFWriter, config: Mapping[str, Any]) -> None:
    """The sizes of Qwen3.5's gated delta rule, and which part of a head is rotated."""
    writer.add_ssm_conv_kernel(int(config["linear_conv_kernel_dim"]))
    writer.add_ssm_state_size(int(config["linear_key_head_dim"]))
    writer.add_ssm_group_count(int(config["linear_num_key_heads"]))
    writer.add_ssm_time_step_rank(int(config["linear_num_value_heads"]))
    writer.add_ssm_inner_size(int(config["linear_value_head_dim"]) * int(config["linear_num_value_heads"]))
    writer.add_full_attention_interval(int(config.get("full_attention_interval") or 4))
    attention = attention_layers(config)
    recurrent = [layer not in attention for layer in range(int(config["num_hidden_layers"]))]
    writer.add_array("qwen35.attention.recurrent_layers", recurrent)
    share = float(rope_parameters(config).get("partial_rotary_factor", 0.25))
    writer.add_rope_dimension_count(int(head_dimension(config) * share))
    writer.add_rope_dimension_sections([*rope_sections(config), 0])


def add_tokenizer(writer: GGUFWriter, vocabulary: Vocabulary) -> None:
    """Add ``tokenizer.ggml.*`` and the chat template."""
    writer.add_tokenizer_model(vocabulary.model)
    if vocabulary.model != "gemma4":  # which llama.cpp knows by the model
        writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_add_space_prefix(vocabulary.add_space_prefix)
    writer.add_token_list(vocabulary.tokens)
    if vocabulary.scores:
        writer.add_token_scores(vocabulary.scores)
    writer.add_token_types(vocabulary.types)
    if vocabulary.merges:
        writer.add_token_merges(vocabulary.merges)
    for short, add in (
        ("bos", writer.add_bos_token_id),
        ("eos", writer.add_eos_token_id),
        ("unk", writer.add_unk_token_id),
        ("pad", writer.add_pad_token_id),
        ("mask", writer.add_mask_token_id),
    ):
        if short in vocabulary.specials:
            add(vocabulary.specials[short])
    # Without these keys, older Ollama assumes true and puts <|endoftext|> before every prompt of Qwen3.
    writer.add_add_bos_token(vocabulary.add_bos)
    writer.add_add_eos_token(False)  # an EOS after a prompt would end the answer before it begins
    writer.add_chat_template(vocabulary.template)
