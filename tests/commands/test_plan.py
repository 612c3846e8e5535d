"""``ragtune plan`` says what training comes to, and refuses what will not fit."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlx_ragtune.cli import main
from mlx_ragtune.clients import machine
from mlx_ragtune.clients.machine import PROCESS_BYTES
from mlx_ragtune.commands import plan as plan_command
from mlx_ragtune.runner import open_recipe
from mlx_ragtune.stages import train as train_stage
from mlx_ragtune.tuning import preflight
from mlx_ragtune.tuning.memory import Caps
from mlx_ragtune.tuning.resources import train_memory
from tests.stages.project import make_project


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("plan") / "project")


def test_rows_updates_memory_and_time_are_told_and_nothing_is_trained(recipe: Path) -> None:
    result = CliRunner().invoke(main, ["plan", str(recipe)])
    assert result.exit_code == 0, result.output
    assert re.search(r"^read +(\d+) .*^kept +\1 ", result.stdout, re.MULTILINE | re.DOTALL), "no row is lost"
    for said in ("grounded", "refusal", "updates", "fewer than the rows have", "parameters train", "minutes"):
        assert said in result.stdout
    found = json.loads(CliRunner().invoke(main, ["plan", str(recipe), "--json"]).stdout)
    assert found["fits"] is True
    assert sum(found["dataset"]["read"].values()) > 10
    assert 0 < found["saving"] < 1
    assert found["plan"]["updates"] == found["plan"]["evals"][-1]
    assert not list(recipe.parents[1].glob("runs/*/3-train"))


def test_a_run_that_will_not_fit_is_refused_with_the_next_setting(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "caps_here", lambda: Caps(2**20, 0, 2**17))
    result = CliRunner().invoke(main, ["plan", str(recipe)])
    assert result.exit_code == 4
    assert "lower train.tokens_per_step (now 4096) to 2048" in result.stderr


def test_the_memory_of_every_stage_is_told_beside_the_machines(recipe: Path) -> None:
    result = CliRunner().invoke(main, ["plan", str(recipe)])
    assert re.search(r"^memory of each stage at most; this machine has \d+\.\d GiB", result.stdout, re.MULTILINE)
    for stage in ("train", "fuse", "export", "register", "evaluate"):
        assert re.search(rf"^{stage} +\d+\.\d +yes$", result.stdout, re.MULTILINE), stage
    found = json.loads(CliRunner().invoke(main, ["plan", str(recipe), "--json"]).stdout)
    assert [row["stage"] for row in found["memory"]] == ["train", "fuse", "export", "register", "evaluate"]
    assert all(row["fits"] and 0 < row["bytes"] <= row["usable"] for row in found["memory"])


def test_a_stage_that_will_not_fit_is_refused_before_the_first_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_project(tmp_path / "project")
    monkeypatch.setattr(plan_command, "memory_bytes", lambda: 2**28)
    for options in ([], ["--json"]):
        result = CliRunner().invoke(main, ["plan", str(recipe), *options])
        assert result.exit_code == 4
        assert re.search(r"memory: train about 0\.\d GiB, fuse about .*; 0\.2 GiB can be used", result.stderr)
    assert json.loads(result.stdout)["fits"] is False
    assert not list(tmp_path.glob("project/runs/*/*-corpus"))


def test_a_run_is_refused_before_the_first_stage_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = make_project(tmp_path / "project")
    monkeypatch.setattr(machine, "memory_bytes", lambda: 2**28)
    result = CliRunner().invoke(main, ["run", str(recipe)])
    assert result.exit_code == 4
    assert "GiB of memory, this machine has 0.2 GiB" in result.stderr
    assert not list(tmp_path.glob("project/runs/*/*-corpus"))


def test_the_next_command_of_a_refused_training_is_one_that_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit lies between what the recipe needs and what the smallest steps need."""
    recipe = make_project(tmp_path / "project")
    usual = open_recipe(recipe)
    most, least = (
        train_memory(usual.base, usual.recipe.train.model_copy(update=change), "fp32") + PROCESS_BYTES
        for change in ({}, {"grad_checkpoint": True, "tokens_per_step": 512})
    )
    assert least < most
    for module in (machine, plan_command, train_stage):
        monkeypatch.setattr(module, "memory_bytes", lambda: (most + least) // 2)
    refused = CliRunner().invoke(main, ["plan", str(recipe)])
    assert refused.exit_code == 4
    told = re.search(r"ragtune plan (\S+) ((?:--set \S+ ?)+)", refused.stderr)
    assert told, refused.stderr
    again = CliRunner().invoke(main, ["plan", told[1], *told[2].split()])
    assert re.search(r"^train +\d+\.\d +yes$", again.stdout, re.MULTILINE), again.output
