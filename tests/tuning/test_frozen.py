"""The frozen-layer store gives the same training as computing every layer."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mlx_ragtune.clients.runtime_mlx import mx, nn, tree_flatten
from mlx_ragtune.errors import RecipeError
from mlx_ragtune.tuning.frozen import FrozenStore, only_layers
from mlx_ragtune.tuning.loop import group_objective
from mlx_ragtune.tuning.recompute import recomputing
from mlx_ragtune.tuning.schedule import micro_batches
from tests.tuning.made import adapted, made_model, made_rows, relative, train_settings


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_loss_and_gradient_from_the_store_are_exact(tmp_path: Path, architecture: str, method: str) -> None:
    model = adapted(made_model(architecture), train_settings(layers=1, method=method))
    rows = made_rows(np.random.default_rng(0), [4, 1, 2])
    store = FrozenStore(tmp_path, 2)
    store.build(model, rows, tokens_per_step=4096, work="w")
    other_grouping = [rows[:2], rows[2:5], rows[5:]]
    for part in [rows, *other_grouping]:
        for groups in micro_batches(part, 4096):
            expected, wanted = nn.value_and_grad(model, group_objective)(model, groups)
            with only_layers(model, 2, 3, normed=True):
                loss, gradient = nn.value_and_grad(model, store.objective)(model, groups)
            assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
            wanted = dict(tree_flatten(wanted))
            assert relative(gradient, {name: wanted[name] for name, _ in tree_flatten(gradient)}) < 1e-5


def test_prefixes_that_are_padded_beside_longer_ones_are_stored_as_if_alone(tmp_path: Path) -> None:
    """Left-padding must be masked and must not shift positions: 400 and 408 tokens fit into one micro-batch."""
    model = adapted(made_model("qwen3"), train_settings(layers=1))
    draw = np.random.default_rng(0)
    rows = [
        *made_rows(draw, [2], prefix=(400, 401), tail=(9, 10)),
        *made_rows(draw, [2], prefix=(408, 409), tail=(9, 10)),
    ]
    rows = [replace(row, id=f"{number}") for number, row in enumerate(rows)]
    (groups,) = micro_batches(rows, 4096)
    assert len({group.prefix_length for group in groups}) == 2
    store = FrozenStore(tmp_path, 2)
    store.build(model, rows, tokens_per_step=4096, work="w")
    for part in (groups, *([group] for group in groups)):
        with only_layers(model, 2, 3, normed=True):
            stored = store.objective(model, part).item()
        assert stored == pytest.approx(group_objective(model, part).item(), rel=1e-5)


def test_the_layers_are_back_afterwards() -> None:
    model = made_model("llama")
    tokens = mx.array([[1, 2, 3]])
    before = np.array(model(tokens))
    with only_layers(model, 1, 2, normed=False):
        assert not np.allclose(np.array(model(tokens)), before)
    assert np.array_equal(np.array(model(tokens)), before)


def test_a_store_is_read_again_and_one_of_other_work_written_anew(tmp_path: Path) -> None:
    model = adapted(made_model("llama"), train_settings(layers=1))
    rows = made_rows(np.random.default_rng(0), [2, 2])
    FrozenStore(tmp_path, 2).build(model, rows, tokens_per_step=4096, work="w")
    written = (tmp_path / "states.bin").stat().st_mtime_ns
    FrozenStore(tmp_path, 2).build(model, rows[:3], tokens_per_step=4096, work="w")
    assert (tmp_path / "states.bin").stat().st_mtime_ns == written
    FrozenStore(tmp_path, 2).build(model, rows, tokens_per_step=4096, work="other")
    assert (tmp_path / "states.bin").stat().st_mtime_ns != written


def test_a_store_that_another_process_writes_again_stays_readable(tmp_path: Path) -> None:
    model = adapted(made_model("llama"), train_settings(layers=1))
    rows = made_rows(np.random.default_rng(0), [2, 2])
    first, second = FrozenStore(tmp_path, 2), FrozenStore(tmp_path, 2)
    first.build(model, rows, tokens_per_step=4096, work="w")
    (groups,) = micro_batches(rows[:1], 4096)
    with only_layers(model, 2, 3, normed=True):
        before = first.objective(model, groups).item()
    (tmp_path / "index.json").unlink()
    second.build(model, rows, tokens_per_step=4096, work="w")
    with only_layers(model, 2, 3, normed=True):
        assert first.objective(model, groups).item() == second.objective(model, groups).item() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.json", "states.bin"]


def test_the_store_holds_tokens_times_width(tmp_path: Path) -> None:
    model = adapted(made_model("llama"), train_settings(layers=1))
    rows = made_rows(np.random.default_rng(0), [3])
    FrozenStore(tmp_path, 2).build(model, rows, tokens_per_step=4096, work="w")
    assert (tmp_path / "states.bin").stat().st_size == sum(len(row.tokens) - 1 for row in rows) * 64 * 4


def test_bfloat16_states_come_back_as_they_were(tmp_path: Path) -> None:
    model = made_model("llama")
    model.set_dtype(mx.bfloat16)
    model = adapted(model, train_settings(layers=1))
    rows = made_rows(np.random.default_rng(0), [2])
    store = FrozenStore(tmp_path, 2)
    store.build(model, rows, tokens_per_step=4096, work="w")
    assert (tmp_path / "states.bin").stat().st_size == sum(len(row.tokens) - 1 for row in rows) * 64 * 2


def test_a_model_that_scales_its_embeddings_is_refused(tmp_path: Path) -> None:
    model = adapted(made_model("gemma3_text"), train_settings(layers=1))
    rows = made_rows(np.random.default_rng(0), [2])
    with pytest.raises(RecipeError) as caught:
        FrozenStore(tmp_path, 2).build(model, rows, tokens_per_step=4096, work="w")
    assert caught.value.where == "train.frozen_store"
    assert len(model.layers) == 3


def test_store_and_recomputing_work_together(tmp_path: Path) -> None:
    model = adapted(made_model("qwen3"), train_settings(layers=1))
    rows = made_rows(np.random.default_rng(0), [3])
    store = FrozenStore(tmp_path, 2)
    store.build(model, rows, tokens_per_step=4096, work="w")
    (groups,) = micro_batches(rows, 4096)
    with only_layers(model, 2, 3, normed=True):
        expected = nn.value_and_grad(model, store.objective)(model, groups)
        with recomputing(model):
            again = nn.value_and_grad(model, store.objective)(model, groups)
    assert again[0].item() == pytest.approx(expected[0].item(), rel=1e-6)
    assert relative(again[1], expected[1]) < 1e-5
