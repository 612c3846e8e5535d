"""What the result of a sweep says in words."""

import pytest

from mlx_ragtune.commands.sweep import SweepResult
from mlx_ragtune.commands.sweep_text import sweep_text
from mlx_ragtune.recipe import SweepSettings
from mlx_ragtune.sweeping.trials import TrialRow


def text(*scores: float, by_loss: bool = True) -> str:
    trials = tuple(
        TrialRow(number, {"train.rank": 2 + number}, "finished", score=score, valid_loss=1.0 + number)
        for number, score in enumerate(scores)
    )
    ranking = tuple(row.number + 1 for row in trials)
    result = SweepResult("s", "study", {}, "2 trials", by_loss, trials, ranking, len(trials), None, ())
    return " ".join(sweep_text(result, SweepSettings(halving="off"), recipe="mine.yaml").split())


@pytest.mark.parametrize(("by_loss", "order"), [(True, "by the validation loss alone"), (False, "arbitrary")])
def test_equal_scores_are_not_passed_off_as_a_choice(by_loss: bool, order: str) -> None:
    said = f"Every trial scores 0.000: the questions do not tell them apart, and the order is {order}."
    assert said in text(0.0, 0.0, by_loss=by_loss)
    assert "Every trial scores" not in text(0.0, 0.5, by_loss=by_loss)
    assert "Every trial scores" not in text(0.0, by_loss=by_loss)
