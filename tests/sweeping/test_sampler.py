"""Which settings are tried: all of a grid, nothing twice, and the same after a stop."""

from pathlib import Path
from typing import Any

import pytest

from tests.sweeping.made import asked, journal, judged, made_space, opened, run_out


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_a_finite_space_is_tried_once_each_and_then_ends(tmp_path: Path, sampler: str) -> None:
    sweep = opened(journal(tmp_path), sampler=sampler, trials=50)
    tried = run_out(sweep)
    assert sorted((one["train.learning_rate"], one["train.rank"]) for one in tried) == [
        (rate, rank) for rate in (1e-4, 1e-3, 1e-2) for rank in (4, 8)
    ]
    assert sweep.spent() == "all 6 combinations"


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_continued_sweep_tries_what_an_unbroken_one_tries(tmp_path: Path, sampler: str) -> None:
    rates = {"low": 1e-5, "high": 1e-1, "log": True}
    space = made_space(train__learning_rate=rates, train__rank={"low": 1, "high": 64})
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    unbroken = run_out(opened(journal(tmp_path / "a"), space, sampler=sampler, trials=12))
    first = run_out(opened(journal(tmp_path / "b"), space, sampler=sampler, trials=5))
    rest = run_out(opened(journal(tmp_path / "b"), space, sampler=sampler, trials=12))
    assert first + rest == unbroken
    assert len({str(one) for one in unbroken}) == 12
    assert unbroken != run_out(opened(journal(tmp_path / "a"), space, seed=1, sampler=sampler, trials=12, name="other"))


def test_tpe_comes_closer_to_the_best_than_chance(tmp_path: Path) -> None:
    space = made_space(train__learning_rate={"low": 1e-5, "high": 1e-1, "log": True})

    def mean_of_last(sampler: str) -> float:
        tried = run_out(opened(journal(tmp_path), space, sampler=sampler, trials=30, name=sampler))
        return sum(one["train.learning_rate"] for one in tried[15:]) / 15

    assert mean_of_last("tpe") > 2 * mean_of_last("random")


def test_values_of_lists_keep_their_types(tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "train__target_modules": (("q_proj", "v_proj"), ("q_proj",)),
        "train__clip_norm": (None, 1.0),
        "train__layers": ("all", 2),
    }
    tried = run_out(opened(journal(tmp_path), made_space(**values), sampler="grid"))
    assert len(tried) == 8
    assert tried[0] == {
        "train.target_modules": ["q_proj", "v_proj"],
        "train.clip_norm": None,
        "train.layers": "all",
    }


def test_steps_of_a_range_are_a_grid(tmp_path: Path) -> None:
    dropouts, ranks = {"low": 0.0, "high": 0.3, "step": 0.1}, {"low": 4, "high": 9, "step": 2}
    space = made_space(train__dropout=dropouts, train__rank=ranks)
    tried = run_out(opened(journal(tmp_path), space, sampler="grid", trials=100))
    assert sorted({one["train.rank"] for one in tried}) == [4, 6, 8]
    assert sorted({round(one["train.dropout"], 9) for one in tried}) == [0.0, 0.1, 0.2, 0.3]
    assert len(tried) == 12


def test_a_grid_goes_on_after_an_interrupted_trial(tmp_path: Path) -> None:
    sweep = opened(journal(tmp_path), sampler="grid")
    sweep.complete(asked(sweep), judged(0.1))
    broken = asked(sweep)
    sweep.interrupt(broken, "stopped")
    again = asked(opened(journal(tmp_path), sampler="grid"))
    assert again.params == broken.params
    sweep.complete(again, judged(0.2))
    assert len(run_out(sweep)) == 4
