"""LoRA and DoRA layers on a frozen base, in the adapter folder format of mlx-lm."""

import json
from pathlib import Path
from typing import Any

from mlx_ragtune.clients.runtime_mlx import mx, tree_flatten
from mlx_ragtune.errors import RecipeError
from mlx_ragtune.recipe import TrainSettings

_GROUPS = {"q_proj": "self_attn", "k_proj": "self_attn", "v_proj": "self_attn", "o_proj": "self_attn"}


def adapter_config(settings: TrainSettings, layers: int) -> dict[str, Any]:
    """``adapter_config.json`` as mlx-lm reads it."""
    return {
        "fine_tune_type": settings.method,
        "num_layers": layers if settings.layers == "all" else settings.layers,
        "lora_parameters": {
            "rank": settings.rank,
            "scale": settings.lora_scale,
            "dropout": settings.dropout,
            "keys": [f"{_GROUPS.get(name, 'mlp')}.{name}" for name in settings.target_modules],
        },
    }


def apply_adapter(model: Any, settings: TrainSettings, *, seed: int) -> None:
    """Put trainable LoRA layers, seeded, into the model. Raises RecipeError for more layers than it has."""
    from mlx_lm.tuner.utils import linear_to_lora_layers

    layers = len(model.layers)
    if settings.layers != "all" and settings.layers > layers:
        raise RecipeError(f"{settings.layers} layers asked for, the model has {layers}", where="train.layers")
    config = adapter_config(settings, layers)
    mx.random.seed(seed)
    model.freeze()
    linear_to_lora_layers(model, config["num_layers"], config["lora_parameters"], use_dora=settings.method == "dora")
    mx.eval(model.trainable_parameters())


def count_parameters(model: Any) -> tuple[int, int]:
    """(trainable, all) parameters, the adapter included; a quantized layer counts its weights, not its packed words."""
    from mlx_lm.utils import get_total_parameters

    trainable = sum(value.size for _, value in tree_flatten(model.trainable_parameters()))
    return trainable, trainable + int(get_total_parameters(model))  # mlx-lm counts leaves alone, no adapter is one


def trainable(model: Any) -> dict[str, mx.array]:
    """The adapter's arrays by name."""
    return dict(tree_flatten(model.trainable_parameters()))


def save_adapter(folder: Path, arrays: dict[str, mx.array], settings: TrainSettings, layers: int) -> None:
    """Write ``adapters.safetensors`` and ``adapter_config.json``; each aside and renamed."""
    part = folder / ".adapters.part.safetensors"
    mx.save_safetensors(str(part), arrays)
    part.replace(folder / "adapters.safetensors")
    config = folder / ".adapter_config.part"
    config.write_text(json.dumps(adapter_config(settings, layers), indent=2) + "\n", encoding="utf-8")
    config.replace(folder / "adapter_config.json")
