"""Which trials go on at a rung, and what orders them."""

from pathlib import Path

import pytest

from mlx_ragtune.sweeping.halving import rung_of, rung_shares
from mlx_ragtune.sweeping.trials import Look, objective, ranked
from tests.sweeping.made import asked, journal, judged, made_space, opened

WIDE = {"train__rank": tuple(range(1, 40))}


def test_shares_grow_by_the_reduction() -> None:
    assert rung_shares(3, 2) == pytest.approx((1 / 9, 1 / 3))
    assert rung_shares(2, 3) == pytest.approx((1 / 8, 1 / 4, 1 / 2))


def test_a_validation_belongs_to_the_highest_rung_that_it_reached() -> None:
    shares = rung_shares(3, 2)
    assert [rung_of(update, 18, shares) for update in (1, 2, 5, 6, 12, 18)] == [None, 0, 0, 1, 1, None]


def test_of_an_unknown_number_of_trials_each_is_compared_with_those_before_it(tmp_path: Path) -> None:
    sweep = opened(journal(tmp_path), made_space(**WIDE), reduction=3, updates=1000)
    scores = [0.5, 0.4, 0.6, 0.55, 0.3, 0.58, 0.7, 0.1, 0.2]
    went_on = []
    for score in scores:
        trial = asked(sweep)
        ends = sweep.look(trial, Look(0, 1 / 9, score, 1.0, 1))
        went_on.append(not ends)
        if ends:
            sweep.prune(trial, "not among the best")
        else:
            sweep.complete(trial, judged(score))
    # the first; the best of 3, 4 and 5; the two best of 6 and more
    assert went_on == [True, False, True, False, False, True, True, False, False]


def test_of_a_known_number_of_trials_as_many_places_as_their_share_has_are_left(tmp_path: Path) -> None:
    sweep = opened(journal(tmp_path), made_space(**WIDE), reduction=3, trials=8)
    scores, ended = [0.5, 0.4, 0.6, 0.55, 0.3, 0.58, 0.7, 0.1], {}
    held = []
    for score in scores:
        trial = asked(sweep)
        if sweep.look(trial, Look(0, 1 / 9, score, 1.0, 1)):
            ended[score] = "at once"
            sweep.prune(trial, "not among the best")
        else:
            sweep.pause(trial)
            held.append((score, trial))
    assert [row.state for row in sweep.rows()].count("paused") == len(held)
    for score, trial in held:
        sweep.resume(trial)
        ended[score] = "later" if sweep.ends(trial) else ""
    # Two of eight continue. Others were among the best two until better ones came.
    assert ended == {
        0.5: "later", 0.4: "later", 0.6: "", 0.55: "later", 0.3: "at once", 0.58: "later", 0.7: "", 0.1: "at once"
    }  # fmt: skip
    assert not sweep.halving.ends((0.6, 3), [(0.5, 1), (0.4, 2)], rung=1), "one of eight continues from the second rung"
    assert sweep.halving.ends((0.6, 3), [(0.7, 4)], rung=1)
    assert sweep.halving.ends((0.6, 3), [(0.6, 2)], rung=1), "of two equal ones the earlier continues"
    assert not sweep.halving.ends((0.6, 3), [(0.6, 4)], rung=1)


def test_the_finalists_have_places_at_every_rung_and_a_finite_space_is_a_known_number(tmp_path: Path) -> None:
    wide = opened(journal(tmp_path), made_space(**WIDE), trials=9, finalists=2, name="a").halving
    assert (wide.planned, wide.places(0, 0), wide.places(1, 0)) == (9, 3, 2)
    assert opened(journal(tmp_path), made_space(train__rank=(4, 8)), trials=9, name="b").halving.planned == 2
    minutes = opened(journal(tmp_path), made_space(train__rank=(4, 8)), minutes=9, name="c").halving
    assert minutes.planned is None


def test_equal_scores_are_ordered_by_validation_loss_and_nothing_else_is() -> None:
    assert objective(0.5, 1.0) > objective(0.5, 1.1)
    assert objective(0.5002, 30.0) > objective(0.5001, 0.01), "no loss outweighs a score"
    assert objective(0.0, 1e9) > objective(-0.0001, 0.0)
    assert objective(0.5, None) == 0.5


def test_the_score_and_not_the_loss_decides_at_a_rung(tmp_path: Path) -> None:
    sweep = opened(journal(tmp_path), made_space(**WIDE), trials=3)
    first, second, third = asked(sweep), asked(sweep), asked(sweep)
    assert not sweep.look(first, Look(0, 1 / 9, 0.2, 3.0, 1))
    assert sweep.look(second, Look(0, 1 / 9, 0.1, 0.5, 1)), "a lower loss does not help a lower score"
    assert not sweep.look(third, Look(0, 1 / 9, 0.2, 2.9, 1)), "a tie is broken by the loss"


def test_a_rung_counts_an_interrupted_trial_once(tmp_path: Path) -> None:
    sweep = opened(journal(tmp_path), made_space(**WIDE), reduction=2, updates=1000)
    low, broken = asked(sweep), asked(sweep)
    sweep.look(low, Look(0, 1 / 4, 0.1, 1.0, 1))
    sweep.look(broken, Look(0, 1 / 4, 0.9, 1.0, 1))
    sweep.interrupt(broken, "stopped")
    again = asked(sweep)
    assert again.params == broken.params
    assert [look["score"] for look in again.user_attrs["looks"]] == [0.9], "it was looked at, and is not again"
    middle = asked(sweep)
    # Three trials were here, so one goes on; with the interrupted one there would be four, and two would.
    assert sweep.look(middle, Look(0, 1 / 4, 0.5, 1.0, 1))


def test_a_trial_that_fails_too_many_probes_cannot_win(tmp_path: Path) -> None:
    sweep = opened(journal(tmp_path), made_space(**WIDE), trials=9, max_probe_loss=0.1)
    for score, lost in ((0.9, 0.2), (0.5, 0.1), (0.6, None), (0.4, -0.3)):
        sweep.complete(asked(sweep), judged(score, probe_loss=lost))
    rows = sweep.rows()
    assert [row.feasible for row in rows] == [False, True, True, True]
    assert [row.score for row in ranked(rows, by_loss=True)] == [0.6, 0.5, 0.4]


def test_losses_of_different_rows_break_no_tie(tmp_path: Path) -> None:
    space = made_space(train__rank=(4, 8), dataset__max_tokens=(512, 1024))
    sweep = opened(journal(tmp_path), space, trials=9)
    assert not sweep.by_loss
    for loss in (2.0, 1.0):
        sweep.complete(asked(sweep), judged(0.5, valid_loss=loss))
    assert [row.number for row in ranked(sweep.rows(), by_loss=sweep.by_loss)] == [0, 1]
    assert [trial.value for trial in sweep.trials()] == [0.5, 0.5], "the sampler does not learn from them either"
