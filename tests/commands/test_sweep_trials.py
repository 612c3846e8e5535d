"""Trials that end early, wait at a rung, or cannot be trained: recorded in one word, and the sweep goes on."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlx_ragtune.clients import machine
from mlx_ragtune.clients.runtime_mlx import tree_flatten
from mlx_ragtune.commands import sweep_trials
from mlx_ragtune.commands.sweep_scoring import Development
from mlx_ragtune.runner import open_recipe
from mlx_ragtune.stages import train as stage
from mlx_ragtune.sweeping.study import SweepStudy
from mlx_ragtune.tuning import select
from mlx_ragtune.tuning.load import Base
from mlx_ragtune.tuning.workbench import Workbench
from tests.commands.made_sweep import by_size, prepared, require_one_word, results, swept
from tests.stages.project import edit, ragtune


@pytest.fixture(autouse=True)
def _short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy never ends an answer."""
    monkeypatch.setattr(select, "MAX_TOKENS", 4)
    monkeypatch.delenv("RAGTUNE_SWEEP_STORAGE", raising=False)


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
    require_one_word(recipe)


def test_a_trial_that_runs_out_of_memory_is_pruned_wherever_that_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = prepared(tmp_path, space={"train.rank": [2, 3, 4]})
    train = Workbench.train

    def short(self: Workbench, settings: Any, **options: Any) -> Any:
        result = train(self, settings, **options)
        if settings.rank == 2:
            raise MemoryError
        return result

    def score(_development: Development, loaded: Base) -> float:
        shapes = {value.shape for name, value in tree_flatten(loaded.model.parameters()) if name.endswith("lora_b")}
        if any(3 in shape for shape in shapes):
            raise RuntimeError("[metal::malloc] Attempting to allocate 9 bytes\nmore")
        return 0.5

    monkeypatch.setattr(Workbench, "train", short)
    monkeypatch.setattr(Development, "score", score)
    done = swept(recipe)
    assert done.returncode == 0, done.stderr
    assert [(row["state"], row["why"]) for row in results(recipe)["trials"]] == [
        ("pruned", "out of memory"),
        ("pruned", "out of memory while it was scored: [metal::malloc] Attempting to allocate 9 bytes"),
        ("finished", ""),
    ]
    assert not list((tmp_path / "runs" / ".store" / ".drafts").iterdir())
    require_one_word(recipe)


def test_a_sweep_whose_trials_were_all_pruned_fails_and_says_what_to_change(tmp_path: Path) -> None:
    recipe = prepared(tmp_path, space={"train.learning_rate": [1e30, 2e30]})
    done = swept(recipe, "--json")
    assert done.returncode == 5
    assert [row["state"] for row in json.loads(done.stdout)["trials"]] == ["pruned", "pruned"]
    assert "all 2 trials of study 'small' were pruned, the last one: training diverged" in done.stderr
    assert "set sweep.study to a new name" in done.stderr
    best = ragtune("sweep", "best", recipe, "--json", cwd=tmp_path)
    assert (best.returncode, best.stdout) == (5, "")
    assert "all 2 trials" in best.stderr


def marked_space() -> dict[str, Any]:
    return {"train.learning_rate": [1e-9, 2e-9, 5e-3, 3e-9, 1e-3]}


def test_trials_wait_at_a_rung_until_all_have_come_and_only_the_best_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of five, two continue from the first rung and one from the second, with the bytes of a run without pauses.

    The score prefers what the loss does not: the smallest step.
    """
    monkeypatch.setattr(Development, "score", lambda own, loaded: 1 - by_size(own, loaded))
    recipe = prepared(tmp_path, space=marked_space(), halving="updates", rungs=2, reduction=2, finalists=0)
    edit(recipe, train={"epochs": 1, "evals_per_epoch": 1})
    done = swept(recipe)
    assert done.returncode == 0, done.stderr
    rows = {row["settings"]["train.learning_rate"]: row for row in results(recipe)["trials"]}
    finished = {rate for rate, row in rows.items() if row["state"] == "finished"}
    assert finished == {1e-9}, "of equal ones the earlier"
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
    assert {rate: row["rung_score"] for rate, row in shown.items()} == {
        rate: row["looks"][0]["score"] for rate, row in rows.items()
    }
    assert {rate: row["score"] for rate, row in shown.items()} == {rate: row["score"] for rate, row in rows.items()}
    require_one_word(recipe)
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


@pytest.mark.parametrize(
    ("halving", "text", "score", "best"),
    [
        ("updates", "at update", lambda _own, _loaded: 0.0, {5e-3}),  # the validation loss decides
        ("rows", "of the rows", lambda own, loaded: 1 - by_size(own, loaded), {1e-9, 2e-9}),  # the score does
    ],
)
def test_halving_ends_trials_early_and_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, halving: str, text: str, score: Any, best: set[float]
) -> None:
    space = {"train.learning_rate": [1e-9, 5e-3, 2e-9]}
    recipe = prepared(tmp_path, space=space, halving=halving, rungs=1, reduction=2, finalists=0)
    edit(recipe, train={"epochs": 1, "evals_per_epoch": 3})
    monkeypatch.setattr(Development, "score", score)
    done = swept(recipe)
    assert done.returncode == 0, done.stderr
    found = results(recipe)
    pruned = [row for row in found["trials"] if row["state"] == "pruned"]
    assert pruned
    assert all(text in row["why"] for row in pruned)
    assert all(row["looks"][-1]["rung"] == 0 for row in pruned)
    assert {row["settings"]["train.learning_rate"] for row in found["trials"] if row["state"] == "finished"} <= best
    whole = next(row["updates"] for row in found["trials"] if row["state"] == "finished")
    assert all(0 < row["updates"] < whole for row in pruned)
    assert not list((tmp_path / "runs" / ".store" / ".drafts").iterdir())
    assert "Successive halving" in done.stdout


def test_probes_are_a_constraint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base passes all, the first trial only every second one: it cannot win, whatever its score."""
    recipe = prepared(tmp_path, space={"train.learning_rate": [5e-3, 1e-3]}, max_probe_loss=0.0)
    edit(recipe, evaluate={"probes": "../probes.jsonl"})
    passed, every = Development.passed, iter([1, 2, 1])

    def answered(self: Development, loaded: Base) -> dict[str, bool]:
        step = next(every)
        return {name: at % step == 0 for at, name in enumerate(passed(self, loaded))}

    monkeypatch.setattr(Development, "passed", answered)
    monkeypatch.setattr(Development, "score", by_size)
    done = swept(recipe)
    assert done.returncode == 0, done.stderr
    first, second = results(recipe)["trials"]
    assert first["score"] > second["score"]
    assert 0.4 <= first["probe_loss"] <= 0.5
    assert (first["feasible"], second["probe_loss"], second["feasible"]) == (False, 0.0, True)
    assert results(recipe)["ranking"] == [2]
    assert " probes than the base" in done.stderr
