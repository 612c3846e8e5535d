"""Whole runs with compiled steps: resumed, in a sweep or alone, with any setting, the same adapter."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_ragtune.recipe import TrainSettings
from mlx_ragtune.tuning import compiled_step
from mlx_ragtune.tuning.compiled_step import Policy
from tests.tuning.made import examples, load_arrays, toy_base, with_worse
from tests.tuning.test_workbench import alone, opened, quick, same, trial


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_step, "ON_CPU", Policy(bucket=16, ceiling=4, least=2))


class StoppedError(Exception):
    pass


def stop_and_go_on(base: Path, settings: TrainSettings, folder: Path, *, after: int) -> None:
    """A run that is stopped after so many updates, and given again, in ``folder / "parts"``."""

    def stop(done: int, _total: int, _note: str) -> None:
        if done == after:
            raise StoppedError

    with opened(base, folder) as bench:
        with pytest.raises(StoppedError):
            trial(bench, settings, folder / "parts", progress=stop, save_seconds=0.0)
        trial(bench, settings, folder / "parts")


def test_a_stopped_run_goes_on_to_the_same_bytes(base: Path, tmp_path: Path) -> None:
    settings = quick(dropout=0.2, epochs=3.0)
    whole = alone(base, settings, tmp_path / "whole")
    assert 0 < whole.compiled_shapes <= 4
    assert 0 < whole.compiled_micro_batches < whole.micro_batches

    stop_and_go_on(base, settings, tmp_path, after=4)
    same(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(
    "changes", [{}, {"layers": 1, "frozen_store": True}, {"grad_checkpoint": True, "method": "dora"}], ids=str
)
def test_a_trial_after_others_is_the_run_of_its_own(base: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    settings = quick(epochs=2.0, **changes)
    result = alone(base, settings, tmp_path / "alone")
    assert result.compiled_shapes > 0
    with opened(base, tmp_path) as bench:
        trial(bench, quick(rank=2, epochs=1.0), tmp_path / "other")
        trial(bench, settings, tmp_path / "trial")
    same(tmp_path / "alone", tmp_path / "trial")


def test_compiled_and_uncompiled_runs_differ_by_rounding_only(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = quick(epochs=2.0, learning_rate=1e-3)
    compiled = alone(base, settings, tmp_path / "compiled")
    monkeypatch.setattr(compiled_step, "ON_CPU", Policy(bucket=16, ceiling=0, least=2))
    plain = alone(base, settings, tmp_path / "plain")
    assert (plain.compiled_shapes, plain.micro_batches) == (0, 0)
    assert compiled.best_valid_loss == pytest.approx(plain.best_valid_loss, rel=1e-4)
    left, right = (load_arrays(tmp_path / name / "adapters.safetensors") for name in ("compiled", "plain"))
    for name, value in left.items():
        assert np.allclose(value, right[name], atol=1e-4), name


@pytest.mark.parametrize("changes", [{"kl": {"tokens": "all"}}, {"preference": {"method": "orpo"}}], ids=str)
def test_with_another_term_nothing_is_compiled(base: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    rows = {"train": with_worse(examples(4, 2)), "valid": with_worse(examples(6, 1)[4:])}
    with opened(base, tmp_path, rows=rows) as bench:
        result = trial(bench, quick(epochs=0.5, **changes), tmp_path / "run")
    assert result.compiled_shapes == 0
