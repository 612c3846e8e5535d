"""The command line: exit codes, stdout and stderr, and how failures read."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mlx_ragtune import cli
from mlx_ragtune.errors import ArtifactError, InputError, RagtuneError, RecipeError, ToolError
from mlx_ragtune.pipeline import STAGES


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, list(arguments))


def test_every_command_has_an_example_in_its_help() -> None:
    for name, command in cli.main.commands.items():
        text = call(name, "--help").output
        assert command.hidden or f"ragtune {name}" in text, name
        assert all(len(line) <= 80 for line in text.splitlines()), name
        assert command.help


def test_stages_stand_in_the_help_in_pipeline_order() -> None:
    text = call("--help").output
    places = [text.index(f"  {stage.name} ") for stage in STAGES]
    assert places == sorted(places)


def test_a_mistyped_command_is_a_usage_error() -> None:
    result = call("trian", "x.yaml")
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [(RecipeError("r"), 2), (InputError("i"), 3), (ToolError("t"), 4), (ArtifactError("a"), 5)],
)
def test_each_failure_has_its_exit_code_and_one_message(
    monkeypatch: pytest.MonkeyPatch, error: RagtuneError, code: int
) -> None:
    def fail(_path: Path, **_how: object) -> None:
        raise error

    monkeypatch.setattr(cli, "open_run", fail)
    result = call("run", "x.yaml")
    assert result.exit_code == code
    assert result.stderr == f"error: {error.what}\n"
    assert result.stdout == ""


def test_a_failure_says_where_and_what_to_try() -> None:
    error = InputError("what", where="file:3", fix="ragtune init")
    assert str(error) == "file:3: what\n  try: ragtune init"


def test_ctrl_c_says_that_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_path: Path, **_how: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "open_run", stop)
    result = call("train", "x.yaml")
    assert result.exit_code == 130
    assert "the same command goes on" in result.stderr


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(_path: Path, **_how: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(cli, "open_run", bug)
    result = call("run", "x.yaml")
    assert result.exit_code == 70
    assert "ZeroDivisionError: oops" in result.stderr
    assert "bug in ragtune" in result.stderr


def test_validate_lists_every_recipe_and_fails_when_one_is_bad(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("bogus: 1\n")
    good = Path(__file__).parents[1] / "recipes" / "demo.yaml"
    result = call("validate", str(good), str(bad))
    assert result.exit_code == 2
    assert f"{good}: ok" in result.stdout
    assert "unknown key 'bogus'" in result.stderr
    rows = json.loads(call("validate", "--json", str(good)).stdout)
    assert rows == [{"recipe": str(good), "error": None}]


def test_doctor_prints_json_for_a_script() -> None:
    result = call("doctor", "--json")
    assert result.exit_code == 0
    assert {"what", "state", "found", "fix"} <= set(json.loads(result.stdout)[0])
