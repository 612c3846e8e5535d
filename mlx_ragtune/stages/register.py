"""register: register both models with a server, and keep a receipt of exactly what it holds."""

import json
from dataclasses import asdict
from pathlib import Path

from mlx_ragtune.artifact import Draft, Inputs
from mlx_ragtune.clients.ollama_registry import (
    register_folder,
    register_model,
    require_mlx_engine,
    require_server,
)
from mlx_ragtune.clients.receipts import embedded_receipt
from mlx_ragtune.recipe import Recipe

MODELS = ("base", "tuned")


def check(recipe: Recipe, _base: Path) -> None:
    """Raise ToolError when Ollama is needed and does not answer, is too old, or has no MLX engine."""
    if recipe.register.serve == "ollama":
        require_server(recipe.register.host)
    if recipe.register.route == "mlx":
        require_mlx_engine(recipe.register.host, recipe.export.type)


def register(recipe: Recipe, inputs: Inputs, draft: Draft) -> None:
    """Write ``receipt.json``: for each model its name, digest, server and version."""
    receipts = {}
    folders = {"base": inputs["base"], "tuned": inputs["fuse"] / "model"}
    for model in MODELS:
        gguf, name = inputs["export"] / f"{model}.gguf", f"{recipe.register.name or recipe.name}-{model}"
        if recipe.register.route == "mlx":
            with draft.track(f"uploading {name}", 0) as track:
                receipt = register_folder(
                    recipe.register.host, name, folders[model], kind=recipe.export.type, progress=track.reach
                )
        elif recipe.register.serve == "ollama":
            with draft.track(f"uploading {name}", 0) as track:
                receipt = register_model(recipe.register.host, name, gguf, progress=track.reach)
        else:
            receipt = embedded_receipt(name, gguf)
        receipts[model] = asdict(receipt)
    (draft / "receipt.json").write_text(json.dumps(receipts, indent=2) + "\n", encoding="utf-8")
    draft.record(server=receipts["tuned"]["server"], names=[receipts[model]["name"] for model in MODELS])
