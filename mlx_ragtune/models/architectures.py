"""The supported architectures: tensor names in model folders and in GGUF, shapes, and what llama.cpp cannot compute."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlx_ragtune.errors import InputError

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


@dataclass(frozen=True)
class Architecture:
    """How a ``model_type`` is stored in GGUF.

    ``interleaved``: llama.cpp expects the rows of q and k in interleaved rotary order. ``norm_shift`` is added
    to norm weights on export (a Gemma model folder stores weight - 1). ``layer`` maps the names of a layer's
    tensors, without ``.weight``.
    """

    gguf: str
    transformers_class: str
    layer: Mapping[str, str]
    interleaved: bool = False
    norm_shift: float = 0.0

    def gguf_name(self, name: str) -> str:
        """``model.layers.3.mlp.up_proj.weight`` → ``blk.3.ffn_up.weight``. Raises InputError if unknown."""
        stem, _, ending = name.rpartition(".")
        if ending in ("weight", "bias"):
            if stem in _OUTSIDE_LAYERS and ending == "weight":
                return f"{_OUTSIDE_LAYERS[stem]}.{ending}"
            layer, _, tail = stem.removeprefix("model.layers.").partition(".")
            if stem.startswith("model.layers.") and layer.isdecimal() and tail in self.layer:
                return f"blk.{layer}.{self.layer[tail]}.{ending}"
        raise InputError(f"tensor '{name:.120}' has no name in GGUF", fix="use a text-only model as base")

    def model_name(self, name: str) -> str:
        """The inverse of ``gguf_name``. Raises InputError if unknown."""
        stem, _, ending = name.rpartition(".")
        if ending in ("weight", "bias"):
            outside = {gguf: model for model, gguf in _OUTSIDE_LAYERS.items()}
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
    "gemma3_text": Architecture("gemma3", "Gemma3ForCausalLM", {**_FOUR_NORMS, **_HEAD_NORMS}, norm_shift=1.0),
}
"""By the ``model_type`` of config.json."""

GGUF_TO_MODEL_TYPE = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma3": "gemma3_text"}

GEMMA3_LOCAL_ROPE_THETA, GEMMA3_PATTERN = 10000.0, 6
"""Constants of llama.cpp's gemma3: the rotary base of local layers, and every sixth layer is global."""

_MAX_VOCABULARY, _MAX_LAYERS, _MAX_SIZE = 2**24, 10_000, 2**31
"""Larger values in a config.json are taken for damage, so that no check allocates memory for them."""


def head_dimension(config: Mapping[str, Any]) -> int:
    """Width of one attention head."""
    if config.get("head_dim"):
        return int(config["head_dim"])
    return 256 if config.get("model_type") == "gemma3_text" else config["hidden_size"] // config["num_attention_heads"]


def key_value_heads(config: Mapping[str, Any]) -> int:
    """Number of key-value heads; fewer than attention heads in grouped-query attention."""
    return int(config.get("num_key_value_heads") or config["num_attention_heads"])


def tensor_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight that the model must have; ``lm_head`` and biases are optional and left out."""
    hidden, inner, head = config["hidden_size"], config["intermediate_size"], head_dimension(config)
    queries, keys = config["num_attention_heads"] * head, key_value_heads(config) * head
    matrices = {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
        "self_attn.q_norm": (head,),
        "self_attn.k_norm": (head,),
    }
    layer: dict[str, tuple[int, ...]] = {
        name: matrices.get(name, (hidden,)) for name in ARCHITECTURES[config["model_type"]].layer
    }
    shapes = {
        f"model.layers.{number}.{name}.weight": shape
        for number in range(config["num_hidden_layers"])
        for name, shape in layer.items()
    }
    return shapes | {"model.embed_tokens.weight": (config["vocab_size"], hidden), "model.norm.weight": (hidden,)}


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


def _unsupported(config: Mapping[str, Any]) -> Iterable[str]:
    """Features of this model that llama.cpp would compute differently."""
    rope, model_type = rope_parameters(config), config["model_type"]
    if rope["rope_type"] not in ("default", "llama3") or (rope["rope_type"] == "llama3" and model_type != "llama"):
        yield f"rope scaling '{rope['rope_type']}'"
    if not 0 < rope["rope_theta"] < math.inf:
        yield f"rope_theta {rope['rope_theta']}"
    if config.get("use_sliding_window"):
        yield "sliding-window attention (use_sliding_window)"
    if config.get("num_local_experts") or config.get("num_experts"):
        yield "a mixture of experts"
    if config.get("hidden_act", "silu") not in ("silu", "gelu_pytorch_tanh"):
        yield f"activation '{config['hidden_act']}'"
    if model_type == "gemma3_text":
        yield from _gemma3_unsupported(config)


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


def check_architecture(config: Mapping[str, Any]) -> Architecture:
    """The architecture of a model with this ``config.json``. Raises InputError, with the supported ones, for others."""
    model_type = str(config.get("model_type"))
    if model_type not in ARCHITECTURES:
        raise InputError(
            f"architecture '{model_type:.60}' cannot be exported (supported: {', '.join(sorted(ARCHITECTURES))})",
            fix="choose another base; for other architectures follow github.com/ml-explore/mlx-lm/issues/353",
        )
    if "quantization" in config or "quantization_config" in config:
        raise InputError(
            "the model folder is quantized: exporting it would quantize twice",
            fix="name the full-precision model in base.model and set base.precision: 4bit or 8bit",
        )
    try:
        problems = list(_unsupported(config))
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"config.json has a value of the wrong type: {error}", fix="fetch the model again") from None
    if problems:
        raise InputError(f"cannot export a model with {'; '.join(problems)}", fix="choose a base without it")
    return ARCHITECTURES[model_type]


def check_dimensions(config: Mapping[str, Any], *, where: Path) -> None:
    """Raise InputError for the first size in ``config.json`` that is missing, of the wrong type, or impossible."""

    def fail(key: str, why: str) -> InputError:
        value = f"{config[key]!r:.40}" if key in config else "missing"
        return InputError(f"{key} is {value}: {why}", where=str(where), fix="fetch the model again")

    required = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                "max_position_embeddings")  # fmt: skip
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
