"""A model folder becomes one GGUF file: tensor by tensor, the same bytes every time, whole or not there."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter
from gguf.quants import quant_shape_to_byte_shape

from mlx_ragtune.artifact import digest_file, require_disk
from mlx_ragtune.errors import InputError
from mlx_ragtune.gguf.architectures import check_architecture, gguf_name
from mlx_ragtune.gguf.quantise import FILE_TYPES, QuantType, encode, tensor_type
from mlx_ragtune.gguf.vocabulary import read_vocabulary
from mlx_ragtune.gguf.weights import Floats, Weights


@dataclass(frozen=True)
class GgufReport:
    """What was written. ``template_sha256`` is over the template's UTF-8 bytes."""

    type: QuantType
    tensors: int
    bytes: int
    sha256: str
    pretokenizer: str
    template_sha256: str


@dataclass(frozen=True)
class _Tensor:
    source: str
    name: str
    shape: tuple[int, ...]
    type: Type

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape of the array that is written: bytes in the last place for block types."""
        if self.type in (Type.F32, Type.F16):
            return self.shape
        return quant_shape_to_byte_shape(self.shape, self.type)

    @property
    def dtype(self) -> "np.dtype[Any]":
        return np.dtype({Type.F32: np.float32, Type.F16: np.float16}.get(self.type, np.uint8))

    @property
    def bytes(self) -> int:
        return int(np.prod(self.stored_shape)) * self.dtype.itemsize


def _config(model: Path) -> dict[str, Any]:
    try:
        config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError("no readable config.json", where=str(model), fix="name a complete model folder") from None
    check_architecture(config)
    return dict(config)


def _order(name: str) -> tuple[int, int, str]:
    """Embedding, layers in order, then the rest: as llama.cpp reads them."""
    if name.startswith("blk."):
        return 1, int(name.split(".")[1]), name
    return (0 if name.startswith("token_embd") else 2), 0, name


def _tensors(weights: Weights, config: dict[str, Any], kind: QuantType) -> list[_Tensor]:
    tied = bool(config.get("tie_word_embeddings", False))
    layers = int(config["num_hidden_layers"])
    if not tied and "lm_head.weight" not in weights:
        raise InputError(
            "no lm_head.weight, and config.json does not say that embeddings are tied",
            fix="fetch the model again",
        )
    found = []
    for source in weights:
        if source == "lm_head.weight" and tied:
            continue
        name, shape = gguf_name(source), weights.shape(source)
        found.append(_Tensor(source, name, shape, tensor_type(name, shape, kind, layers=layers, tied=tied)))
    return sorted(found, key=lambda tensor: _order(tensor.name))


def estimate_bytes(model: Path, kind: QuantType) -> int:
    """Size of the GGUF file, in bytes, metadata aside (a few MB). Reads only headers."""
    return sum(tensor.bytes for tensor in _tensors(Weights(model), _config(model), kind))


def permute(values: Floats, heads: int) -> Floats:
    """Rows of a llama q or k projection from half-split to interleaved rotary order (llama.cpp's layout)."""
    rest = values.shape[1:]
    return values.reshape(heads, 2, values.shape[0] // heads // 2, *rest).swapaxes(1, 2).reshape(values.shape)


def _values(tensor: _Tensor, weights: Weights, config: dict[str, Any]) -> Floats:
    values = weights.float32(tensor.source)
    if config["model_type"] == "llama" and tensor.name.endswith((".attn_q.weight", ".attn_k.weight")):
        heads = int(config["num_attention_heads"])
        if ".attn_k." in tensor.name:
            heads = int(config.get("num_key_value_heads") or heads)
        return permute(values, heads)
    return values


def _add_metadata(
    writer: GGUFWriter, model: Path, config: dict[str, Any], kind: QuantType, name: str
) -> tuple[str, str]:
    architecture = config["model_type"]
    heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
    head = int(config.get("head_dim") or hidden // heads)
    writer.add_type("model")
    writer.add_name(name)
    writer.add_file_type(FILE_TYPES[kind])
    writer.add_quantization_version(2)
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_context_length(int(config["max_position_embeddings"]))
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(heads)
    writer.add_head_count_kv(int(config.get("num_key_value_heads") or heads))
    writer.add_rope_freq_base(float(_rope_theta(config)))
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    if architecture == "qwen3" or head * heads != hidden:
        writer.add_key_length(head)
        writer.add_value_length(head)
    if architecture == "llama":
        writer.add_vocab_size(int(config["vocab_size"]))
        writer.add_rope_dimension_count(head)
    return _add_tokenizer(writer, model, llama=architecture == "llama")


def _rope_theta(config: dict[str, Any]) -> float:
    parameters = config.get("rope_parameters") or {}
    return float(config.get("rope_theta") or parameters.get("rope_theta") or 10000.0)


def _add_tokenizer(writer: GGUFWriter, model: Path, *, llama: bool) -> tuple[str, str]:
    vocabulary = read_vocabulary(model)
    if llama:
        writer.add_add_space_prefix(False)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    for short, add in (
        ("bos", writer.add_bos_token_id),
        ("eos", writer.add_eos_token_id),
        ("unk", writer.add_unk_token_id),
        ("pad", writer.add_pad_token_id),
    ):
        if short in vocabulary.specials:
            add(vocabulary.specials[short])
    # Left out, older Ollama takes both for true and puts <|endoftext|> before every prompt.
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template(vocabulary.template)
    return vocabulary.pre, vocabulary.template


def _write(writer: GGUFWriter, tensors: list[_Tensor], encoded: Iterator[np.ndarray[Any, Any]]) -> None:
    for tensor in tensors:
        raw = None if tensor.type in (Type.F32, Type.F16) else tensor.type
        writer.add_tensor_info(tensor.name, tensor.stored_shape, tensor.dtype, tensor.bytes, raw_dtype=raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for data in encoded:
        writer.write_tensor_data(data)


def write_gguf(
    model: Path,
    target: Path,
    *,
    type: QuantType,  # noqa: A002
    name: str,
    progress: Callable[[int, int], None] | None = None,
) -> GgufReport:
    """Write ``target`` from a full-precision model folder; nothing is left behind when it fails.

    Tensors are read, converted and written one at a time. Raises InputError for a model that cannot be
    exported and ToolError for a disk that is too small. ``progress`` gets (tensors done, all).
    """
    config, weights = _config(model), Weights(model)
    tensors = _tensors(weights, config, type)
    require_disk(target.parent, sum(tensor.bytes for tensor in tensors) + 16 * 2**20, what=f"writing {target.name}")
    temporary = target.with_name(f".{target.name}.part")
    writer = GGUFWriter(temporary, config["model_type"])
    try:
        pre, template = _add_metadata(writer, model, config, type, name)

        def encoded() -> Iterator[np.ndarray[Any, Any]]:
            for done, tensor in enumerate(tensors, start=1):
                yield encode(_values(tensor, weights, config), tensor.type)
                if progress:
                    progress(done, len(tensors))

        _write(writer, tensors, encoded())
        writer.close()
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(target)
    finally:
        writer.close()
        temporary.unlink(missing_ok=True)
    digest = hashlib.sha256(template.encode()).hexdigest()
    return GgufReport(type, len(tensors), target.stat().st_size, digest_file(target), pre, digest)
