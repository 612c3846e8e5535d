"""``train.from_adapter``: training starts from an adapter of ragtune, mlx-lm or PEFT, as exactly its function."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlx_ragtune.artifact import digest_bytes
from mlx_ragtune.clients.file_digests import base_digest
from mlx_ragtune.clients.hub_models import adapter_folder
from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.errors import InputError, RecipeError
from mlx_ragtune.models import gemma4
from mlx_ragtune.models.adapter_files import Adapter, Difference, read_adapter
from mlx_ragtune.models.architectures import tensor_shapes
from mlx_ragtune.models.model_folder import read_config
from mlx_ragtune.recipe import TrainSettings

_HUB_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*/([A-Za-z0-9_.-]+)")


def check_start(settings: TrainSettings, base: Path, *, model: str) -> None:
    """Raise an error for an adapter that training cannot start from; reads headers only.

    ``model`` is the recipe's ``base.model``. Raises RecipeError that names every difference between adapter and recipe,
    and for Gemma 4, and InputError for an adapter that is damaged, not supported, or of another base.
    """
    if settings.from_adapter is None:
        return
    config = read_config(base)
    if config["model_type"] == gemma4.MODEL_TYPE:
        raise RecipeError(
            "training cannot start from an adapter of Gemma 4, whose layers do not all have the same projections",
            where="train.from_adapter",
            fix="remove train.from_adapter",
        )
    adapter = read_adapter(adapter_folder(settings.from_adapter))
    _check_base(adapter, base, config, model=model)
    differences = list(_differences(adapter, settings, int(config["num_hidden_layers"])))
    if differences:
        listing = "\n".join(
            f"  train.{key}: {_text(there)} in the adapter, {_text(here)} in the recipe"
            for key, there, here in differences
        )
        changes = ", ".join(f"train.{key}: {_text(there)}" for key, there, _ in differences)
        raise RecipeError(
            f"the adapter does not have the shape that the recipe trains:\n{listing}",
            where="train.from_adapter",
            fix=f"set {changes}",
        )


def _text(value: object) -> str:
    return f"[{', '.join(value)}]" if isinstance(value, list) else str(value)


def _differences(adapter: Adapter, settings: TrainSettings, layers: int) -> Iterator[Difference]:
    """Where the adapter's shape is not that of the settings, for a model of ``layers`` layers."""
    if adapter.method != settings.method:
        yield "method", adapter.method, settings.method
    if adapter.rank != settings.rank:
        yield "rank", adapter.rank, settings.rank
    if adapter.modules != sorted(settings.target_modules):
        yield "target_modules", adapter.modules, sorted(settings.target_modules)
    count = len(adapter.layers)
    if adapter.layers != list(range(layers - count, layers)):
        raise InputError(
            f"the adapter is on layers {', '.join(map(str, adapter.layers[:8]))} of {layers}, not on the last ones",
            where=str(adapter.files.weights),
            fix="use an adapter on all layers, or on the last N",
        )
    here = layers if settings.layers == "all" else settings.layers
    if count != here:
        yield "layers", "all" if count == layers else count, settings.layers


def _check_base(adapter: Adapter, base: Path, config: dict[str, Any], *, model: str) -> None:
    """Raise InputError when the adapter is known to be of another base, or does not fit this one."""
    fix = "set base.model to the base of the adapter, or use another adapter"
    if adapter.base_digest:
        if adapter.base_digest != base_digest(base):
            raise InputError("the adapter was trained on another base", where=str(adapter.files.weights), fix=fix)
    else:
        theirs, ours = (_HUB_ID.fullmatch(name) for name in (adapter.base, model))
        if theirs and ours and theirs[1].lower() != ours[1].lower():
            raise InputError(
                f"the adapter was trained on '{adapter.base}', the recipe has '{model}'",
                where=str(adapter.files.config),
                fix=fix,
            )
    shapes = tensor_shapes(config)
    for place in adapter.tensors:
        name = f"model.layers.{place[0]}.{place[1]}"
        if shapes.get(f"{name}.weight") != adapter.shape(place):
            there = shapes.get(f"{name}.weight")
            has = f"the base has {list(there)}" if there else "the base has no such matrix"
            raise InputError(
                f"the adapter does not fit the base: '{name}' is for a matrix of {list(adapter.shape(place))}, {has}",
                where=str(adapter.files.weights),
                fix=fix,
            )


def start_from(model: Any, settings: TrainSettings) -> str:
    """Set the model's adapters to the one that training starts from; returns a digest of its arrays.

    The model computes what the base with that adapter computes, whatever its scale. Raises as ``read_adapter``.
    """
    assert settings.from_adapter is not None  # noqa: S101 (the caller has looked)
    arrays = read_adapter(adapter_folder(settings.from_adapter)).arrays(settings.lora_scale)
    model.load_weights([(name, mx.array(values)) for name, values in arrays.items()], strict=False)
    mx.eval(model.trainable_parameters())
    return digest_bytes(*(part for name in sorted(arrays) for part in (name.encode(), arrays[name].tobytes())))
