"""The verdict on the best trials: corrected for the number of trials, on a finished run."""

from pathlib import Path
from typing import Any

import pytest

from mlx_ragtune.commands import sweep as command
from mlx_ragtune.commands.compare import compare_contestants, read_run
from mlx_ragtune.commands.sweep_text import sweep_text
from mlx_ragtune.errors import ToolError
from mlx_ragtune.runner import open_recipe
from tests.stages.project import recipe_of, run_folder
from tests.sweeping.made import asked, journal, judged, made_space, opened

SPACE = {"train__learning_rate": (5e-3, 1e-3, 1e-4), "train__rank": (4, 8)}


def test_finalists_are_tested_at_alpha_over_the_number_of_trials(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alphas: list[float] = []

    def comparing(*contestants: Any, **options: Any) -> Any:
        alphas.append(options["alpha"])
        return compare_contestants(*contestants, **options)

    monkeypatch.setattr(command, "compare_contestants", comparing)
    sweep = opened(journal(tmp_path), made_space(**SPACE), sampler="grid", trials=5, finalists=1)
    for score in (0.5, 0.4, 0.3):
        sweep.complete(asked(sweep), judged(score))
    sweep.prune(asked(sweep), "training diverged")
    sweep.interrupt(asked(sweep), "stopped")
    recipe = open_recipe(recipe_of(finished)).recipe
    runs: list[Path] = []

    def open_variant(settings: Any) -> Any:
        assert settings == {"train.learning_rate": 5e-3, "train.rank": 4}, "the best trial, and only that one"
        return open_recipe(recipe_of(finished))

    verdicts, errors = command.run_finalists(
        sweep, recipe, open_variant, until_report=lambda run: runs.append(run.home), say=pytest.fail
    )
    assert not errors
    assert runs == [run_folder(finished)]
    assert alphas == [recipe.scoring.alpha / 4] == [verdicts[0].alpha], "three finished, one pruned, none interrupted"
    run = str(run_folder(finished))
    plain = compare_contestants(
        [read_run(f"{run}:base"), read_run(f"{run}:tuned")], allow=(), margin=recipe.scoring.margin, alpha=alphas[0]
    )[0]
    assert (verdicts[0].trial, verdicts[0].headline) == (1, plain.outcome.headline)
    result = command.result_of(sweep, recipe, stopped="4 trials", finalists=verdicts)
    assert result.alpha == alphas[0]
    assert result.trial_count == 4


def test_a_finalist_that_fails_leaves_the_others_their_verdicts(finished: Path, tmp_path: Path) -> None:
    sweep = opened(journal(tmp_path), made_space(**SPACE), sampler="grid", trials=3, finalists=2)
    for score in (0.5, 0.4, 0.3):
        sweep.complete(asked(sweep), judged(score))
    recipe = open_recipe(recipe_of(finished)).recipe
    said: list[str] = []
    tried: list[Path] = []

    def open_variant(settings: Any) -> Any:
        return open_recipe(recipe_of(finished))

    def until_report(run: Any) -> None:
        tried.append(run.home)
        if len(tried) == 1:
            raise ToolError("the disk is full", where="export", fix="free 2 GB")

    verdicts, errors = command.run_finalists(sweep, recipe, open_variant, until_report=until_report, say=said.append)
    assert [one.trial for one in verdicts] == [2]
    assert {trial: error.what for trial, error in errors.items()} == {1: "the disk is full"}
    assert said == ["trial 1 gets no verdict: the disk is full"]
    result = command.result_of(sweep, recipe, stopped="3 trials", finalists=verdicts, errors=errors)
    assert result.failed == ("trial 1: the disk is full",)
    text = sweep_text(result, sweep.settings, recipe="x.yaml")
    assert "no verdict: trial 1: the disk is full" in text
    assert "trial 2: " in text
