"""The architectures that are exported, and what each tensor is called on either side."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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
_WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


@dataclass(frozen=True)
class Architecture:
    """How one ``model_type`` looks in GGUF.

    ``interleaved``: llama.cpp wants q and k rows in interleaved rotary order. ``norm_shift`` is added to
    norm weights (Gemma stores them less one). ``layer``: names in a layer, without ``.weight``.
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
            if stem in _WHOLE and ending == "weight":
                return f"{_WHOLE[stem]}.{ending}"
            layer, _, tail = stem.removeprefix("model.layers.").partition(".")
            if stem.startswith("model.layers.") and layer.isdecimal() and tail in self.layer:
                return f"blk.{layer}.{self.layer[tail]}.{ending}"
        raise InputError(f"tensor '{name}' has no place in a GGUF file", fix="use a plain text model as base")

    def model_name(self, name: str) -> str:
        """The inverse of ``gguf_name``. Raises InputError if unknown."""
        stem, _, ending = name.rpartition(".")
        if ending in ("weight", "bias"):
            whole = {theirs: ours for ours, theirs in _WHOLE.items()}
            if stem in whole and ending == "weight":
                return f"{whole[stem]}.{ending}"
            layer, _, tail = stem.removeprefix("blk.").partition(".")
            inverse = {theirs: ours for ours, theirs in self.layer.items()}
            if stem.startswith("blk.") and layer.isdecimal() and tail in inverse:
                return f"model.layers.{layer}.{inverse[tail]}.{ending}"
        raise InputError(f"tensor '{name}' of the GGUF file is not known", fix="use a plain text model as base")


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
"""What llama.cpp's gemma3 takes for granted: the rotary base of local layers, and every sixth layer global."""


def rope_parameters(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Rotary settings in one place: transformers 5 keeps them in ``rope_parameters``, before it at two places."""
    parameters: dict[str, Any] = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    if "full_attention" in parameters:
        parameters = dict(parameters["full_attention"] or {})
    default = 1_000_000.0 if config.get("model_type") == "gemma3_text" else 10000.0
    parameters["rope_theta"] = float(config.get("rope_theta") or parameters.get("rope_theta") or default)
    parameters["rope_type"] = str(parameters.get("rope_type") or parameters.get("type") or "default")
    return parameters


def _unsupported(config: Mapping[str, Any]) -> Iterable[str]:
    """What of this model llama.cpp would compute differently, in words."""
    rope, kind = rope_parameters(config), config["model_type"]
    if rope["rope_type"] not in ("default", "llama3") or (rope["rope_type"] == "llama3" and kind != "llama"):
        yield f"rope scaling '{rope['rope_type']}'"
    if config.get("use_sliding_window"):
        yield "sliding-window attention (use_sliding_window)"
    if config.get("num_local_experts") or config.get("num_experts"):
        yield "a mixture of experts"
    if config.get("hidden_act", "silu") not in ("silu", "gelu_pytorch_tanh"):
        yield f"activation '{config['hidden_act']}'"
    if kind == "gemma3_text":
        yield from _gemma3_unsupported(config)


def _gemma3_unsupported(config: Mapping[str, Any]) -> Iterable[str]:
    head = int(config.get("head_dim") or 256)
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
    """How this model is exported. Raises InputError, with the list of what is supported, before any training."""
    kind = str(config.get("model_type"))
    if kind not in ARCHITECTURES:
        raise InputError(
            f"architecture '{kind}' cannot be exported (supported: {', '.join(sorted(ARCHITECTURES))})",
            fix="choose another base; for others follow github.com/ml-explore/mlx-lm/issues/353",
        )
    if "quantization" in config or "quantization_config" in config:
        raise InputError(
            "the model folder is quantized: exporting it would quantize twice",
            fix="name the full-precision model as base.model and set base.precision: 4bit or 8bit",
        )
    problems = list(_unsupported(config))
    if problems:
        raise InputError(f"the export does not know {'; '.join(problems)}", fix="choose a base without it")
    return ARCHITECTURES[kind]
