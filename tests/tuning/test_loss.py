"""The shared-prefix loss is the reference loss: the same number, the same gradient."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_ragtune.clients.runtime_mlx import mx, nn
from mlx_ragtune.recipe_train import PROJECTIONS
from mlx_ragtune.tuning import head, prefix
from mlx_ragtune.tuning.engine_mlx_lm import make_batch as whole_rows
from mlx_ragtune.tuning.groups import Group, make_groups
from mlx_ragtune.tuning.loss import batch_loss, make_batch, plain_loss
from mlx_ragtune.tuning.prefix import causal_mask
from mlx_ragtune.tuning.token_rows import TokenRow
from tests.tuning.made import VARIANTS, VOCABULARY, adapted, flat, made_model, made_rows, relative, train_settings

EXACT = 1e-5
RECURRENT = 5e-5
"""Qwen3.5 rounds its state at every token, in another order where prefixes are computed once."""
ARCHITECTURES = ("llama", "qwen2", "qwen3", "qwen3_moe", "qwen3_5", "lfm2", "gemma3_text", "gemma4_text", *VARIANTS)
ADAPTERS: dict[str, tuple[dict[str, Any], int | None]] = {
    "lora": ({}, None),
    "dora": ({"method": "dora"}, None),
    "rslora": ({"rank_stabilized": True, "rank": 16}, None),
    "lora on 4-bit": ({}, 4),
    "dora on 4-bit": ({"method": "dora"}, 4),
    "last layer only": ({"layers": 1}, None),
}

MATRICES = {
    "qwen3_moe": ("q_proj", "v_proj", "o_proj"),
    "qwen3_5": (*PROJECTIONS, "in_proj_qkv", "in_proj_z", "out_proj"),
    "lfm2": (*PROJECTIONS, "in_proj", "out_proj"),
}
GEMMA4 = ("gemma4_text", *VARIANTS)


@cache
def model_of(architecture: str, adapter: str) -> Any:
    changes, bits = ADAPTERS[adapter]
    if more := MATRICES.get(architecture):
        changes = {**changes, "target_modules": more}
    return adapted(made_model(architecture, bits=bits), train_settings(**changes))


def reference(model: Any, rows: list[TokenRow]) -> tuple[float, Any]:
    tokens, spans, _ = whole_rows(rows, 1.0)
    loss, gradient = nn.value_and_grad(model, lambda *batch: plain_loss(model, *batch)[0])(tokens, spans)
    return loss.item(), gradient


def shared(model: Any, groups: list[Group]) -> tuple[float, Any]:
    loss, gradient = nn.value_and_grad(model, batch_loss)(model, make_batch(groups))
    return loss.item(), gradient


def assert_same(model: Any, rows: list[TokenRow], groups: list[Group]) -> None:
    (expected, wanted), (loss, gradient) = reference(model, rows), shared(model, groups)
    assert loss == pytest.approx(expected, rel=EXACT)
    assert relative(gradient, wanted) < (RECURRENT if model.model_type == "qwen3_5" else EXACT)


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_loss_and_gradient_are_the_references(architecture: str, adapter: str) -> None:
    rows = made_rows(np.random.default_rng(3), [4, 1, 3])
    assert_same(model_of(architecture, adapter), rows, make_groups(rows))


@given(branches=st.lists(st.integers(1, 5), min_size=1, max_size=3), seed=st.integers(0, 2**32 - 1), data=st.data())
@settings(max_examples=12, deadline=None)
def test_any_groups_give_the_references_loss(branches: list[int], seed: int, data: st.DataObject) -> None:
    architecture = data.draw(st.sampled_from(ARCHITECTURES))
    adapter = data.draw(st.sampled_from(sorted(ADAPTERS)))
    rows = made_rows(np.random.default_rng(seed), branches)
    assert_same(model_of(architecture, adapter), rows, make_groups(rows))


def test_a_window_shorter_than_the_prefix_is_kept_in_the_branches() -> None:
    rows = made_rows(np.random.default_rng(5), [3], prefix=(90, 91))
    groups = make_groups(rows)
    assert groups[0].prefix_length > 3 * 24
    for architecture in ("gemma3_text", *GEMMA4):
        assert_same(model_of(architecture, "lora"), rows, groups)


def test_layers_that_share_keys_and_values_read_those_of_the_last_of_their_kind() -> None:
    """Six layers, of which the last two share: with those of the branch and of its prefix, in each kind of layer."""
    model = adapted(made_model("gemma4_text", num_hidden_layers=6), train_settings())
    assert model.model.previous_kvs == [0, 1, 2, 3, 2, 3]
    rows = made_rows(np.random.default_rng(5), [3, 2], prefix=(60, 70))
    assert_same(model, rows, make_groups(rows))


def test_prefixes_of_unlike_length_are_cut_to_the_shortest() -> None:
    rows = made_rows(np.random.default_rng(6), [2, 3], prefix=(20, 90))
    groups = make_groups(rows)
    shortest, longest = sorted(group.prefix_length for group in groups)
    batch = make_batch(groups)
    assert shortest < longest
    assert batch.prefix is not None
    assert batch.prefix.shape == (2, shortest)
    for architecture in ARCHITECTURES:
        assert_same(model_of(architecture, "lora"), rows, groups)


@pytest.mark.parametrize(
    ("architecture", "arrays"), [("llama", 0), ("qwen2", 0), ("qwen3", 0), ("gemma3_text", 2), ("gemma4_text", 2)]
)
def test_only_sliding_windows_need_masks_as_arrays(
    architecture: str, arrays: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metal's fused attention has no backward pass for arrays. Groups of unlike lengths, several micro-batches."""
    made: list[tuple[int, ...]] = []

    def counted(count: int, before: int, window: int | None) -> mx.array:
        made.append((count, before))
        return causal_mask(count, before, window)

    monkeypatch.setattr(prefix, "causal_mask", counted)
    rows = made_rows(np.random.default_rng(6), [2, 3, 1], prefix=(40, 90))
    for groups in (make_groups(rows), make_groups(rows[:2])):
        made.clear()
        shared(model_of(architecture, "lora"), groups)
        assert len(made) == arrays


def test_a_group_without_prefix_is_a_plain_batch() -> None:
    rows = made_rows(np.random.default_rng(7), [1, 1], prefix=(1, 2), tail=(2, 5))
    groups = [Group((row,), 0) for row in rows]
    assert make_batch(groups).prefix is None
    assert_same(model_of("llama", "lora"), rows, groups)


def test_the_head_in_chunks_is_the_head_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = made_rows(np.random.default_rng(8), [6], tail=(20, 30))
    model, groups = model_of("qwen3", "lora"), make_groups(rows)
    whole = shared(model, groups)
    monkeypatch.setattr(head, "CHUNK_LOGITS", 32 * VOCABULARY)
    parts = shared(model, groups)
    assert len(make_batch(groups).targets) > 3 * 32
    assert parts[0] == pytest.approx(whole[0], rel=1e-6)
    assert relative(parts[1], whole[1]) < 1e-6


def test_a_target_of_vanishing_probability_keeps_its_loss_finite() -> None:
    model = model_of("llama", "lora")
    states = 300 * mx.ones((2, 64))
    targets = mx.array([0, 1])
    logits = head.logits_of(model, states)
    expected = nn.losses.cross_entropy(logits, targets, reduction="sum").item()
    assert expected > 100
    assert head.answer_loss(model, states, targets).item() == pytest.approx(expected, rel=1e-6)


def test_the_head_of_a_quantized_model_has_the_built_in_gradient() -> None:
    model = made_model("llama", tie_word_embeddings=False)
    nn.quantize(model, group_size=64, bits=8, class_predicate=lambda path, _one: path == "lm_head")
    states, targets = mx.random.normal((5, 64)), mx.array([1, 2, 3, 4, 5])

    def built_in(states: mx.array) -> mx.array:
        return nn.losses.cross_entropy(head.logits_of(model, states), targets, reduction="sum")

    ours = mx.grad(lambda one: head.answer_loss(model, one, targets))(states)
    assert relative({"d": ours}, {"d": mx.grad(built_in)(states)}) < EXACT


def test_no_padding_token_is_trained() -> None:
    """The stock mask trains one padding token a row (mlx-lm#1697): changing the padding changes its loss."""
    model = model_of("llama", "lora")
    rows = made_rows(np.random.default_rng(9), [1, 1], prefix=(4, 5), tail=(2, 9))
    tokens, spans, _ = whole_rows(rows, 1.0)
    losses = set()
    for filler in (0, 5, 9):
        changed = np.array(tokens)
        for index, row in enumerate(rows):
            changed[index, len(row.tokens) :] = filler
        losses.add(round(float(np.array(plain_loss(model, mx.array(changed), spans)[0])), 4))
    assert len(losses) == 1
    assert np.array(plain_loss(model, tokens, spans)[1]) == sum(len(row.tokens) - row.prompt_length for row in rows)


def test_branches_do_not_see_each_other() -> None:
    rows = made_rows(np.random.default_rng(10), [3])
    model = model_of("qwen3", "lora")
    together = shared(model, make_groups(rows))[0]
    apart = sum(shared(model, [group])[0] for row in rows for group in make_groups([row]))
    assert together == pytest.approx(apart, rel=EXACT)


def test_the_gradient_is_that_of_the_function() -> None:
    """Not only equal to the reference's: a finite difference along the gradient agrees."""
    model = model_of("llama", "lora")
    groups = make_groups(made_rows(np.random.default_rng(11), [3]))
    loss, gradient = shared(model, groups)
    before = dict(nn.utils.tree_flatten(model.trainable_parameters()))
    length = float(np.linalg.norm(flat(gradient)))
    slopes = []
    for sign in (1, -1):
        step = sign * 1e-2 / length
        moved = {name: before[name] + step * value for name, value in nn.utils.tree_flatten(gradient)}
        model.load_weights(list(moved.items()), strict=False)
        slopes.append(batch_loss(model, make_batch(groups)).item())
    model.load_weights(list(before.items()), strict=False)
    assert (slopes[0] - slopes[1]) / 2e-2 == pytest.approx(length, rel=0.02)
    assert loss == pytest.approx(sum(slopes) / 2, rel=1e-3)
