"""``ragtune models``: the models that were registered from here, and removing them. Never touches any other."""

import json
import shutil
from pathlib import Path
from typing import Any

from mlx_ragtune.artifact import STAGE_FOLDERS
from mlx_ragtune.errors import ArtifactError, InputError
from mlx_ragtune.recipe import runs_folder


def runs_here() -> Path:
    """The runs folder of the project that the shell is in."""
    return runs_folder(Path.cwd() / "recipe")


def registered() -> tuple[list[dict[str, Any]], list[ArtifactError]]:
    """One row for each registered model, from the receipts of all runs, and an error for each damaged receipt."""
    rows: list[dict[str, Any]] = []
    damaged = []
    for path in sorted(runs_here().glob(f"*/{STAGE_FOLDERS['register']}/receipt.json")):
        try:
            receipts = json.loads(path.read_text(encoding="utf-8"))
            rows += [{"run": path.parts[-3], "model": model, **receipt} for model, receipt in receipts.items()]
        except (OSError, ValueError, AttributeError, TypeError):
            error = ArtifactError(
                "cannot read the receipt of the registered models",
                where=str(path),
                fix=f"rm -r {path.parent.resolve()}, then register again",
            )
            damaged.append(error)
    return rows, damaged


def remove(run_name: str) -> list[str]:
    """Remove a run's registered models and its receipt; returns their names. Raises InputError if there are none."""
    from mlx_ragtune.clients.ollama_registry import remove_model

    listed, _ = registered()
    rows = [row for row in listed if row["run"] == run_name]
    if not rows:
        known = ", ".join(sorted({row["run"] for row in listed})) or "none"
        raise InputError(f"run '{run_name}' has no registered models (known: {known})", fix="ragtune models list")
    for row in rows:
        if row["server"] == "ollama":
            remove_model(row["host"], row["name"], digest=row["digest"])
    link = runs_here() / run_name / STAGE_FOLDERS["register"]
    shutil.rmtree(link.resolve())
    link.unlink(missing_ok=True)
    return [str(row["name"]) for row in rows]
