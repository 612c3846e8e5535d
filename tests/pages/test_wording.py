"""Numbers in words."""

from typing import Any, cast

import pytest

from mlx_ragtune.pages.report_data import MetricPart
from mlx_ragtune.pages.wording import amount, change, flat, interval, p_value, tone


def metric(**changed: Any) -> MetricPart:
    return cast(
        MetricPart,
        {"unit": "share", "difference": -0.123, "low": -0.2, "high": 0.05, "verdict": "INCONCLUSIVE", **changed},
    )


def test_shares_are_per_cent_and_their_differences_points() -> None:
    one = metric()
    assert (amount(one, 0.8025), change(one), interval(one)) == ("80.2 %", "−12.3", "−20.0 to +5.0")


def test_seconds_and_tokens_keep_their_units() -> None:
    assert amount(metric(unit="seconds"), 2.345) == "2.35 s"
    assert amount(metric(unit="tokens/s"), 40.26) == "40.3 tokens/s"
    assert change(metric(unit="seconds", difference=1.7)) == "+1.70"


def test_without_an_interval_nothing_is_shown() -> None:
    assert interval(metric(low=None)) == ""


@pytest.mark.parametrize(("p", "text"), [(0.0004, "< .001"), (0.05, ".050"), (0.9999, "1.000"), (1.0, "1")])
def test_p_values_have_three_decimals(p: float, text: str) -> None:
    assert p_value(p) == text


def test_only_a_verdict_gives_a_colour() -> None:
    assert [tone(metric(verdict=one)) for one in ("IMPROVED", "REGRESSED", "EQUIVALENT", "INCONCLUSIVE", None)] == [
        "better", "worse", "plain", "plain", "plain",
    ]  # fmt: skip


def test_settings_are_flat_with_what_is_none_left_out() -> None:
    settings = {"train": {"rank": 16, "clip": None, "targets": ["q", "v"]}, "thinking": False}
    assert list(flat(settings)) == [("train.rank", "16"), ("train.targets", "q, v"), ("thinking", "false")]
