"""``mlx.launch -n 2 -- ragtune train RECIPE`` in one folder: rank 0 runs the command, the other one helps it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlx_ragtune.artifact import read_artifact
from mlx_ragtune.clients.runtime_mlx import mx
from tests.machines import ROOT, ended, free_ports, start
from tests.stages.project import edit, ragtune, recipe_of, run_folder
from tests.tuning.made import load_arrays

COMMAND = [sys.executable, "-m", "mlx_ragtune", "train", "recipes/small.yaml"]
LAUNCH = Path(sys.executable).with_name("mlx.launch")

pytestmark = pytest.mark.skipif(not mx.distributed.is_available(), reason="MLX was built without distributed backends")


def changed(project: Path, **train: object) -> Path:
    """The project with training left to do, in which an update has fewer micro-batches than there are ranks."""
    os.environ["RAGTUNE_OFFLINE"] = "1"
    edit(recipe_of(project), train={"learning_rate": 3e-3, "batch_size": 2, **train})
    return project


def adapter(project: Path) -> dict[str, mx.array]:
    return load_arrays(run_folder(project) / "3-train" / "adapters.safetensors")


def alone(project: Path, folder: Path) -> dict[str, mx.array]:
    """The adapter of a single process."""
    shutil.copytree(project, folder, symlinks=True)
    done = ragtune("train", recipe_of(folder), cwd=folder)
    assert done.returncode == 0, done.stderr
    return adapter(folder)


def assert_close(left: dict[str, mx.array], right: dict[str, mx.array]) -> None:
    assert left.keys() == right.keys()
    assert all(mx.allclose(value, right[name], atol=1e-4).item() for name, value in left.items())


@pytest.mark.skipif(not LAUNCH.exists(), reason="mlx.launch is not installed")
def test_mlx_launch_trains_in_one_folder_what_one_process_trains(project: Path, tmp_path: Path) -> None:
    single = alone(changed(project, epochs=0.3), tmp_path / "alone")
    port = str(free_ports(1)[0])
    launch = [str(LAUNCH), "-n", "2", "--starting-port", port, "--env", f"PYTHONPATH={ROOT}", "--", *COMMAND]
    done = subprocess.run(
        launch, cwd=project, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=500, check=False
    )
    assert "exited with code" not in done.stderr, done.stderr
    assert done.stdout.count("engine: shared-prefix") == 1
    artifact = read_artifact(run_folder(project) / "3-train")
    assert artifact is not None
    assert artifact.facts["best_valid_loss"] > 0
    assert_close(adapter(project), single)
    status = json.loads(ragtune("status", recipe_of(project), "--json", cwd=project).stdout)
    assert status[2]["state"] == "up to date"


def test_the_trials_of_a_sweep_are_trained_paused_and_pruned_on_all_ranks(project: Path, tmp_path: Path) -> None:
    """A rank that does not hear of a pause or of a diverged loss waits for rank 0 without an end."""
    space = {"train.learning_rate": [1e-9, 1e30, 5e-3]}
    settings = {"space": space, "sampler": "grid", "questions": 4, "finalists": 0, "rungs": 1, "reduction": 3}
    edit(recipe_of(changed(project, epochs=0.3)), sweep=settings)
    (code, err), (other, said) = ended(start(tmp_path, [*COMMAND[:3], "sweep", "recipes/small.yaml"], cwd=project))
    assert (code, other) == (0, 0), err + said
    rows = json.loads((run_folder(project) / "sweep" / "sweep.json").read_text())["trials"]
    assert [row["state"] for row in rows] == ["pruned", "pruned", "finished"], rows
    assert "paused" in err
    assert "diverged" in rows[1]["why"]
    trained = load_arrays(project / "runs" / rows[2]["run"] / "3-train" / "adapters.safetensors")
    shutil.copytree(project, tmp_path / "single", symlinks=True)
    single = tmp_path / "single"
    shutil.rmtree(single / "runs" / rows[2]["run"])
    options = ["--redo", "--set", "train.learning_rate=0.005"]
    done = ragtune("train", recipe_of(single), *options, cwd=single)
    assert done.returncode == 0, done.stderr
    assert_close(load_arrays(single / "runs" / rows[2]["run"] / "3-train" / "adapters.safetensors"), trained)


def test_when_a_rank_dies_the_other_ends_with_one_message_and_the_run_resumes(project: Path, tmp_path: Path) -> None:
    changed(project, epochs=1, evals_per_epoch=6)
    ranks = start(tmp_path, COMMAND, cwd=project)
    drafts = project / "runs" / ".store" / ".drafts"
    until = time.monotonic() + 120
    while not list(drafts.glob("train-*/checkpoints/update-*")) and time.monotonic() < until:
        assert all(rank.poll() is None for rank in ranks)
        time.sleep(0.1)
    ranks[1].send_signal(signal.SIGKILL)
    (code, err), _ = ended(ranks)
    assert code == 4, err
    assert "rank 0 of 2: the connection to another machine was lost" in err
    assert "try: run the same command again: it resumes from the last checkpoint" in err
    assert "Traceback" not in err
    resumed = ragtune("train", recipe_of(project), cwd=project)
    assert resumed.returncode == 0
    assert "3-train: resuming" in resumed.stderr


def test_when_rank_0_refuses_the_recipe_the_others_end_quietly(project: Path, tmp_path: Path) -> None:
    edit(recipe_of(project), train={"learning_rat": 1})
    (first, message), (other, err) = ended(start(tmp_path, COMMAND, cwd=project))
    assert (first, other) == (2, 0)
    assert "unknown key 'train.learning_rat'" in message
    assert err == ""
