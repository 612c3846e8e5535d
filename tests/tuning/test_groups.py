"""Which rows share a prefix, and how long it is."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_ragtune.tuning.groups import CUT, MOST_BRANCHES, Group, answer_tokens, make_groups, padded, shared_length
from mlx_ragtune.tuning.token_rows import TokenRow
from tests.tuning.made import made_rows


def row(name: str, tokens: list[int], prompt: int, group: str = "g") -> TokenRow:
    return TokenRow(name, group, "grounded", np.array(tokens, np.int32), prompt)


@given(branches=st.lists(st.integers(1, 12), min_size=1, max_size=6), seed=st.integers(0, 999))
@settings(max_examples=80, deadline=None)
def test_groups_hold_every_row_once_and_truly_share_their_prefix(branches: list[int], seed: int) -> None:
    rows = made_rows(np.random.default_rng(seed), branches)
    groups = make_groups(rows)
    assert sorted(one.id for group in groups for one in group.rows) == sorted(one.id for one in rows)
    for group in groups:
        assert 1 <= len(group.rows) <= MOST_BRANCHES
        assert group.prefix_length % CUT == 0
        prefixes = {one.tokens[: group.prefix_length].tobytes() for one in group.rows}
        assert len(prefixes) == 1
        assert all(group.prefix_length < one.prompt_length for one in group.rows)


@given(branches=st.lists(st.integers(1, 8), min_size=1, max_size=6), seed=st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_grouping_never_computes_more_than_single_rows(branches: list[int], seed: int) -> None:
    rows = made_rows(np.random.default_rng(seed), branches)
    alone = sum(Group((one,), shared_length([one])).tokens for one in rows)
    assert sum(group.tokens for group in make_groups(rows)) <= alone


def test_rows_of_a_context_are_found_by_their_tokens_whatever_their_group() -> None:
    context = list(range(64))
    rows = [row(str(n), [*context, 70 + n, 80, 90], 66, group=f"other-{n}") for n in range(4)]
    assert [(len(group.rows), group.prefix_length) for group in make_groups(rows)] == [(4, 64)]


def test_chat_rows_that_share_a_system_prompt_alone_are_grouped_too() -> None:
    draw = np.random.default_rng(0)
    system = list(draw.integers(0, 50, 48))
    rows = [row(str(n), [*system, *draw.integers(50, 90, 20)], 60) for n in range(3)]
    (group,) = make_groups(rows)
    assert group.prefix_length == 48
    assert group.tokens == 48 + 3 * padded(19)


def test_rows_that_share_nothing_stay_alone() -> None:
    rows = [row(str(n), [n] * 30, 20) for n in range(3)]
    groups = make_groups(rows)
    assert [len(group.rows) for group in groups] == [1, 1, 1]
    assert groups[0].prefix_length == 16


def test_a_short_row_does_not_join_where_padding_costs_more_than_it_shares() -> None:
    rows = [row("a", [1] * 12, 10), row("b", [1] * 9 + [2] * 300, 200)]
    assert [len(group.rows) for group in make_groups(rows)] == [1, 1]


def test_the_prefix_ends_before_the_last_prompt_token_of_every_row() -> None:
    """The last prompt token predicts the first answer token, so it must be in a branch."""
    rows = [row("a", [5] * 40, 32), row("b", [5] * 40, 33)]
    assert shared_length(rows) == 24


def test_the_same_rows_in_any_order_give_the_same_groups() -> None:
    rows = made_rows(np.random.default_rng(4), [3, 5, 1])
    forward, backward = make_groups(rows), make_groups(rows[::-1])
    assert [[one.id for one in group.rows] for group in forward] == [
        [one.id for one in group.rows] for group in backward
    ]


def test_tokens_count_the_prefix_once_and_the_branches_with_padding() -> None:
    group = Group((row("a", [1] * 50, 40), row("b", [1] * 60, 45)), 32)
    assert group.branch_length == 32
    assert group.tokens == 32 + 2 * 32
    assert group.answer_tokens == answer_tokens(group.rows) == 10 + 15
