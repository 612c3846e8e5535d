"""How many answers a server generates at a time."""

import random

import pytest

from mlx_ragtune.evaluation.overlap import SERIAL, Timed, overlap


def at_once(*intervals: tuple[float, float]) -> list[Timed]:
    """Answers that were all asked for at second 0."""
    return [Timed(0, first, end) for first, end in intervals]


def test_one_answer_after_the_other_overlaps_by_1_and_answers_at_once_by_their_number() -> None:
    assert overlap(at_once((0, 1), (1, 2), (2.5, 4))) == pytest.approx(1)
    assert overlap(at_once((0, 2), (0, 2), (0, 2), (0, 2))) == pytest.approx(4)
    assert overlap(at_once((0, 4), (1, 2), (6, 8))) == pytest.approx(7 / 6)


def test_too_few_answers_and_requests_that_never_wait_say_nothing() -> None:
    assert overlap(at_once((0, 2), (0, 2))) is None
    assert overlap(at_once((0, 0), (1, 1), (2, 2), (3, 4))) is None
    assert overlap([Timed(n, n + 0.1, n + 1) for n in range(20)]) is None


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_a_queue_of_answers_shows_the_servers_slots_whatever_their_lengths(slots: int) -> None:
    chance = random.Random(slots)
    free, sent, answers = [0.0] * slots, [0.0] * 4, list[Timed]()
    for _ in range(60):  # four clients; each request waits for a free slot, its prompt is read, it is generated
        client, place = sent.index(min(sent)), free.index(min(free))
        start = max(free[place], sent[client]) + chance.uniform(0.1, 0.4)
        end = start + chance.uniform(0.2, 2.0)
        answers.append(Timed(sent[client], start, end))
        free[place] = sent[client] = end
    chance.shuffle(answers)
    measured = overlap(answers)
    assert measured is not None
    assert (measured < SERIAL) == (slots == 1)
