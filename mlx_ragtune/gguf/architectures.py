"""The architectures that are exported, and what each is called in GGUF."""

from collections.abc import Mapping
from typing import Any

from mlx_ragtune.errors import InputError

SUPPORTED = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""model_type in config.json → general.architecture in GGUF."""

_LAYER = {
    "input_layernorm.weight": "attn_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "self_attn.q_proj.bias": "attn_q.bias",
    "self_attn.k_proj.bias": "attn_k.bias",
    "self_attn.v_proj.bias": "attn_v.bias",
    "self_attn.q_norm.weight": "attn_q_norm.weight",
    "self_attn.k_norm.weight": "attn_k_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
}
_WHOLE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_FROM_LAYER = {theirs: ours for ours, theirs in _LAYER.items()}
_FROM_WHOLE = {theirs: ours for ours, theirs in _WHOLE.items()}


def check_architecture(config: Mapping[str, Any]) -> str:
    """The GGUF name of a model's architecture. Raises InputError with the list of what is supported."""
    kind = str(config.get("model_type"))
    if kind not in SUPPORTED:
        raise InputError(
            f"architecture '{kind}' cannot be exported (supported: {', '.join(sorted(SUPPORTED))})",
            fix="choose another base; for others follow github.com/ml-explore/mlx-lm/issues/353",
        )
    if "quantization" in config or "quantization_config" in config:
        raise InputError(
            "the model folder is quantised: exporting it would quantise twice",
            fix="name the full-precision model as base.model and set base.precision: 4bit or 8bit",
        )
    scaling = config.get("rope_scaling") or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind not in ("default", None):
        raise InputError(f"rope scaling '{kind}' is not supported by the export", fix="choose a base without it")
    return SUPPORTED[str(config["model_type"])]


def gguf_name(name: str) -> str:
    """``model.layers.3.mlp.up_proj.weight`` → ``blk.3.ffn_up.weight``. Raises InputError for an unknown tensor."""
    if name in _WHOLE:
        return _WHOLE[name]
    prefix, _, rest = name.partition("model.layers.")
    layer, _, tail = rest.partition(".")
    if prefix == "" and layer.isdigit() and tail in _LAYER:
        return f"blk.{layer}.{_LAYER[tail]}"
    raise InputError(f"tensor '{name}' has no place in a GGUF file", fix="use a plain text model as base")


def model_name(name: str) -> str:
    """The inverse of ``gguf_name``. Raises InputError for an unknown tensor."""
    if name in _FROM_WHOLE:
        return _FROM_WHOLE[name]
    prefix, _, rest = name.partition("blk.")
    layer, _, tail = rest.partition(".")
    if prefix == "" and layer.isdigit() and tail in _FROM_LAYER:
        return f"model.layers.{layer}.{_FROM_LAYER[tail]}"
    raise InputError(f"tensor '{name}' of the GGUF file is not known", fix="use a plain text model as base")
