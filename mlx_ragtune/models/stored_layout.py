"""One set of names and shapes for the layouts in which a model is stored: Hugging Face's and mlx-lm's.

Qwen3.5 has a prefix before its layers, tensors of images and of a second head, and norms that are stored minus 1 until
mlx-lm adds it; Gemma 4 has such a prefix, tensors of images and audio, and some that are never read; a mixture of
experts has a tensor for each expert or one for all; kernels of convolutions have an axis of length 1 in one of two
places. ``mlx_lm.models.*.sanitize`` makes the same changes when a model is loaded.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlx_ragtune.errors import InputError
from mlx_ragtune.models import gemma4
from mlx_ragtune.models.architectures import ARCHITECTURES
from mlx_ragtune.models.weights import Floats, StoredWeight, Weights, to_float32

_PREFIXES = (("model.language_model.", "model."), ("language_model.model.", "model."), ("language_model.", ""))
_LEFT_OUT = (
    "mtp.", "model.mtp.", "model.visual.", "vision_tower.", "visual.", "model.vision_tower.", "model.embed_vision.",
    "embed_vision.", "model.audio_tower.", "audio_tower.", "model.embed_audio.", "embed_audio.",
)  # fmt: skip
"""Tensors that mlx-lm leaves out of Qwen3.5 and Gemma 4: a head that predicts several tokens, images and audio."""
_NESTED = ("qwen3_5", gemma4.MODEL_TYPE)
_EXPERT = re.compile(r"(model\.layers\.\d{1,5}\.mlp)\.experts\.(\d{1,5})\.((?:gate|up|down)_proj\.weight)")
_KERNELS = (".conv1d.weight", ".conv.conv.weight")
_SHIFTED = ("layernorm.weight", "model.norm.weight", ".q_norm.weight", ".k_norm.weight")


@dataclass(frozen=True)
class StackedWeight:
    """Tensors of one shape as one with a first axis more: the experts of a layer, in order."""

    name: str
    parts: tuple[StoredWeight, ...]

    @property
    def file(self) -> Path:
        """The file of the first part."""
        return self.parts[0].file

    @property
    def shape(self) -> tuple[int, ...]:
        """(experts, rows, columns)."""
        return (len(self.parts), *self.parts[0].shape)

    @property
    def dtype(self) -> str:
        """F32, F16 or BF16."""
        return self.parts[0].dtype

    @property
    def size(self) -> int:
        """Number of values."""
        return sum(part.size for part in self.parts)

    @property
    def bytes(self) -> int:
        """Size in the files."""
        return sum(part.bytes for part in self.parts)

    def raw(self, first: int, count: int, *, into: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[Any]:
        """``count`` experts as stored; bfloat16 as uint16. ``into`` is memory for them, as in ``StoredWeight.raw``."""
        parts = self.parts[first : first + count]
        if into is None:
            return np.stack([part.raw(0, part.shape[0]) for part in parts])
        size = self.parts[0].bytes
        for number, part in enumerate(parts):
            part.raw(0, part.shape[0], into=into[number * size : (number + 1) * size])
        kind = (
            np.dtype(np.uint16) if self.dtype == "BF16" else np.dtype(np.float16 if self.dtype == "F16" else np.float32)
        )
        return into[: count * size].view(kind).reshape(count, *self.parts[0].shape)

    def float32(self) -> Floats:
        """All values as float32."""
        return to_float32(self.raw(0, len(self.parts)))


AnyWeight = StoredWeight | StackedWeight


def plain_name(name: str) -> str | None:
    """The name that a dense text model would have for a stored tensor or adapter; None for one that is not used."""
    if name.startswith(_LEFT_OUT):
        return None
    for theirs, ours in _PREFIXES:
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def plain_names(model_type: str, names: Iterable[str]) -> dict[str, list[str]]:
    """The tensors of a model by their plain names, each with the stored tensors that make it up, experts in order."""
    found: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        plain = plain_name(name) if model_type in _NESTED else name
        if plain is None:
            continue
        expert = _EXPERT.fullmatch(plain) if model_type == "qwen3_moe" else None
        key = f"{expert[1]}.switch_mlp.{expert[3]}" if expert else plain
        found.setdefault(key, []).append((int(expert[2]) if expert else 0, name))
    return {key: [name for _, name in sorted(parts)] for key, parts in found.items()}


class ModelWeights:
    """The tensors of a model folder by their plain names, sorted, whatever the layout; only headers are read.

    ``norm_shift`` is what is added to a norm on export. Raises InputError as ``Weights``, and for experts that are
    missing or of different shapes.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        stored, model_type = Weights(folder), str(config["model_type"])
        self._entries: dict[str, AnyWeight] = {}
        self._shift = ARCHITECTURES[model_type].norm_shift
        self._shifted: tuple[str, ...] = ("norm.weight",)
        for name, parts in plain_names(model_type, stored).items():
            if model_type == gemma4.MODEL_TYPE and gemma4.is_unused(name, config):
                continue
            entries = [stored[part] for part in parts]
            if ".switch_mlp." in name and len(entries[0].shape) == 2:
                self._entries[name] = _stacked(name, entries, int(config["num_experts"]), folder)
            else:
                self._entries[name] = self._without_axis(name, entries[0])
        if model_type == "qwen3_5":
            self._shifted = _SHIFTED

    def _without_axis(self, name: str, entry: StoredWeight) -> StoredWeight:
        if not name.endswith(_KERNELS) or len(entry.shape) != 3 or 1 not in entry.shape[1:]:
            return entry
        channels, second, third = entry.shape
        if name.endswith(".conv1d.weight") and third != 1:
            self._shift = 1.0  # as Hugging Face stores it: mlx-lm adds 1 to the norms of this layout
        return replace(entry, shape=(channels, second * third))

    def norm_shift(self, name: str) -> float:
        """What is added to the values of a tensor when it is exported; 0 for all but some norms."""
        return self._shift if name.endswith(self._shifted) else 0.0

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Any:
        return iter(sorted(self._entries))

    def __getitem__(self, name: str) -> AnyWeight:
        return self._entries[name]

    def float32(self, name: str) -> Floats:
        """A whole tensor as float32 (exact for float16 and bfloat16)."""
        return self._entries[name].float32()


def _stacked(name: str, entries: list[StoredWeight], experts: int, folder: Path) -> StackedWeight:
    if len(entries) != experts or len({(entry.shape, entry.dtype) for entry in entries}) != 1:
        raise InputError(
            f"'{name}' has {len(entries)} experts of {len({entry.shape for entry in entries})} shapes, "
            f"config.json says {experts} of one",
            where=str(folder),
            fix="fetch the model again",
        )
    return StackedWeight(name, tuple(entries))
