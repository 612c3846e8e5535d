"""Masks and caches of shared prefixes: who sees what."""

import numpy as np
import pytest

from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.tuning.prefix import Branches, Prefix, causal_mask


def seen(mask: mx.array) -> np.ndarray:
    return np.array(mask)


def test_a_query_sees_all_before_it_and_itself() -> None:
    found = seen(causal_mask(3, 2, None))
    assert found.astype(int).tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]


def test_within_a_window_only_the_latest_are_seen() -> None:
    found = seen(causal_mask(3, 2, 2))
    assert found.astype(int).tolist() == [[0, 1, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 1, 1]]


def test_a_mask_is_an_array_only_where_the_window_hides_something() -> None:
    assert Prefix().make_mask(7) == "causal"
    assert Prefix().make_mask(7, window_size=7) == "causal"
    assert not isinstance(Prefix().make_mask(7, window_size=6), str)
    assert seen(Prefix().make_mask(4, return_array=True)).shape == (4, 4)
    branches = Branches(filled(1, 5), 5, None)
    assert branches.make_mask(3) == "causal"
    assert branches.make_mask(3, window_size=8) == "causal"
    assert seen(branches.make_mask(3, window_size=7)).shape == (3, 8)
    assert seen(branches.make_mask(3, return_array=True)).astype(int).tolist() == np.tri(3, 8, 5).astype(int).tolist()


@pytest.mark.parametrize("heads", [(4, 4), (4, 2)], ids=str)
def test_the_string_means_the_array_where_queries_are_fewer_than_columns(heads: tuple[int, int]) -> None:
    """Bit by bit, outputs and gradients: the last query sees the last column."""
    mx.random.seed(0)
    shapes = [(3, heads[0], 8, 16), (3, heads[1], 40, 16), (3, heads[1], 40, 16)]
    arrays = [mx.random.normal(shape) for shape in shapes]

    def attended(mask: mx.array | str) -> list[np.ndarray]:
        def loss(*arrays: mx.array) -> mx.array:
            return (mx.fast.scaled_dot_product_attention(*arrays, scale=0.25, mask=mask) ** 2).sum()

        value, gradients = mx.value_and_grad(loss, argnums=(0, 1, 2))(*arrays)
        return [seen(value), *(seen(gradient) for gradient in gradients)]

    for by_string, by_array in zip(attended("causal"), attended(causal_mask(8, 32, None)), strict=True):
        assert np.array_equal(by_string, by_array)


def filled(prefixes: int, length: int) -> Prefix:
    prefix = Prefix()
    keys = mx.arange(prefixes * length, dtype=mx.float32).reshape(prefixes, 1, length, 1)
    prefix.update_and_fetch(keys, keys + 0.5)
    return prefix


def test_branches_stand_behind_the_only_prefix() -> None:
    branches = Branches(filled(1, 3), 3, None)
    own = mx.full((2, 1, 2, 1), 9.0)
    keys, values = branches.update_and_fetch(own, own)
    assert seen(keys)[:, 0, :, 0].tolist() == [[0, 1, 2, 9, 9]] * 2
    assert seen(values)[:, 0, :, 0].tolist() == [[0.5, 1.5, 2.5, 9, 9]] * 2
    assert branches.offset == 3


def test_each_branch_stands_behind_its_own_prefix() -> None:
    branches = Branches(filled(2, 2), 2, mx.array([1, 0, 1]))
    own = mx.zeros((3, 1, 1, 1))
    keys, _ = branches.update_and_fetch(own, own)
    assert seen(keys)[:, 0, :, 0].tolist() == [[2, 3, 0], [0, 1, 0], [2, 3, 0]]


@pytest.mark.parametrize("parents", [None, [0, 0]])
def test_gradients_of_branches_add_up_in_the_prefix(parents: list[int] | None) -> None:
    def loss(keys: mx.array) -> mx.array:
        prefix = Prefix()
        prefix.update_and_fetch(keys, keys)
        branches = Branches(prefix, 2, None if parents is None else mx.array(parents))
        own = mx.zeros((2, 1, 1, 1))
        joined, _ = branches.update_and_fetch(own, own)
        return (joined * mx.array([1.0, 10.0]).reshape(2, 1, 1, 1)).sum()

    gradient = mx.grad(loss)(mx.ones((1, 1, 2, 1)))
    assert seen(gradient).ravel().tolist() == [11.0, 11.0]


def test_the_same_branches_can_stand_on_other_keys() -> None:
    branches = Branches(filled(1, 2), 2, None)
    other = mx.full((1, 1, 2, 1), 7.0)
    own = mx.zeros((1, 1, 1, 1))
    keys, _ = branches.on(other, other).update_and_fetch(own, own)
    assert seen(keys).ravel().tolist() == [7, 7, 0]
    keys, _ = branches.update_and_fetch(own, own)
    assert seen(keys).ravel().tolist() == [0, 1, 0]
