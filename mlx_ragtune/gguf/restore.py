"""Restores ``tokenizer.json`` and ``tokenizer_config.json`` from a GGUF file."""

from collections.abc import Callable
from typing import Any

import numpy as np
from gguf import TokenType
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from mlx_ragtune.errors import InputError
from mlx_ragtune.gguf.container import GgufFile
from mlx_ragtune.models.pretokenizer import pretokenizer
from mlx_ragtune.models.sentencepiece_scores import SPACE, merges_of_scores

_ADDED = (TokenType.CONTROL, TokenType.USER_DEFINED)
_SPECIALS = (("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown"))


def _lists(file: GgufFile) -> tuple[list[str], list[int]]:
    """Text and type of every token."""
    tokens = file.need("tokenizer.ggml.tokens", list)
    types = file.need("tokenizer.ggml.token_type", np.ndarray)
    if not tokens or not all(isinstance(token, str) for token in tokens) or len(types) != len(tokens):
        raise file.damaged(f"{len(tokens)} tokens with {len(types)} types")
    return tokens, [int(kind) for kind in types]


def _byte_level(file: GgufFile, tokens: list[str], types: list[int]) -> Tokenizer:
    rules = [merge.split(" ") for merge in file.need("tokenizer.ggml.merges", list) if isinstance(merge, str)]
    vocabulary = {
        token: n for n, (token, kind) in enumerate(zip(tokens, types, strict=True)) if kind != TokenType.UNUSED
    }
    pairs = [(left, right) for left, right in (rule for rule in rules if len(rule) == 2)]
    if len(pairs) != len(rules):
        raise file.damaged("a merge does not have two tokens")
    name = file.need("tokenizer.ggml.pre", str)
    splitter, normalizer = pretokenizer(name)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=name in ("llama-bpe", "tekken")))
    tokenizer.pre_tokenizer = splitter
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def _by_score(file: GgufFile, tokens: list[str], types: list[int]) -> Tokenizer:
    scores = file.need("tokenizer.ggml.scores", np.ndarray)
    if len(scores) != len(tokens):
        raise file.damaged(f"{len(tokens)} tokens with {len(scores)} scores")
    vocabulary = {
        token: n for n, (token, kind) in enumerate(zip(tokens, types, strict=True)) if kind != TokenType.UNUSED
    }
    normal = {tokens[n]: float(scores[n]) for n, kind in enumerate(types) if kind == TokenType.NORMAL}
    unknown = next((tokens[n] for n, kind in enumerate(types) if kind == TokenType.UNKNOWN), None)
    merges = merges_of_scores({token: vocabulary[token] for token in normal}, normal)
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    prefix = bool(file.fields.get("tokenizer.ggml.add_space_prefix", True))
    replace = normalizers.Replace(" ", SPACE)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), replace]) if prefix else replace
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prefix else steps)
    return tokenizer


def _word_pieces(file: GgufFile, tokens: list[str], types: list[int]) -> Tokenizer:
    """As BERT's embedding models have it: GGUF marks the beginning of a word, ``tokenizer.json`` its continuation."""
    pieces = [
        token
        if kind == TokenType.CONTROL or (token.startswith("[") and token.endswith("]"))
        else token[1:]
        if token.startswith(SPACE)
        else f"##{token}"
        for token, kind in zip(tokens, types, strict=True)
    ]
    unknown = _special(file, "unknown", tokens)
    tokenizer = Tokenizer(
        models.WordPiece(
            vocab={piece: number for number, piece in enumerate(pieces)},
            unk_token="[UNK]" if unknown is None else pieces[unknown],
        )
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=True)  # llama.cpp does both
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _unigram(file: GgufFile, tokens: list[str], _types: list[int]) -> Tokenizer:
    """As T5 and XLM-RoBERTa have it, and their embedding models (e5, bge-m3)."""
    scores = file.need("tokenizer.ggml.scores", np.ndarray)
    if len(scores) != len(tokens):
        raise file.damaged(f"{len(tokens)} tokens with {len(scores)} scores")
    tokenizer = Tokenizer(
        models.Unigram(
            vocab=[(token, float(score)) for token, score in zip(tokens, scores, strict=True)],
            unk_id=_special(file, "unknown", tokens) or 0,
        )
    )
    charsmap = file.fields.get("tokenizer.ggml.precompiled_charsmap")
    if charsmap is not None and len(charsmap):
        tokenizer.normalizer = normalizers.Precompiled(bytes(np.asarray(charsmap).astype(np.uint8)))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(SPACE, prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(SPACE, prepend_scheme="always")
    return tokenizer


_MAKERS: dict[str, Callable[[GgufFile, list[str], list[int]], Tokenizer]] = {
    "gpt2": _byte_level,
    "llama": _by_score,
    "bert": _word_pieces,
    "t5": _unigram,
}


def _special(file: GgufFile, key: str, tokens: list[str]) -> int | None:
    number = file.fields.get(f"tokenizer.ggml.{key}_token_id")
    if number is None:
        return None
    if not isinstance(number, int) or not 0 <= number < len(tokens):
        raise file.damaged(f"{key}_token_id is {str(number)[:40]!r}")
    return number


def _framed(file: GgufFile, tokenizer: Tokenizer, tokens: list[str]) -> None:
    """Make encoding add bos and eos where the file says so."""
    ends = [
        _special(file, key, tokens) if file.fields.get(f"tokenizer.ggml.add_{key}_token") else None
        for key in ("bos", "eos")
    ]
    if ends == [None, None]:
        return
    first, last = ([] if end is None else [tokens[end]] for end in ends)
    pairs = [(tokens[end], end) for end in ends if end is not None]
    tokenizer.post_processor = processors.TemplateProcessing(single=[*first, "$A", *last], special_tokens=pairs)


def restored_tokenizer(file: GgufFile) -> str:
    """``tokenizer.json`` as text. Raises InputError for an unsupported or damaged tokenizer."""
    kind = file.need("tokenizer.ggml.model", str)
    if kind not in _MAKERS:
        raise InputError(
            f"tokenizer type '{kind[:40]}' is not supported", where=str(file.path), fix="choose another base"
        )
    tokens, types = _lists(file)
    try:
        tokenizer = _MAKERS[kind](file, tokens, types)
        for number, token_type in enumerate(types):
            if token_type in _ADDED:
                control = token_type == TokenType.CONTROL
                added = [AddedToken(tokens[number], special=control, normalized=False)]
                (tokenizer.add_special_tokens if control else tokenizer.add_tokens)(added)
        _framed(file, tokenizer, tokens)
    except InputError:
        raise
    except Exception as error:  # the library raises bare Exception for an inconsistent vocabulary
        raise file.damaged(f"the tokenizer: {error}") from None
    return tokenizer.to_str(pretty=False)


def tokenizer_settings(file: GgufFile) -> dict[str, Any]:
    """``tokenizer_config.json``: special tokens by name, and the chat template."""
    tokens, _ = _lists(file)
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": file.need(f"{file.need('general.architecture', str)}.context_length", int),
        "clean_up_tokenization_spaces": False,
        "add_bos_token": bool(file.fields.get("tokenizer.ggml.add_bos_token", False)),
        "chat_template": file.need("tokenizer.chat_template", str),
    }
    for name, key in _SPECIALS:
        number = _special(file, key, tokens)
        if number is not None:
            settings[f"{name}_token"] = tokens[number]
    return settings
