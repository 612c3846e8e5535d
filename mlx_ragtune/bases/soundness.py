"""Whether the files of a model folder are whole: read just far enough to find damage before a stage meets it."""

import json
import struct
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, NoReturn

from mlx_ragtune.errors import InputError
from mlx_ragtune.models.architectures import ARCHITECTURES, flat_config, tensor_shapes
from mlx_ragtune.models.model_folder import missing_files
from mlx_ragtune.models.stored_layout import plain_names

_MAX_HEAD_BYTES = 100 * 2**20
"""The limit of the safetensors format itself."""
_MAX_LAYERS = 10_000
_BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8,
    "U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8,
}  # fmt: skip


def check_sound(folder: Path) -> None:
    """Raise InputError, naming file and damage, unless a model folder can be loaded.

    Checked are the JSON files, the tokenizer, the bounds of every tensor in its file, and that each weight that
    the architecture has is there. The values of the weights are not read.
    """
    config = _json_object(folder / "config.json")
    index = folder / "model.safetensors.index.json"
    if index.exists():
        _check_index(index)
    if missing := missing_files(folder):
        raise InputError(
            f"not a complete model: {', '.join(missing)} missing",
            where=str(folder),
            fix="copy the missing files there, or name another folder in 'base.model'",
        )
    for name in ("tokenizer_config.json", "generation_config.json"):
        if (folder / name).exists():
            _json_object(folder / name)
    _check_tokenizer(folder / "tokenizer.json")
    shapes: dict[str, list[int]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        shapes |= _tensor_shapes(file)
    _check_weights(config, shapes, folder)


def _damaged(path: Path, what: str) -> NoReturn:
    raise InputError(
        f"the base model is damaged: {what}", where=str(path), fix="download or copy the model again"
    ) from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read a file of the base model: {error.strerror}", where=str(path), fix="check its permissions"
        ) from None


def _json_object(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise InputError(
            f"not a complete model: {path.name} missing",
            where=str(path.parent),
            fix="copy the missing files there, or name another folder in 'base.model'",
        )
    try:
        value = json.loads(_bytes(path))
    except (ValueError, RecursionError):
        _damaged(path, "not a JSON file")
    if not isinstance(value, dict):
        _damaged(path, f"a JSON object is expected, not {ascii(value)[:40]}")
    return value


def _check_index(path: Path) -> None:
    files = _json_object(path).get("weight_map")
    if not isinstance(files, dict) or not files:
        _damaged(path, "'weight_map' is not a list of files by tensor")
    for file in files.values():
        if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors"):
            _damaged(path, f"'weight_map' names {ascii(file)[:60]}, which is not a file of the model")


def _check_tokenizer(path: Path) -> None:
    if not path.exists():
        return  # vocab.json or tokenizer.model in its place; what is supported is checked elsewhere
    from tokenizers import Tokenizer

    _json_object(path)
    try:
        Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises nothing more specific
        _damaged(path, f"not a tokenizer ({str(error).splitlines()[0][:200]})")


def _tensor_shapes(path: Path) -> dict[str, list[int]]:
    """The shape of every tensor in a safetensors file, whose description must fit the file exactly.

    Format: github.com/huggingface/safetensors#format.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(size - 8, _MAX_HEAD_BYTES):
                _damaged(path, f"it has {size} bytes and is cut off")
            head = json.loads(stream.read(length))
        tensors = {name: tensor for name, tensor in head.items() if name != "__metadata__"}
        ends = [_end(path, name, tensor) for name, tensor in tensors.items()]
        shapes = {name: list(tensor["shape"]) for name, tensor in tensors.items()}
    except OSError as error:
        raise InputError(
            f"cannot read a file of the base model: {error.strerror}", where=str(path), fix="check its permissions"
        ) from None
    except (ValueError, struct.error, RecursionError, LookupError, TypeError, AttributeError):
        _damaged(path, "its head is not that of a safetensors file")
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        _damaged(path, f"it has {size} bytes instead of {expected}" + (": it is cut off" if size < expected else ""))
    return shapes


def _end(path: Path, name: str, tensor: Mapping[str, Any]) -> int:
    """Where a tensor's bytes end. Raises ValueError and the like for a description of the wrong shape."""
    start, end = tensor["data_offsets"]
    shape = tensor["shape"]
    if not all(isinstance(number, int) and number >= 0 for number in (start, end, *shape)):
        raise ValueError(name)
    bits = _BITS.get(tensor["dtype"])
    if bits is not None and (end - start) * 8 != prod(shape) * bits:
        _damaged(path, f"tensor '{name[:100]}' has {end - start} bytes, which does not fit its shape {shape}")
    return int(end)


def _check_weights(config: Mapping[str, Any], shapes: Mapping[str, list[int]], folder: Path) -> None:
    flat = flat_config(config)
    try:
        required = _required(flat)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
        return  # refused elsewhere, with the reason
    stored = plain_names(str(flat.get("model_type")), shapes)
    missing = [name for name in required if name not in stored]
    if missing:
        more = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
        _damaged(folder, f"the weight '{missing[0]}'{more} is missing")
    if "quantization" in config or "quantization_config" in config:
        return  # packed weights have shapes of their own
    for name, expected in required.items():
        first = shapes[stored[name][0]]
        if len(first) == len(expected) and tuple(first) != expected:
            _damaged(folder, f"the weight '{name}' has shape {first}, and config.json says {list(expected)}")


def _required(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name and shape of the weights that a model of this configuration must have; empty for an unsupported one."""
    if str(config.get("model_type")) not in ARCHITECTURES or not 0 < config["num_hidden_layers"] < _MAX_LAYERS:
        return {}
    shapes = tensor_shapes(config)
    if config.get("tie_word_embeddings") is False:
        shapes["lm_head.weight"] = shapes["model.embed_tokens.weight"]
    return shapes
