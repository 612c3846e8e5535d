"""benchmarks/verdict.py, made small: the simulation runs, and its rates point the right way."""

import runpy
from pathlib import Path
from typing import Any

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "verdict.py"
RUNS = 3


@pytest.fixture(scope="module")
def benchmark() -> dict[str, Any]:
    return runpy.run_path(str(BENCHMARK), run_name="verdict_benchmark")


def _rates(benchmark: dict[str, Any], name: str) -> dict[str, Any]:
    scenario = next(scenario for scenario in benchmark["SCENARIOS"] if scenario.name == name)
    rates: dict[str, Any] = benchmark["summarize"]([benchmark["run_once"]((scenario, seed)) for seed in range(RUNS)])
    return rates


def test_the_simulation_finds_what_is_planted_and_little_else(benchmark: dict[str, Any]) -> None:
    same = _rates(benchmark, "A/A")
    assert same["overall_decided"]["rate"] == 0.0
    assert same["correctness"]["EQUIVALENT"]["rate"] > 0.5
    assert _rates(benchmark, "+10")["overall"]["IMPROVED"]["rate"] > 0.6
    assert _rates(benchmark, "A/A 15")["overall"]["INCONCLUSIVE"]["rate"] > 0.6
    for rate in same["overall"].values():
        assert rate["low"] <= rate["rate"] <= rate["high"]


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("A/A, 4 papers", "INCONCLUSIVE"),
        ("nonsense to perfect, 4 papers", "IMPROVED"),
        ("A/A, 6 papers", "INCONCLUSIVE"),
        ("nonsense to perfect, 6 papers", "IMPROVED"),
    ],
)
def test_few_papers_decide_what_is_plain(benchmark: dict[str, Any], name: str, verdict: str) -> None:
    assert _rates(benchmark, name)["overall"][verdict]["rate"] > 0.6


def test_with_three_arms_the_prompt_is_not_beaten_by_its_equal(benchmark: dict[str, Any]) -> None:
    assert _rates(benchmark, "three arms")["not_the_prompt"]["rate"] == 1.0
