"""A random two-layer model with a byte-exact tokenizer: the base of the smoke recipe and of the tests.

What it says means nothing; everything else about it is real: it loads in mlx-lm and transformers, trains,
converts to GGUF and runs in llama.cpp.
"""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models
from tokenizers.pre_tokenizers import ByteLevel

from mlx_ragtune.gguf.pretokenizer import pretokenizer

Architecture = Literal["llama", "qwen2", "qwen3"]
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
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


def _merges() -> tuple[list[str], list[tuple[str, str]]]:
    """Tokens and merge rules that build each of WORDS from its left."""
    space = "Ġ"
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


def toy_tokenizer() -> Tokenizer:
    """Byte-level BPE: 256 bytes, a few merges, ChatML and think tokens; any text survives a round trip."""
    tokens, rules = _merges()
    vocabulary = {token: index for index, token in enumerate([*sorted(ByteLevel.alphabet()), *tokens])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=rules))
    tokenizer.pre_tokenizer, tokenizer.normalizer = pretokenizer("qwen2")
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in THINK])
    return tokenizer


def _config(architecture: Architecture, vocabulary: int, hidden: int, layers: int) -> dict[str, Any]:
    heads, eos = hidden // 16, 0
    names = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
    return {
        "architectures": [names[architecture]],
        "model_type": architecture,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": 2 * hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": heads // 2,
        "head_dim": 16,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "max_position_embeddings": 8192,
        "vocab_size": vocabulary,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "bos_token_id": eos,
        "eos_token_id": eos,
        "torch_dtype": "float32",
    }


def _weights(config: dict[str, Any], seed: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    hidden, inner, architecture = config["hidden_size"], config["intermediate_size"], config["model_type"]
    shapes = {
        "self_attn.q_proj.weight": (config["num_attention_heads"] * 16, hidden),
        "self_attn.k_proj.weight": (config["num_key_value_heads"] * 16, hidden),
        "self_attn.v_proj.weight": (config["num_key_value_heads"] * 16, hidden),
        "self_attn.o_proj.weight": (hidden, config["num_attention_heads"] * 16),
        "mlp.gate_proj.weight": (inner, hidden),
        "mlp.up_proj.weight": (inner, hidden),
        "mlp.down_proj.weight": (hidden, inner),
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
    }
    if architecture == "qwen3":
        shapes |= {"self_attn.q_norm.weight": (16,), "self_attn.k_norm.weight": (16,)}
    if architecture == "qwen2":
        shapes |= {name.replace("weight", "bias"): shape[:1] for name, shape in shapes.items() if name[10] in "qkv"}
    named = {f"model.layers.{n}.{name}": s for n in range(config["num_hidden_layers"]) for name, s in shapes.items()}
    named |= {"model.embed_tokens.weight": (config["vocab_size"], hidden), "model.norm.weight": (hidden,)}
    return {
        name: draw.normal(1.0 if name.endswith("norm.weight") else 0.0, 0.1 if len(shape) == 1 else 0.15, shape).astype(
            np.float32
        )
        for name, shape in sorted(named.items())
    }


def write_toy_model(
    folder: Path, *, architecture: Architecture = "qwen3", seed: int = 0, hidden: int = 64, layers: int = 2
) -> None:
    """Write a complete model folder; the same arguments give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = toy_tokenizer()
    config = _config(architecture, tokenizer.get_vocab_size(), hidden, layers)
    end = tokenizer.token_to_id("<|im_end|>")
    config["bos_token_id"] = tokenizer.token_to_id("<|endoftext|>")
    config["eos_token_id"] = end
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None,
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
    save_file(_weights(config, seed), folder / "model.safetensors", metadata={"format": "mlx"})
