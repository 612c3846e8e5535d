"""How many answers a server generates at a time."""

import random

import pytest

from mlx_ragtune.evaluation.overlap import SERIAL, overlap


def test_one_answer_after_the_other_overlaps_by_1_and_answers_at_once_by_their_number() -> None:
    assert overlap([(0, 1), (1, 2), (2.5, 4)]) == pytest.approx(1)
    assert overlap([(0, 2), (0, 2), (0, 2), (0, 2)]) == pytest.approx(4)
    assert overlap([(0, 4), (1, 2), (6, 8)]) == pytest.approx(7 / 6)


def test_too_few_answers_say_nothing() -> None:
    assert overlap([(0, 2), (0, 2)]) is None
    assert overlap([(0, 0), (1, 1), (2, 2), (3, 4)]) is None


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_a_queue_of_answers_shows_the_servers_slots_whatever_their_lengths(slots: int) -> None:
    chance = random.Random(slots)
    free, intervals = [0.0] * slots, []
    for _ in range(60):  # each answer waits for the first free slot, reads its prompt, and is generated
        place = free.index(min(free))
        start = free[place] + chance.uniform(0.1, 0.4)
        free[place] = start + chance.uniform(0.2, 2.0)
        intervals.append((start, free[place]))
    chance.shuffle(intervals)
    measured = overlap(intervals)
    assert measured is not None
    assert (measured < SERIAL) == (slots == 1)
