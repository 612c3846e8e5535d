"""Counted work: small cases worked out by hand, and the saving that sharing a prefix brings."""

import numpy as np
import pytest

from mlx_ragtune.tuning.groups import Group, make_groups
from mlx_ragtune.tuning.token_rows import TokenRow
from mlx_ragtune.tuning.work import NOTHING, Work, total, work_of_batch, work_of_whole_rows

CONFIG = {
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_hidden_layers": 3,
    "vocab_size": 100,
}


def row(prefix: list[int], rest: int, answer: int, name: str, start: int = 50) -> TokenRow:
    tokens = np.array([*prefix, *range(start, start + rest + answer)], np.int32)
    return TokenRow(name, "g", "grounded", tokens, len(prefix) + rest)


def test_whole_rows_count_every_padded_token_and_a_logit_for_each() -> None:
    rows = [row([1] * 20, 5, 8, "a"), row([2] * 30, 10, 10, "b")]
    assert work_of_whole_rows(rows, 32) == Work(2 * 64, 2 * 64**2, 2 * 64)


def test_a_group_counts_its_prefix_once_and_logits_for_answers_only() -> None:
    rows = tuple(row([1] * 32, 3, 6, name) for name in "abcd")
    group = Group(rows, 32)
    assert group.branch_length == 8
    assert work_of_batch([group]) == Work(32 + 4 * 8, 32**2 + 4 * 8 * (32 + 8), 4 * 6)


def test_groups_of_a_micro_batch_share_the_shortest_prefix_and_the_longest_branch() -> None:
    short, long = Group((row([1] * 16, 3, 6, "a"),), 16), Group((row([2] * 40, 11, 14, "b"),), 40)
    work = work_of_batch([short, long])
    assert work.layer_tokens == 2 * 16 + 2 * 48
    assert work.attention_pairs == 2 * 16**2 + 2 * 48 * 64
    assert work.logit_rows == 6 + 14


def test_work_adds_up() -> None:
    parts = [Work(1, 2, 3), Work(10, 20, 30)]
    assert total(parts) == Work(11, 22, 33)
    assert total([]) == NOTHING


def test_flops_of_one_token_are_those_of_its_matrices() -> None:
    """q and o: 8 × 8, k and v: 8 × 4, three of 8 × 16; forward and backward, a multiply-add is two."""
    matrices = 2 * 8 * 8 + 2 * 8 * 4 + 3 * 8 * 16
    assert Work(1, 0, 0).flops(CONFIG) == 3 * 2 * 2 * matrices


def test_flops_of_a_pair_are_two_products_forward_and_four_backward() -> None:
    assert Work(0, 1, 0).flops(CONFIG) == 3 * 2 * (2 + 4) * 2 * 4


def test_flops_of_a_row_of_logits_are_those_of_the_head() -> None:
    assert Work(0, 0, 1).flops(CONFIG) == 4 * 8 * 100


def test_an_explicit_head_dimension_counts() -> None:
    wide = {**CONFIG, "head_dim": 8}
    assert Work(0, 1, 0).flops(wide) == 2 * Work(0, 1, 0).flops(CONFIG)
    assert Work(1, 0, 0).flops(wide) > Work(1, 0, 0).flops(CONFIG)


@pytest.mark.parametrize("branches", [1, 2, 4, 8])
def test_the_more_questions_share_a_context_the_less_is_computed(branches: int) -> None:
    rows = [
        row([context] * 200, 20, 40, f"{context}-{one}", 100 * (one + 1))
        for context in range(3)
        for one in range(branches)
    ]
    groups = make_groups(rows)
    shared = total(work_of_batch([group]) for group in groups)
    whole = total(work_of_whole_rows([one], 8) for one in rows)
    assert sum(len(group.rows) for group in groups) == len(rows)
    assert shared.logit_rows == 40 * len(rows)
    ratio = whole.layer_tokens / shared.layer_tokens
    assert ratio == pytest.approx(264 * branches / (200 + 64 * branches), rel=0.1)
