"""The shipped table of weights is that of the labelled sentences, and the kept sentences are in no fit."""

import runpy
from pathlib import Path
from typing import Any

import pytest

from mlx_ragtune.scoring.answers.refusal_classifier import WEIGHTS

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "refusals.py"


@pytest.fixture(scope="module")
def benchmark() -> dict[str, Any]:
    return runpy.run_path(str(BENCHMARK), run_name="refusals_benchmark")


def test_the_shipped_weights_are_those_of_the_labelled_rows(benchmark: dict[str, Any]) -> None:
    fitted = [row for row in benchmark["labelled_rows"]() if row.name != benchmark["KEPT"]]
    text = benchmark["table"](benchmark["fit"](fitted))
    assert text == WEIGHTS.read_text(encoding="utf-8"), "run 'python benchmarks/refusals.py --write'"


def test_no_kept_sentence_is_among_the_fitted_ones(benchmark: dict[str, Any]) -> None:
    rows = benchmark["labelled_rows"]()
    fitted = {row.sentences for row in rows if row.name != benchmark["KEPT"]}
    kept = [row for row in rows if row.name == benchmark["KEPT"]]
    assert len(kept) >= 190
    assert not [row for row in kept if row.sentences in fitted]
