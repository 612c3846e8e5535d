"""Two machines make the run of one."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.tuning.ranks import Ranks, find_ranks
from tests.tuning.made import load_arrays, toy_base
from tests.tuning.ranked import RUNS, run

ROOT = Path(__file__).parents[2]


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def start(folder: Path, command: list[str], *, size: int = 2, cwd: Path = ROOT) -> list["subprocess.Popen[str]"]:
    """The ranks of one command on loopback."""
    hosts = folder / "hosts.json"
    hosts.write_text(json.dumps([[f"127.0.0.1:{port}"] for port in free_ports(size)]))
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "MLX_HOSTFILE": str(hosts), "PYTHONPATH": str(ROOT)}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return [
        subprocess.Popen(command, cwd=cwd, env={**environment, "MLX_RANK": str(rank)}, **pipes) for rank in range(size)
    ]


def ended(processes: list["subprocess.Popen[str]"]) -> list[tuple[int, str]]:
    """(exit code, stderr) of each; none may outlive the test."""
    try:
        return [(process.wait(timeout=120), process.communicate()[1]) for process in processes]
    finally:
        for process in processes:
            process.kill()


def curve(folder: Path) -> list[float]:
    rows = [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
    return [row["train_loss"] for row in rows] + [row["valid_loss"] for row in rows if "valid_loss" in row]


def last_weights(folder: Path) -> Path:
    return max(folder.glob("checkpoints/update-*")) / "weights.safetensors"


NAMES = list(RUNS)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs of one rank in ``one`` and those of two in ``two``."""
    if not mx.distributed.is_available():
        pytest.skip("MLX was built without distributed backends")
    home = tmp_path_factory.mktemp("ranks")
    base = toy_base(home / "base")
    for name in ("one", "two"):
        (home / name).mkdir()
    run(base, home / "one", NAMES)
    command = [sys.executable, "-m", "tests.tuning.ranked", str(base), str(home / "two"), *NAMES]
    for code, err in ended(start(home, command)):
        assert code == 0, err
    return home


@pytest.mark.parametrize("name", [name for name in NAMES if name != "diverges"])
def test_two_ranks_on_loopback_train_what_one_trains(both: Path, name: str) -> None:
    assert curve(both / "two" / name) == pytest.approx(curve(both / "one" / name), rel=1e-4)
    alone, shared = (load_arrays(both / ranks / name / "adapters.safetensors") for ranks in ("one", "two"))
    for key, value in alone.items():
        assert np.allclose(value, shared[key], atol=1e-4), key


def test_the_results_of_two_ranks_are_those_of_one_and_valid_json(both: Path) -> None:
    one, two = (json.loads((both / name / "told.json").read_text()) for name in ("one", "two"))
    assert (one["size"], two["size"]) == (1, 2)
    for name in NAMES:
        for fact in ("updates", "best_update", "pruned", "stopped_early"):
            assert one["runs"][name].get(fact) == two["runs"][name].get(fact), (name, fact)
    assert "diverged" in two["runs"]["diverges"]["error"]
    assert two["runs"]["pruned"]["pruned"]


def test_both_ranks_end_with_the_same_bytes(both: Path) -> None:
    finished = [name for name in NAMES if name != "diverges"]
    for place, name in enumerate(finished):
        other = load_arrays(both / "two" / f"rank-1-{place}.safetensors")
        first = load_arrays(last_weights(both / "two" / name))
        assert first.keys() == other.keys()
        for key, value in first.items():
            assert mx.array_equal(value, other[key]).item(), (name, key)


def test_ranks_share_out_every_item_once() -> None:
    items = list(range(7))
    shares = [Ranks(rank, 3).share(items) for rank in range(3)]
    assert sorted(item for share in shares for item in share) == items


def test_alone_nothing_is_sent() -> None:
    alone = find_ranks()
    assert alone == Ranks(0, 1)
    tree = {"a": mx.array(1.0)}
    assert alone.total(tree) is tree
    assert alone.from_first(tree) is tree
