"""What the result of a sweep says in words."""

import math
from dataclasses import replace

import pytest

from mlx_ragtune.commands.sweep import SweepResult, Verdict
from mlx_ragtune.commands.sweep_scoring import probe_loss
from mlx_ragtune.commands.sweep_text import sweep_text
from mlx_ragtune.recipe import SweepSettings
from mlx_ragtune.sweeping.trials import Look, TrialRow


def result_of(*trials: TrialRow, ranking: tuple[int, ...], by_loss: bool = True) -> SweepResult:
    return SweepResult("s", "study", {}, f"{len(trials)} trials", by_loss, trials, ranking, len(trials), None, ())


def text(*scores: float, by_loss: bool = True) -> str:
    trials = [
        TrialRow(number, {"train.rank": 2 + number}, "finished", score=score, valid_loss=1.0 + number)
        for number, score in enumerate(scores)
    ]
    result = result_of(*trials, ranking=tuple(row.number + 1 for row in trials), by_loss=by_loss)
    return " ".join(sweep_text(result, SweepSettings(halving="off"), recipe="mine.yaml").split())


@pytest.mark.parametrize(("by_loss", "order"), [(True, "by the validation loss alone"), (False, "arbitrary")])
def test_equal_scores_are_not_passed_off_as_a_choice(by_loss: bool, order: str) -> None:
    said = f"Every trial scores 0.000: the questions do not tell them apart, and the order is {order}."
    assert said in text(0.0, 0.0, by_loss=by_loss)
    assert "Every trial scores" not in text(0.0, 0.5, by_loss=by_loss)
    assert "Every trial scores" not in text(0.0, by_loss=by_loss)


LOOKS = (Look(0, 1 / 9, 0.25, None, 7), Look(1, 1 / 3, 0.31, 1.75, 20))
TRIALS = (
    TrialRow(0, {"train.rank": 2}, "finished", score=0.5, valid_loss=1.5, probe_loss=0.25, feasible=False, seconds=5),
    TrialRow(1, {"train.rank": 4}, "finished", score=0.4, valid_loss=1.25, probe_loss=0.0, seconds=6),
    TrialRow(2, {"train.rank": 8}, "pruned", "not among the best", looks=LOOKS, seconds=3),
    TrialRow(3, {"train.rank": 16}, "finished", score=0.6, valid_loss=2.5, probe_loss=-0.25, seconds=7),
    TrialRow(4, {"train.rank": 32}, "interrupted"),
)


def table_of(result: SweepResult) -> list[list[str]]:
    lines = sweep_text(result, SweepSettings(halving="off"), recipe="mine.yaml").splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("──"))
    rows = lines[start + 1 : lines.index("", start)]
    return [" ".join(row.split()).split(" ", 10) for row in rows]


def test_the_table_has_the_best_first_then_the_others_by_number_and_each_has_its_own_figures() -> None:
    assert [" ".join(row) for row in table_of(result_of(*TRIALS, ranking=(4, 2)))] == [
        "1 4 rank 16 0.600 2.5000 -25% 7.0 s finished",
        "2 2 rank 4 0.400 1.2500 +0% 6.0 s finished",
        "1 rank 2 0.500 1.5000 +25% 5.0 s finished: fails too many",
        "probes",
        "3 rank 8 0.310 1.7500 3.0 s pruned: not among the",
        "best",
    ]


def test_the_error_rate_of_a_verdict_is_that_of_the_recipe_over_the_trials() -> None:
    verdict = Verdict(4, "run", "IMPROVED", "IMPROVED: better", 0.01, "runs/x/report.html")
    result = replace(result_of(*TRIALS, ranking=(4, 2)), alpha=0.01, finalists=(verdict,))
    said = " ".join(sweep_text(result, SweepSettings(halving="off"), recipe="mine.yaml").split())
    assert "trial 4: IMPROVED: better (report: runs/x/report.html)" in said
    assert "Error rate of each verdict: 0.05 / 5 trials = 0.01." in said


def test_a_loss_that_is_not_finite_is_null_in_the_results() -> None:
    looks = (Look(0, 1 / 9, 0.0, math.inf, 7), Look(1, 1 / 3, 0.0, 1.5, 20))
    result = result_of(replace(TRIALS[2], looks=looks), ranking=())
    assert [look["valid_loss"] for look in result.as_json()["trials"][0]["looks"]] == [None, 1.5]
    assert "inf" in sweep_text(
        replace(result, trials=(replace(TRIALS[2], looks=looks[:1]),)), SweepSettings(), recipe="x"
    )


def test_a_probe_that_only_the_base_passes_is_lost_and_one_that_only_the_trial_passes_is_won() -> None:
    base = {"a": True, "b": True, "c": False, "d": True}
    assert probe_loss(base, {"a": True, "b": False, "c": False, "d": False}) == 0.5
    assert probe_loss(base, {"a": True, "b": True, "c": True, "d": True}) == -0.25
