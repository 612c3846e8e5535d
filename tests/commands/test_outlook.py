"""What a benchmark can show is said before training, and stops nothing."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlx_ragtune.cli import main
from mlx_ragtune.commands.outlook import outlook_json, outlook_text, outlook_warnings, verdict_outlook
from mlx_ragtune.jsonl import write_rows
from mlx_ragtune.recipe import Recipe
from mlx_ragtune.recipe_load import load_recipe
from mlx_ragtune.records import Question
from mlx_ragtune.runner import Run, Step
from tests.scoring.made import question, unanswerable

DEMO = Path(__file__).parents[2] / "recipes" / "demo.yaml"


def recipe_with(folder: Path, questions: list[Question]) -> Recipe:
    write_rows(folder / "benchmark.jsonl", questions)
    return load_recipe(DEMO).model_copy(update={"benchmark": folder / "benchmark.jsonl"})


def three_papers() -> list[Question]:
    return [question(id=f"q{i}", papers=(f"p{i % 3}",)) for i in range(30)]


@pytest.mark.parametrize("state", ["run", "resume", "up to date", "reuse"])
def test_a_run_warns_before_training_and_only_if_it_evaluates(tmp_path: Path, state: str) -> None:
    said: list[str] = []
    run = Run(recipe_with(tmp_path, three_papers()), tmp_path / "run", say=said.append)
    run._say_outlook([Step("train", "run", ""), Step("evaluate", state, "")])  # type: ignore[arg-type]
    if state in ("run", "resume"):
        assert said[0].startswith("warning: this benchmark cannot reach a verdict, whatever the models answer")
        assert "it takes 1 more paper with 10 questions each" in said[1]
    else:
        assert not said


def test_a_kind_that_cannot_decide_is_named_and_one_that_is_not_asked_is_no_warning(tmp_path: Path) -> None:
    asked = [question(id=f"q{i}", papers=(f"p{i // 4}",)) for i in range(40)]
    assert outlook_warnings(verdict_outlook(recipe_with(tmp_path, asked))) == []
    asked += [unanswerable("near_miss", id=f"n{i}") for i in range(3)]
    (line,) = outlook_warnings(verdict_outlook(recipe_with(tmp_path, asked)))
    assert line.startswith("warning: 3 questions that the papers almost answer: no verdict is possible")


def test_the_plan_shows_every_kind_as_text_and_for_scripts(tmp_path: Path) -> None:
    found = verdict_outlook(recipe_with(tmp_path, three_papers()))
    assert outlook_text(found).splitlines()[0] == "verdict"
    assert len(outlook_text(found).splitlines()) == 4
    rows = json.loads(json.dumps(outlook_json(found)))
    assert [(row["kind"], row["decides"]) for row in rows] == [
        ("answerable", False), ("off_corpus", False), ("near_miss", False),
    ]  # fmt: skip


def test_validate_says_ok_without_a_warning_for_the_demo() -> None:
    result = CliRunner().invoke(main, ["validate", str(DEMO)])
    assert result.exit_code == 0
    assert "warning" not in result.stderr  # a note says when the base is not on this machine


def test_validate_says_nothing_about_a_verdict_of_a_recipe_with_errors(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(f"extends: {DEMO}\ntrain: {{rnk: 3}}\n")
    result = CliRunner().invoke(main, ["validate", str(broken)])
    assert result.exit_code == 2
    assert "train.rnk" in result.output
    assert "verdict" not in result.output


def test_validate_reads_the_rehearsal_prompts(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    variant = tmp_path / "variant.yaml"
    variant.write_text(f"extends: {DEMO}\ndataset: {{rehearsal: {{count: 9, prompts: {prompts}}}}}\n")
    prompts.write_text('{"id": "a", "prompt": "Hello?"}\n')
    few = CliRunner().invoke(main, ["validate", str(variant)])
    assert few.exit_code == 2
    assert "9 prompts are asked for, but" in few.output
    prompts.write_text('{"id": "a", "prompt": 3}\n')
    assert CliRunner().invoke(main, ["validate", str(variant)]).exit_code == 2
