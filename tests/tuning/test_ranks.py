"""Two machines make the run of one."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.tuning.ranks import Ranks, find_ranks
from tests.machines import ended, start
from tests.tuning.made import load_arrays, toy_base
from tests.tuning.ranked import RUNS, run


def curve(folder: Path) -> list[float]:
    rows = [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
    figures = ("train_loss", "train_kl", "train_preference_loss", "valid_loss", "valid_kl", "valid_preference_margin")
    return [row[name] for name in figures for row in rows if name in row]


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


def test_ranks_that_each_call_train_themselves_stay_in_step(tmp_path: Path) -> None:
    """The first update has one micro-batch, so that the other rank has none."""
    base = toy_base(tmp_path / "base")
    call = f"""
from pathlib import Path
from mlx_ragtune.tuning.run import train
from tests.tuning.made import base_settings, dataset_settings, examples, train_settings
train(train_settings(epochs=0.3, batch_size=2, accumulation=1, learning_rate=1e-3), base_settings(),
      dataset_settings(), base=Path({str(base)!r}), rows={{"train": examples(6, 3), "valid": examples(8, 1)[6:]}},
      folder=Path({str(tmp_path / "run")!r}), seed=3, progress=lambda *_: None)
"""
    for code, err in ended(start(tmp_path, [sys.executable, "-c", call])):
        assert code == 0, err
    assert (tmp_path / "run" / "adapters.safetensors").is_file()


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


def test_arrays_of_one_type_are_sent_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sum must keep names, shapes and types, empty places and all."""
    sent: list[tuple[int, mx.Dtype]] = []

    def doubled(array: mx.array, **_options: Any) -> mx.array:
        sent.append((array.size, array.dtype))
        return array + array

    monkeypatch.setattr(mx.distributed, "all_sum", doubled)
    layers = [
        {},
        {"a": mx.ones((2, 3)), "b": mx.full((2,), 5, mx.uint64)},
        {"mlp": {}, "c": mx.ones((1,), mx.bfloat16)},
    ]
    loss, tree = Ranks(0, 2).total((mx.array(1.5), layers))
    assert sent == [(7, mx.float32), (2, mx.uint64), (1, mx.bfloat16)]
    assert loss.item() == 3.0
    assert tree[0] == {}
    assert tree[2]["mlp"] == {}
    assert tree[1]["a"].tolist() == [[2.0] * 3] * 2
    assert tree[1]["b"].tolist() == [10, 10]
    assert tree[2]["c"].dtype == mx.bfloat16


def test_an_update_with_fewer_micro_batches_than_ranks_leaves_some_without() -> None:
    assert [Ranks(rank, 2).share(["only"]) for rank in range(2)] == [["only"], []]


def test_mlx_launch_with_one_rank_names_an_empty_host_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hosts").write_text("\n")
    monkeypatch.setenv("MLX_HOSTFILE", str(tmp_path / "hosts"))
    assert find_ranks() == Ranks(0, 1)
