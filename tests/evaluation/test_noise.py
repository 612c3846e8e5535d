"""The noise floor: what the same file changes under other conditions."""

import random

import pytest

from mlx_ragtune.evaluation.noise import Repeat, floors, noise_facts, probe_scores
from mlx_ragtune.records import Answer, Arm, Score
from mlx_ragtune.scoring.answers.probes import NumberCheck, Probe


def answer(name: str, text: str) -> Answer:
    return Answer(name, name, "base", 0, text, "stop", 10, 5, 1.0)


def score(name: str, value: float, *, seconds: float = 1.0) -> Score:
    return Score(name, "base", 0, "ok", {"correctness": value, "latency_seconds": seconds})


def repeated(arm: Arm, before: list[float], after: list[float], *, varied: str = "threads 2 -> 1") -> Repeat:
    texts = [[answer(f"q{n}", str(value)) for n, value in enumerate(values)] for values in (before, after)]
    scores = [[score(f"q{n}", value, seconds=value) for n, value in enumerate(values)] for values in (before, after)]
    return Repeat(arm, varied, (texts[0], texts[1]), (scores[0], scores[1]))


def whole(count: int) -> list[Score]:
    return [score(f"q{n}", 1.0) for n in range(count)]


def test_answers_that_do_not_change_have_a_floor_of_zero_and_times_have_none() -> None:
    same = [repeated(arm, [1, 0, 1], [1, 0, 1]) for arm in ("base", "tuned")]
    facts = noise_facts(same, {"base": whole(9), "tuned": whole(9)})
    assert facts["floors"]["correctness"] == 0
    assert not {"latency_seconds"} & facts["floors"].keys()
    assert (facts["compared"], facts["differ"], facts["varied"]) == (3, {"base": 0, "tuned": 0}, ["threads 2 -> 1"])


def test_the_floor_is_that_of_the_condition_that_changes_most_and_falls_with_the_number_of_questions() -> None:
    repeats = [
        repeated("base", [1, 1, 1, 1], [1, 1, 1, 0]),
        repeated("base", [1, 1, 1, 1], [1, 1, 1, 1], varied="slots 1 -> 4"),
        repeated("tuned", [1, 1, 1, 1], [1, 1, 1, 1]),
    ]
    small, large = (floors(repeats, {"base": whole(n), "tuned": whole(n)})["correctness"] for n in (25, 100))
    assert small == pytest.approx(1.96 * (0.25 / 25) ** 0.5)
    assert large == pytest.approx(small / 2)
    assert noise_facts(repeats, {"base": whole(4), "tuned": whole(4)})["differ"] == {"base": 1, "tuned": 0}


def test_two_runs_of_one_model_stay_inside_the_floor() -> None:
    """A model whose answer changes in a fifth of the questions, measured on 12 and compared on 100."""
    chance, inside = random.Random(5), 0
    for _ in range(200):
        flips = [[float(chance.random() > 0.1) for _ in range(12)] for _ in range(4)]
        repeats = [repeated("base", flips[0], flips[1]), repeated("tuned", flips[2], flips[3])]
        floor = floors(repeats, {"base": whole(100), "tuned": whole(100)})["correctness"]
        runs = [sum(chance.random() > 0.1 for _ in range(100)) / 100 for _ in range(2)]
        inside += abs(runs[0] - runs[1]) <= floor
    assert inside > 180


def test_nothing_repeated_means_no_floor() -> None:
    assert noise_facts([], {"base": whole(3)}) == {"compared": 0, "varied": [], "differ": {}, "floors": {}}


def test_general_probes_have_a_floor_of_their_own() -> None:
    check = NumberCheck("number", 4)
    probe = Probe("sum", "arithmetic", "What is 2 + 2?", check, "It is 4.", "It is 5.")
    texts = {"usual": "It is 4.", "changed": "It is 5."}
    answers = {name: [answer("probe:sum", text)] for name, text in texts.items()}
    scores = [probe_scores([probe], answers[name]) for name in texts]
    repeats = [
        Repeat("base", "threads 2 -> 1", (answers["usual"], answers["changed"]), (scores[0], scores[1])),
        Repeat("tuned", "threads 2 -> 1", (answers["usual"], answers["usual"]), (scores[0], scores[0])),
    ]
    facts = noise_facts(repeats, {"base": scores[0], "tuned": scores[0]})
    assert facts["floors"] == {"forgetting": pytest.approx(1.96)}
    assert (facts["compared"], facts["differ"]) == (1, {"base": 1, "tuned": 0})


def test_refusals_share_their_noise_so_that_one_question_of_a_kind_does_not_make_its_floor() -> None:
    def scores(off_corpus: float) -> list[Score]:
        asked = [Score(f"q{n}", "base", 0, "ok", {"false_refusal": 0.0}) for n in range(9)]
        return [*asked, Score("off", "base", 0, "ok", {"refusal_off_corpus": off_corpus})]

    texts = [answer(one.question_id, "text") for one in scores(0)]
    repeats = [
        Repeat("base", "threads 2 -> 1", (texts, texts), (scores(0), scores(1))),
        Repeat("tuned", "threads 2 -> 1", (texts, texts), (scores(0), scores(0))),
    ]
    whole = [Score(f"q{n}", "base", 0, "ok", {"refusal_off_corpus": 0.0}) for n in range(14)]
    assert floors(repeats, {"base": whole, "tuned": whole})["refusal_off_corpus"] == pytest.approx(
        1.96 * (0.1 / 14) ** 0.5
    )
