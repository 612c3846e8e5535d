"""``ragtune adapter``: a run's adapter in PEFT's format, and what an adapter of another tool needs in a recipe."""

import json
from pathlib import Path
from typing import Any

from mlx_ragtune.artifact import OpenRun
from mlx_ragtune.clients.machine import disk_writes
from mlx_ragtune.errors import InputError, printable
from mlx_ragtune.models.adapter_files import PEFT_FILES, Adapter, peft_arrays, peft_config, read_adapter
from mlx_ragtune.models.model_folder import read_config
from mlx_ragtune.models.weights import write_safetensors

_NOT_AT_HUB = (".", "/", "~", "ollama:", "toy:")


def export_peft(run: OpenRun, folder: Path) -> dict[str, Any]:
    """Write the run's adapter to a folder as PEFT reads it, at the recipe's strength; returns what was written.

    Raises InputError when the folder has an adapter already, ArtifactError when the training is not up to date, and
    ToolError when a write fails.
    """
    for name in PEFT_FILES:
        if (folder / name).exists():
            raise InputError(f"{name} is there already", where=str(folder), fix="name another folder, or remove it")
    trained = run.artifact("train").folder
    adapter = read_adapter(trained)
    settings = json.loads(adapter.files.config.read_text(encoding="utf-8"))
    model, strength = run.recipe.base.model, run.recipe.fuse.strength
    config = peft_config(
        adapter,
        base=None if model.startswith(_NOT_AT_HUB) else model,
        layers=int(read_config(run.base)["num_hidden_layers"]),
        dropout=float(settings["lora_parameters"]["dropout"]),
        strength=1.0 if strength is None else strength / settings.get("strength", 1.0),
    )
    arrays = list(peft_arrays(adapter))
    weights, settings_file = (folder / name for name in PEFT_FILES)
    aside = folder / f".{weights.name}.part"
    size = sum(values.nbytes for _, values in arrays)
    with disk_writes(weights, size, partial=aside):
        folder.mkdir(parents=True, exist_ok=True)
        shapes = [(name, values.shape) for name, values in arrays]
        write_safetensors(aside, shapes, "F32", (values for _, values in arrays), made_by="pt")
        settings_file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        aside.replace(weights)
    return {"folder": str(folder), "tensors": len(arrays), "bytes": weights.stat().st_size, **_shape(adapter)}


def describe(folder: Path) -> dict[str, Any]:
    """What an adapter is: its format, its base and its shape. Raises InputError as ``read_adapter``."""
    adapter = read_adapter(folder)
    return {"format": adapter.files.kind, "base": adapter.base or None, **_shape(adapter)}


def _shape(adapter: Adapter) -> dict[str, Any]:
    scales = sorted(set(adapter.scales.values()))
    return {
        "method": adapter.method,
        "rank": adapter.rank,
        "scales": scales,
        "target_modules": adapter.modules,
        "layers": adapter.layers,
    }


def recipe_text(folder: Path, found: dict[str, Any]) -> str:
    """The keys of ``train`` with which training starts from the adapter, as they are written in a recipe."""
    layers = found["layers"]
    span = f"{layers[0]} to {layers[-1]}" if len(layers) > 1 else str(layers[0])
    kind = {"peft": "PEFT", "mlx": "mlx-lm"}[found["format"]]
    lines = [
        f"# an adapter of {kind} for {found['base'] or 'a base that it does not name'}, on layers {span}",
        "train:",
        f"  from_adapter: {json.dumps(str(folder), ensure_ascii=False)}",
        f"  method: {found['method']}",
        f"  rank: {found['rank']}",
        f"  scale: {found['scales'][-1]!r}",
        f"  target_modules: [{', '.join(found['target_modules'])}]",
        f"  layers: {len(layers)}",
    ]
    return printable("\n".join(lines))
