"""Gemma 4's dense text models: their flat configuration, layers that share keys and values, and all shapes.

Every few layers have full attention with heads of their own width, the others a window. In the small models the last
layers have no keys and values: they read those of the last earlier layer of their kind. Each layer of these also gets
an embedding of the token of its own. Names and defaults are those of transformers' ``Gemma4TextConfig``.
"""

from collections.abc import Mapping
from typing import Any, Final

MODEL_TYPE: Final = "gemma4_text"
FULL, SLIDING = "full_attention", "sliding_attention"
_PATTERN: Final = 6
"""Where ``layer_types`` is missing, every sixth layer has full attention, and so has the last one."""
_ROPE: Final[Mapping[str, Mapping[str, Any]]] = {
    SLIDING: {"rope_type": "default", "rope_theta": 10_000.0},
    FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1_000_000.0},
}
_DEFAULTS: Final[Mapping[str, Any]] = {
    "vocab_size": 262_144,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "global_head_dim": 512,
    "num_global_key_value_heads": None,
    "hidden_activation": "gelu_pytorch_tanh",
    "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "sliding_window": 512,
    "final_logit_softcapping": None,
    "vocab_size_per_layer_input": 262_144,
    "hidden_size_per_layer_input": 256,
    "attention_k_eq_v": False,
    "num_kv_shared_layers": 0,
    "enable_moe_block": False,
    "use_double_wide_mlp": False,
}
_NESTED: Final = ("text_config", "vision_config", "audio_config")
_UNROTATED = 1e30
"""Divisor of the frequencies of dimensions that are not rotated, as in llama.cpp's files."""


def flat_gemma4(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of the text model alone, complete: what config.json leaves out has transformers' default.

    mlx-lm has other defaults for some of the keys, so a model is loaded with this one. Values of the wrong type stay as
    they are, for the checks. Flattening twice changes nothing.
    """
    nested = config.get("text_config")
    text = dict(nested) if isinstance(nested, Mapping) else {}
    flat = text | {key: value for key, value in config.items() if key not in _NESTED}
    flat["tie_word_embeddings"] = text.get("tie_word_embeddings", flat.get("tie_word_embeddings", True))
    flat |= {"model_type": MODEL_TYPE, "architectures": ["Gemma4ForCausalLM"]}
    for key, value in _DEFAULTS.items():
        flat.setdefault(key, value)
    for key in ("num_kv_shared_layers", "hidden_size_per_layer_input"):
        flat[key] = 0 if flat[key] is None else flat[key]
    given = {} if flat.get("rope_parameters") is None else flat["rope_parameters"]
    if isinstance(given, Mapping) and all(isinstance(given.get(kind) or {}, Mapping) for kind in _ROPE):
        flat["rope_parameters"] = {kind: {**values, **(given.get(kind) or {})} for kind, values in _ROPE.items()}
    layers = flat.get("num_hidden_layers")
    if flat.get("layer_types") is None and isinstance(layers, int):
        kinds = [FULL if (layer + 1) % _PATTERN == 0 else SLIDING for layer in range(min(layers, 10_000))]
        flat["layer_types"] = [*kinds[:-1], FULL]
    return flat


def is_full(config: Mapping[str, Any], layer: int) -> bool:
    """Whether a layer has full attention, not a window."""
    return bool(config["layer_types"][layer] == FULL)


def own_layers(config: Mapping[str, Any]) -> int:
    """How many layers, from the first on, have keys and values of their own."""
    return int(config["num_hidden_layers"]) - int(config["num_kv_shared_layers"])


def head_width(config: Mapping[str, Any], layer: int) -> int:
    """Width of a layer's attention heads."""
    return int((config.get("global_head_dim") if is_full(config, layer) else None) or config["head_dim"])


def layer_key_value_heads(config: Mapping[str, Any], layer: int) -> int:
    """Number of a layer's key-value heads."""
    fewer = config.get("num_global_key_value_heads")
    return int(
        fewer if fewer and config["attention_k_eq_v"] and is_full(config, layer) else config["num_key_value_heads"]
    )


def cached_width(config: Mapping[str, Any], layer: int) -> int:
    """Values of the keys that a layer keeps for one token, and of the values; 0 for one that shares another's."""
    return layer_key_value_heads(config, layer) * head_width(config, layer) if layer < own_layers(config) else 0


def inner_width(config: Mapping[str, Any], layer: int) -> int:
    """Width of a layer's MLP: layers without keys and values may have twice that of the others."""
    twice = config["use_double_wide_mlp"] and layer >= own_layers(config)
    return int(config["intermediate_size"]) * (2 if twice else 1)


def layer_shapes(config: Mapping[str, Any], layer: int) -> dict[str, tuple[int, ...]]:
    """Name within a layer, with its ending, and shape of every weight that the layer must have."""
    hidden, head, inner = int(config["hidden_size"]), head_width(config, layer), inner_width(config, layer)
    queries, keys = config["num_attention_heads"] * head, layer_key_value_heads(config, layer) * head
    shapes: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.o_proj": (hidden, queries),
        "self_attn.q_norm": (head,),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
        "pre_feedforward_layernorm": (hidden,),
        "post_feedforward_layernorm": (hidden,),
    }
    if layer < own_layers(config):
        shapes |= {"self_attn.k_proj": (keys, hidden), "self_attn.k_norm": (head,)}
        if not (config["attention_k_eq_v"] and is_full(config, layer)):
            shapes["self_attn.v_proj"] = (keys, hidden)
    if narrow := int(config["hidden_size_per_layer_input"]):
        shapes |= {
            "per_layer_input_gate": (narrow, hidden),
            "per_layer_projection": (hidden, narrow),
            "post_per_layer_input_norm": (hidden,),
        }
    return {**{f"{name}.weight": shape for name, shape in shapes.items()}, "layer_scalar": (1,)}


def outside_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight outside the layers; embeddings for each layer are one matrix for all layers."""
    hidden, narrow = int(config["hidden_size"]), int(config["hidden_size_per_layer_input"])
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config["vocab_size"], hidden),
        "model.norm.weight": (hidden,),
    }
    if narrow:
        wide = narrow * int(config["num_hidden_layers"])
        shapes |= {
            "model.embed_tokens_per_layer.weight": (config["vocab_size_per_layer_input"], wide),
            "model.per_layer_model_projection.weight": (wide, hidden),
            "model.per_layer_projection_norm.weight": (narrow,),
        }
    return shapes


def is_unused(name: str, config: Mapping[str, Any]) -> bool:
    """Whether a checkpoint's tensor, by its plain name, is never read: keys and values of layers that share them."""
    layer, _, tail = name.removeprefix("model.layers.").partition(".")
    projections = ("self_attn.k_proj.", "self_attn.v_proj.", "self_attn.k_norm.")
    return layer.isdecimal() and tail.startswith(projections) and int(layer) >= own_layers(config)


def rotary_divisors(config: Mapping[str, Any]) -> tuple[float, ...]:
    """Divisors of the rotary frequencies of layers with full attention, one per pair of dimensions.

    The first share of the dimensions is rotated (``partial_rotary_factor``), the others are not.
    """
    head = int(config["global_head_dim"])
    rotated = int(head * float(config["rope_parameters"][FULL]["partial_rotary_factor"]) / 2)
    return (1.0,) * rotated + (_UNROTATED,) * (head // 2 - rotated)
