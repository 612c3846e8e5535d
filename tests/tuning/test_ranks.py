"""Two machines make the run of one."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.tuning.ranks import Ranks, find_ranks
from tests.tuning.made import load_arrays, toy_base
from tests.tuning.ranked import run

ROOT = Path(__file__).parents[2]


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def told(folder: Path) -> dict[str, float]:
    result: dict[str, float] = json.loads((folder / "told.json").read_text())
    return result


def launch(base: Path, folder: Path, size: int) -> dict[str, float]:
    folder.mkdir()
    hosts = folder / "hosts.json"
    hosts.write_text(json.dumps([[f"127.0.0.1:{port}"] for port in free_ports(size)]))
    processes = []
    for rank in range(size):
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "MLX_RANK": str(rank), "MLX_HOSTFILE": str(hosts)}
        command = [sys.executable, "-m", "tests.tuning.ranked", str(base), str(folder)]
        processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True))
    for process in processes:
        _, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
    return told(folder)


def curve(folder: Path) -> list[float]:
    rows = [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
    return [row["train_loss"] for row in rows] + [row["valid_loss"] for row in rows if "valid_loss" in row]


@pytest.mark.skipif(not mx.distributed.is_available(), reason="MLX was built without distributed backends")
def test_two_ranks_on_loopback_have_the_loss_curve_of_one(tmp_path: Path) -> None:
    base = toy_base(tmp_path / "base")
    (tmp_path / "one").mkdir()
    run(base, tmp_path / "one")
    one, two = told(tmp_path / "one"), launch(base, tmp_path / "two", 2)
    assert (one["size"], two["size"]) == (1, 2)
    assert curve(tmp_path / "two") == pytest.approx(curve(tmp_path / "one"), rel=1e-4)
    alone, shared = (load_arrays(tmp_path / name / "adapters.safetensors") for name in ("one", "two"))
    for name, value in alone.items():
        assert np.allclose(value, shared[name], atol=1e-4), name


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
