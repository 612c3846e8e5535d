"""Writes a model folder as one GGUF file: the same bytes every time, complete or not at all."""

import errno
import hashlib
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter, size_label
from gguf.quants import quant_shape_to_byte_shape

from mlx_ragtune.artifact import require_disk
from mlx_ragtune.clients.machine import disk_writes
from mlx_ragtune.errors import InputError
from mlx_ragtune.gguf.arrays import ArrayWriter
from mlx_ragtune.gguf.convert import PIECE_VALUES, Tensor, ValueHeads, convert
from mlx_ragtune.gguf.metadata import add_model, add_particulars, add_tokenizer, rope_factors
from mlx_ragtune.gguf.quantize import QuantType, tensor_type
from mlx_ragtune.models import gemma4
from mlx_ragtune.models.architectures import Architecture, attention_layers, flat_config, key_value_heads
from mlx_ragtune.models.model_folder import check_weights
from mlx_ragtune.models.prompts import turn_end_id
from mlx_ragtune.models.stored_layout import AnyWeight, ModelWeights
from mlx_ragtune.models.unsupported import check_architecture, check_dimensions
from mlx_ragtune.models.vocabulary import read_json, read_vocabulary

_ALIGNMENT = 32
METADATA_BYTES = 16 * 2**20
_HASHED_BYTES = 4 * 2**20


@dataclass(frozen=True)
class GgufReport:
    """Facts about a written file. ``template_sha256`` is the digest of the chat template's UTF-8 bytes."""

    type: QuantType
    tensors: int
    bytes: int
    sha256: str
    pretokenizer: str
    template_sha256: str


def _config(model: Path) -> tuple[dict[str, Any], Architecture]:
    config = flat_config(read_json(model / "config.json"))
    architecture = check_architecture(config)
    check_dimensions(config, where=model / "config.json")
    return config, architecture


def _order(tensor: Tensor) -> tuple[int, int, str]:
    """Sort key: embedding, layers in order, then the others."""
    name = tensor.name
    if name.startswith("blk."):
        return 1, int(name.split(".")[1]), name
    return (0 if name.startswith("token_embd") else 2), 0, name


def _is_tied(config: dict[str, Any], weights: ModelWeights) -> bool:
    """Whether output and embedding share weights. Raises InputError when config.json and the weights disagree."""
    has_head = "lm_head.weight" in weights
    setting = config.get("tie_word_embeddings")
    tied = bool(setting) if setting is not None else not has_head
    if not tied and not has_head:
        raise InputError(
            "lm_head.weight is missing, and config.json says embeddings are not tied", fix="fetch the model again"
        )
    if tied and has_head and not _same(weights["lm_head.weight"], weights["model.embed_tokens.weight"]):
        raise InputError(
            "config.json says embeddings are tied, but lm_head.weight differs from the embedding",
            fix='set "tie_word_embeddings": false in the model\'s config.json',
        )
    return tied


def _same(left: AnyWeight, right: AnyWeight) -> bool:
    if (left.shape, left.dtype) != (right.shape, right.dtype):
        return False
    step = max(1, PIECE_VALUES // prod(left.shape[1:]))
    return all(
        np.array_equal(left.raw(first, count), right.raw(first, count))
        for first in range(0, left.shape[0], step)
        for count in (min(step, left.shape[0] - first),)
    )


def _tensors(model: Path, kind: QuantType) -> list[Tensor]:
    """All tensors in file order; offsets count from the first byte of tensor data."""
    config, architecture = _config(model)
    weights = check_weights(model, config)
    tied, layers = _is_tied(config, weights), int(config["num_hidden_layers"])
    attention = _value_layers(config, architecture)
    tensors = []
    for source in weights:
        if source == "lm_head.weight" and tied:
            continue
        stored, name = weights[source], architecture.gguf_name(source)
        chosen = tensor_type(name, stored.shape, kind, layers=layers, tied=tied, attention=attention)
        heads = _interleaved_heads(name, config) if architecture.interleaved else 0
        tensors.append(
            Tensor(
                name,
                chosen,
                stored.shape,
                0,
                stored,
                heads=heads,
                shift=weights.norm_shift(source),
                order=value_order(source, config),
                decay=source.endswith(".A_log"),
            )
        )
    if factors := rope_factors(config):
        tensors.append(Tensor("rope_freqs.weight", Type.F32, (len(factors),), 0, values=factors))
    _check_extra(tensors, layers, model)
    return _placed(sorted(tensors, key=_order))


def _value_layers(config: dict[str, Any], architecture: Architecture) -> list[int] | None:
    """The layers with a matrix of values, of its own or joined with queries and keys; None where all have one."""
    if config["model_type"] == gemma4.MODEL_TYPE:
        layers = range(config["num_hidden_layers"])
        return [layer for layer in layers if "self_attn.v_proj.weight" in gemma4.layer_shapes(config, layer)]
    return attention_layers(config) if architecture.hybrid and config["model_type"] != "qwen3_5" else None


def value_order(name: str, config: Mapping[str, Any]) -> ValueHeads | None:
    """How the heads of values of a tensor of Qwen3.5 are reordered; None where they are not."""
    tail = name.partition(".linear_attn.")[2]
    keys, values = config.get("linear_num_key_heads"), config.get("linear_num_value_heads")
    if not tail or keys == values:
        return None
    assert keys is not None  # noqa: S101 (check_dimensions)
    assert values is not None  # noqa: S101
    width, per_key = int(config["linear_value_head_dim"]), values // keys
    before = 2 * keys * int(config["linear_key_head_dim"])
    axis, start, rows = {
        "in_proj_qkv.weight": (0, before, width),
        "conv1d.weight": (0, before, width),
        "in_proj_z.weight": (0, 0, width),
        "in_proj_a.weight": (0, 0, 1),
        "in_proj_b.weight": (0, 0, 1),
        "A_log": (0, 0, 1),
        "dt_bias": (0, 0, 1),
        "out_proj.weight": (1, 0, width),
    }.get(tail, (0, 0, 0))
    return ValueHeads(axis, start, keys, per_key, rows) if rows else None


def _interleaved_heads(name: str, config: dict[str, Any]) -> int:
    if ".attn_q." in name:
        return int(config["num_attention_heads"])
    return key_value_heads(config) if ".attn_k." in name else 0


def _check_extra(tensors: list[Tensor], layers: int, model: Path) -> None:
    """Raise InputError for a tensor of a layer that config.json does not count."""
    for tensor in tensors:
        if tensor.name.startswith("blk.") and int(tensor.name.split(".")[1]) >= layers:
            raise InputError(
                f"{tensor.name} belongs to a layer beyond num_hidden_layers {layers}",
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
    """Size of the GGUF file in bytes, without its metadata (a few MB). Reads only headers."""
    return _data_bytes(_tensors(model, kind))


def _size_label(tensors: list[Tensor], config: dict[str, Any]) -> str:
    """``general.size_label``: all parameters, or for a mixture those of one expert with the shared ones."""
    total = sum(prod(tensor.shape) for tensor in tensors)
    experts = int(config.get("num_experts") or 0) if config["model_type"] == "qwen3_moe" else 0
    if not experts:
        return size_label(total, total, 0, 0)
    joint = sum(prod(tensor.shape) for tensor in tensors if "_exps." in tensor.name)
    return size_label(total, total - joint, joint // experts, experts)


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
    """Raise InputError for a model name that cannot be the name of a file or of a served model."""
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
    """Write ``target`` from a full-precision model folder; a failure leaves nothing behind.

    ``name`` becomes ``general.name`` and is part of the file's bytes: pass a name of the model (not of the
    recipe) where files are to be shared. The same folder, type and name give the same bytes. Rows are read a
    few at a time, so memory use does not depend on the size of the model. ``progress`` is called with (pieces
    done, all pieces). Raises InputError for a model that cannot be exported, and ToolError when the disk is too
    small or not writable.
    """
    check_name(name)
    config, architecture = _config(model)
    tensors, vocabulary = _tensors(model, type), read_vocabulary(model)
    turn_end = turn_end_id(model)
    require_disk(target.parent, _data_bytes(tensors) + METADATA_BYTES, what=f"writing {target.name}")
    temporary = target.with_name(f".{target.name}.part")
    writer = ArrayWriter(temporary, architecture.gguf)
    add_model(writer, config, name=name, kind=type, size=_size_label(tensors, config))
    add_particulars(writer, config, architecture)
    add_tokenizer(writer, vocabulary)
    if turn_end != vocabulary.specials["eos"]:
        writer.add_eot_token_id(turn_end)  # else a server stops at it only where it knows its text
    with disk_writes(target, _data_bytes(tensors), partial=temporary):
        try:
            _describe(writer, tensors)
        finally:
            writer.close()
        start = -(-temporary.stat().st_size // _ALIGNMENT) * _ALIGNMENT
        os.truncate(temporary, start + _data_bytes(tensors))
        placed = [replace(tensor, offset=start + tensor.offset) for tensor in tensors]
        with temporary.open("rb", buffering=0) as stream:
            digest = _Digest(stream)
            convert(placed, temporary, progress=progress, complete_below=digest.reach)
            sha256 = _settle(temporary, target, digest)
    template = hashlib.sha256(vocabulary.template.encode()).hexdigest()
    return GgufReport(type, len(tensors), target.stat().st_size, sha256, vocabulary.pre, template)


class _Digest:
    """The SHA-256 of a file that is being written, computed as far as it is complete."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._hash, self._done = stream, hashlib.sha256(), 0
        self._block = memoryview(bytearray(_HASHED_BYTES))

    def reach(self, end: int) -> None:
        """Include the bytes below the offset ``end``; whole blocks are worth a call."""
        if end - self._done >= len(self._block):
            self._include(end)

    def result(self) -> str:
        """The digest of the file to its end, as hexadecimal."""
        self._include(os.fstat(self._stream.fileno()).st_size)
        return self._hash.hexdigest()

    def _include(self, end: int) -> None:
        while self._done < end:
            size = self._stream.readinto(self._block[: end - self._done])  # type: ignore[attr-defined]
            if not size:
                raise OSError(errno.EIO, "the file became shorter while it was written")
            self._hash.update(self._block[:size])
            self._done += size


def _settle(temporary: Path, target: Path, digest: _Digest) -> str:
    """The file's SHA-256; it is renamed after its content is on disk, and the rest is hashed at the same time."""
    with temporary.open("rb") as stream, ThreadPoolExecutor(1) as executor:
        on_disk = executor.submit(os.fsync, stream.fileno())
        sha256 = digest.result()
        on_disk.result()
    temporary.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return sha256
