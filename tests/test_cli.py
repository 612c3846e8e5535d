"""The command line: exit codes, stdout and stderr, and how failures read."""

import errno
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mlx_ragtune import cli
from mlx_ragtune.errors import ArtifactError, InputError, RagtuneError, RecipeError, ToolError
from mlx_ragtune.pages.interrupt import announce_interrupt
from mlx_ragtune.pipeline import STAGES
from mlx_ragtune.runner import Run


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


WITH_RECIPE = sorted(
    name
    for name, command in cli.main.commands.items()
    if any(parameter.name in ("recipe", "recipes") for parameter in command.params)
)


@pytest.mark.parametrize("name", WITH_RECIPE)
def test_every_command_on_a_recipe_takes_settings_and_names_the_unknown_key(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("train: {rank: 4, alpha: 8}\n")
    rest = ["what?"] if name in ("ask", "search", "push") else []
    result = call(name, "mine.yaml", *rest, "--set", "train.rnk=8")
    assert result.exit_code == 2, result.output
    assert "--set train.rnk=8: unknown key 'train.rnk', did you mean 'rank'?" in result.output


def test_a_setting_without_a_value_is_a_usage_error() -> None:
    result = call("status", "x.yaml", "--set", "train.rank")
    assert result.exit_code == 2
    assert "--set train.rank: a setting needs a key and a value" in result.stderr


def test_a_hint_names_the_recipe_with_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_path: Path, _settings: object, **_more: object) -> None:
        raise ArtifactError("no answers", fix="ragtune evaluate RECIPE")

    monkeypatch.setattr("mlx_ragtune.runner.open_recipe", fail)
    result = call("status", "my recipe.yaml", "--set", "train.rank=8", "--set", "train.target_modules=[q_proj]")
    assert result.stderr.endswith(
        "  try: ragtune evaluate 'my recipe.yaml' --set train.rank=8 --set 'train.target_modules=[q_proj]'\n"
    )


def test_a_failure_says_where_and_what_to_try() -> None:
    error = InputError("what", where="file:3", fix="ragtune init")
    assert str(error) == "file:3: what\n  try: ragtune init"


RECIPE = Path(__file__).parents[1] / "recipes" / "demo.yaml"


def stopping(stage: str, error: BaseException) -> Callable[..., list[object]]:
    def run(self: Run, **_how: object) -> list[object]:
        self.current = stage
        raise error

    return run


@pytest.mark.parametrize(
    ("engine", "stage", "said"),
    [
        ("shared-prefix", "train", "finished work is kept"),
        ("mlx-lm", "train", "has no checkpoints, so training starts from the beginning"),
        ("mlx-lm", "evaluate", "finished work is kept"),
    ],
)
def test_ctrl_c_says_what_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: str, stage: str, said: str
) -> None:
    recipe = copied(tmp_path, engine)
    monkeypatch.setattr(Run, "run", stopping(stage, KeyboardInterrupt()))
    result = call("run", str(recipe))
    assert result.exit_code == 130
    assert f"stopped in stage '{stage}'; " in result.stderr
    assert said in result.stderr


def copied(folder: Path, engine: str = "shared-prefix") -> Path:
    """A recipe in a folder whose name has a space."""
    home = folder / "my project"
    (home / "recipes").mkdir(parents=True)
    (home / "papers").mkdir()
    (home / "papers" / "a.md").write_text("# A\n\ntext")
    (home / "rows.jsonl").touch()
    recipe = home / "recipes" / "mine.yaml"
    recipe.write_text(
        "base: {model: 'toy:qwen3'}\ncorpus: {folder: ../papers}\nbenchmark: ../rows.jsonl\n"
        f"dataset: {{pairs: ../rows.jsonl}}\ntrain: {{rank: 4, alpha: 8, engine: {engine}}}\n"
    )
    return recipe


def test_hints_name_the_recipes_real_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    recipe = copied(tmp_path)
    monkeypatch.setattr(Run, "run", stopping("", ToolError("no", fix="ragtune register RECIPE --redo")))
    result = call("run", str(recipe))
    assert f"try: ragtune register '{recipe}' --redo" in result.stderr


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), "/x/y: no disk space left"),
        (OSError(errno.EDQUOT, "Quota exceeded", "/x/y"), "no disk space left"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), "/x/y: Permission denied"),
        (OSError(errno.EROFS, "Read-only file system", "/x/y"), "Read-only file system"),
        (sqlite3.OperationalError("database or disk is full"), "no disk space left"),
        (MemoryError(), "out of memory"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "/x"), "/x: Is a directory"),
    ],
)
def test_what_the_machine_refuses_is_a_tool_error_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, said: str
) -> None:
    monkeypatch.setattr(Run, "run", stopping("fuse", error))
    result = call("run", str(copied(tmp_path)))
    assert result.exit_code == 4
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert "try: " in result.stderr


def test_a_runs_folder_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for runs in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("RAGTUNE_RUNS", str(runs))
        result = call("corpus", str(copied(tmp_path / f"of {runs.name}")))
        assert result.exit_code == 4, result.output
        assert "cannot write the run folder" in result.stderr
        assert "RAGTUNE_RUNS" in result.stderr


def test_status_of_a_recipe_that_never_ran_makes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    recipe = copied(tmp_path)
    rows = json.loads(call("status", str(recipe), "--json").stdout)
    assert [row["state"] for row in rows] == ["run"] * 8
    assert not (recipe.parents[1] / "runs").exists()


def test_names_keep_their_capitals_in_the_help() -> None:
    assert "GGUF of one type" in call("export", "--help").output
    assert "Gguf" not in call("--help").output


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_ctrl_c_kill_and_a_closed_terminal_are_answered_while_no_python_runs(number: str) -> None:
    """The main thread is in a C call that a signal does not end; the line must come before the call returns."""
    code = (
        "import hashlib, os, signal, sys, threading\n"
        "from mlx_ragtune.pages.interrupt import announce_interrupt\n"
        "usual = {signal.SIGINT: signal.default_int_handler}  # nohup and `&` ignore signals\n"
        f"signal.signal(signal.{number}, usual.get(signal.{number}, signal.SIG_DFL))\n"
        f"threading.Timer(0.2, os.kill, (os.getpid(), signal.{number})).start()\n"
        "try:\n"
        "    with announce_interrupt():\n"
        "        hashlib.pbkdf2_hmac('sha256', b'x', b'x', 3_000_000)\n"
        "        print('not interrupted', file=sys.stderr)\n"
        "except KeyboardInterrupt:\n"
        "    print('the call returned', file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, check=False)
    assert done.stderr.split("\n")[1:3] == [
        "stopping after the current step; finished work is kept",
        "the call returned",
    ]


def test_a_signal_that_is_ignored_stays_so_and_handlers_are_put_back() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with announce_interrupt():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


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
    assert [(row["recipe"], row["error"]) for row in rows] == [(str(good), None)]
    assert [kind["kind"] for kind in rows[0]["verdict"] if kind["decides"]] == ["answerable", "off_corpus", "near_miss"]


def test_validate_refuses_a_benchmark_in_a_language_that_cannot_be_scored(tmp_path: Path) -> None:
    question = {"id": "q", "topic": "gull", "answerable": False, "refusal_kind": "off_corpus"}
    question["question"] = "Ile minut przed pierwszym promem i kto je liczy na wybrzeżu?"
    (tmp_path / "benchmark.jsonl").write_text(json.dumps(question), encoding="utf-8")
    smoke = Path(__file__).parents[1] / "recipes" / "smoke.yaml"
    recipe = tmp_path / "polish.yaml"
    text = smoke.read_text().replace("../data/rag_notes/benchmark.jsonl", "benchmark.jsonl")
    recipe.write_text(text.replace("../data", str(smoke.parents[1] / "data")))
    result = call("validate", str(recipe))
    assert result.exit_code == 2
    assert "Polish" in result.stderr
    assert "English, German, French, Spanish, Italian, Chinese, Japanese, Korean" in " ".join(result.stderr.split())


def test_doctor_prints_json_for_a_script() -> None:
    result = call("doctor", "--json")
    assert result.exit_code == 0
    assert {"what", "state", "found", "fix"} <= set(json.loads(result.stdout)[0])
