"""``ragtune sweep`` on the toy model: real trials, real artifacts, and what happens when something goes wrong."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mlx_ragtune.clients import machine
from mlx_ragtune.commands import sweep_trials
from mlx_ragtune.commands.sweep_scoring import Development
from mlx_ragtune.evaluation import own_answers
from mlx_ragtune.runner import open_recipe
from mlx_ragtune.stages import train as stage
from mlx_ragtune.sweeping.space import default_dimensions
from mlx_ragtune.sweeping.study import SweepStudy
from mlx_ragtune.tuning import select
from mlx_ragtune.tuning.decode import Decoded
from mlx_ragtune.tuning.training import Training
from mlx_ragtune.tuning.workbench import Workbench
from tests.stages.project import Done, edit, make_project, ragtune

GRID = {"train.learning_rate": [1e-3, 5e-3], "train.rank": [2, 4]}


@pytest.fixture(autouse=True)
def _short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy never ends an answer."""
    monkeypatch.setattr(select, "MAX_TOKENS", 4)
    monkeypatch.delenv("RAGTUNE_SWEEP_STORAGE", raising=False)


def prepared(folder: Path, **sweep: Any) -> Path:
    """A project whose recipe trains for three updates and has a section ``sweep``."""
    recipe = make_project(folder)
    text = recipe.read_text().replace(", probes: ../probes.jsonl, distractors: true", "")
    recipe.write_text(text)
    edit(recipe, train={"epochs": 0.4}, corpus={"chunk_tokens": 100}, retrieval={"top_k": 1}, dataset={"max_loss": 1.0})
    edit(recipe, sweep={"space": GRID, "sampler": "grid", "questions": 4, "finalists": 0, "halving": "off"} | sweep)
    return recipe


def swept(recipe: Path, *options: str) -> Done:
    return ragtune("sweep", recipe, *options, cwd=recipe.parents[1])


def results(recipe: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((recipe.parents[1] / "runs" / "small" / "sweep" / "sweep.json").read_text())
    return value


@pytest.fixture(scope="module")
def finished_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose four trials have run."""
    recipe = prepared(tmp_path_factory.mktemp("swept"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(select, "MAX_TOKENS", 4)
        done = swept(recipe, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == results(recipe)
    return recipe


@pytest.fixture
def project(finished_sweep: Path, tmp_path: Path) -> Path:
    """A copy of the finished sweep; returns its recipe."""
    shutil.copytree(finished_sweep.parents[1], tmp_path / "copy", symlinks=True)
    return tmp_path / "copy" / "recipes" / "small.yaml"


def test_every_trial_is_an_ordinary_run(project: Path) -> None:
    trials = results(project)["trials"]
    assert [(row["settings"]["train.learning_rate"], row["settings"]["train.rank"]) for row in trials] == [
        (1e-3, 2), (1e-3, 4), (5e-3, 2), (5e-3, 4)
    ]  # fmt: skip
    for row in trials:
        run = open_recipe(project, row["settings"])
        steps = run.plan(until="train")
        assert [step.state for step in steps] == ["up to date"] * 3, steps
        assert steps[-1].key == row["key"] == run.artifact("train").key
        assert run.home.name == row["run"]
        assert run.artifact("train").facts["best_valid_loss"] == row["valid_loss"]
    assert len({(open_recipe(project, row["settings"]).home / "2-dataset").resolve() for row in trials}) == 1


def test_a_trial_has_the_bytes_of_the_same_run_alone(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = results(project)["trials"][2]
    inside = (open_recipe(project, row["settings"]).home / "3-train" / "adapters.safetensors").read_bytes()
    alone = project.parents[1] / "alone"
    monkeypatch.setenv("RAGTUNE_RUNS", str(alone))
    run = open_recipe(project, row["settings"])
    run.run(until="train")
    assert (run.home / "3-train" / "adapters.safetensors").read_bytes() == inside
    assert run.home.is_relative_to(alone)


def test_a_finished_sweep_runs_nothing_again_and_a_larger_one_goes_on(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(project, sweep={"trials": 4})
    before = results(project)["trials"]
    monkeypatch.setattr(Workbench, "train", lambda *_arguments, **_options: pytest.fail("trained again"))
    assert swept(project).returncode == 0
    assert results(project)["trials"] == before


def test_the_best_trial_becomes_a_recipe_that_trains_to_the_same_artifact(project: Path) -> None:
    home, target = project.parents[1], project.parents[1] / "elsewhere" / "best.yaml"
    done = ragtune("sweep", "best", project, "--write", target, cwd=home)
    assert done.returncode == 0, done.stderr
    best = results(project)["trials"][results(project)["ranking"][0] - 1]
    assert "sweep:" not in target.read_text()
    step = open_recipe(target).plan(until="train")[-1]
    assert step.key == best["key"]
    again = ragtune("train", target, cwd=home)
    assert "3-train: reused from an earlier run" in again.stderr
    refused = ragtune("sweep", "best", project, "--write", target, cwd=home)
    assert refused.returncode == 3
    assert "exists already" in refused.stderr


def test_best_of_a_changed_recipe_writes_nothing(project: Path) -> None:
    edit(project, train={"seed_unknown": 1})
    target = project.parent / "best.yaml"
    assert ragtune("sweep", "best", project, "--write", target, cwd=project.parents[1]).returncode == 2
    assert not target.exists()


def test_a_study_of_another_data_set_is_refused(project: Path) -> None:
    pairs = project.parents[1] / "pairs.jsonl"
    pairs.write_text("\n".join(pairs.read_text().splitlines()[1:]) + "\n")
    done = swept(project)
    assert done.returncode == 5
    assert "trials of another recipe" in done.stderr
    assert "data set:" in done.stderr
    assert "sweep.study" in done.stderr
    edit(project, train={"alpha": 16})
    assert "train.alpha: 8" in swept(project).stderr


def test_trials_that_cannot_be_trained_are_pruned_and_the_sweep_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = {"train.learning_rate": [1e30, 1e-3], "train.rank": [2, 1000], "train.tokens_per_step": [64, 4096]}
    recipe = prepared(tmp_path, space=space)
    real = machine.memory_bytes()
    monkeypatch.setattr(
        stage, "train_memory", lambda _base, settings, _precision: real + 1 if settings.rank == 1000 else 1
    )
    done = swept(recipe)
    assert done.returncode == 0, done.stderr
    why = {tuple(row["settings"].values()): (row["state"], row["why"]) for row in results(recipe)["trials"]}
    assert len(why) == 8
    assert why[1e-3, 2, 4096] == ("finished", "")
    assert "training diverged" in why[1e30, 2, 4096][1]
    assert "tokens, more than tokens_per_step 64" in why[1e-3, 2, 64][1]
    assert "of memory" in why[1e-3, 1000, 4096][1]
    assert [state for state, _ in why.values()].count("pruned") == 7
    assert not list((tmp_path / "runs" / ".store" / ".drafts").iterdir())


def test_a_stopped_sweep_goes_on_and_ends_as_an_unbroken_one(
    finished_sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = prepared(tmp_path)
    progress = sweep_trials._RunningTrial._progress
    count = 0

    def stop_in_the_second_trial(self: Any, done: int, total: int, note: str) -> None:
        nonlocal count
        count += 1
        progress(self, done, total, note)
        if count == total + 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(sweep_trials._RunningTrial, "_progress", stop_in_the_second_trial)
    done = swept(recipe)
    assert done.returncode == 130
    assert "finished trials are kept. Run the same command to continue" in done.stderr
    assert [row["state"] for row in results(recipe)["trials"]] == ["finished", "waiting"]
    monkeypatch.setattr(sweep_trials._RunningTrial, "_progress", progress)
    assert swept(recipe).returncode == 0

    def outcome(path: Path) -> dict[str, tuple[Any, ...]]:
        rows = [row for row in results(path)["trials"] if row["state"] == "finished"]
        return {str(row["settings"]): (row["key"], row["score"], row["valid_loss"]) for row in rows}

    assert outcome(recipe) == outcome(finished_sweep)


def marked_space() -> dict[str, Any]:
    return {"train.learning_rate": [1e-9, 2e-9, 5e-3, 3e-9, 1e-3]}


def test_trials_wait_at_a_rung_until_all_have_come_and_only_the_best_end(tmp_path: Path) -> None:
    """Of five, two continue from the first rung and one from the second, with the bytes of a run without pauses."""
    recipe = prepared(tmp_path, space=marked_space(), halving="updates", rungs=2, reduction=2, finalists=0)
    edit(recipe, train={"epochs": 1, "evals_per_epoch": 1})
    done = swept(recipe)
    assert done.returncode == 0, done.stderr
    rows = {row["settings"]["train.learning_rate"]: row for row in results(recipe)["trials"]}
    finished = {rate for rate, row in rows.items() if row["state"] == "finished"}
    assert len(finished) == 1
    assert [row["state"] for row in rows.values()].count("pruned") == 4
    whole = rows[next(iter(finished))]["updates"]
    spent = sum(row["updates"] for row in rows.values())
    quarter, half = -(-whole // 4), -(-whole // 2)
    assert spent == 3 * quarter + half + whole or spent == 3 * quarter + whole + half, (spent, whole)
    assert "paused" in done.stderr
    rate = next(iter(finished))
    run = open_recipe(recipe, {"train.learning_rate": rate})
    assert [step.state for step in run.plan(until="train")] == ["up to date"] * 3
    inside = (run.home / "3-train" / "adapters.safetensors").read_bytes()
    losses = (run.home / "3-train" / "losses.jsonl").read_text()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAGTUNE_RUNS", str(tmp_path / "alone"))
        alone = open_recipe(recipe, {"train.learning_rate": rate})
        alone.run(until="train")
    assert (alone.home / "3-train" / "adapters.safetensors").read_bytes() == inside
    kept = [json.loads(line)["train_loss"] for line in losses.splitlines()]
    assert len(kept) == whole
    listed = json.loads(ragtune("runs", "--json", cwd=tmp_path).stdout)
    shown = {row["variant"]["train.learning_rate"]: row for row in listed if row["variant"]}
    assert {rate: row["state"] for rate, row in shown.items() if row["trial"]} == {
        rate: "partial" if rate in finished else "pruned" for rate in rows
    }
    assert all(row["rung_score"] is not None for row in shown.values())
    assert "not among the best" in next(row["why"] for row in shown.values() if row["state"] == "pruned")
    assert not list((tmp_path / "runs" / ".store" / ".drafts").iterdir())


def test_a_stop_lets_go_of_paused_trials_and_the_next_start_goes_on_from_their_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = prepared(tmp_path, space=marked_space(), halving="updates", rungs=1, reduction=2, finalists=0)
    edit(recipe, train={"epochs": 1, "evals_per_epoch": 1})
    run = sweep_trials._RunningTrial.run
    count = 0

    def stop_at_the_third(self: Any) -> bool:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return run(self)

    monkeypatch.setattr(sweep_trials._RunningTrial, "run", stop_at_the_third)
    done = swept(recipe)
    assert done.returncode == 130, done.stderr
    assert [row["state"] for row in results(recipe)["trials"]] == ["waiting"] * 3
    monkeypatch.setattr(sweep_trials._RunningTrial, "run", run)
    seen: list[str] = []
    look = SweepStudy.look

    def noted(study: SweepStudy, *given: Any) -> Any:
        seen.append(str(given[0].params))
        return look(study, *given)

    monkeypatch.setattr(SweepStudy, "look", noted)
    again = swept(recipe)
    assert again.returncode == 0, again.stderr
    rows = results(recipe)["trials"]
    assert sorted(row["state"] for row in rows) == ["finished", "finished", "pruned", "pruned", "pruned"]
    assert len(seen) == 3, "the two that had been looked at are not looked at again"
    assert not list((tmp_path / "runs" / ".store" / ".drafts").iterdir())


@pytest.mark.parametrize(("halving", "text"), [("updates", "at update"), ("rows", "of the rows")])
def test_halving_ends_trials_early_and_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, halving: str, text: str
) -> None:
    space = {"train.learning_rate": [5e-3, 1e-9, 2e-9]}
    recipe = prepared(tmp_path, space=space, halving=halving, rungs=1, reduction=2, finalists=0)
    edit(recipe, train={"epochs": 1, "evals_per_epoch": 3})
    monkeypatch.setattr(Development, "score", lambda _self, _loaded: 0.0)  # so that the validation loss decides
    done = swept(recipe)
    assert done.returncode == 0, done.stderr
    found = results(recipe)
    pruned = [row for row in found["trials"] if row["state"] == "pruned"]
    assert pruned
    assert all(text in row["why"] for row in pruned)
    assert all(row["looks"][-1]["rung"] == 0 for row in pruned)
    whole = next(row["updates"] for row in found["trials"] if row["state"] == "finished")
    assert all(0 < row["updates"] < whole for row in pruned)
    assert not list((tmp_path / "runs" / ".store" / ".drafts").iterdir())
    assert "Successive halving" in done.stdout


def test_probes_are_a_constraint(tmp_path: Path) -> None:
    recipe = prepared(tmp_path, space={"train.learning_rate": [1e-3, 5e-3]}, max_probe_loss=0.0)
    edit(recipe, evaluate={"probes": "../probes.jsonl"})
    done = swept(recipe)
    assert done.returncode == 0, done.stderr
    rows = results(recipe)["trials"]
    assert all(row["probe_loss"] is not None and row["feasible"] == (row["probe_loss"] <= 0) for row in rows)
    assert " probes than the base" in done.stderr


def test_workers_share_a_journal(tmp_path: Path) -> None:
    recipe = prepared(tmp_path, storage="journal:../shared/sweep.log", space={"train.rank": [2, 4]})
    assert swept(recipe, "--worker").returncode == 0
    assert (tmp_path / "shared" / "sweep.log").is_file()
    assert [row["state"] for row in results(recipe)["trials"]] == ["finished", "finished"]


def test_the_default_space_keeps_the_shape_of_an_adapter_that_training_starts_from(tmp_path: Path) -> None:
    recipe = open_recipe(prepared(tmp_path)).recipe
    start = recipe.model_copy(update={"train": recipe.train.model_copy(update={"from_adapter": tmp_path})})
    assert [key for key, _ in default_dimensions(start)] == ["train.learning_rate", "train.epochs"]


def test_the_default_space_is_around_the_recipe(tmp_path: Path) -> None:
    recipe = prepared(tmp_path, trials=1)
    text = recipe.read_text()
    start = text.index("  space:")
    recipe.write_text(text[:start] + text[text.index("  sampler: grid") :].replace("  sampler: grid\n", ""))
    assert swept(recipe).returncode == 0
    space = results(recipe)["space"]
    assert list(space) == ["train.learning_rate", "train.target_modules", "train.rank", "train.epochs"]
    assert space["train.learning_rate"] == {"low": 5e-4, "high": 5e-2, "step": None, "log": True}
    assert space["train.rank"] == [2, 4, 8]


def test_trials_share_the_answers_of_the_base_and_vary_their_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one workbench: the base is loaded for its answers once, and once for all trials."""

    def stand_in(_model: Any, _tokenizer: Any, prompts: Any, **_options: Any) -> Any:
        yield from ((index, Decoded(f"Number {index} it is.", 6, "stop")) for index in range(len(prompts)))

    monkeypatch.setattr(own_answers, "decode", stand_in)
    recipe = prepared(tmp_path, space={"dataset.rehearsal.share": [0.0, 0.1, 0.2]})
    edit(recipe, dataset={"rehearsal": {"share": 0.1}, "max_loss": 0.9}, fuse={"strength": 0.5})
    opened = 0
    enter = Workbench.__enter__

    def counted(self: Workbench) -> Workbench:
        nonlocal opened
        opened += 1
        return enter(self)

    seen: list[float | None] = []
    adapted = Workbench.adapted

    def noting(self: Workbench, folder: Path, *, strength: float | None = None) -> Any:
        seen.append(strength)
        return adapted(self, folder, strength=strength)

    measured: list[int] = []
    measure = Training.measure_base

    def measuring(training: Training, held: Any) -> Any:
        measured.append(len(held))
        return measure(training, held)

    monkeypatch.setattr(Training, "measure_base", measuring)
    monkeypatch.setattr(Workbench, "__enter__", counted)
    monkeypatch.setattr(Workbench, "adapted", noting)
    done = swept(recipe, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [trial["state"] for trial in result["trials"]] == ["finished"] * 3
    assert result["by_loss"]
    assert (opened, seen) == (1, [0.5] * 3)
    assert len(measured) == 1, "the loss of the base on its own answers is that of all trials"
    runs = recipe.parents[1] / "runs"
    rows = {
        trial["settings"]["dataset.rehearsal.share"]: json.loads(
            (runs / trial["run"] / "3-train" / "result.json").read_text()
        )
        for trial in result["trials"]
    }
    assert rows[0.0]["rehearsal_rows"] == 0
    assert rows[0.2]["rehearsal_rows"] > rows[0.1]["rehearsal_rows"] > 0
    assert len({row["rehearsal_held_rows"] for row in rows.values()}) == 1
    assert len({(runs / trial["run"] / "2b-rehearse").resolve() for trial in result["trials"]}) == 1
