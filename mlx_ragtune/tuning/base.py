"""The frozen base: what is checked before anything costs time, and how it is held in memory."""

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlx_ragtune.backends.runtime_mlx import mx, nn, tree_map
from mlx_ragtune.errors import InputError
from mlx_ragtune.gguf.architectures import check_architecture
from mlx_ragtune.gguf.vocabulary import chat_template

Precision = Literal["fp32", "bf16", "8bit", "4bit"]
GROUP_SIZE = 64


@dataclass(frozen=True)
class Base:
    """A loaded model with its tokenizer (mlx-lm's wrapper) and config."""

    model: Any
    tokenizer: Any
    config: dict[str, Any]


def check_base(folder: Path) -> dict[str, Any]:
    """Its config. Raises InputError for an architecture that cannot be trained and exported, or no template."""
    path = folder / "config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError("no readable config.json", where=str(folder), fix="name a complete model folder") from None
    check_architecture(config)
    if importlib.util.find_spec(f"mlx_lm.models.{config['model_type']}") is None:
        raise InputError(f"mlx-lm does not know architecture '{config['model_type']}'", where=str(path))
    chat_template(folder)
    return config


def load_base(folder: Path, precision: Precision) -> Base:
    """Model and tokenizer with every weight cast to ``precision``; 8bit and 4bit quantise in groups of 64.

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
