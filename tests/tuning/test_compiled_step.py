"""A compiled step computes what the step without compilation computes, for a bounded number of shapes."""

from typing import Any

import numpy as np
import pytest

from mlx_ragtune.clients.runtime_mlx import mx, nn
from mlx_ragtune.tuning import compiled_step
from mlx_ragtune.tuning.compiled_step import Choice, CompiledStep, Policy, choose_shapes, key_of
from mlx_ragtune.tuning.frozen import FrozenStore, only_layers
from mlx_ragtune.tuning.groups import Group, make_groups
from mlx_ragtune.tuning.lean_kernels import lean_kernels
from mlx_ragtune.tuning.loop import group_objective
from mlx_ragtune.tuning.loss import batch_loss
from mlx_ragtune.tuning.recompute import recomputing
from tests.tuning.made import adapted, flat, made_model, made_rows, relative, train_settings

BUCKET = 32
EXACT = 1e-5


def rows_in_groups(branches: list[int], seed: int = 3) -> list[Group]:
    return make_groups(made_rows(np.random.default_rng(seed), branches, prefix=(40, 90)))


def compiled(model: Any, groups: list[Group], **options: Any) -> CompiledStep:
    return CompiledStep(model, frozenset({key_of(groups, BUCKET)}), BUCKET, **options)


@pytest.mark.parametrize("changes", [{}, {"dropout": 0.3}, {"method": "dora"}], ids=str)
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3_text", "gemma4_text"])
def test_the_compiled_step_gives_the_bits_of_the_same_step_uncompiled(
    architecture: str, changes: dict[str, Any]
) -> None:
    """On the CPU of the tests; where a compiler contracts multiply-adds it may differ in the last bits."""
    model, groups = adapted(made_model(architecture), train_settings(**changes)), rows_in_groups([3, 2])
    with lean_kernels(model):
        step = compiled(model, groups)
        plain = nn.value_and_grad(model, batch_loss)
        mx.random.seed(7)
        expected = [plain(model, step.batch(groups)) for _ in range(2)]
        mx.random.seed(7)
        found = [step(model, groups) for _ in range(2)]
    for (loss, gradient), (same, again) in zip(expected, found, strict=True):
        assert loss.item() == same.item()
        if architecture == "gemma4_text":  # whose many scaled sums MLX's compiler rounds in another order
            assert relative(again, gradient) < 1e-6
        else:
            assert np.array_equal(flat(gradient), flat(again))
    assert step.traces == 1
    losses = {loss.item() for loss, _ in found}
    assert len(losses) == (2 if "dropout" in changes else 1), "dropout draws anew in each call, and nothing else does"


def test_the_bucket_changes_rounding_only() -> None:
    model, groups = adapted(made_model("llama"), train_settings()), rows_in_groups([3, 2])
    loss, gradient = nn.value_and_grad(model, group_objective)(model, groups)
    same, again = compiled(model, groups)(model, groups)
    assert same.item() == pytest.approx(loss.item(), rel=EXACT)
    assert relative(again, gradient) < EXACT


def test_other_tokens_of_the_same_shape_need_no_new_trace() -> None:
    model = adapted(made_model("llama"), train_settings())
    first, second = (
        make_groups(made_rows(np.random.default_rng(seed), [1], prefix=(70, 71), tail=(9, 10))) for seed in (1, 2)
    )
    assert key_of(first, BUCKET) == key_of(second, BUCKET)
    step = compiled(model, first)
    for groups in (first, second, first):
        expected = nn.value_and_grad(model, group_objective)(model, groups)
        found = step(model, groups)
        assert found[0].item() == pytest.approx(expected[0].item(), rel=EXACT)
        assert relative(found[1], expected[1]) < EXACT
    assert step.traces == 1


def test_changed_weights_are_used_and_the_model_keeps_its_own_arrays() -> None:
    model, groups = adapted(made_model("llama"), train_settings()), rows_in_groups([3])
    step = compiled(model, groups)
    before = step(model, groups)[0].item()
    weights = {name: 2 * value for name, value in nn.utils.tree_flatten(model.trainable_parameters())}
    model.load_weights(list(weights.items()), strict=False)
    after = step(model, groups)[0].item()
    assert after != before
    assert after == pytest.approx(group_objective(model, groups).item(), rel=EXACT)
    assert step.traces == 1
    for name, value in nn.utils.tree_flatten(model.trainable_parameters()):
        assert np.array_equal(np.array(value), np.array(weights[name]))


def test_it_computes_activations_again_where_that_is_asked_for() -> None:
    model, groups = adapted(made_model("qwen3"), train_settings()), rows_in_groups([3, 2])
    expected = nn.value_and_grad(model, group_objective)(model, groups)
    with recomputing(model):
        found = compiled(model, groups)(model, groups)
    assert found[0].item() == pytest.approx(expected[0].item(), rel=EXACT)
    assert relative(found[1], expected[1]) < EXACT


def test_it_reads_the_stored_outputs_of_frozen_layers(tmp_path: Any) -> None:
    model = adapted(made_model("qwen3"), train_settings(layers=1))
    rows = made_rows(np.random.default_rng(3), [3, 2], prefix=(40, 90))
    groups, store = make_groups(rows), FrozenStore(tmp_path, 2)
    store.build(model, rows, tokens_per_step=4096, work="w")
    expected = nn.value_and_grad(model, group_objective)(model, groups)
    with only_layers(model, 2, 3, normed=True):
        found = compiled(model, groups, sources=store.embedded)(model, groups)
    assert found[0].item() == pytest.approx(expected[0].item(), rel=EXACT)
    assert relative(found[1], expected[1]) < EXACT


def test_only_the_most_frequent_shapes_are_compiled_up_to_the_ceiling() -> None:
    rare, often, more = (rows_in_groups([count]) for count in (1, 2, 3))
    batches = [rare, *[often] * 3, *[more] * 5]
    choice = choose_shapes(batches, Policy(bucket=BUCKET, ceiling=1, least=2))
    assert choice == Choice(frozenset({key_of(more, BUCKET)}), shapes=3, compiled=5, micro_batches=9)
    assert choose_shapes(batches, Policy(BUCKET, 9, 2)).compiled == 8
    assert not choose_shapes(batches, Policy(BUCKET, 0, 1)).keys
    assert choice.describe() == "compiled steps: 1 of 3 shapes, 56% of 9 steps"


def test_every_device_bounds_the_number_of_shapes() -> None:
    for policy in (compiled_step.ON_CPU, compiled_step.ON_GPU):
        assert 0 <= policy.ceiling <= 64
        assert policy.least > 1
