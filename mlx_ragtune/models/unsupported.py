"""What is refused before training: architectures and features that MLX and llama.cpp do not compute alike."""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from mlx_ragtune.errors import InputError
from mlx_ragtune.models import gemma4
from mlx_ragtune.models.architectures import (
    ARCHITECTURES,
    GEMMA3_LOCAL_ROPE_THETA,
    GEMMA3_PATTERN,
    Architecture,
    attention_layers,
    head_dimension,
    key_value_heads,
    rope_parameters,
    rope_sections,
)

_MULTIMODAL = "it is a model of text and images, and only text models are trained here"
_OTHER_EXPERTS = "of the mixtures of experts, only Qwen3's is supported"
REFUSED: Final[Mapping[str, str]] = {
    "gemma3": f"{_MULTIMODAL}; the text-only Gemma 3 (gemma3_text) is supported",
    "gemma3n": _MULTIMODAL,
    "gemma4": "its config.json has no text_config",
    "gemma4_unified": "Gemma 4 without encoders for images and audio was not checked against llama.cpp; its other "
    "dense models (gemma4) are supported",
    "gemma4_assistant": "it only drafts tokens for another model",
    "mistral3": f"{_MULTIMODAL}; the text-only Mistral (mistral) is supported",
    "ministral3": "its rotary scaling (YaRN) and its scaling of queries have no check against llama.cpp here",
    "mistral4": "its rotary scaling (YaRN) and its scaling of queries have no check against llama.cpp here",
    "qwen2_vl": _MULTIMODAL,
    "qwen2_5_vl": _MULTIMODAL,
    "qwen3_vl": _MULTIMODAL,
    "qwen3_5_text": "mlx-lm loads Qwen3.5 as 'qwen3_5' only",
    "qwen3_5_moe": _OTHER_EXPERTS,
    "qwen3_next": _OTHER_EXPERTS,
    "qwen2_moe": _OTHER_EXPERTS,
    "mixtral": _OTHER_EXPERTS,
    "lfm2_moe": _OTHER_EXPERTS,
}
"""Known architectures that are refused, by ``model_type``, with the reason."""

_SIZES = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "max_position_embeddings",
)  # fmt: skip
_MORE_SIZES: Final[Mapping[str, tuple[str, ...]]] = {
    "qwen3_moe": ("num_experts", "num_experts_per_tok", "moe_intermediate_size", "head_dim"),
    "qwen3_5": ("linear_num_key_heads", "linear_num_value_heads", "linear_key_head_dim", "linear_value_head_dim",
                "linear_conv_kernel_dim"),
    "lfm2": ("conv_L_cache",),
    gemma4.MODEL_TYPE: ("head_dim", "global_head_dim", "sliding_window", "num_key_value_heads"),
}  # fmt: skip
_MAX_VOCABULARY, _MAX_LAYERS, _MAX_SIZE = 2**24, 10_000, 2**31
"""Larger values in a config.json are taken for damage, so that no check allocates memory for them."""


def _unsupported(config: Mapping[str, Any]) -> Iterable[str]:
    """Features of this model that llama.cpp would compute differently."""
    rope, model_type = rope_parameters(config), config["model_type"]
    known = {"llama": ("default", "llama3"), gemma4.MODEL_TYPE: ("proportional",)}
    if rope["rope_type"] not in known.get(model_type, ("default",)):
        yield f"rope scaling '{rope['rope_type']}'"
    if not 0 < rope["rope_theta"] < math.inf:
        yield f"rope_theta {rope['rope_theta']}"
    if config.get("use_sliding_window"):
        yield "sliding-window attention (use_sliding_window)"
    if model_type not in ("qwen3_moe", gemma4.MODEL_TYPE) and (
        config.get("num_local_experts") or config.get("num_experts")
    ):
        yield "a mixture of experts"
    if config.get("hidden_act", "silu") not in ("silu", "gelu_pytorch_tanh"):
        yield f"activation '{config['hidden_act']}'"
    if model_type in ("llama", "mistral") and "sliding_attention" in (config.get("layer_types") or ()):
        yield "sliding-window attention in some layers (layer_types)"
    yield from _PARTICULAR.get(model_type, lambda _config: ())(config)


def _gemma3_unsupported(config: Mapping[str, Any]) -> Iterable[str]:
    head = head_dimension(config)
    if float(config.get("query_pre_attn_scalar") or head) != head:
        yield f"query_pre_attn_scalar {config['query_pre_attn_scalar']} with head_dim {head}"
    local = (config.get("rope_parameters") or {}).get("sliding_attention", {}).get("rope_theta")
    local = float(config.get("rope_local_base_freq") or local or GEMMA3_LOCAL_ROPE_THETA)
    if local != GEMMA3_LOCAL_ROPE_THETA:
        yield f"rope_local_base_freq {local:g}"
    if int(config.get("sliding_window_pattern") or GEMMA3_PATTERN) != GEMMA3_PATTERN:
        yield f"sliding_window_pattern {config['sliding_window_pattern']}"
    if config.get("final_logit_softcapping") or config.get("attn_logit_softcapping"):
        yield "logit soft-capping"


def _gemma4_unsupported(config: Mapping[str, Any]) -> Iterable[str]:
    yield from _gemma4_parts(config)
    kinds, layers, own = config["layer_types"], int(config["num_hidden_layers"]), gemma4.own_layers(config)
    if len(kinds) != layers or set(kinds) != {gemma4.SLIDING, gemma4.FULL}:
        yield "layer_types that are not 'sliding_attention' and 'full_attention' for every layer"
    elif own < 2 or (own < layers and [*kinds[own - 2 : own]] != [gemma4.SLIDING, gemma4.FULL]):
        yield "layers that share the keys and values of others than the last two (num_kv_shared_layers)"
    if "per_layer_config" in config and config.get("global_head_dim") != _full_head(config["per_layer_config"]):
        yield "per_layer_config beside another global_head_dim (mlx-lm reads the latter only)"
    fewer = config["num_global_key_value_heads"]
    if fewer and fewer != config["num_key_value_heads"] and not config["attention_k_eq_v"]:
        yield "num_global_key_value_heads without attention_k_eq_v"
    if fewer and config["num_attention_heads"] % fewer:
        yield f"num_global_key_value_heads {fewer}, which does not divide num_attention_heads"
    if config["global_head_dim"] % 2:
        yield f"an odd global_head_dim {config['global_head_dim']}"
    full, local = (config["rope_parameters"][kind] for kind in (gemma4.FULL, gemma4.SLIDING))
    proportional = full.get("rope_type") == "proportional"  # of others it is told elsewhere
    if proportional and (float(full.get("factor", 1.0)) != 1 or not 0 < float(full["partial_rotary_factor"]) <= 1):
        yield "a scaled proportional rotary embedding"
    if local.get("rope_type", "default") != "default" or float(local.get("partial_rotary_factor", 1.0)) != 1:
        yield "a scaled or partial rotary embedding in layers with a window"


def _full_head(layers: Mapping[str, Any]) -> Any:
    """The head width that transformers' ``per_layer_config`` gives its layers, all of which have full attention."""
    widths = {layer.get("head_dim") for layer in layers.values()}
    return widths.pop() if len(widths) == 1 else None


def _gemma4_parts(config: Mapping[str, Any]) -> Iterable[str]:
    """Parts of a Gemma 4 that are not trained here, or not computed alike."""
    if config["enable_moe_block"]:
        yield f"enable_moe_block: {_OTHER_EXPERTS}, and of Gemma 4 the dense models"
    if config["tie_word_embeddings"] is not True:
        yield "an output head of its own"
    if config["attention_bias"]:
        yield "attention_bias"
    if config.get("use_bidirectional_attention") == "all":
        yield "use_bidirectional_attention 'all' (only text from left to right is trained)"
    if config["hidden_activation"] != "gelu_pytorch_tanh":
        yield f"activation '{config['hidden_activation']}'"
    if int(config["hidden_size_per_layer_input"]) and config["vocab_size_per_layer_input"] != config["vocab_size"]:
        yield "a vocab_size_per_layer_input that is not vocab_size"


def _qwen3_moe_unsupported(config: Mapping[str, Any]) -> Iterable[str]:
    if not config.get("norm_topk_prob"):
        yield "norm_topk_prob false (llama.cpp always normalizes the weights of the chosen experts)"
    if config.get("mlp_only_layers") or config.get("decoder_sparse_step", 1) != 1:
        yield "layers without experts among those with experts (mlp_only_layers, decoder_sparse_step)"
    if config.get("attention_bias"):
        yield "attention_bias"


def _qwen3_5_unsupported(config: Mapping[str, Any]) -> Iterable[str]:
    if config.get("attn_output_gate") is False:
        yield "attn_output_gate false"
    if config.get("attention_bias"):
        yield "attention_bias"
    if config["linear_key_head_dim"] != config["linear_value_head_dim"]:
        yield "linear_key_head_dim different from linear_value_head_dim"
    if config["linear_num_value_heads"] % config["linear_num_key_heads"]:
        yield "linear_num_value_heads that linear_num_key_heads does not divide"
    kinds = config.get("layer_types")
    full = [layer for layer, kind in enumerate(kinds or ()) if kind == "full_attention"]
    if kinds and (len(kinds) != config["num_hidden_layers"] or full != attention_layers(config)):
        yield "layer_types that do not follow full_attention_interval"
    rope = rope_parameters(config)
    rotary = int(head_dimension(config) * float(rope.get("partial_rotary_factor", 0.25)))
    if 2 * sum(rope_sections(config)) != rotary:
        yield f"mrope_section {list(rope_sections(config))} for {rotary} rotary dimensions"


def _lfm2_unsupported(config: Mapping[str, Any]) -> Iterable[str]:
    if config.get("conv_bias"):
        yield "conv_bias"
    if config.get("tie_word_embeddings") is False or config.get("tie_embedding") is False:
        yield "an output head of its own (mlx-lm uses the embedding)"
    if config.get("head_dim") and config["head_dim"] != config["hidden_size"] // config["num_attention_heads"]:
        yield f"head_dim {config['head_dim']}"
    kinds, layers = config.get("layer_types") or (), int(config["num_hidden_layers"])
    if len(kinds) != layers or not set(kinds) <= {"conv", "full_attention"} or len(set(kinds)) != 2:
        yield "layer_types that are not 'conv' and 'full_attention' for every layer"


_PARTICULAR: Final[Mapping[str, Callable[[Mapping[str, Any]], Iterable[str]]]] = {
    "gemma3_text": _gemma3_unsupported,
    gemma4.MODEL_TYPE: _gemma4_unsupported,
    "qwen3_moe": _qwen3_moe_unsupported,
    "qwen3_5": _qwen3_5_unsupported,
    "lfm2": _lfm2_unsupported,
}


def check_architecture(config: Mapping[str, Any]) -> Architecture:
    """The architecture of a model with this flat ``config.json``.

    Raises InputError for others, with the supported ones.
    """
    model_type = str(config.get("model_type"))
    if model_type not in ARCHITECTURES:
        known = REFUSED.get(model_type)
        raise InputError(
            f"architecture '{model_type:.60}' cannot be used: {known}"
            if known
            else f"architecture '{model_type:.60}' cannot be exported (supported: {', '.join(sorted(ARCHITECTURES))})",
            fix="choose another base; docs/models.md lists the supported families"
            if known
            else "choose another base; for other architectures follow github.com/ml-explore/mlx-lm/issues/353",
        )
    if "quantization" in config or "quantization_config" in config:
        raise InputError(
            "the model folder is quantized: exporting it would quantize twice",
            fix="name the full-precision model in base.model and set base.precision: 4bit or 8bit",
        )
    try:
        problems = list(_unsupported(config))
    except KeyError as error:
        raise InputError(f"config.json has no {error.args[0]}", fix="fetch the model again") from None
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise InputError(f"config.json has a value of the wrong type: {error}", fix="fetch the model again") from None
    if problems:
        raise InputError(f"cannot export a model with {'; '.join(problems)}", fix="choose a base without it")
    return ARCHITECTURES[model_type]


def check_dimensions(config: Mapping[str, Any], *, where: Path) -> None:
    """Raise InputError for the first size in a flat ``config.json`` that is missing, of another type, or impossible."""

    def fail(key: str, why: str) -> InputError:
        value = f"{config[key]!r:.40}" if key in config else "missing"
        return InputError(f"{key} is {value}: {why}", where=str(where), fix="fetch the model again")

    required = (*_SIZES, *_MORE_SIZES.get(str(config.get("model_type")), ()))
    limits = {"vocab_size": _MAX_VOCABULARY, "num_hidden_layers": _MAX_LAYERS}
    for key in (*required, "num_key_value_heads", "head_dim", "sliding_window"):
        value, limit = config.get(key), limits.get(key, _MAX_SIZE)
        if value is None and key not in required:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= limit:
            raise fail(key, f"it must be a whole number from 1 to {limit}")
    epsilon = config.get("rms_norm_eps")
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float) or not 0 < epsilon < 1:
        raise fail("rms_norm_eps", "it must be a number between 0 and 1")
    heads = config["num_attention_heads"]
    if not config.get("head_dim") and config["hidden_size"] % heads:
        raise fail("num_attention_heads", f"it must divide hidden_size {config['hidden_size']}")
    if heads % key_value_heads(config):
        raise fail("num_key_value_heads", f"it must divide num_attention_heads {heads}")
    if head_dimension(config) % 2:
        raise fail("head_dim", "it must be even")
