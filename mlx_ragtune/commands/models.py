"""``ragtune models``: what was registered from here, and removing it. Never touches anything else."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from mlx_ragtune.errors import InputError
from mlx_ragtune.pipeline import stage_named


def runs_folder() -> Path:
    """Where artifacts are kept: ``$RAGTUNE_RUNS``, else ``runs/`` of the project the shell is in."""
    from mlx_ragtune.recipe import project_folder

    return Path(os.environ.get("RAGTUNE_RUNS") or project_folder(Path.cwd() / "recipe") / "runs")


def registered() -> list[dict[str, Any]]:
    """One row for each served model, from the receipts under runs/."""
    rows = []
    for path in sorted(runs_folder().glob(f"*/{stage_named('register').folder}/receipt.json")):
        for model, receipt in json.loads(path.read_text(encoding="utf-8")).items():
            rows.append({"run": path.parts[-3], "model": model, **receipt})
    return rows


def remove(run_name: str) -> list[str]:
    """Remove a run's served models and its receipt; returns their names. Raises InputError for none."""
    from mlx_ragtune.clients.ollama_registry import remove_model

    rows = [row for row in registered() if row["run"] == run_name]
    if not rows:
        known = ", ".join(sorted({row["run"] for row in registered()})) or "none"
        raise InputError(f"no registered models of a run '{run_name}' (known: {known})", fix="ragtune models list")
    for row in rows:
        if row["server"] == "ollama":
            remove_model(row["host"], row["name"], digest=row["digest"])
    shutil.rmtree(runs_folder() / run_name / stage_named("register").folder)
    return [row["name"] for row in rows]
