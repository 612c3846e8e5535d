"""A small project with a section ``sweep``, its results, and a score that tells the trials of the toy apart."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlx_ragtune.clients.runtime_mlx import mx, tree_flatten
from mlx_ragtune.commands.sweep_scoring import Development
from mlx_ragtune.tuning.load import Base
from tests.stages.project import Done, edit, make_project, ragtune

GRID = {"train.learning_rate": [1e-3, 5e-3], "train.rank": [2, 4]}


def prepared(folder: Path, **sweep: Any) -> Path:
    """A project whose recipe trains for three updates and has a section ``sweep``."""
    recipe = make_project(folder)
    edit(recipe, evaluate={"probes": None, "distractors": False})
    edit(recipe, train={"epochs": 0.4}, corpus={"chunk_tokens": 100}, retrieval={"top_k": 1}, dataset={"max_loss": 1.0})
    edit(recipe, sweep={"space": GRID, "sampler": "grid", "questions": 4, "finalists": 0, "halving": "off"} | sweep)
    return recipe


def swept(recipe: Path, *options: str) -> Done:
    return ragtune("sweep", recipe, *options, cwd=recipe.parents[1])


def results(recipe: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((recipe.parents[1] / "runs" / "small" / "sweep" / "sweep.json").read_text())
    return value


def size_of(arrays: Mapping[str, mx.array]) -> float:
    """The mean size of an adapter's second factors, which are zero before training: it tells trials apart."""
    sizes = [float(mx.abs(value).mean()) for name, value in arrays.items() if name.endswith("lora_b")]
    return sum(sizes) / len(sizes)


def by_size(_development: Development, loaded: Base) -> float:
    """In place of the score of answers: all answers of the toy score 0."""
    return size_of(dict(tree_flatten(loaded.model.parameters())))


def require_one_word(recipe: Path) -> None:
    """The list of runs and the sweep say the same of each trial: its state, its number and why it ended."""
    trials = {row["trial"]: row for row in results(recipe)["trials"]}
    listed = json.loads(ragtune("runs", "--json", cwd=recipe.parents[1]).stdout)
    shown = {row["trial"]: row for row in listed if row["trial"] is not None}
    for number, row in shown.items():
        trial = trials[number]
        if trial["state"] == "pruned":
            assert (row["state"], row["why"]) == ("pruned", trial["why"])
            assert row["state_text"] == f"trial {number}: pruned"
    pruned = {number for number, trial in trials.items() if trial["state"] == "pruned"}
    assert pruned <= shown.keys()
    assert "failed" not in ragtune("runs", cwd=recipe.parents[1]).stdout
