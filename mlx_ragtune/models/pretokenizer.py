"""The pre-tokenizer of a byte-level BPE tokenizer, recognized as llama.cpp's converter does: by a hash.

llama.cpp has the splitting rules of each family under a name (``tokenizer.ggml.pre``). Its converter finds
the name by tokenizing one fixed text and hashing the ids; the same text and hashes are used here.
"""

import hashlib
from pathlib import Path

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers

from mlx_ragtune.errors import InputError

CHECK_TEXT = (
    "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n🚀 (normal) 😶\u200d🌫️ (multiple emojis concatenated) ✅ 🦙🦙 "
    "3 33 333 3333 33333 333333 3333333 33333333 3.3 3..3 3...3 កាន់តែពិសេសអាច😁 "
    "?我想在apple工作1314151天～ ------======= "
    "нещо на Български ''''''```````\"\"\"\"......!!!!!!?????? I've been 'told he's there, 'RE you sure? 'M not sure "
    "I'll make it, 'D you like some tea? We'Ve a'lL"
)

NAMES = {
    "0ef9807a4087ebef797fc749390439009c3b9eda9ad1a097abbe738f486c01e5": "llama-bpe",
    "e636dc30a262dcc0d8c323492e32ae2b70728f4df7dfe9737d9f920a282b8aea": "qwen2",
    "855059429035d75a914d1eda9f10a876752e281a054a7a3d421ef0533e5b6249": "smollm",
    "63b97e4253352e6f357cc59ea5b583e3a680eaeaf2632188c2b952de2588485e": "tekken",
    "3ce83efda5659b07b1ad37ca97ca5797ea4285d9b9ab0dc679e4a720c9da7454": "gpt-2",
    "d30d75d9059f1aa2c19359de71047b3ae408c70875e8a3ccf8c5fba56c9d8af4": "qwen35",
    "1444df51289cfa8063b96f0e62b1125440111bc79a52003ea14b6eac7016fd5f": "qwen35",
    "169bf0296a13c4d9b7672313f749eb36501d931022de052aad6e36f2bf34dd51": "lfm2",
    "9e454714343b69b99b71795c1d27a68c2a1d15dab111f4d353109f966af29da7": "lfm2",
    "c66de03b58949a768f053eb3cf0bc84c79a642bd3ad33dbfbb0d356f92ac16a8": "qwen2",
}
"""sha256 of the ids of CHECK_TEXT → name (llama.cpp, convert_hf_to_gguf.py; the last one is ``models/toy.py``)."""

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_QWEN2 = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3 = _QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")


def pretokenizer_name(tokenizer: Path) -> str:
    """The name for a ``tokenizer.json``. Raises InputError for a tokenizer that llama.cpp cannot reproduce."""
    ids = Tokenizer.from_file(str(tokenizer)).encode(CHECK_TEXT).ids
    digest = hashlib.sha256(str(ids).encode()).hexdigest()
    if digest not in NAMES:
        raise InputError(
            f"unknown tokenizer (hash {digest[:12]}…): llama.cpp has no name for its splitting rules "
            f"(supported: {', '.join(sorted(set(NAMES.values())))})",
            where=str(tokenizer),
            fix="choose a base of the Llama 3, Qwen 2/3, SmolLM or Mistral Nemo family",
        )
    return NAMES[digest]


def pretokenizer(name: str) -> tuple[pre_tokenizers.PreTokenizer, normalizers.Normalizer | None]:
    """The splitting rules and the normalizer of a named family. Raises InputError for an unknown one."""
    if name in ("smollm", "gpt-2"):
        level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        digits = [pre_tokenizers.Digits(individual_digits=True)] if name == "smollm" else []
        return pre_tokenizers.Sequence([*digits, level]), None
    if name in ("qwen2", "llama-bpe"):
        split = pre_tokenizers.Split(Regex(_QWEN2 if name == "qwen2" else _LLAMA3), "isolated")
        level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        return pre_tokenizers.Sequence([split, level]), normalizers.NFC() if name == "qwen2" else None
    raise InputError(
        f"pre-tokenizer '{name:.40}' is not supported",
        fix="choose a model whose pre-tokenizer is qwen2, llama-bpe, smollm or gpt-2",
    )
