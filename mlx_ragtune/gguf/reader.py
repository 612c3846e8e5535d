"""A GGUF file becomes a model folder that mlx-lm and transformers read: weights, config, tokenizer, template."""

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, TokenType
from gguf.quants import dequantize
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, processors

from mlx_ragtune.errors import InputError
from mlx_ragtune.gguf.architectures import SUPPORTED, model_name
from mlx_ragtune.gguf.pretokenizer import pretokenizer
from mlx_ragtune.gguf.weights import Floats

_CLASSES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}


def _damaged(path: Path, what: str) -> InputError:
    return InputError(f"not a GGUF file that can be read: {what}", where=str(path), fix="fetch it again")


def _open(path: Path) -> GGUFReader:
    try:
        with path.open("rb") as stream:
            head = stream.read(24)
    except OSError as error:
        raise _damaged(path, error.strerror or "cannot be opened") from None
    if len(head) < 24 or head[:4] != b"GGUF":
        raise _damaged(path, f"it begins with {head[:4]!r}")
    version, tensors, keys = struct.unpack("<IQQ", head[4:24])
    if version not in (2, 3) or tensors > 100_000 or keys > 100_000:
        raise _damaged(path, f"version {version}, {tensors} tensors, {keys} keys")
    try:
        return GGUFReader(path)
    except (ValueError, KeyError, IndexError, OverflowError, MemoryError, TypeError, AssertionError) as error:
        raise _damaged(path, f"cut short or damaged ({error})") from None


class _Fields:
    """The file's metadata, with errors that name the key."""

    def __init__(self, reader: GGUFReader, path: Path) -> None:
        self._reader, self._path = reader, path

    def get(self, key: str, default: Any = None) -> Any:
        field = self._reader.get_field(key)
        try:
            return default if field is None else field.contents()
        except (ValueError, IndexError, UnicodeDecodeError) as error:
            raise _damaged(self._path, f"key {key}: {error}") from None

    def need(self, key: str) -> Any:
        value = self.get(key)
        if value is None:
            raise _damaged(self._path, f"key {key} is missing")
        return value


def _config(fields: _Fields, tied: bool, dtype: str) -> dict[str, Any]:
    kind = fields.need("general.architecture")
    if kind not in SUPPORTED:
        raise InputError(
            f"architecture '{kind}' is not supported (supported: {', '.join(sorted(SUPPORTED))})",
            fix="choose another base",
        )
    hidden, heads = (
        int(fields.need(f"{kind}.embedding_length")),
        int(fields.need(f"{kind}.attention.head_count")),
    )
    return {
        "architectures": [_CLASSES[kind]],
        "model_type": kind,
        "hidden_size": hidden,
        "num_hidden_layers": int(fields.need(f"{kind}.block_count")),
        "intermediate_size": int(fields.need(f"{kind}.feed_forward_length")),
        "num_attention_heads": heads,
        "num_key_value_heads": int(fields.get(f"{kind}.attention.head_count_kv", heads)),
        "head_dim": int(fields.get(f"{kind}.attention.key_length", hidden // heads)),
        "hidden_act": "silu",
        "rms_norm_eps": round(float(fields.need(f"{kind}.attention.layer_norm_rms_epsilon")), 12),
        "rope_theta": float(fields.get(f"{kind}.rope.freq_base", 10000.0)),
        "max_position_embeddings": int(fields.need(f"{kind}.context_length")),
        "vocab_size": len(fields.need("tokenizer.ggml.tokens")),
        "tie_word_embeddings": tied,
        "attention_bias": False,
        "bos_token_id": fields.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": fields.need("tokenizer.ggml.eos_token_id"),
        "torch_dtype": dtype,
    }


def _unpermute(values: Floats, heads: int) -> Floats:
    """Undo ``writer.permute``."""
    rest = values.shape[1:]
    return values.reshape(heads, values.shape[0] // heads // 2, 2, *rest).swapaxes(1, 2).reshape(values.shape)


def _weights(reader: GGUFReader, config: dict[str, Any], path: Path) -> dict[str, Floats]:
    found = {}
    for tensor in reader.tensors:
        if tensor.name == "rope_freqs.weight":
            continue
        name = model_name(tensor.name)
        try:
            values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        except NotImplementedError:
            raise InputError(f"tensor type {tensor.tensor_type.name} is not supported", where=str(path)) from None
        values = values.reshape([int(size) for size in reversed(tensor.shape)])
        if config["model_type"] == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            key = "num_attention_heads" if ".q_proj" in name else "num_key_value_heads"
            values = _unpermute(values, config[key])
        found[name] = np.ascontiguousarray(values)
    return found


def _tokenizer(fields: _Fields, path: Path) -> Tokenizer:
    if fields.need("tokenizer.ggml.model") != "gpt2":
        raise InputError("only byte-level BPE tokenizers are read", where=str(path), fix="choose another base")
    tokens, types = fields.need("tokenizer.ggml.tokens"), fields.need("tokenizer.ggml.token_type")
    merges = [tuple(one.split(" ", 1)) for one in fields.need("tokenizer.ggml.merges")]
    normal = {t: n for n, (t, kind) in enumerate(zip(tokens, types, strict=True)) if kind == TokenType.NORMAL}
    special = [
        n for n, kind in enumerate(types) if kind in (TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNKNOWN)
    ]
    vocabulary = normal | {tokens[n]: n for n in special}
    name = fields.need("tokenizer.ggml.pre")
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=name == "llama-bpe"))
    tokenizer.pre_tokenizer, normalizer = pretokenizer(name)
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    for number in special:
        control = types[number] != TokenType.USER_DEFINED
        added = [AddedToken(tokens[number], special=control, normalized=False)]
        (tokenizer.add_special_tokens if control else tokenizer.add_tokens)(added)
    return tokenizer


def _tokenizer_config(fields: _Fields, template: str, context: int) -> dict[str, Any]:
    tokens = fields.need("tokenizer.ggml.tokens")
    named: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
        "add_bos_token": bool(fields.get("tokenizer.ggml.add_bos_token", False)),
        "chat_template": template,
    }
    for name, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown")):
        number = fields.get(f"tokenizer.ggml.{key}_token_id")
        if number is not None and 0 <= int(number) < len(tokens):
            named[f"{name}_token"] = tokens[int(number)]
    return named


def import_gguf(gguf: Path, folder: Path, *, dtype: str = "float32") -> None:
    """Write a model folder from a GGUF file, dequantised to ``float32`` or ``float16``; whole or not there.

    Raises InputError for a file that is damaged, or of an architecture, tokenizer or type not supported.
    """
    reader = _open(gguf)
    fields = _Fields(reader, gguf)
    template = fields.get("tokenizer.chat_template")
    if not template:
        raise InputError("no chat template in it", where=str(gguf), fix="choose an instruction-tuned model")
    tied = all(tensor.name != "output.weight" for tensor in reader.tensors)
    config = _config(fields, tied, dtype)
    draft = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        weights = {name: values.astype(dtype) for name, values in _weights(reader, config, gguf).items()}
        save_file(weights, draft / "model.safetensors", metadata={"format": "mlx"})
        _tokenizer(fields, gguf).save(str(draft / "tokenizer.json"))
        generation = {"eos_token_id": config["eos_token_id"], "bos_token_id": config["bos_token_id"]}
        settings = _tokenizer_config(fields, template, config["max_position_embeddings"])
        for name, value in (
            ("config.json", config),
            ("tokenizer_config.json", settings),
            ("generation_config.json", generation),
        ):
            (draft / name).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
