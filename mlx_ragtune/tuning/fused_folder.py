"""Writes base plus adapter as a model folder, a tensor at a time: the model is never in memory as a whole.

The delta is computed and added in float32, a block of rows at a time, and rounded once to the stored type. The folder
gets its name when all of its files are on disk.
"""

import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from mlx_ragtune.clients.machine import disk_writes
from mlx_ragtune.clients.runtime_mlx import mx, nn, tree_flatten
from mlx_ragtune.models import gemma4
from mlx_ragtune.models.template_dates import freeze_files
from mlx_ragtune.tuning.adapters import load_adapter
from mlx_ragtune.tuning.head import text_model
from mlx_ragtune.tuning.load import load_stored

SHARD_BYTES = 4 * 2**30
BLOCK_VALUES = 2**24
"""Values of a matrix that are merged at a time: 64 MiB in float32, about four times that in all."""
CARRIED = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "tokenizer.model", "generation_config.json", "chat_template.jinja",
)  # fmt: skip
"""Files of the base that the fused folder needs, but for a date as they are: both export to the same vocabulary."""
_TYPE_NAMES = {mx.float32: "F32", mx.float16: "F16", mx.bfloat16: "BF16"}


@dataclass(frozen=True)
class Fused:
    """What was written: the number of fused layers, and the type of the first tensor (``bfloat16``)."""

    layers: int
    dtype: str


@dataclass
class _Tensor:
    """A tensor to write: the stored values, not read yet, and the adapter layer whose delta is added to them."""

    value: mx.array
    layer: Any = None

    @property
    def size(self) -> int:
        return int(self.value.nbytes)

    def pieces(self) -> Iterator[mx.array]:
        """The bytes to write, as blocks of rows of a type that has the size of the stored one."""
        mx.eval(self.value)
        if self.layer is None:
            yield mx.contiguous(self.value)
            return
        height, width = self.value.shape[0], prod(self.value.shape[1:])
        rows = max(1, BLOCK_VALUES // width)
        merged = _merging(self.layer)
        for first in range(0, height, rows):
            block = self.value[first : first + rows].astype(mx.float32)
            yield mx.contiguous(merged(block, first).astype(self.value.dtype))


def _merging(layer: Any) -> Any:
    """A function of (rows in float32, number of the first): the rows with the delta of mlx-lm's LoRA or DoRA layer.

    The arithmetic is that of the layer's ``fuse``, on some of its rows.
    """
    left, right = layer.scale * layer.lora_b.T, layer.lora_a.T
    mx.eval(left)

    def merged(rows: mx.array, first: int) -> mx.array:
        end = first + rows.shape[0]
        weight: mx.array = rows + left[first:end] @ right
        if "m" not in layer:
            return weight
        scale: mx.array = layer.m[first:end] / mx.linalg.norm(weight, axis=1)
        return scale[:, None] * weight

    return merged


def _tensors(base: Path, adapter: Path, strength: float | None, *, plain: bool) -> tuple[dict[str, _Tensor], int]:
    """Everything to write by name, and the number of adapted layers. Raises ArtifactError for a damaged adapter.

    ``plain``: under the names that the text model has alone.
    """
    model = load_stored(base, lazy=True)
    load_adapter(model, adapter, strength=strength)
    if plain:
        model = text_model(model)
    tensors: dict[str, _Tensor] = {}
    layers = {name: module for name, module in model.named_modules() if "lora_a" in module}
    for name, value in tree_flatten(model.parameters()):
        owner, _, leaf = name.rpartition(".")
        if owner in layers:
            continue
        path, _, inner = owner.rpartition(".")
        if inner == "linear" and path in layers:
            tensors[f"{path}.{leaf}"] = _Tensor(value, layers[path] if leaf == "weight" else None)
        else:
            tensors[name] = _Tensor(value)
    for layer in layers.values():  # the values are released as soon as they are written
        layer.linear = nn.Identity()
    return tensors, len(layers)


def _shards(tensors: Mapping[str, _Tensor]) -> list[list[str]]:
    """Names by file: sorted, and at most SHARD_BYTES in a file of more than one."""
    shards: list[list[str]] = [[]]
    size = 0
    for name in sorted(tensors):
        if shards[-1] and size + tensors[name].size > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += tensors[name].size
    return shards


def _mlx_order(names: Sequence[str]) -> list[str]:
    """The names in the order in which ``mx.save_safetensors`` writes them, which no documentation promises.

    Keeping it makes a fused file equal, byte for byte, to one that MLX writes from the same arrays.
    """
    stream = io.BytesIO()
    mx.save_safetensors(stream, {name: mx.zeros(1) for name in names})
    content = stream.getvalue()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return sorted(names, key=lambda name: header[name]["data_offsets"])


def _write_shard(file: Path, names: Sequence[str], tensors: dict[str, _Tensor]) -> None:
    """Write a safetensors file; a tensor is taken out of ``tensors``, and its memory is freed, once it is written."""
    header: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
    order, at = _mlx_order(names), 0
    for name in order:
        value = tensors[name].value
        end = at + value.nbytes
        header[name] = {"dtype": _TYPE_NAMES[value.dtype], "shape": list(value.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            _write(stream, tensors.pop(name))
        stream.flush()
        os.fsync(stream.fileno())


def _write(stream: IO[bytes], tensor: _Tensor) -> None:
    for piece in tensor.pieces():
        stream.write(np.array(piece.view(mx.uint8), copy=False).data)
        del piece
        mx.clear_cache()


@contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """A folder that becomes ``target`` at the end of the block; nothing is left of it when the block fails."""
    aside = target.with_name(f".{target.name}.part")
    shutil.rmtree(aside, ignore_errors=True)  # of a process that was killed
    aside.mkdir(parents=True)
    try:
        yield aside
        shutil.rmtree(target, ignore_errors=True)
        aside.replace(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write_index(folder: Path, files: Mapping[str, Sequence[str]], tensors: Mapping[str, _Tensor]) -> None:
    weight_map = {name: file for file, names in files.items() for name in names}
    index = {"metadata": {"total_size": sum(tensor.size for tensor in tensors.values())}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")


def carry(base: Path, folder: Path, config: Mapping[str, Any]) -> None:
    """Write what belongs to a model beside its weights: config, tokenizer, chat template."""
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for name in CARRIED:
        if (base / name).exists():
            shutil.copyfile((base / name).resolve(), folder / name)
    freeze_files(folder)


def write_fused(
    base: Path, adapter: Path, target: Path, *, config: Mapping[str, Any], strength: float | None = None
) -> Fused:
    """Write ``target``, a complete folder in the base's stored types; the same base and adapter give the same bytes.

    In memory are the largest tensor as it is stored, or a matrix and some of its rows in float32. ``strength`` is as
    in ``load_adapter``. Raises ArtifactError for a damaged adapter and ToolError when the folder cannot be written.
    """
    tensors, layers = _tensors(base, adapter, strength, plain=config["model_type"] == gemma4.MODEL_TYPE)
    dtype = str(next(iter(tensors.values())).value.dtype).removeprefix("mlx.core.")
    shards = _shards(tensors)
    files = {
        "model.safetensors" if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors": names
        for number, names in enumerate(shards, start=1)
    }
    with disk_writes(target, sum(tensor.size for tensor in tensors.values())), _aside(target) as folder:
        if len(files) > 1:
            _write_index(folder, files, tensors)
        carry(base, folder, config)
        for file, names in files.items():
            _write_shard(folder / file, names, tensors)
    return Fused(layers, dtype)
