"""The supported architectures: tensor names in model folders and in GGUF, and the shapes of all tensors."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mlx_ragtune.errors import InputError
from mlx_ragtune.models import gemma4

_ATTENTION_AND_MLP = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_TWO_NORMS = {**_ATTENTION_AND_MLP, "post_attention_layernorm": "ffn_norm"}
_HEAD_NORMS = {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
_FOUR_NORMS = {
    **_ATTENTION_AND_MLP,
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
_OUTSIDE_LAYERS = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_EMBEDDED_LAYERS = {
    "per_layer_input_gate": "inp_gate",
    "per_layer_projection": "proj",
    "post_per_layer_input_norm": "post_norm",
}
_EMBEDDED_OUTSIDE = {
    **_OUTSIDE_LAYERS,
    "model.embed_tokens_per_layer": "per_layer_token_embd",
    "model.per_layer_model_projection": "per_layer_model_proj",
    "model.per_layer_projection_norm": "per_layer_proj_norm",
}
_EXPERTS = {
    **{name: gguf for name, gguf in _TWO_NORMS.items() if not name.startswith("mlp.")},
    "mlp.gate": "ffn_gate_inp",
    "mlp.switch_mlp.gate_proj": "ffn_gate_exps",
    "mlp.switch_mlp.up_proj": "ffn_up_exps",
    "mlp.switch_mlp.down_proj": "ffn_down_exps",
}
_DELTA = {
    **_ATTENTION_AND_MLP,
    "post_attention_layernorm": "post_attention_norm",
    "linear_attn.in_proj_qkv": "attn_qkv",
    "linear_attn.in_proj_z": "attn_gate",
    "linear_attn.in_proj_a": "ssm_alpha",
    "linear_attn.in_proj_b": "ssm_beta",
    "linear_attn.conv1d": "ssm_conv1d",
    "linear_attn.norm": "ssm_norm",
    "linear_attn.out_proj": "ssm_out",
}
_SHORT_CONVOLUTIONS = {
    "operator_norm": "attn_norm",
    "ffn_norm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.out_proj": "attn_output",
    "self_attn.q_layernorm": "attn_q_norm",
    "self_attn.k_layernorm": "attn_k_norm",
    "conv.conv": "shortconv.conv",
    "conv.in_proj": "shortconv.in_proj",
    "conv.out_proj": "shortconv.out_proj",
    "feed_forward.w1": "ffn_gate",
    "feed_forward.w2": "ffn_down",
    "feed_forward.w3": "ffn_up",
}


@dataclass(frozen=True)
class Architecture:
    """How a ``model_type`` is stored in GGUF.

    ``interleaved``: llama.cpp expects the rows of q and k in interleaved rotary order. ``norm_shift`` is added
    to norm weights on export (a Gemma model folder stores weight - 1). ``layer`` maps the names of a layer's
    tensors, without ``.weight``; a layer of a hybrid model has some of them. ``bare`` maps those whose names do not
    end so. ``hybrid``: some layers keep a state instead of keys and values.
    """

    gguf: str
    transformers_class: str
    layer: Mapping[str, str]
    interleaved: bool = False
    norm_shift: float = 0.0
    bare: Mapping[str, str] = field(default_factory=dict)
    outside: Mapping[str, str] = field(default_factory=lambda: _OUTSIDE_LAYERS)
    hybrid: bool = False

    def gguf_name(self, name: str) -> str:
        """``model.layers.3.mlp.up_proj.weight`` → ``blk.3.ffn_up.weight``. Raises InputError if unknown."""
        stem, _, ending = name.rpartition(".")
        layer, _, whole = name.removeprefix("model.layers.").partition(".")
        if name.startswith("model.layers.") and layer.isdecimal() and whole in self.bare:
            return f"blk.{layer}.{self.bare[whole]}"
        if ending in ("weight", "bias"):
            if stem in self.outside and ending == "weight":
                return f"{self.outside[stem]}.{ending}"
            tail = whole.removesuffix(f".{ending}")
            if stem.startswith("model.layers.") and layer.isdecimal() and tail in self.layer:
                return f"blk.{layer}.{self.layer[tail]}.{ending}"
        raise InputError(f"tensor '{name:.120}' has no name in GGUF", fix="use a text-only model as base")

    def model_name(self, name: str) -> str:
        """The inverse of ``gguf_name``. Raises InputError if unknown."""
        stem, _, ending = name.rpartition(".")
        if ending in ("weight", "bias"):
            outside = {gguf: model for model, gguf in self.outside.items()}
            if stem in outside and ending == "weight":
                return f"{outside[stem]}.{ending}"
            layer, _, tail = stem.removeprefix("blk.").partition(".")
            inverse = {gguf: model for model, gguf in self.layer.items()}
            if stem.startswith("blk.") and layer.isdecimal() and tail in inverse:
                return f"model.layers.{layer}.{inverse[tail]}.{ending}"
        raise InputError(f"tensor '{name:.120}' of the GGUF file is unknown", fix="use a text-only model as base")


ARCHITECTURES: Final[Mapping[str, Architecture]] = {
    "llama": Architecture("llama", "LlamaForCausalLM", _TWO_NORMS, interleaved=True),
    "mistral": Architecture("llama", "MistralForCausalLM", _TWO_NORMS, interleaved=True),
    "qwen2": Architecture("qwen2", "Qwen2ForCausalLM", _TWO_NORMS),
    "qwen3": Architecture("qwen3", "Qwen3ForCausalLM", {**_TWO_NORMS, **_HEAD_NORMS}),
    "qwen3_moe": Architecture("qwen3moe", "Qwen3MoeForCausalLM", {**_EXPERTS, **_HEAD_NORMS}),
    "qwen3_5": Architecture(
        "qwen35",
        "Qwen3_5ForConditionalGeneration",
        {**_DELTA, **_HEAD_NORMS},
        bare={"linear_attn.A_log": "ssm_a", "linear_attn.dt_bias": "ssm_dt.bias"},
        hybrid=True,
    ),
    "lfm2": Architecture(
        "lfm2",
        "Lfm2ForCausalLM",
        _SHORT_CONVOLUTIONS,
        outside={"model.embed_tokens": "token_embd", "model.embedding_norm": "token_embd_norm"},
        hybrid=True,
    ),
    "gemma3_text": Architecture("gemma3", "Gemma3ForCausalLM", {**_FOUR_NORMS, **_HEAD_NORMS}, norm_shift=1.0),
    gemma4.MODEL_TYPE: Architecture(
        "gemma4",
        "Gemma4ForCausalLM",
        {**_FOUR_NORMS, **_HEAD_NORMS, **_EMBEDDED_LAYERS},
        bare={"layer_scalar": "layer_output_scale.weight"},
        outside=_EMBEDDED_OUTSIDE,
    ),
}
"""By the ``model_type`` of config.json."""

_PROJECTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "q_proj": ("self_attn.q_proj",),
    "k_proj": ("self_attn.k_proj",),
    "v_proj": ("self_attn.v_proj",),
    "o_proj": ("self_attn.o_proj", "self_attn.out_proj"),
    "gate_proj": ("mlp.gate_proj", "feed_forward.w1"),
    "up_proj": ("mlp.up_proj", "feed_forward.w3"),
    "down_proj": ("mlp.down_proj", "feed_forward.w2"),
    "in_proj_qkv": ("linear_attn.in_proj_qkv",),
    "in_proj_z": ("linear_attn.in_proj_z",),
    "in_proj": ("conv.in_proj",),
    "out_proj": ("linear_attn.out_proj", "conv.out_proj"),
}
"""Where the matrices that a recipe names are in a layer, by family."""


def projections(names: Iterable[str], layer: Container[str]) -> list[str]:
    """The places of the named projections among those of a layer: ``feed_forward.w1`` for ``gate_proj`` of LFM2."""
    return [place for name in names for place in _PROJECTIONS[name] if place in layer]


def projection_names(model_type: str) -> list[str]:
    """The names in ``train.target_modules`` that an architecture has."""
    layer = ARCHITECTURES[model_type].layer
    return [name for name, places in _PROJECTIONS.items() if any(place in layer for place in places)]


GGUF_TO_MODEL_TYPE = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma3": "gemma3_text"}

GEMMA3_LOCAL_ROPE_THETA, GEMMA3_PATTERN = 10000.0, 6
"""Constants of llama.cpp's gemma3: the rotary base of local layers, and every sixth layer is global."""


def flat_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of the text model under the names that dense models use; flattening twice changes nothing.

    Qwen3.5 keeps it in ``text_config``, as mlx-lm reads it, and so does Gemma 4; LFM2 has other names for two of its
    sizes.
    """
    flat = dict(config)
    if flat.get("model_type") == gemma4.MODEL_TYPE or (
        flat.get("model_type") == "gemma4" and isinstance(flat.get("text_config"), Mapping)
    ):
        return gemma4.flat_gemma4(flat)
    if flat.get("model_type") == "qwen3_5" and isinstance(flat.get("text_config"), Mapping):
        text = flat.pop("text_config")
        flat.pop("vision_config", None)
        tied = bool(text.get("tie_word_embeddings", False))
        flat |= {**text, "model_type": "qwen3_5", "tie_word_embeddings": tied}
    if flat.get("model_type") == "lfm2":
        flat["rms_norm_eps"] = flat.get("norm_eps")
        if flat.get("block_ff_dim") is None:
            flat["block_ff_dim"] = flat.get("intermediate_size")
        flat["intermediate_size"] = _lfm2_inner(flat)
    return flat


def _lfm2_inner(config: Mapping[str, Any]) -> Any:
    """Width of LFM2's MLP, as mlx-lm and llama.cpp derive it; a value of another type is returned as it is."""
    width = config["block_ff_dim"]
    if not isinstance(width, int) or not config.get("block_auto_adjust_ff_dim"):
        return width
    width = int(2 * width / 3)
    if config.get("block_ffn_dim_multiplier") is not None:
        width = int(config["block_ffn_dim_multiplier"] * width)
    multiple = int(config.get("block_multiple_of") or 1)
    return multiple * -(-width // multiple)


def head_dimension(config: Mapping[str, Any]) -> int:
    """Width of one attention head; in Gemma 4, of those with a window."""
    if config.get("head_dim"):
        return int(config["head_dim"])
    return 256 if config.get("model_type") == "gemma3_text" else config["hidden_size"] // config["num_attention_heads"]


def key_value_heads(config: Mapping[str, Any]) -> int:
    """Number of key-value heads; fewer than attention heads in grouped-query attention."""
    return int(config.get("num_key_value_heads") or config["num_attention_heads"])


def attention_layers(config: Mapping[str, Any]) -> list[int]:
    """The layers that keep keys and values: all of them, except in a hybrid model."""
    layers = range(int(config["num_hidden_layers"]))
    if config["model_type"] == "qwen3_5":
        interval = int(config.get("full_attention_interval") or 4)
        return [layer for layer in layers if (layer + 1) % interval == 0]
    if config["model_type"] == "lfm2":
        indices = config.get("full_attn_idxs")
        if indices is None:
            indices = [n for n, kind in enumerate(config.get("layer_types") or ()) if kind == "full_attention"]
        return [layer for layer in layers if layer in indices]
    return list(layers)


def _attention_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    hidden, head = config["hidden_size"], head_dimension(config)
    queries, keys = config["num_attention_heads"] * head, key_value_heads(config) * head
    gates = 2 if config["model_type"] == "qwen3_5" else 1  # each query head has a gate of its own width
    return {
        "self_attn.q_proj": (gates * queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "self_attn.out_proj": (hidden, queries),
        "self_attn.q_norm": (head,),
        "self_attn.k_norm": (head,),
        "self_attn.q_layernorm": (head,),
        "self_attn.k_layernorm": (head,),
    }


def _mlp_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    gate, down = (inner, hidden), (hidden, inner)
    shapes: dict[str, tuple[int, ...]] = {
        "mlp.gate_proj": gate, "mlp.up_proj": gate, "mlp.down_proj": down,
        "feed_forward.w1": gate, "feed_forward.w3": gate, "feed_forward.w2": down,
    }  # fmt: skip
    if config["model_type"] == "qwen3_moe":
        experts, inner = config["num_experts"], config["moe_intermediate_size"]
        shapes |= {
            "mlp.gate": (experts, hidden),
            "mlp.switch_mlp.gate_proj": (experts, inner, hidden),
            "mlp.switch_mlp.up_proj": (experts, inner, hidden),
            "mlp.switch_mlp.down_proj": (experts, hidden, inner),
        }
    return shapes


def _state_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Of the parts that keep a state: Qwen3.5's gated delta rule, LFM2's short convolutions."""
    hidden = config["hidden_size"]
    if config["model_type"] == "lfm2":
        return {
            "conv.conv": (hidden, config["conv_L_cache"]),
            "conv.in_proj": (3 * hidden, hidden),
            "conv.out_proj": (hidden, hidden),
        }
    if config["model_type"] != "qwen3_5":
        return {}
    keys = config["linear_num_key_heads"] * config["linear_key_head_dim"]
    heads, width = config["linear_num_value_heads"], config["linear_value_head_dim"]
    values = heads * width
    return {
        "linear_attn.in_proj_qkv": (2 * keys + values, hidden),
        "linear_attn.in_proj_z": (values, hidden),
        "linear_attn.in_proj_a": (heads, hidden),
        "linear_attn.in_proj_b": (heads, hidden),
        "linear_attn.conv1d": (2 * keys + values, config["linear_conv_kernel_dim"]),
        "linear_attn.A_log": (heads,),
        "linear_attn.dt_bias": (heads,),
        "linear_attn.norm": (width,),
        "linear_attn.out_proj": (hidden, values),
    }


def layer_shapes(config: Mapping[str, Any], layer: int) -> dict[str, tuple[int, ...]]:
    """Name within a layer, with its ending, and shape of every weight that the layer must have."""
    if config["model_type"] == gemma4.MODEL_TYPE:
        return gemma4.layer_shapes(config, layer)
    architecture, hidden = ARCHITECTURES[config["model_type"]], config["hidden_size"]
    attention, states = _attention_shapes(config), _state_shapes(config)
    absent = states if layer in attention_layers(config) else attention
    matrices = {**attention, **_mlp_shapes(config), **states}
    names = [name for name in (*architecture.layer, *architecture.bare) if name not in absent]
    return {name if name in architecture.bare else f"{name}.weight": matrices.get(name, (hidden,)) for name in names}


def tensor_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight that the model must have; ``lm_head`` and biases are optional and left out."""
    shapes = {
        f"model.layers.{number}.{name}": shape
        for number in range(config["num_hidden_layers"])
        for name, shape in layer_shapes(config, number).items()
    }
    if config["model_type"] == gemma4.MODEL_TYPE:
        return shapes | gemma4.outside_shapes(config)
    hidden = config["hidden_size"]
    for name in ARCHITECTURES[config["model_type"]].outside:
        if name != "lm_head":
            shapes[f"{name}.weight"] = (config["vocab_size"], hidden) if name.endswith("embed_tokens") else (hidden,)
    return shapes


def window(config: Mapping[str, Any]) -> int:
    """Tokens that the model reads at most: ``max_position_embeddings``, or the sliding window of Mistral 0.1.

    MLX and llama.cpp compute Mistral without its window, which is the same only for texts that fit into it.
    """
    most = int(config["max_position_embeddings"])
    sliding = config.get("sliding_window") if config["model_type"] == "mistral" else None
    return min(most, int(sliding)) if sliding else most


def rope_parameters(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """``rope_theta``, ``rope_type`` and the scaling factors, whichever of three places config.json keeps them in.

    transformers 5 writes ``rope_parameters``; earlier versions ``rope_theta`` and ``rope_scaling``.
    """
    parameters: dict[str, Any] = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    if "full_attention" in parameters:
        parameters = dict(parameters["full_attention"] or {})
    default = 1_000_000.0 if config.get("model_type") == "gemma3_text" else 10000.0
    parameters["rope_theta"] = float(config.get("rope_theta") or parameters.get("rope_theta") or default)
    parameters["rope_type"] = str(parameters.get("rope_type") or parameters.get("type") or "default")
    return parameters


def rope_sections(config: Mapping[str, Any]) -> tuple[int, ...]:
    """How many pairs of rotary dimensions of Qwen3.5 follow time, height and width; all three are equal for text."""
    return tuple(int(pairs) for pairs in rope_parameters(config).get("mrope_section") or (11, 11, 10))[:3]
