"""``ragtune plan`` says what training comes to, and refuses what will not fit."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlx_ragtune.cli import main
from mlx_ragtune.tuning import preflight
from mlx_ragtune.tuning.memory import Caps
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
