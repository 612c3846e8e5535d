"""A toy Gemma 4 with a tokenizer and a template of the kind that the real ones have.

No real tokenizer can be had here. Known from transformers' conversion script: SentencePiece's BPE with byte fallback
and merges, the special tokens below inside of its vocabulary, runs of line breaks and of spaces as tokens, and no BOS
of its own, which the template writes. Known from llama.cpp's models/templates: the markers of turns and of thoughts.
"""

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from mlx_ragtune.models.toy import _merges, write_toy_model
from tests.models.hub_layout import as_on_the_hub
from tests.toy_models import change

SPACE = "▁"
NAMED = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>", "mask_token": "<mask>"}
MORE_NAMED = {
    "image_token": "<|image|>", "boi_token": "<|image>", "eoi_token": "<image|>", "audio_token": "<|audio|>",
    "boa_token": "<|audio>", "eoa_token": "<audio|>", "sot_token": "<|turn>", "eot_token": "<turn|>",
    "soc_token": "<|channel>", "eoc_token": "<channel|>", "think_token": "<|think|>", "escape_token": '<|"|>',
    "str_token": "<|tool_response>", "etr_token": "<tool_response|>", "stc_token": "<|tool_call>",
    "etc_token": "<tool_call|>", "std_token": "<|tool>", "etd_token": "<tool|>",
}  # fmt: skip
TEMPLATE = """\
{{- bos_token -}}
{%- set thinks = enable_thinking is defined and enable_thinking -%}
{%- set told = messages[0].role in ('system', 'developer') -%}
{%- if told or thinks -%}
{{- '<|turn>system\\n' -}}
{%- if thinks -%}{{- '<|think|>\\n' -}}{%- endif -%}
{%- if told -%}{{- messages[0].content | trim -}}{%- endif -%}
{{- '<turn|>\\n' -}}
{%- endif -%}
{%- for message in (messages[1:] if told else messages) -%}
{{- '<|turn>' + ('model' if message.role == 'assistant' else message.role) + '\\n' -}}
{%- if message.tool_calls -%}
{%- for call in message.tool_calls -%}
{{- '<|tool_call>call:' + call.function.name + '{}<tool_call|>' -}}
{%- endfor -%}
{%- endif -%}
{{- message.content | trim -}}
{{- '<turn|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|turn>model\\n' -}}
{%- if not thinks -%}{{- '<|channel>thought\\n<channel|>' -}}{%- endif -%}
{%- endif -%}
"""


def _vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Ids by token and merges: special tokens, bytes, runs of line breaks and spaces, characters, words."""
    words, rules = _merges(SPACE)
    runs = [
        (sign * left, sign * (size - left)) for sign in "\n▁" for size in (2, 3, 4) for left in range(size - 1, 0, -1)
    ]
    characters = [SPACE, "\n", *(chr(code) for code in range(33, 127))]
    pieces = [
        *NAMED.values(), *(f"<0x{byte:02X}>" for byte in range(256)), *dict.fromkeys(map("".join, runs)), *characters,
        *words, *MORE_NAMED.values(),
    ]  # fmt: skip
    return {piece: number for number, piece in enumerate(pieces)}, [*runs, *rules]


def gemma4_tokenizer() -> Tokenizer:
    """The tokenizer of ``tokenizer.json``, as transformers' ``GemmaTokenizer`` builds it."""
    vocabulary, merges = _vocabulary()
    model = models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    special = [*NAMED.values(), *MORE_NAMED.values()]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


def gemma4_base(
    folder: Path, *, template: str = TEMPLATE, changes: dict[str, Any] | None = None, **options: Any
) -> Path:
    """The toy in mlx-lm's layout in ``folder/mlx``, and in the hub's in ``folder/hub``; returns the latter."""
    tokenizer, toy = gemma4_tokenizer(), folder / "mlx"
    size = tokenizer.get_vocab_size()
    sizes = {"vocab_size": size, "vocab_size_per_layer_input": size, "pad_token_id": 0}
    write_toy_model(toy, architecture="gemma4_text", seed=1, changes={**sizes, **(changes or {})}, **options)
    tokenizer.save(str(toy / "tokenizer.json"))
    settings = {
        "tokenizer_class": "GemmaTokenizer",
        **NAMED,
        "add_bos_token": False,
        "extra_special_tokens": MORE_NAMED,
        "model_max_length": 8192,
        "padding_side": "left",
    }
    (toy / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))
    (toy / "chat_template.jinja").write_text(template)
    ends = [tokenizer.token_to_id(token) for token in ("<eos>", "<turn|>", "<|tool_response>")]
    change(toy / "config.json", eos_token_id=ends[:2], bos_token_id=tokenizer.token_to_id("<bos>"))
    (toy / "generation_config.json").write_text(json.dumps({"eos_token_id": ends, "pad_token_id": 0}))
    return as_on_the_hub(toy, folder / "hub")
