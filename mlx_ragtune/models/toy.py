"""A random two-layer model with a byte-exact tokenizer: the base of the smoke recipe and of the tests.

Its answers mean nothing; everything else about it is real: it loads in mlx-lm and transformers, trains,
converts to GGUF and runs in llama.cpp.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from tokenizers.pre_tokenizers import ByteLevel

from mlx_ragtune.errors import RecipeError
from mlx_ragtune.models import gemma4
from mlx_ragtune.models.architectures import ARCHITECTURES, GEMMA3_PATTERN, tensor_shapes
from mlx_ragtune.models.pretokenizer import pretokenizer
from mlx_ragtune.models.sentencepiece_scores import SPACE

Architecture = Literal[
    "llama", "mistral", "qwen2", "qwen3", "qwen3_moe", "qwen3_5", "lfm2", "gemma3_text", "gemma4_text"
]  # fmt: skip
HEAD = 16
"""Width of an attention head."""
_GEMMA4_LAYERS = 6
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
UNKNOWN = "<unk>"
THINK = ("<think>", "</think>")
WORDS = (
    " the", " of", " and", " to", " in", " is", " a", " that", " for", " it", " with", " as", " on", " by", " paper",
    " papers", " model", " question", " answer", " from", " you", " are", " title", "ing", "ion", "er", "ed",
)  # fmt: skip

TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% if enable_thinking is defined and enable_thinking is false %}<think>

</think>

{% endif -%}
{%- endif -%}"""


def _merges(space: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Tokens and merge rules that build each of WORDS from left to right."""
    tokens: list[str] = []
    rules: list[tuple[str, str]] = []
    for word in WORDS:
        text = word.replace(" ", space)
        for end in range(2, len(text) + 1):
            rule = (text[: end - 1], text[end - 1])
            if rule not in rules:
                rules.append(rule)
                tokens.append(text[:end])
    return tokens, rules


def _add_specials(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in THINK])
    return tokenizer


def toy_tokenizer() -> Tokenizer:
    """Byte-level BPE: 256 bytes, a few merges, ChatML and think tokens; any text survives a round trip."""
    tokens, rules = _merges("Ġ")
    vocabulary = {token: index for index, token in enumerate([*sorted(ByteLevel.alphabet()), *tokens])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=rules))
    tokenizer.pre_tokenizer, tokenizer.normalizer = pretokenizer("qwen2")
    tokenizer.decoder = decoders.ByteLevel()
    return _add_specials(tokenizer)


def toy_byte_fallback_tokenizer() -> Tokenizer:
    """The same words over ASCII characters, everything else as bytes ``<0x00>`` … (as Gemma and Mistral do)."""
    tokens, rules = _merges(SPACE)
    characters = [SPACE, *(chr(code) for code in range(33, 127)), "\n"]
    pieces = [UNKNOWN, *(f"<0x{byte:02X}>" for byte in range(256)), *characters, *tokens]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=rules, unk_token=UNKNOWN, fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    return _add_specials(tokenizer)


def _tokenizer(architecture: Architecture) -> Tokenizer:
    fallback = ("mistral", "gemma3_text", gemma4.MODEL_TYPE)
    return toy_byte_fallback_tokenizer() if architecture in fallback else toy_tokenizer()


def toy_architecture(name: str) -> Architecture:
    """The architecture of ``toy:NAME``. Raises RecipeError for a name that none has."""
    if name not in get_args(Architecture):
        raise RecipeError(f"no toy model '{name}'", where="base.model", fix="use toy:qwen3 or toy:llama")
    return cast(Architecture, name)


def toy_tokenizer_json(architecture: Architecture) -> str:
    """``tokenizer.json`` of a toy model, as ``write_toy_model`` writes it."""
    return str(_tokenizer(architecture).to_str(pretty=True))


def _config(architecture: Architecture, vocabulary: int, hidden: int, layers: int) -> dict[str, Any]:
    heads = hidden // HEAD
    config: dict[str, Any] = {
        "architectures": [ARCHITECTURES[architecture].transformers_class],
        "model_type": architecture,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": 2 * hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": heads // 2,
        "head_dim": HEAD,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "max_position_embeddings": 8192,
        "vocab_size": vocabulary,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "torch_dtype": "float32",
    }
    if architecture == "gemma3_text":
        config |= {
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_activation": "gelu_pytorch_tanh",
            "rope_theta": 1_000_000.0,
            "rope_local_base_freq": 10000.0,
            "query_pre_attn_scalar": HEAD,
            "sliding_window": 512,
            "sliding_window_pattern": GEMMA3_PATTERN,
        }
    if architecture == gemma4.MODEL_TYPE:
        del config["hidden_act"], config["rope_theta"]
        config["vocab_size_per_layer_input"] = vocabulary
    return config | particulars(architecture, hidden, layers)


def particulars(architecture: Architecture, hidden: int, layers: int) -> dict[str, Any]:
    """What only a mixture of experts, a hybrid model or Gemma 4 has.

    Every second layer of a hybrid has attention, and of Gemma 4 full attention; its last layers share keys and values.
    """
    kinds = ["full_attention" if layer % 2 else "linear_attention" for layer in range(layers)]
    rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5, "mrope_section": [2, 1, 1]}
    if architecture == "qwen3_moe":
        return {
            "num_experts": 6,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": hidden,
            "norm_topk_prob": True,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
        }
    if architecture == "qwen3_5":
        return {
            "full_attention_interval": 2,
            "layer_types": kinds,
            "attn_output_gate": True,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": HEAD,
            "linear_value_head_dim": HEAD,
            "linear_conv_kernel_dim": 4,
            "rope_parameters": rope,
        }
    if architecture == "lfm2":
        return {
            "layer_types": [kind.replace("linear_attention", "conv") for kind in kinds],
            "norm_eps": 1e-6,
            "conv_L_cache": 3,
            "conv_bias": False,
            "block_dim": hidden,
            "block_ff_dim": 2 * hidden,
            "block_multiple_of": 1,
            "block_ffn_dim_multiplier": 1.0,
            "block_auto_adjust_ff_dim": False,
        }
    if architecture == gemma4.MODEL_TYPE:
        return {
            "layer_types": [gemma4.FULL if layer % 2 else gemma4.SLIDING for layer in range(layers)],
            "num_kv_shared_layers": layers - (4 if layers >= _GEMMA4_LAYERS else min(layers, 2)),
            "use_double_wide_mlp": True,
            "global_head_dim": 2 * HEAD,
            "hidden_size_per_layer_input": HEAD,
            "final_logit_softcapping": 30.0,
            "hidden_activation": "gelu_pytorch_tanh",
            "sliding_window": 32,
            "attention_k_eq_v": False,
            "enable_moe_block": False,
        }
    return {}


def _shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    shapes = tensor_shapes(config)
    if config["model_type"] == "qwen2":
        shapes |= {
            name.replace("weight", "bias"): shape[:1]
            for name, shape in shapes.items()
            if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight"))
        }
    return shapes


def _weights(config: dict[str, Any], seed: int) -> dict[str, np.ndarray]:
    """Nearly normal values around 0, norms around 1: sums of integers, so the same on every machine."""
    draw = np.random.default_rng(seed)
    shift = ARCHITECTURES[config["model_type"]].norm_shift
    weights = {}
    for name, shape in sorted(_shapes(config).items()):
        sums = draw.integers(-2048, 2048, (4, *shape)).sum(0)  # standard deviation 2365
        ones = ("norm.weight", "q_layernorm.weight", "k_layernorm.weight", "layer_scalar")
        center = 1.0 - shift if name.endswith(ones) else 0.0
        weights[name] = (center + sums * 2.0 ** (-15 if len(shape) == 1 else -14)).astype(np.float32)
    return weights


def _stored(name: str, values: np.ndarray) -> np.ndarray:
    """A kernel of convolutions with the axis of length 1 that mlx-lm gives it; other weights as they are."""
    return values[:, :, None] if name.endswith((".conv1d.weight", ".conv.conv.weight")) else values


def write_toy_model(
    folder: Path,
    *,
    architecture: Architecture = "qwen3",
    seed: int = 0,
    hidden: int = 64,
    layers: int | None = None,
    changes: Mapping[str, Any] | None = None,
) -> None:
    """Write a complete model folder; the same arguments give the same bytes.

    ``layers`` is 2 by default, and 6 for Gemma: of Gemma 3 the first global layer is the sixth, and of Gemma 4 the last
    two share the keys and values of the two before. ``changes`` replace keys of the config.
    """
    layers = layers or (GEMMA3_PATTERN if architecture in ("gemma3_text", gemma4.MODEL_TYPE) else 2)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(architecture)
    config = _config(architecture, tokenizer.get_vocab_size(), hidden, layers) | dict(changes or {})
    end = tokenizer.token_to_id("<|im_end|>")
    config["bos_token_id"] = tokenizer.token_to_id("<|endoftext|>")
    config["eos_token_id"] = end
    (folder / "tokenizer.json").write_text(toy_tokenizer_json(architecture), encoding="utf-8")
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|endoftext|>" if architecture == gemma4.MODEL_TYPE else None,  # llama.cpp always adds one
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "add_bos_token": False,
        "model_max_length": 8192,
        "clean_up_tokenization_spaces": False,
        "chat_template": TEMPLATE,
    }
    for name, value in (
        ("config.json", config),
        ("tokenizer_config.json", tokenizer_config),
        ("generation_config.json", {"eos_token_id": end, "pad_token_id": config["bos_token_id"]}),
    ):
        (folder / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    weights = {name: _stored(name, values) for name, values in _weights(config, seed).items()}
    try:
        save_file(weights, folder / "model.safetensors", metadata={"format": "mlx"})
    except SafetensorError as error:  # a full disk, for example
        raise OSError(str(error)) from None
