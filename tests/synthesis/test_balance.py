"""The kinds come in the proportions that were asked for, or it is an error."""

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_ragtune.errors import InputError
from mlx_ragtune.records import Kind, Pair
from mlx_ragtune.synthesis.balance import balance

SHARES: Mapping[Kind, float] = {"grounded": 0.6, "synthesis": 0.2, "refusal": 0.2}


def pairs(grounded: int, synthesis: int, refusal: int) -> list[Pair]:
    counts: dict[Kind, int] = {"grounded": grounded, "synthesis": synthesis, "refusal": refusal}
    return [Pair(f"{kind}{at}", kind, "q?", "a") for kind, count in counts.items() for at in range(count)]


def test_pairs_near_the_shares_are_all_kept() -> None:
    kept, left_out = balance(pairs(100, 30, 40), SHARES, seed=0)
    assert (len(kept), left_out) == (170, [])


def test_the_surplus_of_a_kind_is_left_out_and_listed() -> None:
    given_pairs = pairs(160, 20, 20)
    kept, left_out = balance(given_pairs, SHARES, seed=0)
    counts = Counter(pair.kind for pair in kept)
    assert counts["synthesis"] == counts["refusal"] == 20
    assert 0.6 <= counts["grounded"] / len(kept) <= 0.65 + 1e-9
    assert {pair.kind for pair in left_out} == {"grounded"}
    assert sorted(pair.id for pair in kept + left_out) == sorted(pair.id for pair in given_pairs)


def test_the_order_is_kept_and_the_choice_depends_on_the_seed() -> None:
    given_pairs = pairs(80, 10, 10)
    kept, _ = balance(given_pairs, SHARES, seed=0)
    assert [given_pairs.index(pair) for pair in kept] == sorted(given_pairs.index(pair) for pair in kept)
    assert kept == balance(given_pairs, SHARES, seed=0)[0]
    assert kept != balance(given_pairs, SHARES, seed=1)[0]


def test_a_kind_that_is_asked_for_and_absent_is_an_error_that_says_what_there_is() -> None:
    with pytest.raises(InputError, match="no synthesis pair") as caught:
        balance(pairs(30, 0, 10), SHARES, seed=0)
    assert "{grounded: 0.75, synthesis: 0.00, refusal: 0.25}" in caught.value.fix


def test_a_kind_with_share_zero_is_left_out() -> None:
    kept, left_out = balance(pairs(30, 5, 10), {"grounded": 0.75, "synthesis": 0.0, "refusal": 0.25}, seed=0)
    assert {pair.kind for pair in kept} == {"grounded", "refusal"}
    assert [pair.kind for pair in left_out] == ["synthesis"] * 5


def test_few_pairs_need_not_hit_the_shares_exactly() -> None:
    kept, left_out = balance(pairs(3, 1, 1), SHARES, seed=0)
    assert (len(kept), left_out) == (5, [])


def test_no_pairs_stay_no_pairs() -> None:
    assert balance([], SHARES, seed=0) == ([], [])


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
def test_the_kept_pairs_are_always_near_the_shares(grounded: int, synthesis: int, refusal: int) -> None:
    kept, _ = balance(pairs(grounded, synthesis, refusal), SHARES, seed=0)
    counts = Counter(pair.kind for pair in kept)
    assert len(kept) >= min(grounded, 3)
    for kind, share in SHARES.items():
        assert abs(counts[kind] / len(kept) - share) <= max(0.05, 1 / len(kept)) + 1e-9
