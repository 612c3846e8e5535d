"""benchmarks/verdict.py, made small: the simulation runs, and its rates point the right way."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_simulation_finds_what_is_planted_and_little_else() -> None:
    found = subprocess.run(
        [sys.executable, "benchmarks/verdict.py", "--runs", "6", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode in (0, 1), found.stderr
    scenarios = json.loads(found.stdout)["scenarios"]
    assert scenarios["A/A"]["overall_decided"]["rate"] <= 0.1
    assert scenarios["+10"]["overall"]["IMPROVED"]["rate"] >= 0.9
    assert scenarios["A/A"]["correctness"]["EQUIVALENT"]["rate"] >= 0.5
    assert scenarios["A/A 15"]["overall"]["INCONCLUSIVE"]["rate"] == 1.0
    for rate in scenarios["A/A"]["overall"].values():
        assert rate["low"] <= rate["rate"] <= rate["high"]
