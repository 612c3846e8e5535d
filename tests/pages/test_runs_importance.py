"""The importance of settings: what they explain, and when that is called unsure."""

import random
from dataclasses import replace

import pytest

from mlx_ragtune.pages.run_rows import RunRow
from mlx_ragtune.pages.runs_importance import Objective, comparable, importances
from tests.pages.made_runs import made_runs

LOSS = Objective("valid_loss", "Validation loss", True, lambda row: row.valid_loss)


def row(loss: float | None, *, data: str = "d", **settings: object) -> RunRow:
    return RunRow("x", settings={f"train.{key}": value for key, value in settings.items()}, valid_loss=loss, data=data)


def test_a_setting_that_decides_explains_everything_and_the_others_are_unsure() -> None:
    source = random.Random(1)
    rows = [row(at % 2 + source.random() / 10, rank=4 if at % 2 else 8, seed=at // 2 % 2) for at in range(20)]
    first, second = importances(rows, ["train.seed", "train.rank"], LOSS)
    assert (first.key, first.unsure) == ("train.rank", False)
    assert first.explained is not None
    assert first.explained > 0.7
    assert (second.key, second.unsure) == ("train.seed", True)


def test_the_share_is_that_of_a_one_way_analysis_of_variance_on_ranks() -> None:
    rows = [row(loss, rank=rank) for loss, rank in ((1.0, 4), (2.0, 4), (3.0, 8), (400.0, 8))]
    (only,) = importances(rows, ["train.rank"], LOSS)
    assert only.explained == pytest.approx(4 / 5)  # ranks 1, 2 | 3, 4: between 4, total 5
    assert only.unsure, "four runs prove nothing"


def test_a_run_that_diverged_does_not_outweigh_the_others() -> None:
    calm = [row(1 + at / 100, rank=4 if at < 6 else 8) for at in range(12)]
    wild = [*calm[:-1], replace(calm[-1], valid_loss=1e9)]
    assert importances(calm, ["train.rank"], LOSS) == importances(wild, ["train.rank"], LOSS)


def test_settings_that_were_changed_together_are_named() -> None:
    rows = [row(float(at), rank=at // 3, alpha=2 * (at // 3)) for at in range(9)]
    first, second = importances(rows, ["train.rank", "train.alpha"], LOSS)
    assert (first.together, second.together) == (("train.alpha",), ("train.rank",))


def test_nothing_is_computed_from_three_runs_or_when_every_run_has_its_own_value() -> None:
    (few,) = importances([row(float(at), rank=at % 2) for at in range(3)], ["train.rank"], LOSS)
    (own,) = importances([row(float(at), model=f"m{at}") for at in range(9)], ["train.model"], LOSS)
    assert few.explained is own.explained is None
    assert few.unsure
    assert own.unsure


def test_only_runs_on_the_same_data_are_compared() -> None:
    rows = [*(row(float(at), rank=at % 2) for at in range(5)), row(9.0, data="other", rank=3), row(None, rank=4)]
    assert len(comparable(rows, LOSS)) == 5
    (only,) = importances(rows, ["train.rank"], LOSS)
    assert only.runs == 5


def test_a_number_with_many_values_is_cut_into_groups_and_the_result_is_repeatable() -> None:
    rows = made_runs(30)
    first = importances(rows, ["train.learning_rate", "train.rank"], LOSS)
    assert first == importances(rows, ["train.learning_rate", "train.rank"], LOSS)
    assert (first[0].key, first[0].unsure) == ("train.learning_rate", False)


def test_equal_results_explain_nothing() -> None:
    (only,) = importances([row(1.0, rank=at % 2) for at in range(10)], ["train.rank"], LOSS)
    assert (only.explained, only.unsure) == (0.0, True)
