"""Updates, learning rates and micro-batches."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_ragtune.errors import RecipeError
from mlx_ragtune.tuning.groups import Group, make_groups, shape_of
from mlx_ragtune.tuning.schedule import contexts, make_plan, micro_batches, updates_of_epoch
from tests.tuning.made import made_rows, train_settings


@given(branches=st.lists(st.integers(1, 9), min_size=1, max_size=12), size=st.integers(1, 9), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_every_row_is_in_exactly_one_update_of_an_epoch(branches: list[int], size: int, seed: int) -> None:
    rows = made_rows(np.random.default_rng(seed), branches)
    updates = updates_of_epoch(rows, size, seed=seed, epoch=0)
    assert Counter(row.id for update in updates for row in update) == Counter(row.id for row in rows)
    assert all(updates)
    assert all(len(update) <= 1.5 * size for update in updates)


def test_rows_of_a_context_share_an_update() -> None:
    rows = made_rows(np.random.default_rng(0), [4] * 10)
    for update in updates_of_epoch(rows, 8, seed=0, epoch=0):
        assert set(Counter(row.group for row in update).values()) == {4}
        assert len(update) == 8


def test_epochs_are_shuffled_anew_and_alike_for_the_same_seed() -> None:
    rows = made_rows(np.random.default_rng(0), [2] * 10)
    orders = [
        [row.id for update in updates_of_epoch(rows, 4, seed=seed, epoch=epoch) for row in update]
        for seed, epoch in ((1, 0), (1, 0), (1, 1), (2, 0))
    ]
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in orders}) == 3


def test_a_context_larger_than_an_update_is_dealt_out_evenly() -> None:
    rows = made_rows(np.random.default_rng(0), [9])
    assert [len(part) for part in contexts(rows, 4)] == [3, 3, 3]


def test_epochs_and_warm_up_are_resolved_into_updates() -> None:
    rows = made_rows(np.random.default_rng(0), [1] * 100)
    plan = make_plan(
        rows, train_settings(batch_size=2, accumulation=8, epochs=3.0, warmup_ratio=0.05, learning_rate=2e-4), seed=0
    )
    assert (plan.updates_per_epoch, plan.updates, plan.warmup_updates, plan.evals) == (7, 21, 2, (7, 14, 21))
    assert "21 updates (7 per epoch of 100 rows), warm-up 2" in plan.describe()


def test_the_source_experiments_table_gives_its_357_updates() -> None:
    rows = made_rows(np.random.default_rng(0), [1] * 1897, tail=(2, 4), prefix=(3, 4))
    plan = make_plan(rows, train_settings(batch_size=2, accumulation=8, epochs=3.0, warmup_ratio=0.05), seed=0)
    assert (plan.updates_per_epoch, plan.updates, plan.warmup_updates) == (119, 357, 18)


def test_part_of_an_epoch_is_part_of_its_updates() -> None:
    rows = made_rows(np.random.default_rng(0), [1] * 100)
    plan = make_plan(rows, train_settings(batch_size=10, accumulation=1, epochs=1.5), seed=0)
    assert (plan.updates, plan.evals) == (15, (10, 15))
    tiny = make_plan(rows, train_settings(batch_size=10, accumulation=1, epochs=0.01), seed=0)
    assert (tiny.updates, tiny.evals) == (1, (1,))


def test_several_validations_an_epoch() -> None:
    rows = made_rows(np.random.default_rng(0), [1] * 100)
    plan = make_plan(rows, train_settings(batch_size=5, accumulation=1, epochs=2.0, evals_per_epoch=4), seed=0)
    assert plan.evals == (5, 10, 15, 20, 25, 30, 35, 40)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_the_learning_rate_rises_to_its_peak_and_falls(schedule: str) -> None:
    rows = made_rows(np.random.default_rng(0), [1] * 100)
    plan = make_plan(
        rows,
        train_settings(
            batch_size=5, accumulation=1, epochs=1.0, warmup_ratio=0.2, schedule=schedule, learning_rate=1.0
        ),
        seed=0,
    )
    rates = [plan.learning_rate(update) for update in range(1, plan.updates + 1)]
    assert rates[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    if schedule == "constant":
        assert set(rates[3:]) == {1.0}
    else:
        assert rates[4:] == sorted(rates[4:], reverse=True)
        assert 0 < rates[-1] < 0.1
    if schedule == "linear":
        assert np.diff(rates[4:]) == pytest.approx([-1 / 16] * 15)


def test_without_warm_up_the_first_update_has_the_peak() -> None:
    rows = made_rows(np.random.default_rng(0), [1] * 10)
    plan = make_plan(rows, train_settings(warmup_ratio=0.0, learning_rate=0.5), seed=0)
    assert plan.learning_rate(1) == 0.5


@given(branches=st.lists(st.integers(1, 8), min_size=1, max_size=8), limit=st.integers(150, 900))
@settings(max_examples=60, deadline=None)
def test_micro_batches_hold_every_row_once_within_the_limit(branches: list[int], limit: int) -> None:
    rows = made_rows(np.random.default_rng(len(branches)), branches)
    batches = micro_batches(rows, limit)
    assert Counter(row.id for batch in batches for group in batch for row in group.rows) == Counter(
        row.id for row in rows
    )
    for batch in batches:
        assert shape_of(batch).tokens <= limit
        assert sum(group.tokens for group in batch) >= 0.96 * shape_of(batch).tokens


def test_groups_of_like_length_are_computed_together() -> None:
    rows = made_rows(np.random.default_rng(1), [2] * 6, prefix=(40, 41), tail=(8, 9))
    assert len(micro_batches(rows, 10_000)) == 1
    assert len(micro_batches(rows, 90)) == 6


def test_a_row_longer_than_a_step_is_refused_with_the_setting_to_raise() -> None:
    rows = made_rows(np.random.default_rng(1), [1], prefix=(300, 301))
    with pytest.raises(RecipeError) as caught:
        micro_batches(rows, 200)
    assert caught.value.where == "train.tokens_per_step"
    assert "0-0" in str(caught.value)


def test_a_prefix_alone_beyond_the_limit_is_refused() -> None:
    rows = made_rows(np.random.default_rng(1), [4], prefix=(300, 301))
    with pytest.raises(RecipeError, match="tokens_per_step 200"):
        micro_batches(rows, 200)


def test_a_group_too_large_for_a_step_is_split_and_keeps_its_prefix() -> None:
    rows = made_rows(np.random.default_rng(1), [8], prefix=(96, 97), tail=(10, 11))
    (group,) = make_groups(rows)
    batches = micro_batches(rows, 200)
    parts = [one for batch in batches for one in batch]
    assert len(parts) > 1
    assert {part.prefix_length for part in parts} == {group.prefix_length}
    assert isinstance(parts[0], Group)
