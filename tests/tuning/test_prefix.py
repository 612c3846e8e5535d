"""Masks and caches of shared prefixes: who sees what."""

import numpy as np
import pytest

from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.tuning.prefix import Branches, Prefix, causal_mask


def seen(mask: mx.array) -> np.ndarray:
    return np.array(mask)


def test_a_query_sees_all_before_it_and_itself() -> None:
    found = seen(causal_mask(3, 2, None, None))
    assert found.astype(int).tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]


def test_within_a_window_only_the_latest_are_seen() -> None:
    found = seen(causal_mask(3, 2, None, 2))
    assert found.astype(int).tolist() == [[0, 1, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 1, 1]]


def test_left_padding_is_hidden_from_all_but_itself() -> None:
    found = seen(causal_mask(3, 0, mx.array([0, 2]), None))
    assert found.shape == (2, 1, 3, 3)
    assert found[0, 0].astype(int).tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert found[1, 0].astype(int).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert found.any(-1).all(), "a query that sees nothing makes NaN"


def test_a_prefix_of_one_length_needs_no_mask_of_its_own() -> None:
    assert Prefix().make_mask(7) == "causal"
    assert Prefix().make_mask(7, window_size=100) == "causal"
    assert not isinstance(Prefix().make_mask(7, window_size=3), str)
    assert not isinstance(Prefix(mx.array([0, 3])).make_mask(7), str)
    assert seen(Prefix().make_mask(4, return_array=True)).shape == (4, 4)


def filled(prefixes: int, length: int, pads: mx.array | None = None) -> Prefix:
    prefix = Prefix(pads)
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


def test_positions_go_on_from_the_real_length_of_a_padded_prefix() -> None:
    branches = Branches(filled(2, 4, mx.array([0, 3])), 4, mx.array([0, 1, 1]))
    assert seen(branches.offset).tolist() == [4, 1, 1]
    mask = seen(branches.make_mask(1))
    assert mask[:, 0, 0].astype(int).tolist() == [[1, 1, 1, 1, 1], [0, 0, 0, 1, 1], [0, 0, 0, 1, 1]]


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
