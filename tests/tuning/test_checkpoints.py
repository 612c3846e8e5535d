"""A killed run goes on exactly where it was; damaged and foreign checkpoints are told apart."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mlx_ragtune.clients.runtime_mlx import mx, tree_flatten
from mlx_ragtune.errors import ArtifactError, ToolError
from mlx_ragtune.tuning import checkpoints
from mlx_ragtune.tuning.adapters import apply_adapter
from mlx_ragtune.tuning.checkpoints import Progress, keep_if_best, load_kept, load_last, save
from mlx_ragtune.tuning.optimizer import make_optimizer
from tests.tuning.made import all_files, made_model, toy_base, train_settings

ROOT = Path(__file__).parents[2]
WORK = {"train.rank": "4", "seed": "0"}


def start(base: Path, folder: Path, changes: dict[str, Any]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.tuning.killed", str(base), str(folder), json.dumps(changes)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )


def finish(base: Path, folder: Path, changes: dict[str, Any]) -> None:
    process = start(base, folder, changes)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert out.endswith("finished\n")


def kill_after(process: subprocess.Popen[str], updates: int, delay: float, how: int) -> bool:
    """Kill it ``delay`` seconds after it told of so many updates; False if it had finished by then."""
    assert process.stdout is not None
    told = 0
    while told < updates:
        line = process.stdout.readline()
        if not line or line == "finished\n":
            process.wait()
            return False
        told += 1
    time.sleep(delay)
    process.send_signal(how)
    process.communicate()
    return process.returncode != 0


KILLED: dict[str, dict[str, Any]] = {
    "dora and KL": {"lora_plus_ratio": 2.0, "method": "dora", "epochs": 2.0, "kl": {"weight": 0.5, "tokens": "all"}},
    "dpo": {"preference": {"method": "dpo"}, "epochs": 2.0},
}


@pytest.mark.parametrize("changes", KILLED.values(), ids=list(KILLED))
def test_a_run_killed_again_and_again_ends_with_the_same_bytes(tmp_path: Path, changes: dict[str, Any]) -> None:
    base = toy_base(tmp_path / "base")
    finish(base, tmp_path / "unbroken", changes)
    draw = random.Random(len(changes))
    broken, kills = tmp_path / "broken", 0
    for how in (signal.SIGKILL, signal.SIGINT):
        kills += kill_after(start(base, broken, changes), draw.randint(0, 4), draw.uniform(0, 0.05), how)
    finish(base, broken, changes)
    assert kills >= 1
    for name in ("adapters.safetensors", "adapter_config.json"):
        assert (tmp_path / "unbroken" / name).read_bytes() == (broken / name).read_bytes()
    unbroken, resumed = (
        [json.loads(line) | {"seconds": 0} for line in (folder / "losses.jsonl").read_text().splitlines()]
        for folder in (tmp_path / "unbroken", broken)
    )
    assert unbroken == resumed


class Made:
    """A model in training with an optimizer that has state."""

    def __init__(self) -> None:
        self.settings = train_settings()
        self.model = made_model("llama")
        apply_adapter(self.model, self.settings, seed=1)
        self.optimizer = make_optimizer(self.settings)
        self.optimizer.init(self.model.trainable_parameters())
        self.progress = Progress(dict(WORK))

    def step(self) -> None:
        gradient = nn_like(self.model.trainable_parameters())
        self.optimizer.update(self.model, gradient)
        self.progress.update += 1
        self.progress.losses.append({"update": self.progress.update, "train_loss": 1 / 3})
        mx.eval(self.model.parameters(), self.optimizer.state)

    def state(self) -> list[bytes]:
        trees = (self.model.trainable_parameters(), self.optimizer.state)
        return [bytes(memoryview(value)) for tree in trees for _, value in tree_flatten(tree)]


def nn_like(tree: Any) -> Any:
    from mlx_ragtune.clients.runtime_mlx import tree_map

    return tree_map(lambda one: mx.random.normal(one.shape), tree)


def test_everything_that_training_depends_on_comes_back(tmp_path: Path) -> None:
    made = Made()
    made.step()
    made.step()
    made.progress.best = [(1, 0.1 + 0.2)]
    save(tmp_path, made.model, made.optimizer, made.progress)
    before = made.state()
    made.step()
    assert made.state() != before
    other = Made()
    restored = load_last(tmp_path, other.model, other.optimizer, WORK)
    assert restored is not None
    assert other.state() == before
    assert restored.update == 2
    assert restored.best == [(1, 0.1 + 0.2)]
    assert restored.losses == made.progress.losses[:2]


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    made = Made()
    for _ in range(4):
        made.step()
        save(tmp_path, made.model, made.optimizer, made.progress)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["update-000003", "update-000004"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "no state", "no weights", "state cut"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Made()
    for _ in range(2):
        made.step()
        save(tmp_path, made.model, made.optimizer, made.progress)
    file = tmp_path / "update-000002" / ("state.json" if "state" in damage else "weights.safetensors")
    content = bytearray(file.read_bytes())
    if damage.startswith("no"):
        file.unlink()
    elif damage == "flipped":
        content[-3] ^= 1
        file.write_bytes(content)
    else:
        file.write_bytes(content[: len(content) // 2])
    restored = load_last(tmp_path, made.model, made.optimizer, WORK)
    assert restored is not None
    assert restored.update == 1
    assert "update-000002 is damaged" in capsys.readouterr().err


def test_when_all_are_damaged_training_begins_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = Made()
    made.step()
    save(tmp_path, made.model, made.optimizer, made.progress)
    (tmp_path / "update-000001" / "state.json").write_text("[1]")
    assert load_last(tmp_path, made.model, made.optimizer, WORK) is None
    assert "damaged" in capsys.readouterr().err


def test_a_checkpoint_of_a_different_run_is_refused_with_the_difference(tmp_path: Path) -> None:
    made = Made()
    made.step()
    save(tmp_path, made.model, made.optimizer, made.progress)
    with pytest.raises(ArtifactError) as caught:
        load_last(tmp_path, made.model, made.optimizer, {**WORK, "train.rank": "8", "base": "x"})
    assert "train.rank: 4 in the checkpoint, 8 now" in str(caught.value)
    assert "base: not set in the checkpoint, x now" in str(caught.value)
    assert "seed" not in str(caught.value)


def test_a_half_written_draft_is_never_taken_for_a_checkpoint(tmp_path: Path) -> None:
    made = Made()
    made.step()
    save(tmp_path, made.model, made.optimizer, made.progress)
    shutil.copytree(tmp_path / "update-000001", tmp_path / ".update-000002.part")
    restored = load_last(tmp_path, made.model, made.optimizer, WORK)
    assert restored is not None
    assert restored.update == 1


def test_a_full_disk_leaves_the_checkpoint_before_intact(tmp_path: Path) -> None:
    made = Made()
    made.step()
    save(tmp_path, made.model, made.optimizer, made.progress)
    before = {name: (tmp_path / name).read_bytes() for name in all_files(tmp_path)}
    made.step()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(ToolError, match="cannot write the checkpoint") as caught:
            save(tmp_path, made.model, made.optimizer, made.progress)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert "free disk space" in caught.value.fix
    assert {name: (tmp_path / name).read_bytes() for name in all_files(tmp_path)} == before


def test_the_lowest_losses_are_kept_and_ranked(tmp_path: Path) -> None:
    made = Made()
    for loss, lowest in ((3.0, True), (1.0, True), (2.0, False), (float("nan"), False), (4.0, False), (0.5, True)):
        made.step()
        assert keep_if_best(tmp_path, made.model, made.progress, loss, most=2) is lowest
    assert made.progress.best == [(6, 0.5), (2, 1.0)]
    assert made.progress.worse_evals == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-000002", "best-000006"]
    kept = load_kept(tmp_path, 6)
    assert all(mx.array_equal(kept[name], value) for name, value in tree_flatten(made.model.trainable_parameters()))


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_never_the_best(tmp_path: Path, loss: float) -> None:
    made = Made()
    made.step()
    keep_if_best(tmp_path, made.model, made.progress, loss)
    assert made.progress.best == []
    assert made.progress.kept == "no validation yet"
    assert not list(tmp_path.iterdir())


def test_a_damaged_best_adapter_is_refused(tmp_path: Path) -> None:
    made = Made()
    made.step()
    keep_if_best(tmp_path, made.model, made.progress, 1.0)
    (tmp_path / "best-000001" / "weights.safetensors").write_bytes(b"")
    with pytest.raises(ArtifactError, match="damaged"):
        load_kept(tmp_path, 1)


def test_the_number_of_kept_checkpoints_allows_for_a_damaged_one() -> None:
    assert checkpoints.KEPT >= 2
