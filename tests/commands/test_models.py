"""``ragtune models`` and ``ragtune ask`` on a run that was really registered, with a small random model."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mlx_ragtune.artifact import Draft
from mlx_ragtune.cli import main
from mlx_ragtune.clients.receipts import embedded_receipt
from mlx_ragtune.commands.models import registered, remove
from mlx_ragtune.errors import InputError
from mlx_ragtune.gguf.writer import write_gguf
from mlx_ragtune.models.toy import write_toy_model
from mlx_ragtune.recipe import load_recipe
from mlx_ragtune.stages.corpus import corpus
from tests.stages.project import edit, make_project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a corpus, two exported models and their receipts; returns its recipe."""
    recipe = make_project(tmp_path / "project")
    edit(recipe, evaluate={"sampling": {"max_tokens": 4, "context_tokens": 2048}})
    home = tmp_path / "project" / "runs" / recipe.stem
    monkeypatch.setenv("RAGTUNE_RUNS", str(home.parent))
    for folder in ("1-corpus", "5-export", "6-register"):
        (home / folder).mkdir(parents=True)
    corpus(load_recipe(recipe), {}, Draft(home / "1-corpus"))
    receipts = {}
    for seed, model in enumerate(("base", "tuned")):
        write_toy_model(tmp_path / model, architecture="qwen3", seed=seed)
        gguf = home / "5-export" / f"{model}.gguf"
        write_gguf(tmp_path / model, gguf, type="Q8_0", name=f"small-{model}")
        receipts[model] = asdict(embedded_receipt(f"small-{model}", gguf))
    (home / "6-register" / "receipt.json").write_text(json.dumps(receipts))
    return recipe


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_what_was_registered_is_listed_with_its_server_and_type(project: Path) -> None:
    assert [(row["run"], row["model"], row["name"]) for row in registered()] == [
        ("small", "base", "small-base"),
        ("small", "tuned", "small-tuned"),
    ]
    said = call("models", "list")
    assert said.exit_code == 0
    for word in ("small-base", "small-tuned", "llama.cpp", "Q8_0"):
        assert word in said.stdout
    assert all(len(line) <= 80 for line in said.stdout.splitlines())
    rows = json.loads(call("models", "list", "--json").stdout)
    assert {row["type"] for row in rows} == {"Q8_0"}


def test_models_alone_lists_them_too(project: Path) -> None:
    assert call("models").stdout == call("models", "list").stdout


def test_removing_takes_the_receipt_and_leaves_the_other_artifacts(project: Path) -> None:
    home = project.parents[1] / "runs" / "small"
    said = call("models", "remove", "small")
    assert said.stdout.splitlines() == ["removed small-base", "removed small-tuned"]
    assert not (home / "6-register").exists()
    assert (home / "5-export" / "tuned.gguf").exists()
    assert "no model was registered from here" in call("models", "list").stdout


def test_a_run_that_is_not_there_is_named_with_those_that_are(project: Path) -> None:
    with pytest.raises(InputError, match=r"no registered models of a run 'other' \(known: small\)"):
        remove("other")
    said = call("models", "remove", "other")
    assert said.exit_code == 3
    assert "ragtune models list" in said.stderr


def test_nothing_registered_is_said_with_the_next_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGTUNE_RUNS", str(tmp_path))
    assert call("models", "list").stdout == "no model was registered from here; next: ragtune register RECIPE\n"
    assert json.loads(call("models", "list", "--json").stdout) == []


def test_a_question_gets_its_contexts_and_both_answers(project: Path) -> None:
    said = call("ask", str(project), "Which paper adapts a frozen model with low-rank matrices?", "--json")
    assert said.exit_code == 0, said.output
    reply = json.loads(said.stdout)
    assert len(reply["contexts"]) == 2
    assert all(one["title"] and one["text"] for one in reply["contexts"])
    assert set(reply["answers"]) == {"base", "tuned"}
    again = json.loads(call("ask", str(project), reply["question"], "--json").stdout)
    assert again == reply


@pytest.mark.parametrize("model", ["base", "tuned"])
def test_one_model_can_be_asked_alone(project: Path, model: str) -> None:
    said = call("ask", str(project), "What is LoRA?", "--model", model)
    assert said.exit_code == 0, said.output
    assert f"{model}:" in said.stdout
    assert "[1] " in said.stdout


def test_asking_before_registering_names_the_command(project: Path) -> None:
    (project.parents[1] / "runs" / "small" / "6-register" / "receipt.json").unlink()
    said = call("ask", str(project), "What is LoRA?")
    assert said.exit_code == 5
    assert "ragtune register" in said.stderr


def test_asking_a_file_that_was_changed_is_refused(project: Path) -> None:
    gguf = project.parents[1] / "runs" / "small" / "5-export" / "tuned.gguf"
    gguf.write_bytes(gguf.read_bytes()[:-1] + b"\x01")
    said = call("ask", str(project), "What is LoRA?", "--model", "tuned")
    assert said.exit_code == 5
    assert "not the file that was registered" in said.stderr
