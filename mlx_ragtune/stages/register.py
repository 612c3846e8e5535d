"""register: both models known to a server, with a receipt of exactly what was registered."""

import json
from dataclasses import asdict
from pathlib import Path

from mlx_ragtune.artifact import Draft
from mlx_ragtune.backends.ollama_registry import register_model, require_server
from mlx_ragtune.backends.receipts import embedded_receipt
from mlx_ragtune.pipeline import Inputs
from mlx_ragtune.recipe import Recipe

MODELS = ("base", "tuned")


def check(recipe: Recipe, _base: Path) -> None:
    """Raise ToolError now when Ollama is to serve and does not answer, or is too old."""
    if recipe.register.serve == "ollama":
        require_server(recipe.register.host)


def register(recipe: Recipe, inputs: Inputs, draft: Draft) -> None:
    """Write ``receipt.json``: for each model its name, digest, server and version."""
    receipts = {}
    for model in MODELS:
        gguf, name = inputs["export"] / f"{model}.gguf", f"{recipe.register.name or recipe.name}-{model}"
        if recipe.register.serve == "ollama":
            with draft.track(f"uploading {name}", 0) as track:
                receipt = register_model(recipe.register.host, name, gguf, progress=track.reach)
        else:
            receipt = embedded_receipt(name, gguf)
        receipts[model] = asdict(receipt)
    (draft / "receipt.json").write_text(json.dumps(receipts, indent=2) + "\n", encoding="utf-8")
    draft.record(server=receipts["tuned"]["server"], names=[receipts[model]["name"] for model in MODELS])
