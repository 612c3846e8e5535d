"""Imports a GGUF file as a model folder for mlx-lm and transformers: weights, config, tokenizer, template."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from gguf.quants import dequantize

from mlx_ragtune.artifact import require_disk
from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.gguf.container import GgufFile, StoredTensor
from mlx_ragtune.gguf.convert import PIECE_VALUES, deinterleave
from mlx_ragtune.gguf.metadata import rope_factors
from mlx_ragtune.gguf.quantize import encode_bf16
from mlx_ragtune.gguf.restore import restored_tokenizer, tokenizer_settings
from mlx_ragtune.models.architectures import ARCHITECTURES, GGUF_TO_MODEL_TYPE, Architecture, tensor_shapes
from mlx_ragtune.models.weights import Floats, write_safetensors

Dtype = Literal["float32", "float16", "bfloat16"]
_STORED: dict[Dtype, str] = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_LLAMA3_FACTORS = (8.0, 32.0)
"""Scaling factors of the rotary frequencies in Llama 3.1 and 3.2; a GGUF file stores only the resulting divisors."""
_MAX_VALUE = 2**31


@dataclass(frozen=True)
class _Source:
    file: GgufFile
    model_type: str
    config: dict[str, Any]

    @property
    def architecture(self) -> Architecture:
        return ARCHITECTURES[self.model_type]


def _shortest(value: float) -> float:
    """The shortest decimal of a float32: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value)))


class _Keys:
    """Numbers under an architecture's prefix, checked."""

    def __init__(self, file: GgufFile, architecture: str) -> None:
        self._file, self._architecture = file, architecture

    def count(self, name: str, default: int | None = None) -> int:
        key = f"{self._architecture}.{name}"
        if default is not None and key not in self._file.fields:
            return default
        value = self._file.need(key, int)
        if not 1 <= value < _MAX_VALUE:
            raise self._file.damaged(f"key {key} is {value}")
        return int(value)

    def number(self, name: str, default: float | None = None) -> float:
        key = f"{self._architecture}.{name}"
        if default is not None and key not in self._file.fields:
            return default
        value = float(self._file.need(key, (int, float)))
        if not 0 < value < 1e12:
            raise self._file.damaged(f"key {key} is {value}")
        return _shortest(value)


def _open(path: Path, dtype: Dtype) -> _Source:
    file = GgufFile(path)
    name = file.need("general.architecture", str)
    if name not in GGUF_TO_MODEL_TYPE:
        raise InputError(
            f"architecture '{name[:40]}' cannot be imported from a GGUF file "
            f"(supported: {', '.join(sorted(GGUF_TO_MODEL_TYPE))})",
            where=str(path),
            fix="set base.model to the model's hub id or folder, or choose another base",
        )
    if file.fields.get("split.count", 1) not in (0, 1):
        raise InputError(
            "this is one part of a split GGUF", where=str(path), fix="llama-gguf-split --merge FIRST-PART OUTPUT"
        )
    if not file.fields.get("tokenizer.chat_template"):
        raise InputError("no chat template", where=str(path), fix="choose an instruction-tuned model")
    model_type = GGUF_TO_MODEL_TYPE[name]
    return _Source(file, model_type, _config(file, model_type, dtype))


def _config(file: GgufFile, model_type: str, dtype: Dtype) -> dict[str, Any]:
    architecture = ARCHITECTURES[model_type]
    keys = _Keys(file, architecture.gguf)
    hidden, heads = keys.count("embedding_length"), keys.count("attention.head_count")
    default_head = 256 if model_type == "gemma3_text" else max(1, hidden // heads)
    config: dict[str, Any] = {
        "architectures": [architecture.transformers_class],
        "model_type": model_type,
        "hidden_size": hidden,
        "num_hidden_layers": keys.count("block_count"),
        "intermediate_size": keys.count("feed_forward_length"),
        "num_attention_heads": heads,
        "num_key_value_heads": keys.count("attention.head_count_kv", heads),
        "head_dim": keys.count("attention.key_length", default_head),
        "hidden_act": "gelu_pytorch_tanh" if model_type == "gemma3_text" else "silu",
        "rms_norm_eps": keys.number("attention.layer_norm_rms_epsilon"),
        "rope_theta": keys.number("rope.freq_base", 10000.0),
        "max_position_embeddings": keys.count("context_length"),
        "vocab_size": len(file.need("tokenizer.ggml.tokens", list)),
        "tie_word_embeddings": all(tensor.name != "output.weight" for tensor in file.tensors),
        "attention_bias": any(tensor.name.endswith("attn_q.bias") for tensor in file.tensors),
        "bos_token_id": file.fields.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": file.need("tokenizer.ggml.eos_token_id", int),
        "torch_dtype": dtype,
    }
    if model_type == "gemma3_text":
        config |= {
            "sliding_window": keys.count("attention.sliding_window"),
            "sliding_window_pattern": 6,
            "query_pre_attn_scalar": config["head_dim"],
            "rope_local_base_freq": 10000.0,
            "hidden_activation": "gelu_pytorch_tanh",
        }
    return config | _rope_scaling(file, config)


def _rope_scaling(file: GgufFile, config: dict[str, Any]) -> dict[str, Any]:
    """Llama 3's rotary scaling, recognized by the divisors in the file. Raises InputError for any other."""
    kind = file.fields.get(f"{ARCHITECTURES[config['model_type']].gguf}.rope.scaling.type", "none")
    if kind != "none":
        raise InputError(
            f"rope scaling '{str(kind)[:40]}' is not supported", where=str(file.path), fix="choose another base"
        )
    tensor = next((stored for stored in file.tensors if stored.name == "rope_freqs.weight"), None)
    if tensor is None:
        return {}
    divisors = _values(file, tensor, 0, 1)[0]
    for factor in _LLAMA3_FACTORS:
        scaling = {
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }
        expected = rope_factors({**config, "rope_scaling": scaling})
        if len(expected) == divisors.size and np.allclose(divisors, expected, rtol=1e-5):
            return {"rope_scaling": scaling}
    raise InputError("rope_freqs.weight is not that of Llama 3", where=str(file.path), fix="choose another base")


def _values(file: GgufFile, tensor: StoredTensor, first: int, count: int) -> Floats:
    """``count`` rows as float32, shape [count, row length]; a vector is one row."""
    try:
        with np.errstate(all="ignore"):  # damaged scales are detected below
            values = dequantize(file.rows(tensor, first, count), tensor.type).astype(np.float32, copy=False)
    except (NotImplementedError, KeyError):
        raise InputError(
            f"tensor type {tensor.type.name} is not supported",
            where=str(file.path),
            fix="choose a Q8_0 or F16 file of this model",
        ) from None
    if not np.isfinite(values).all():
        raise file.damaged(f"tensor {tensor.name!r} contains NaN or infinite values")
    return values


def _narrowed(values: Floats, dtype: Dtype, name: str) -> npt.NDArray[Any]:
    """The values as ``dtype``; bfloat16 as uint16. Raises InputError for values that float16 cannot represent."""
    if dtype == "bfloat16":
        return encode_bf16(values)
    with np.errstate(over="ignore"):
        narrow = values.astype(dtype, copy=False)
    if not np.isfinite(narrow).all():
        raise InputError(f"'{name}' has values beyond float16's maximum 65504", fix="import it as float32 or bfloat16")
    return narrow


def _named(source: _Source) -> list[tuple[str, StoredTensor]]:
    """Model names and tensors, sorted by name. Raises InputError if one is missing or of the wrong shape."""
    if source.config["num_hidden_layers"] > len(source.file.tensors):
        raise source.file.damaged(
            f"{len(source.file.tensors)} tensors cannot be {source.config['num_hidden_layers']} layers"
        )
    required = tensor_shapes(source.config)
    optional = {"lm_head.weight": required["model.embed_tokens.weight"]}
    optional |= {name.removesuffix("weight") + "bias": shape[:1] for name, shape in required.items()}
    named = {}
    for tensor in source.file.tensors:
        if tensor.name == "rope_freqs.weight":
            continue
        name = source.architecture.model_name(tensor.name)
        shape = required.get(name) or optional.get(name)
        if shape is None:
            raise source.file.damaged(f"tensor {tensor.name!r} belongs to no layer of the model")
        if tensor.shape != shape:
            raise source.file.damaged(f"tensor {tensor.name!r} is {list(tensor.shape)}, not {list(shape)}")
        named[name] = tensor
    if missing := sorted(set(required) - set(named)):
        raise source.file.damaged(f"tensor {missing[0]!r} is missing")
    return sorted(named.items())


def _pieces(source: _Source, named: list[tuple[str, StoredTensor]], dtype: Dtype) -> Iterator[npt.NDArray[Any]]:
    """The values of all tensors in order, a few complete heads at a time."""
    for name, tensor in named:
        for piece in _stored_values(source, name, tensor):
            yield _narrowed(piece, dtype, name)


def _stored_values(source: _Source, name: str, tensor: StoredTensor) -> Iterator[Floats]:
    shift = np.float32(source.architecture.norm_shift if name.endswith("norm.weight") else 0.0)
    interleaved = source.architecture.interleaved and (".q_proj." in name or ".k_proj." in name)
    head = source.config["head_dim"]
    if len(tensor.shape) == 1:
        values = _values(source.file, tensor, 0, 1)[0]
        yield deinterleave(values, values.size // head) if interleaved else values - shift
        return
    step = head if interleaved else 1
    size = max(1, PIECE_VALUES // (tensor.shape[1] * step)) * step
    for first in range(0, tensor.shape[0], size):
        rows = _values(source.file, tensor, first, min(size, tensor.shape[0] - first))
        yield deinterleave(rows, len(rows) // head) if interleaved else rows


@contextmanager
def _built_aside(folder: Path) -> Iterator[Path]:
    """An empty folder that replaces ``folder`` when the block succeeds. Raises ToolError when a write fails."""
    draft = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        yield draft
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
    except OSError as error:
        raise ToolError(
            f"cannot write: {error.strerror}", where=str(folder), fix="free disk space or choose a writable folder"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def gguf_tokenizer(gguf: Path) -> str:
    """``tokenizer.json`` of a GGUF file, of a chat model or an embedding model, as text.

    Raises InputError for a damaged file or an unsupported tokenizer.
    """
    return restored_tokenizer(GgufFile(gguf))


def import_gguf(gguf: Path, folder: Path, *, dtype: Dtype = "float32") -> None:
    """Write a model folder from a GGUF file, dequantized to ``dtype``. The folder appears complete or not at all.

    Memory use does not depend on the size of the model. Raises InputError for a damaged file or an unsupported
    architecture, tokenizer or tensor type, and ToolError when the disk is too small or not writable.
    """
    source = _open(gguf, dtype)
    named = _named(source)
    tokenizer = restored_tokenizer(source.file)
    shapes = [(name, tensor.shape) for name, tensor in named]
    size = sum(prod(shape) for _, shape in shapes) * (4 if dtype == "float32" else 2)
    require_disk(folder.parent, size + 2**26, what=f"importing {gguf.name}")
    ids = {"bos_token_id": source.config["bos_token_id"], "eos_token_id": source.config["eos_token_id"]}
    with _built_aside(folder) as draft:
        write_safetensors(draft / "model.safetensors", shapes, _STORED[dtype], _pieces(source, named, dtype))
        (draft / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
        for name, value in (
            ("config.json", source.config),
            ("tokenizer_config.json", tokenizer_settings(source.file)),
            ("generation_config.json", ids),
        ):
            (draft / name).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        for path in sorted(draft.iterdir()):
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
