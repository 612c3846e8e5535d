import pytest

from mlx_ragtune.scoring.answers.cost import cost_metrics
from tests.scoring.made import answer


def test_speed_counts_the_tokens_after_the_first_over_the_time_after_the_first() -> None:
    costs = cost_metrics(answer("x", answer_tokens=31, latency_seconds=2.0, first_token_seconds=0.5))
    assert costs == {
        "answer_tokens": 31.0,
        "prompt_tokens": 300.0,
        "latency_seconds": 2.0,
        "first_token_seconds": 0.5,
        "tokens_per_second": pytest.approx(30 / 1.5),
    }


def test_without_a_first_token_time_the_whole_latency_counts() -> None:
    costs = cost_metrics(answer("x", answer_tokens=30, latency_seconds=2.0, first_token_seconds=None))
    assert costs["tokens_per_second"] == 15.0
    assert "first_token_seconds" not in costs


def test_what_was_not_measured_is_absent() -> None:
    costs = cost_metrics(answer("", prompt_tokens=0, answer_tokens=0, latency_seconds=0.0, first_token_seconds=None))
    assert costs == {"answer_tokens": 0.0}


def test_the_servers_own_time_for_generating_counts_before_the_clients() -> None:
    costs = cost_metrics(answer("x", answer_tokens=30, latency_seconds=9.0, generate_seconds=1.5))
    assert costs["tokens_per_second"] == 20.0


def test_loading_is_in_no_latency_and_a_cold_answer_is_apart() -> None:
    times = {"answer_tokens": 30, "latency_seconds": 9.0, "first_token_seconds": 5.0, "load_seconds": 4.0}
    warm = cost_metrics(answer("x", **times))
    assert (warm["latency_seconds"], warm["first_token_seconds"]) == (5.0, 1.0)
    cold = cost_metrics(answer("x", cold=True, **times))
    assert cold == {"answer_tokens": 30.0, "prompt_tokens": 300.0, "load_seconds": 4.0, "cold_first_token_seconds": 1.0}
