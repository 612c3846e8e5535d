"""LoRA and DoRA layers on a frozen base, saved in mlx-lm's adapter folder format."""

import json
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlx_ragtune.clients.machine import disk_writes
from mlx_ragtune.clients.runtime_mlx import mx, tree_flatten, tree_unflatten
from mlx_ragtune.errors import ArtifactError, RecipeError
from mlx_ragtune.models.adapter_scale import scale_at
from mlx_ragtune.models.architectures import ARCHITECTURES, projections
from mlx_ragtune.recipe import TrainSettings
from mlx_ragtune.tuning.seeds import seed64

_OWN_ARRAYS = {"lora_a", "lora_b", "m"}
"""Names of the arrays that belong to an adapter; all others are the base's."""


def adapter_config(
    settings: TrainSettings, layers: int, *, strength: float = 1.0, places: Container[str] | None = None
) -> dict[str, Any]:
    """The content of ``adapter_config.json`` as mlx-lm reads it; ``layers`` is the number of layers of the model.

    ``strength`` is folded into the scale. Where it is not 1 it is noted, so that it can be undone. ``places`` are the
    matrices of the model's layers; those of llama and qwen3 by default.
    """
    present = ARCHITECTURES["qwen3"].layer if places is None else places
    config: dict[str, Any] = {
        "fine_tune_type": settings.method,
        "num_layers": layers if settings.layers == "all" else settings.layers,
        "lora_parameters": {
            "rank": settings.rank,
            "scale": settings.lora_scale * strength,
            "dropout": settings.dropout,
            "keys": projections(settings.target_modules, present),
        },
    }
    return config if strength == 1 else {**config, "strength": strength}


def apply_adapter(model: Any, settings: TrainSettings, *, seed: int) -> None:
    """Add trainable LoRA or DoRA layers, initialized from ``seed``. Raises RecipeError for more layers than it has."""
    from mlx_lm.tuner.utils import linear_to_lora_layers

    layers = len(model.layers)
    if settings.layers != "all" and settings.layers > layers:
        raise RecipeError(
            f"{settings.layers} layers, but the model has only {layers}",
            where="train.layers",
            fix=f"set train.layers to all, or to at most {layers}",
        )
    places = {name for layer in model.layers for name, _ in layer.named_modules()}
    config = adapter_config(settings, layers, places=places)
    mx.random.seed(seed64(seed))
    model.freeze()
    linear_to_lora_layers(model, config["num_layers"], config["lora_parameters"], use_dora=settings.method == "dora")
    mx.eval(model.trainable_parameters())


class BareModules:
    """The modules of a base before any adapter, so that exactly these can be put back."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._layers, self._norm = list(model.model.layers), getattr(model.model, "norm", None)
        self._leaves = [layer.leaf_modules() for layer in self._layers]

    def restore(self) -> None:
        """Take away adapters and everything else that a run put in place; frozen, in evaluation mode."""
        inner = self._model.model
        inner.layers = list(self._layers)
        if self._norm is not None:  # LFM2's has another name, and nothing replaces it
            inner.norm = self._norm
        for layer, leaves in zip(self._layers, self._leaves, strict=True):
            layer.update_modules(leaves)
        self._model.freeze()
        self._model.eval()


@contextmanager
def without_adapter(model: Any) -> Iterator[None]:
    """Inside the block the model is the base: adapters are set aside, and it is in evaluation mode.

    No weights are copied. A scale of 0 would not do: DoRA also trains the norms of the rows.
    """
    training = model.training
    model.eval()
    aside = []
    for layer in model.layers:
        if adapters := [(name, module) for name, module in layer.named_modules() if "lora_a" in module]:
            aside.append((layer, adapters))
            layer.update_modules(tree_unflatten([(name, module.linear) for name, module in adapters]))
    try:
        yield
    finally:
        for layer, adapters in aside:
            layer.update_modules(tree_unflatten(adapters))
        model.train(training)


def load_adapter(model: Any, folder: Path, *, strength: float | None = None) -> None:
    """Add the adapter of a folder, in evaluation mode. Raises ArtifactError when it is damaged or does not fit.

    ``strength`` replaces the one that the folder has: 1 is the adapter as it was trained. Weights of the base that
    are loaded lazily stay so.
    """
    from mlx_lm.tuner.utils import load_adapters

    try:
        load_adapters(model, str(folder))
        if strength is not None:
            config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
            set_scale(model, scale_at(config, strength))
    except (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"cannot read the adapter: {' '.join(str(error).split())[:300]}",
            where=str(folder),
            fix="ragtune train RECIPE --redo",
        ) from None
    model.freeze()
    model.eval()
    mx.eval([value for name, value in tree_flatten(model.parameters()) if name.rpartition(".")[2] in _OWN_ARRAYS])


def count_parameters(model: Any) -> tuple[int, int]:
    """(trainable, total) parameters including the adapter; quantized layers count weights, not packed words."""
    from mlx_lm.utils import get_total_parameters

    trainable = sum(value.size for _, value in tree_flatten(model.trainable_parameters()))
    return trainable, trainable + int(get_total_parameters(model))  # mlx-lm counts leaf modules, adapters are not


def _adapter_layers(model: Any) -> list[Any]:
    return [module for _, module in model.named_modules() if hasattr(module, "lora_a")]


def set_scale(model: Any, scale: float) -> None:
    """Give all adapter layers of a model this factor on B·A."""
    for layer in _adapter_layers(model):
        layer.scale = scale


@contextmanager
def at_strength(model: Any, strength: float) -> Iterator[None]:
    """Inside the block the model's LoRA layers are weaker or stronger by this factor; 0 is the base."""
    scales = [(layer, layer.scale) for layer in _adapter_layers(model)]
    for layer, scale in scales:
        layer.scale = scale * strength
    try:
        yield
    finally:
        for layer, scale in scales:
            layer.scale = scale


def save_adapter(
    folder: Path, arrays: dict[str, mx.array], settings: TrainSettings, layers: int, *, strength: float = 1.0
) -> None:
    """Write ``adapters.safetensors`` and ``adapter_config.json``, each to a temporary file that is then renamed.

    The same arrays and settings give the same bytes. Raises ToolError when a write fails.
    """
    part = folder / ".adapters.part.safetensors"
    config = folder / ".adapter_config.part"
    places = {name.partition(".layers.")[2].partition(".")[2].rpartition(".")[0] for name in arrays}
    description = adapter_config(settings, layers, strength=strength, places=places)
    with disk_writes(folder / "adapters.safetensors", sum(array.nbytes for array in arrays.values()), partial=part):
        mx.save_safetensors(str(part), dict(sorted(arrays.items())))
        part.replace(folder / "adapters.safetensors")
        config.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
        config.replace(folder / "adapter_config.json")
