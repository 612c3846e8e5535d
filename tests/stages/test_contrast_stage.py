"""dataset.contrast and train.preference through the stages, on a small project with the toy model."""

import json
from pathlib import Path

import pytest

from mlx_ragtune.pipeline import PROMPT_ROWS, REJECTED, stages_of
from mlx_ragtune.recipe_load import load_recipe
from mlx_ragtune.synthesis.contrast import WITHOUT
from tests.stages.project import edit, make_project, ragtune, rows, run_folder
from tests.stages.test_corpus_dataset import base as base
from tests.stages.test_corpus_dataset import content, run_corpus, run_dataset

SPLITS = ("train", "valid")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return make_project(tmp_path / "project")


def test_contrast_rows_are_in_the_split_of_their_originals_and_are_counted(recipe: Path, base: Path) -> None:
    corpus, _ = run_corpus(recipe)
    plain = content(run_dataset(recipe, base, corpus.folder).folder)
    edit(recipe, dataset={"contrast": 0.5})
    folder = run_dataset(recipe, base, corpus.folder, "contrasted").folder
    statistics = json.loads((folder / "statistics.json").read_text())
    for split in SPLITS:
        written = rows(folder / f"examples-{split}.jsonl")
        names = {row["id"] for row in written}
        added = {name for name in names if name.endswith(WITHOUT)}
        assert len(added) == statistics[split]["contrast"]["made"] > 0
        assert {name.removesuffix(WITHOUT) for name in added} < names
        before = [json.loads(line) for line in plain[f"examples-{split}.jsonl"].splitlines()]
        assert [row for row in written if row["id"] not in added] == before
        assert all("rejected" not in row for row in written)
    made = sum(statistics[split]["contrast"]["made"] for split in ("train", "valid", "test"))
    assert statistics["account"]["made"] == {"refusal": made}


def test_every_contrast_row_rejects_its_original_answer(recipe: Path, base: Path) -> None:
    edit(recipe, dataset={"contrast": 1.0})
    corpus, _ = run_corpus(recipe)
    folder = run_dataset(recipe, base, corpus.folder).folder
    for split in SPLITS:
        answers = {row["id"]: row["messages"][-1]["content"] for row in rows(folder / f"examples-{split}.jsonl")}
        rejected = {row["id"]: row for row in rows(folder / f"rejected-{split}.jsonl")}
        for name in answers:
            if name.endswith(WITHOUT):
                assert rejected[name]["answer"] == answers[name.removesuffix(WITHOUT)]
        assert {row["why"] for row in rejected.values()} >= {"answer", "refusal"}


def test_only_a_preference_reads_the_rejected_answers(recipe: Path) -> None:
    def needs(stage: str) -> tuple[str, ...]:
        return next(one for one in stages_of(load_recipe(recipe)) if one.name == stage).needs["dataset"]

    assert needs("train") == PROMPT_ROWS
    edit(recipe, train={"preference": {"method": "dpo"}})
    assert needs("train") == (*PROMPT_ROWS, *REJECTED)
    assert needs("fuse") == PROMPT_ROWS


def test_a_run_with_a_preference_tells_how_it_orders_the_validation_rows(recipe: Path) -> None:
    home = recipe.parents[1]
    edit(recipe, dataset={"contrast": 0.5}, train={"preference": {"method": "orpo"}})
    planned = ragtune("plan", recipe, cwd=home)
    assert "rows have a rejected answer, which shares their prompt" in planned.stdout
    trained = ragtune("train", recipe, cwd=home)
    assert trained.returncode == 0, trained.stderr
    assert "refusals have a rejected answer" in trained.stderr
    last = rows(run_folder(home) / "3-train" / "losses.jsonl")[-1]
    assert 0 <= last["valid_preference_accuracy"] <= 1
    assert last["valid_preference_loss"] > 0
    assert last["train_preference_loss"] > 0
