"""The frozen base: what is checked before anything costs time, and how it is held in memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlx_ragtune.clients.runtime_mlx import mx, nn, tree_map
from mlx_ragtune.models.model_folder import check_base

Precision = Literal["fp32", "bf16", "8bit", "4bit"]
GROUP_SIZE = 64


@dataclass(frozen=True)
class Base:
    """A loaded model with its tokenizer (mlx-lm's wrapper) and config."""

    model: Any
    tokenizer: Any
    config: dict[str, Any]


def load_base(folder: Path, precision: Precision) -> Base:
    """Model and tokenizer with every weight cast to ``precision``; 8bit and 4bit quantize in groups of 64.

    Layers whose rows 64 does not divide stay as they are. bfloat16 is slow on a CPU: use fp32 there.
    """
    from mlx_lm.utils import load_model, load_tokenizer

    config = check_base(folder)
    model, _ = load_model(folder)
    dtype = mx.float32 if precision == "fp32" else mx.bfloat16
    model.update(
        tree_map(
            lambda one: one.astype(dtype) if mx.issubdtype(one.dtype, mx.floating) else one,
            model.parameters(),
        )
    )
    if precision in ("8bit", "4bit"):
        nn.quantize(
            model,
            group_size=GROUP_SIZE,
            bits=int(precision[0]),
            class_predicate=lambda _path, module: (
                isinstance(module, nn.Linear) and module.weight.shape[-1] % GROUP_SIZE == 0
            ),
        )
    model.freeze()
    mx.eval(model.parameters())
    return Base(model, load_tokenizer(folder), config)
