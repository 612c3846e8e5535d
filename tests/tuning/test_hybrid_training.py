"""Mixtures of experts and hybrid models: what is adapted, what is refused, recomputed states, counted parameters."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_ragtune.clients.runtime_mlx import mx, nn, tree_flatten
from mlx_ragtune.errors import RecipeError
from mlx_ragtune.models.model_folder import read_config
from mlx_ragtune.recipe_train import PROJECTIONS
from mlx_ragtune.tuning.adapters import adapter_config, load_adapter
from mlx_ragtune.tuning.groups import make_groups
from mlx_ragtune.tuning.load import load_base
from mlx_ragtune.tuning.loss import batch_loss, make_batch
from mlx_ragtune.tuning.recompute import recomputing
from mlx_ragtune.tuning.recurrent_state import StateBranches, StatePrefix, has_state
from mlx_ragtune.tuning.resources import adapter_parameters, sized_config, train_memory
from mlx_ragtune.tuning.train_checks import check_train
from tests.toy_models import change
from tests.tuning.made import (
    adapted,
    load_arrays,
    made_adapter,
    made_model,
    made_rows,
    relative,
    toy_base,
    train_settings,
)

MATRICES: dict[str, tuple[str, ...]] = {
    "qwen3_moe": ("q_proj", "v_proj"),
    "qwen3_5": (*PROJECTIONS, "in_proj_qkv", "in_proj_z", "out_proj"),
    "lfm2": (*PROJECTIONS, "in_proj", "out_proj"),
    "gemma4_text": PROJECTIONS,
}


@pytest.mark.parametrize("architecture", MATRICES)
def test_recomputed_states_give_the_same_gradient(architecture: str) -> None:
    model = adapted(made_model(architecture), train_settings(target_modules=MATRICES[architecture]))
    batch = make_batch(make_groups(made_rows(np.random.default_rng(4), [3, 2], prefix=(20, 40))))
    assert batch.prefix is not None
    loss, gradient = nn.value_and_grad(model, batch_loss)(model, batch)
    with recomputing(model):
        again, recomputed = nn.value_and_grad(model, batch_loss)(model, batch)
    assert again.item() == pytest.approx(loss.item(), rel=1e-6)
    assert relative(recomputed, gradient) < 1e-5


def test_a_branch_begins_with_the_state_of_its_prefix() -> None:
    prefix = StatePrefix()
    assert prefix[0] is None
    prefix[0] = mx.array([[1.0], [2.0]])
    branches = StateBranches(prefix, 3, mx.array([0, 1, 1]))
    state = branches[0]
    assert state is not None
    assert state.tolist() == [[1.0], [2.0], [2.0]]
    branches[0] = mx.zeros((3, 1))
    assert prefix.states[0].tolist() == [[1.0], [2.0]]
    assert branches[1] is None


@pytest.mark.parametrize(("architecture", "states"), [("qwen3_5", [True, False, True]), ("qwen3", [False] * 3)])
def test_which_layers_keep_a_state(architecture: str, states: list[bool]) -> None:
    assert has_state(made_model(architecture)) == states


@pytest.mark.parametrize("architecture", MATRICES)
def test_counted_parameters_are_those_that_train(tmp_path: Path, architecture: str) -> None:
    base = toy_base(tmp_path / "base", architecture)
    changes: tuple[dict[str, Any], ...] = ({}, {"layers": 1}, {"method": "dora"})
    for change_ in changes:
        settings = train_settings(target_modules=MATRICES[architecture], **change_)
        loaded = load_base(base, "fp32")
        model = adapted(loaded.model, settings)
        counted = sum(value.size for _, value in tree_flatten(model.trainable_parameters()))
        assert adapter_parameters(loaded.config, settings) == counted


def test_lfm2s_matrices_have_the_recipes_names(tmp_path: Path) -> None:
    base = toy_base(tmp_path / "base", "lfm2")
    adapter = made_adapter(base, tmp_path / "adapter", target_modules=MATRICES["lfm2"])
    arrays = load_arrays(adapter / "adapters.safetensors")
    found = {str(name).split(".", 3)[3].rpartition(".")[0] for name in arrays}
    assert found == {
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "feed_forward.w1",
        "feed_forward.w2", "feed_forward.w3", "conv.in_proj", "conv.out_proj",
    }  # fmt: skip
    model = load_base(base, "fp32").model
    load_adapter(model, adapter)
    loaded = dict(tree_flatten(model.parameters()))
    assert all(mx.array_equal(loaded[str(name)], value).item() for name, value in arrays.items())


def test_the_description_of_a_dense_adapter_is_as_before() -> None:
    keys = adapter_config(train_settings(), 2)["lora_parameters"]["keys"]
    assert keys == [*(f"self_attn.{name}" for name in PROJECTIONS[:4]), *(f"mlp.{name}" for name in PROJECTIONS[4:])]


@pytest.mark.parametrize(
    ("architecture", "changes", "where", "fix"),
    [
        ("qwen3_moe", {}, "train.target_modules", "[q_proj, k_proj, v_proj, o_proj]"),
        ("qwen3_5", {"target_modules": ("in_proj",)}, "train.target_modules", "in_proj_qkv"),
        ("lfm2", {"target_modules": ("in_proj_z",)}, "train.target_modules", "in_proj, out_proj"),
        ("qwen3", {"target_modules": ("out_proj",)}, "train.target_modules", "down_proj]"),
        ("qwen3_5", {"layers": 1, "frozen_store": True}, "train.frozen_store", "false"),
        ("lfm2", {"layers": 1, "frozen_store": True}, "train.frozen_store", "false"),
        ("gemma4_text", {"layers": 1, "frozen_store": True}, "train.frozen_store", "false"),
        ("gemma4_text", {"target_modules": ("in_proj",)}, "train.target_modules", "down_proj]"),
    ],
)
def test_what_a_family_does_not_have_is_refused(
    tmp_path: Path, architecture: str, changes: dict[str, Any], where: str, fix: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        check_train(train_settings(**changes), toy_base(tmp_path / "base", architecture))
    assert caught.value.where == where
    assert fix in caught.value.fix


def test_the_states_of_the_delta_rule_are_part_of_the_predicted_memory(tmp_path: Path) -> None:
    base = toy_base(tmp_path / "base", "qwen3_5")
    settings = train_settings(target_modules=MATRICES["qwen3_5"])
    small = train_memory(base, settings, "fp32", row_tokens=512)
    change(base / "config.json", linear_key_head_dim=128, linear_value_head_dim=128)
    config = read_config(base)
    large, recomputed = (
        train_memory(sized_config(config), settings.model_copy(update={"grad_checkpoint": on}), "fp32", row_tokens=512)
        for on in (False, True)
    )
    state = 4 * 4 * 128 * 128
    assert large - small > 2 * 512 * state
    assert recomputed > 4 * 512 * state
