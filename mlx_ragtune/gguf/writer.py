"""A model folder becomes one GGUF file: the same bytes every time, whole or not there."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter
from gguf.quants import quant_shape_to_byte_shape

from mlx_ragtune.artifact import digest_file, require_disk
from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.gguf.convert import PIECE_VALUES, Tensor, convert
from mlx_ragtune.gguf.metadata import add_model, add_particulars, add_tokenizer, key_value_heads, rope_factors
from mlx_ragtune.gguf.quantize import QuantType, tensor_type
from mlx_ragtune.gguf.weights import StoredWeight, Weights
from mlx_ragtune.models.architectures import Architecture, check_architecture
from mlx_ragtune.models.vocabulary import read_json, read_vocabulary

_ALIGNMENT = 32
_METADATA_BYTES = 16 * 2**20


@dataclass(frozen=True)
class GgufReport:
    """What was written. ``template_sha256`` is over the template's UTF-8 bytes."""

    type: QuantType
    tensors: int
    bytes: int
    sha256: str
    pretokenizer: str
    template_sha256: str


def _config(model: Path) -> tuple[dict[str, Any], Architecture]:
    config = read_json(model / "config.json")
    architecture = check_architecture(config)
    try:
        for key in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"):
            if int(config[key]) < 1:
                raise ValueError(key)
        float(config["rms_norm_eps"]), int(config["max_position_embeddings"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{error} is missing or wrong", where=str(model / "config.json"), fix="fetch the model again"
        ) from None
    return config, architecture


def _order(tensor: Tensor) -> tuple[int, int, str]:
    """Embedding, layers in order, then the rest."""
    name = tensor.name
    if name.startswith("blk."):
        return 1, int(name.split(".")[1]), name
    return (0 if name.startswith("token_embd") else 2), 0, name


def _is_tied(config: dict[str, Any], weights: Weights) -> bool:
    """Whether output and embedding share their weights. Raises InputError when config and weights disagree."""
    there = "lm_head.weight" in weights
    said = config.get("tie_word_embeddings")
    tied = bool(said) if said is not None else not there
    if not tied and not there:
        raise InputError("no lm_head.weight, and config.json says embeddings are not tied", fix="fetch the model again")
    if tied and there and not _same(weights["lm_head.weight"], weights["model.embed_tokens.weight"]):
        raise InputError(
            "config.json says embeddings are tied, but lm_head.weight is another matrix",
            fix='set "tie_word_embeddings": false in the model\'s config.json',
        )
    return tied


def _same(one: StoredWeight, other: StoredWeight) -> bool:
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    step = max(1, PIECE_VALUES // prod(one.shape[1:]))
    return all(
        np.array_equal(one.raw(first, count), other.raw(first, count))
        for first in range(0, one.shape[0], step)
        for count in (min(step, one.shape[0] - first),)
    )


def _tensors(model: Path, kind: QuantType) -> list[Tensor]:
    """All tensors in file order; offsets count from the first tensor's byte."""
    config, architecture = _config(model)
    weights = Weights(model)
    tied, layers = _is_tied(config, weights), int(config["num_hidden_layers"])
    found = []
    for source in weights:
        if source == "lm_head.weight" and tied:
            continue
        stored, name = weights[source], architecture.gguf_name(source)
        chosen = tensor_type(name, stored.shape, kind, layers=layers, tied=tied)
        shift = architecture.norm_shift if name.endswith("_norm.weight") else 0.0
        heads = _interleaved_heads(name, config) if architecture.interleaved else 0
        found.append(Tensor(name, chosen, stored.shape, 0, stored, heads=heads, shift=shift))
    if factors := rope_factors(config):
        found.append(Tensor("rope_freqs.weight", Type.F32, (len(factors),), 0, values=factors))
    _check_complete(found, config, architecture, model)
    return _placed(sorted(found, key=_order))


def _interleaved_heads(name: str, config: dict[str, Any]) -> int:
    if ".attn_q." in name:
        return int(config["num_attention_heads"])
    return key_value_heads(config) if ".attn_k." in name else 0


def _check_complete(tensors: list[Tensor], config: dict[str, Any], architecture: Architecture, model: Path) -> None:
    expected = {
        f"blk.{n}.{tail}.weight" for n in range(config["num_hidden_layers"]) for tail in architecture.layer.values()
    }
    expected |= {"token_embd.weight", "output_norm.weight"}
    names = {tensor.name for tensor in tensors}
    missing = sorted(expected - names)
    extra = sorted(
        name for name in names if name.startswith("blk.") and int(name.split(".")[1]) >= config["num_hidden_layers"]
    )
    if missing or extra:
        what = f"{architecture.model_name(missing[0])} is missing" if missing else f"{extra[0]} is one layer too many"
        raise InputError(what, where=str(model), fix="fetch the model again")
    shape = next(tensor.shape for tensor in tensors if tensor.name == "token_embd.weight")
    if shape != (config["vocab_size"], config["hidden_size"]):
        raise InputError(
            f"the embedding is {list(shape)}, config.json says {[config['vocab_size'], config['hidden_size']]}",
            where=str(model),
            fix="fetch the model again",
        )


def _placed(tensors: list[Tensor]) -> list[Tensor]:
    placed, at = [], 0
    for tensor in tensors:
        placed.append(replace(tensor, offset=at))
        at += -(-tensor.bytes // _ALIGNMENT) * _ALIGNMENT
    return placed


def _data_bytes(tensors: list[Tensor]) -> int:
    return tensors[-1].offset + -(-tensors[-1].bytes // _ALIGNMENT) * _ALIGNMENT


def estimate_bytes(model: Path, kind: QuantType) -> int:
    """Size of the GGUF file, in bytes, metadata aside (a few MB). Reads only headers."""
    return _data_bytes(_tensors(model, kind))


def _describe(writer: GGUFWriter, tensors: list[Tensor]) -> None:
    for tensor in tensors:
        if tensor.type in (Type.F32, Type.F16):
            dtype = np.dtype(np.float32 if tensor.type == Type.F32 else np.float16)
            writer.add_tensor_info(tensor.name, tensor.shape, dtype, tensor.bytes)
        else:
            shape = quant_shape_to_byte_shape(tensor.shape, tensor.type)
            writer.add_tensor_info(tensor.name, shape, np.dtype(np.uint8), tensor.bytes, raw_dtype=tensor.type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()


def check_name(name: str) -> None:
    """Raise InputError for a model name that could not be a file's or a served model's."""
    if not name or name != name.strip() or any(sign in "/\\\0" or not sign.isprintable() for sign in name):
        raise InputError(f"not a model name: {name!r}", fix="use letters, digits, '.', '_' and '-'")


def write_gguf(
    model: Path,
    target: Path,
    *,
    type: QuantType,  # noqa: A002
    name: str,
    progress: Callable[[int, int], None] | None = None,
) -> GgufReport:
    """Write ``target`` from a full-precision model folder; nothing is left behind when it fails.

    A few rows at a time, so that memory does not grow with the model. Raises InputError for a model that
    cannot be exported and ToolError for a disk that is too small or not writable. ``progress`` gets
    (pieces done, all).
    """
    check_name(name)
    config, architecture = _config(model)
    tensors, vocabulary = _tensors(model, type), read_vocabulary(model)
    require_disk(target.parent, _data_bytes(tensors) + _METADATA_BYTES, what=f"writing {target.name}")
    temporary = target.with_name(f".{target.name}.part")
    writer = GGUFWriter(temporary, architecture.gguf)
    parameters = sum(prod(tensor.shape) for tensor in tensors)
    add_model(writer, config, name=name, kind=type, parameters=parameters)
    add_particulars(writer, config, architecture)
    add_tokenizer(writer, vocabulary)
    try:
        try:
            _describe(writer, tensors)
        except OSError as error:
            raise ToolError(
                f"cannot write: {error.strerror}", where=str(target), fix="choose a writable folder"
            ) from None
        finally:
            writer.close()
        start = -(-temporary.stat().st_size // _ALIGNMENT) * _ALIGNMENT
        os.truncate(temporary, start + _data_bytes(tensors))
        convert([replace(tensor, offset=start + tensor.offset) for tensor in tensors], temporary, progress=progress)
        _settle(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    digest = hashlib.sha256(vocabulary.template.encode()).hexdigest()
    return GgufReport(type, len(tensors), target.stat().st_size, digest_file(target), vocabulary.pre, digest)


def _settle(temporary: Path, target: Path) -> None:
    """Everything on the disk, then the name."""
    with temporary.open("rb") as stream:
        os.fsync(stream.fileno())
    temporary.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
