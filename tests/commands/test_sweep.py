"""``ragtune sweep`` on the toy model: real trials, real artifacts, and what happens when something goes wrong."""

import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest

from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.commands import sweep_trials
from mlx_ragtune.commands.sweep import development_of, run_trials
from mlx_ragtune.commands.sweep_best import write_best
from mlx_ragtune.commands.sweep_scoring import Development
from mlx_ragtune.errors import ArtifactError
from mlx_ragtune.evaluation import own_answers
from mlx_ragtune.runner import open_recipe
from mlx_ragtune.sweeping.space import default_dimensions
from mlx_ragtune.sweeping.trials import TrialRow
from mlx_ragtune.tuning import select
from mlx_ragtune.tuning.decode import Decoded
from mlx_ragtune.tuning.training import Training
from mlx_ragtune.tuning.workbench import Workbench
from tests.commands.made_sweep import by_size, prepared, results, size_of, swept
from tests.stages.project import edit, ragtune, rows
from tests.sweeping.made import asked, journal, judged, opened


@pytest.fixture(autouse=True)
def _short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy never ends an answer."""
    monkeypatch.setattr(select, "MAX_TOKENS", 4)
    monkeypatch.delenv("RAGTUNE_SWEEP_STORAGE", raising=False)


@pytest.fixture(scope="module")
def finished_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose four trials have run, scored ``by_size``."""
    recipe = prepared(tmp_path_factory.mktemp("swept"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(select, "MAX_TOKENS", 4)
        patch.setattr(Development, "score", by_size)
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


def test_each_trial_has_the_score_of_its_own_adapter_and_the_best_score_is_first(project: Path) -> None:
    found, runs = results(project), project.parents[1] / "runs"
    trials = found["trials"]
    assert [row["trial"] for row in trials] == [1, 2, 3, 4]
    for row in trials:
        arrays = cast(dict[str, mx.array], mx.load(str(runs / row["run"] / "3-train" / "adapters.safetensors")))
        assert row["score"] == pytest.approx(size_of(arrays), rel=1e-3), row
    assert found["ranking"] == sorted([1, 2, 3, 4], key=lambda number: -trials[number - 1]["score"])
    assert found["ranking"] != [1, 2, 3, 4]
    listed = {row["trial"]: row for row in json.loads(ragtune("runs", "--json", cwd=runs.parent).stdout)}
    assert [listed[row["trial"]]["score"] for row in trials] == [row["score"] for row in trials]


def test_the_questions_are_validation_rows_and_never_those_of_training(project: Path) -> None:
    run = open_recipe(project)
    asked = {row.id for row in development_of(run).rows}
    files = {name: rows(run.home / "2-dataset" / f"examples-{name}.jsonl") for name in ("valid", "train")}
    assert asked
    assert asked <= {row["id"] for row in files["valid"]}
    assert not asked & {row["id"] for row in files["train"]}


def test_outputs_of_frozen_layers_stay_while_another_worker_may_read_them(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, frozen = open_recipe(project), project.parents[1] / "runs" / "small" / "sweep" / "frozen"
    monkeypatch.setattr(sweep_trials.Trials, "run_all", lambda _self, _say, *, wait: "4 trials")
    with closing(opened(journal(tmp_path), trials=4)) as sweep:
        trial = asked(sweep)
        frozen.mkdir()
        run_trials(run, sweep, lambda _settings: pytest.fail("a trial ran"), say=print, wait=False)
        assert frozen.exists()
        sweep.complete(trial, judged(0.5))
        run_trials(run, sweep, lambda _settings: pytest.fail("a trial ran"), say=print, wait=False)
        assert not frozen.exists()


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


def test_a_recipe_that_would_train_another_adapter_than_the_trial_is_not_written(project: Path) -> None:
    row = results(project)["trials"][0]
    target = project.parent / "best.yaml"
    other = TrialRow(0, row["settings"], "finished", key="0" * 64)
    with pytest.raises(ArtifactError, match="would train another adapter than the trial"):
        write_best(project, other, target, reopen=open_recipe)
    assert not target.exists()


@pytest.mark.parametrize(
    ("section", "keys", "said"),
    [
        ("base", {"model": "toy:llama"}, "base: "),
        ("base", {"precision": "bf16"}, "base.precision: fp32 there, bf16 now"),
        ("sweep", {"questions": 5}, "sweep.questions: 4 there, 5 now"),
        ("evaluate", {"probes": "../probes.jsonl"}, "probes: None there, "),
    ],
)
def test_a_study_of_another_base_or_other_rules_is_refused(
    project: Path, section: str, keys: dict[str, Any], said: str
) -> None:
    edit(project, **{section: keys})
    done = swept(project)
    assert done.returncode == 5, done.stderr
    assert said in done.stderr


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


def test_a_stopped_sweep_goes_on_and_ends_as_an_unbroken_one(
    finished_sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Development, "score", by_size)
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
