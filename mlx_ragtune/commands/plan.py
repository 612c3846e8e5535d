"""``ragtune plan``: what training will take on this machine, before it starts."""

from dataclasses import asdict
from typing import Any

from mlx_ragtune.artifact import OpenRun
from mlx_ragtune.jsonl import read_json, read_rows
from mlx_ragtune.records import Example
from mlx_ragtune.tuning.example_files import read_examples
from mlx_ragtune.tuning.preflight import Preflight, plan_run
from mlx_ragtune.tuning.start_adapter import check_start
from mlx_ragtune.tuning.train_checks import check_engine


def plan(run: OpenRun) -> Preflight:
    """The preflight of a recipe. Brings what training reads up to date first. Raises as those stages do."""
    recipe = run.recipe
    check_engine(recipe.train)
    check_start(recipe.train, run.base, model=recipe.base.model)
    run.bring("dataset")
    folder = run.artifact("dataset").folder
    rows = read_examples(folder, rejected=recipe.train.preference is not None)
    if recipe.dataset.rehearsal is not None:
        run.bring("rehearse")
        rows["rehearsal"] = list(read_rows(run.artifact("rehearse").folder / "rehearsal.jsonl", Example))
    return plan_run(recipe.train, recipe.base, recipe.dataset, base=run.base, rows=rows, seed=recipe.seed)


def account(run: OpenRun) -> dict[str, Any]:
    """How many rows the data set read, left out for each reason, and kept; it is up to date after ``plan``."""
    found: dict[str, Any] = read_json(run.artifact("dataset").folder / "statistics.json")["account"]
    return found


def as_json(preflight: Preflight, read: dict[str, Any]) -> dict[str, Any]:
    """The plan for scripts: bytes, seconds, tokens, and the account of the data set."""
    return {**asdict(preflight), "dataset": read, "saving": preflight.saving, "fits": preflight.fits}
