"""Numbers as text."""

from dataclasses import replace
from typing import Any

import pytest

from mlx_ragtune.pages.wording import amount, change, flat, interval, p_value, rate, state_label
from mlx_ragtune.scoring.verdict.comparison import MetricRow, View

VIEW = View(0.8, 0.677, -0.123, -0.2, 0.05, 0.2, 40, 20)
ROW = MetricRow(
    "m", "M", "decides", "share", True, True, "INCONCLUSIVE", VIEW, None, None, 0.4, None, 0, None, None
)  # fmt: skip


def row(**changes: Any) -> MetricRow:
    return replace(ROW, **changes)


def test_shares_are_percentages_and_their_differences_points() -> None:
    assert (amount(ROW, 0.8025), change(ROW), interval(ROW)) == ("80.2%", "−12.3", "−20.0 to +5.0")


def test_seconds_and_tokens_keep_their_units() -> None:
    assert amount(row(unit="seconds"), 2.345) == "2.35 s"
    assert amount(row(unit="tokens/s"), 40.26) == "40.3 tokens/s"
    assert change(row(unit="seconds", all=replace(VIEW, difference=1.7))) == "+1.70"


def test_without_an_interval_nothing_is_shown() -> None:
    assert interval(row(all=replace(VIEW, low=None))) == ""


@pytest.mark.parametrize(("p", "text"), [(0.0004, "<0.001"), (0.05, "0.050"), (0.9999, "1.000"), (1.0, "1.000")])
def test_p_values_have_three_decimals(p: float, text: str) -> None:
    assert p_value(p) == text


def test_an_undefined_rate_is_not_zero() -> None:
    assert (rate(None), rate(0.0)) == ("undefined", "0.0%")


def test_an_unknown_state_is_shown_as_words() -> None:
    assert state_label("new_state") == "new state"


def test_settings_are_flat_with_what_is_none_left_out() -> None:
    settings = {"train": {"rank": 16, "clip": None, "targets": ["q", "v"]}, "thinking": False}
    assert list(flat(settings)) == [("train.rank", "16"), ("train.targets", "q, v"), ("thinking", "false")]


def test_rows_inside_settings_are_numbered_and_bytes_readable() -> None:
    value = {"peak_memory_bytes": 2**31, "candidates": [{"update": 5, "valid_loss": 0.98765}]}
    assert list(flat(value)) == [
        ("peak_memory", "2.00 GiB"), ("candidates.1.update", "5"), ("candidates.1.valid_loss", "0.9877"),
    ]  # fmt: skip
