"""One study, several workers: budgets, dead workers, other studies, locked and secret storages."""

import os
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import RDBStorage
from optuna.trial import Trial, TrialState
from sqlalchemy.exc import OperationalError

from mlx_ragtune.errors import ArtifactError, RagtuneError, RecipeError, ToolError
from mlx_ragtune.recipe import SweepSettings
from mlx_ragtune.sweeping import storage, study
from mlx_ragtune.sweeping.storage import Address, open_storage, study_address
from mlx_ragtune.sweeping.study import open_study
from mlx_ragtune.sweeping.trials import Look
from tests.sweeping.made import asked, journal, judged, made_space, opened, run_out, sqlite

WIDE: dict[str, Any] = {"train__rank": {"low": 1, "high": 500}}


@pytest.mark.parametrize(
    ("budget", "trials"), [({"trials": 3}, 3), ({"updates": 25}, 3), ({"minutes": 2.5 / 60}, 3), ({}, 16)]
)
def test_a_budget_ends_the_sweep(tmp_path: Path, budget: dict[str, Any], trials: int) -> None:
    assert len(run_out(opened(journal(tmp_path), made_space(**WIDE), sampler="random", **budget))) == trials


@pytest.mark.parametrize("budget", [{"updates": 25}, {"minutes": 2.5 / 60}])
def test_the_updates_and_minutes_of_pruned_trials_are_spent_too(tmp_path: Path, budget: dict[str, Any]) -> None:
    sweep = opened(journal(tmp_path), made_space(**WIDE), sampler="random", **budget)
    for _ in range(2):
        assert not sweep.spent()
        sweep.prune(asked(sweep), "not among the best", updates=10, seconds=1.0)
    sweep.complete(asked(sweep), judged(0.5))
    assert sweep.spent() == ("25 updates" if "updates" in budget else "0.0416667 minutes")


def test_a_larger_budget_goes_on_where_the_sweep_stopped(tmp_path: Path) -> None:
    run_out(opened(sqlite(tmp_path), made_space(**WIDE), trials=2))
    more = opened(sqlite(tmp_path), made_space(**WIDE), trials=4)
    assert len(run_out(more)) == 2
    assert [row.number for row in more.rows()] == [0, 1, 2, 3]


def test_workers_that_ask_together_do_not_exceed_the_budget(tmp_path: Path) -> None:
    first, second = (opened(journal(tmp_path), made_space(**WIDE), trials=1) for _ in range(2))
    assert not first.spent()
    assert not second.spent()  # both saw that a trial was left
    assert first.ask() is not None
    assert second.ask() is None
    assert [row.state for row in second.rows()] == ["running"]


def test_settings_that_another_worker_is_about_to_write_are_not_run_twice(tmp_path: Path) -> None:
    """Settings are written key by key after a trial has its number: at that moment it looks as if it had none."""
    first, second = (opened(journal(tmp_path), trials=6) for _ in range(2))
    earlier = first.study.ask()
    backend = first.study._storage

    def write_late() -> None:
        for _ in range(1000):
            later = [trial for trial in first.study.get_trials() if trial.number == 1 and len(trial.params) == 2]
            if later:
                break
            time.sleep(0.01)
        time.sleep(0.3)
        for key, value in later[0].params.items():
            distribution = later[0].distributions[key]
            backend.set_trial_param(earlier._trial_id, key, distribution.to_internal_repr(value), distribution)

    with ThreadPoolExecutor() as pool:
        written = pool.submit(write_late)
        assert second.ask() is None
        written.result()
    assert [row.number for row in second.rows()] == [0]


def test_workers_that_draw_the_same_settings_do_not_both_run_them(tmp_path: Path) -> None:
    space = made_space(train__rank=(4, 8))
    first, second = (opened(journal(tmp_path), space, trials=9) for _ in range(2))
    trials = [first.ask(), second.ask(), first.ask(), second.ask()]
    assert sorted(str(trial.params) for trial in trials if trial) == ["{'train.rank': '4'}", "{'train.rank': '8'}"]


KILLED = """\
import os, sys
from pathlib import Path
from tests.sweeping.made import asked, opened, sqlite
from mlx_ragtune.sweeping.storage import Address
sweep = opened(Address(sys.argv[1], "test"), trials=3)
trial = asked(sweep)
if "at work" in sys.argv:
    with sweep.beating(trial):
        os.kill(os.getpid(), 9)
os.kill(os.getpid(), 9)
"""


def killed_worker(address: Address, *, when: str = "at work") -> None:
    """A worker that is killed in the middle of a trial, or before it begins one."""
    done = subprocess.run([sys.executable, "-c", KILLED, address.value, when], env=os.environ, check=False)
    assert done.returncode == -9


def test_the_trial_of_a_killed_worker_is_taken_up_again(tmp_path: Path) -> None:
    killed_worker(sqlite(tmp_path))
    sweep = opened(sqlite(tmp_path), trials=3)
    lost = sweep.trials()[0]
    lines = sweep.take_over()
    assert "it is taken up again" in lines[0]
    assert sweep.take_over() == []
    again = asked(sweep)
    assert again.params == lost.params
    sweep.complete(again, judged(0.5))
    assert [(row.number, row.state) for row in sweep.rows()] == [(0, "finished")]
    assert len(run_out(sweep)) == 2, "the interrupted trial does not count"
    assert [row.number for row in sweep.rows()] == [0, 1, 2]


def test_a_paused_trial_of_a_dead_worker_waits_as_often_as_it_takes(tmp_path: Path) -> None:
    """It was not at work on that one, so the trial is not what killed it."""
    for _ in range(study.DEATHS + 1):
        gone = opened(sqlite(tmp_path), trials=3)
        trial = asked(gone)
        if not trial.user_attrs.get("looks"):
            gone.look(trial, Look(0, 1 / 9, 0.5, 1.0, 1))
        gone.pause(trial)
        assert gone.take_over() == [], "its own worker holds it"
        sweep = opened(sqlite(tmp_path), trials=3)
        assert len(sweep.others()) == 1
        assert "it is taken up again" in sweep.take_over()[0]
    assert [(row.number, row.state) for row in sweep.rows()] == [(0, "waiting")]


def test_settings_that_kill_every_worker_are_pruned_and_the_sweep_goes_on(tmp_path: Path) -> None:
    for _ in range(study.DEATHS):
        killed_worker(journal(tmp_path))
        lines = opened(journal(tmp_path), trials=3).take_over()
    assert "recorded as pruned" in lines[0]
    sweep = opened(journal(tmp_path), trials=3)
    assert [(row.number, row.state) for row in sweep.rows()] == [(0, "pruned")]
    assert len(run_out(sweep)) == 2


def test_a_worker_that_ends_before_it_begins_a_trial_did_not_die_of_it(tmp_path: Path) -> None:
    for _ in range(study.DEATHS + 1):
        killed_worker(journal(tmp_path), when="asking")
        assert "it is taken up again" in opened(journal(tmp_path), trials=3).take_over()[0]


def test_a_trial_without_settings_is_left_out_after_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its worker was stopped while it asked: nobody is waited for, and it is not a trial."""
    sweep = opened(journal(tmp_path), trials=3)
    sweep.study._storage.create_new_trial(sweep.study._study_id)
    clock = [0.0]
    monkeypatch.setattr("mlx_ragtune.sweeping.study.time.monotonic", lambda: clock[0])
    assert sweep.take_over() == []
    assert len(sweep.others()) == 1
    clock[0] = study.ASK_SECONDS
    assert sweep.take_over() == []
    assert (sweep.others(), sweep.rows()) == ([], [])
    assert len(run_out(sweep)) == 3


def test_a_worker_whose_trial_was_left_out_while_it_asked_asks_again(tmp_path: Path) -> None:
    slow, other = (opened(journal(tmp_path), trials=3) for _ in range(2))
    trial = slow.study._storage.create_new_trial(slow.study._study_id)
    other.study._storage.set_trial_state_values(trial, state=TrialState.FAIL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slow.study, "ask", lambda _distributions: Trial(slow.study, trial))
        assert slow.ask() is None
    assert slow.ask() is not None


def test_a_silent_worker_of_another_machine_is_dead_and_a_writing_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = opened(journal(tmp_path), made_space(**WIDE), trials=3)
    far.worker = "other-mac:abc123:1"
    trial = asked(far)
    here = opened(journal(tmp_path), made_space(**WIDE), trials=3)
    clock = [0.0]
    monkeypatch.setattr("mlx_ragtune.sweeping.study.time.monotonic", lambda: clock[0])
    for beat in range(3):
        trial.set_user_attr("beat", beat)
        assert here.take_over() == []
        clock[0] += study.SILENT_SECONDS - 1
    assert here.take_over() == []
    clock[0] += 2
    assert len(here.take_over()) == 1
    assert not far.complete(trial, judged(0.9)), "the worker learns that its trial was taken over"
    assert [(row.number, row.state) for row in here.rows()] == [(0, "waiting")]


def test_a_worker_writes_that_it_is_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "BEAT_SECONDS", 0.01)
    sweep = opened(journal(tmp_path), trials=3)
    trial = asked(sweep)
    with sweep.beating(trial):
        deadline = time.monotonic() + 30
        while sweep.trials()[0].user_attrs.get("beat", 0) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert sweep.take_over() == []
    assert sweep.trials()[0].user_attrs["beat"] >= 2


@pytest.mark.parametrize("changed", ["base", "data set", "sweep.space"])
def test_a_study_of_another_base_data_set_or_space_is_refused(tmp_path: Path, changed: str) -> None:
    identity = {"base": "b", "data set": "d", "sweep.space": "s"}

    def open_with(identity: dict[str, Any]) -> None:
        open_study("s", journal(tmp_path), space=made_space(), settings=SweepSettings(), seed=0, identity=identity)

    open_with(identity)
    open_with(dict(identity))
    with pytest.raises(ArtifactError, match=rf"(?s)trials of another recipe.*{changed}: .* there, other now"):
        open_with(identity | {changed: "other"})
    with pytest.raises(ArtifactError, match=rf"{changed}: .* there, None now"):
        open_with({key: value for key, value in identity.items() if key != changed})
    with pytest.raises(ArtifactError, match="probes: None there, p now"):
        open_with(identity | {"probes": "p"})


def test_a_locked_study_is_an_error_that_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_out(opened(sqlite(tmp_path), trials=1))
    monkeypatch.setattr(storage, "LOCK_SECONDS", 0.05)
    sweep = opened(sqlite(tmp_path), trials=2)
    with closing(sqlite3.connect(tmp_path / "study.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ToolError, match="another process holds the lock") as locked:
            sweep.ask()
        assert locked.value.where.endswith("study.sqlite")
        other.execute("ROLLBACK")
    assert sweep.ask() is not None


def test_workers_may_create_the_tables_of_a_study_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def slower(*given: Any, **options: Any) -> Any:
        tries.append(given)
        if len(tries) == 1:  # what SQLite says to the second one
            raise OperationalError("CREATE TABLE studies", {}, sqlite3.OperationalError("table studies already exists"))
        return RDBStorage(*given, **options)

    monkeypatch.setattr("mlx_ragtune.sweeping.storage.RDBStorage", slower)
    with closing(opened(sqlite(tmp_path), trials=3)) as sweep:
        assert sweep.ask() is not None
    assert len(tries) == 2


def test_a_damaged_study_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "study.sqlite").write_text("no database at all, but long enough for its header\n" * 40)
    with pytest.raises(ArtifactError, match="damaged"):
        opened(sqlite(tmp_path))
    (tmp_path / "study.log").write_text("not a journal\n" * 3)
    with pytest.raises(ArtifactError, match="damaged"):
        opened(journal(tmp_path))


def test_what_a_killed_process_left_of_a_line_does_not_damage_the_journal(tmp_path: Path) -> None:
    sweep = opened(journal(tmp_path), trials=3)
    sweep.complete(asked(sweep), judged(0.5))
    with (tmp_path / "study.log").open("a") as file:
        file.write('{"op_code":5,"wor')
    again = opened(journal(tmp_path), trials=3)
    again.complete(asked(again), judged(0.25))
    assert [row.score for row in opened(journal(tmp_path), trials=3).rows()] == [0.5, 0.25]


def test_a_study_of_another_version_of_optuna_is_an_error(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "study.sqlite")) as file:
        columns = "version_info_id INTEGER PRIMARY KEY, schema_version INTEGER, library_version VARCHAR(256)"
        file.execute(f"create table version_info ({columns})")
        file.execute("insert into version_info values (1, 1, '0.1')")
        file.commit()
    with pytest.raises(ArtifactError, match="made by another version of Optuna"):
        opened(sqlite(tmp_path))


SECRET = "hunter2%2B"
UNREACHABLE = f"postgresql://kim:{SECRET}@127.0.0.1:1/x?connect_timeout=1&sslpassword=alsosecret"


def test_no_message_holds_the_password_of_an_address() -> None:
    address = Address(UNREACHABLE, "RAGTUNE_SWEEP_STORAGE")
    assert address.shown == "postgresql://127.0.0.1:1/x"
    with pytest.raises(RagtuneError) as failed:
        open_storage(address)
    text = str(failed.value)
    assert "127.0.0.1" in text
    assert not [part for part in ("hunter2", "alsosecret", "kim") if part in text]


@pytest.mark.parametrize(
    ("value", "kind", "what"),
    [
        ("nodb://host/x", RecipeError, "not the address of a study"),
        ("oracle://host/x", ToolError, "driver of this database is not installed"),
        ("journal:/proc/nowhere/x.log", ToolError, "cannot use the journal"),
        ("sqlite:////proc/nowhere/x.sqlite", ToolError, "cannot use the study's storage: .*No such file"),
    ],
)
def test_an_address_that_cannot_be_used_is_an_error(value: str, kind: type[RagtuneError], what: str) -> None:
    with pytest.raises(kind, match=what):
        open_storage(Address(value, "sweep.storage"))


def test_the_recipe_comes_before_the_environment_and_both_before_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAGTUNE_SWEEP_STORAGE", raising=False)
    assert study_address(None, home=tmp_path, folder=tmp_path).path == tmp_path / "sweep" / "study.sqlite"
    monkeypatch.setenv("RAGTUNE_SWEEP_STORAGE", UNREACHABLE)
    assert study_address(None, home=tmp_path, folder=tmp_path).value == UNREACHABLE
    shared = study_address("journal:shared/sweep.log", home=tmp_path, folder=tmp_path / "recipes")
    assert shared.path == tmp_path / "recipes" / "shared" / "sweep.log"
    monkeypatch.setenv("RAGTUNE_SWEEP_STORAGE", "nonsense")
    with pytest.raises(RecipeError, match="not the address of a study"):
        study_address(None, home=tmp_path, folder=tmp_path)


def test_a_look_is_kept_with_its_rung(tmp_path: Path) -> None:
    sweep = opened(journal(tmp_path), trials=3)
    trial = asked(sweep)
    sweep.look(trial, Look(0, 1 / 9, 0.25, 1.5, 4))
    sweep.prune(trial, "not among the best", updates=4, seconds=2.0)
    row = sweep.rows()[0]
    assert (row.state, row.why, row.updates, row.seconds) == ("pruned", "not among the best", 4, 2.0)
    assert row.looks == (Look(0, 1 / 9, 0.25, 1.5, 4),)
