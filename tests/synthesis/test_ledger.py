"""Every row that is read is kept or left out for one reason."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_ragtune.pages.account_table import account_table
from mlx_ragtune.records import Kind, Pair, Split
from mlx_ragtune.synthesis.ledger import DUPLICATE, KINDS, NO_SHARE, TOO_LONG, Ledger, fix_for, share_gaps

SPLITS: tuple[Split, ...] = ("train", "valid", "test")


def pairs(*kinds: Kind) -> list[Pair]:
    return [Pair(f"{kind}-{number}", kind, "q?", "a") for number, kind in enumerate(kinds)]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(KINDS), max_size=40), st.integers(0, 10**6))
def test_read_and_added_rows_are_the_sum_of_the_reasons_and_the_kept_ones(kinds: list[Kind], seed: int) -> None:
    draw = random.Random(seed)
    rows = pairs(*kinds)
    ledger = Ledger()
    made = draw.randint(0, len(rows))
    ledger.read(rows[made:])
    ledger.read(rows[:made], made=True)
    fates: Counter[str] = Counter()
    for row in rows:
        reason = draw.choice(("", "", DUPLICATE, TOO_LONG, NO_SHARE))
        if reason:
            ledger.leave_out(reason, {row.id: "detail"}, split=draw.choice((None, *SPLITS)))
            ledger.leave_out("a later reason", [row.id])
        else:
            ledger.keep(draw.choice(SPLITS), [row.id])
        fates[reason] += 1
    account = ledger.account()
    left = sum(sum(counts.values()) for counts in account.left_out.values())
    assert account.rows_read + sum(account.made.values()) == len(rows) == left + account.rows_kept
    assert {reason: sum(counts.values()) for reason, counts in account.left_out.items()} == {
        reason: count for reason, count in fates.items() if reason
    }
    for kind in KINDS:
        entered = account.read.get(kind, 0) + account.made.get(kind, 0)
        gone = sum(counts.get(kind, 0) for counts in account.left_out.values())
        assert entered == gone + sum(counts.get(kind, 0) for counts in account.kept.values())
    assert [row.id for row in ledger.listing()] == [row.id for row in (*rows[made:], *rows[:made]) if row.id in
                                                     {one.id for one in ledger.listing()}]  # fmt: skip
    assert account.losses.keys() == account.left_out.keys() - {NO_SHARE}


def test_a_row_without_a_fate_a_second_fate_and_a_second_entry_are_refused() -> None:
    ledger = Ledger()
    ledger.read(pairs("grounded", "refusal"))
    ledger.leave_out(DUPLICATE, ["grounded-0"])
    with pytest.raises(ValueError, match="1 rows are neither kept nor left out: refusal-1"):
        ledger.account()
    with pytest.raises(ValueError, match="was left out before"):
        ledger.keep("train", ["grounded-0"])
    ledger.keep("train", ["refusal-1"])
    with pytest.raises(ValueError, match="was kept before"):
        ledger.keep("valid", ["refusal-1"])
    with pytest.raises(ValueError, match="was read twice"):
        ledger.read(pairs("grounded"))


def test_kinds_that_the_recipe_excludes_are_listed_and_are_no_loss() -> None:
    ledger = Ledger()
    ledger.read(pairs("grounded", "grounded", "synthesis", "synthesis"))
    ledger.leave_out(NO_SHARE, ["synthesis-2", "synthesis-3"])
    ledger.leave_out(DUPLICATE, ["grounded-1"])
    ledger.keep("train", ["grounded-0"])
    account = ledger.account()
    assert (account.lost_share, account.rows_asked, account.losses) == (0.5, 2, {DUPLICATE: 1})
    assert account.left_out[NO_SHARE] == {"synthesis": 2}


def test_the_table_fits_80_columns_and_names_every_reason() -> None:
    ledger = Ledger()
    ledger.read(pairs("grounded", "grounded", "refusal", "synthesis"))
    ledger.leave_out("evidence in more chunks than retrieval.top_k", ["synthesis-3"], split="valid")
    ledger.repair(["grounded-0"])
    ledger.keep("train", ["grounded-0", "grounded-1"])
    ledger.keep("valid", ["refusal-2"])
    account = ledger.account()
    table = account_table(account.as_json())
    assert max(map(len, table.split("\n"))) <= 80
    cells = [line.split() for line in table.split("\n")]
    assert ["read", "4", "2", "1", "1"] in cells
    assert ["kept", "3", "2", "0", "1"] in cells
    assert ["train", "2", "2", "0", "0"] in cells
    assert ["repaired", "1", "1", "0", "0"] in cells
    assert "left out: evidence in more chunks" in table
    assert account.by_split == {"evidence in more chunks than retrieval.top_k": {"valid": 1}}


def test_shares_that_miss_their_target_are_named() -> None:
    ledger = Ledger()
    ledger.read(pairs("grounded", "grounded", "grounded", "refusal"))
    ledger.keep("train", [f"grounded-{number}" for number in range(3)] + ["refusal-3"])
    gaps = share_gaps(ledger.account(), {"grounded": 0.6, "synthesis": 0.2, "refusal": 0.2}, tolerance=0.05)
    assert gaps == ["grounded 75% (target 60%)", "synthesis 0% (target 20%)"]


def test_every_reason_of_the_stage_has_a_fix_or_is_asked_for() -> None:
    assert fix_for(TOO_LONG).startswith("raise dataset.max_tokens")
    assert fix_for("evidence in more chunks than retrieval.top_k").startswith("raise retrieval.top_k")
    assert fix_for("an unknown reason") == ""
