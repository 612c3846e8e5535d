from collections.abc import Callable
from typing import Any, Literal

import pytest

from mlx_ragtune.errors import InputError
from mlx_ragtune.records import Score
from mlx_ragtune.scoring.verdict.comparison import GuardState
from mlx_ragtune.scoring.verdict.decision import compare
from mlx_ragtune.scoring.verdict.guards import forgetting_guard
from tests.scoring.made import question


def _passed(lost: int, gained: int, kept: int) -> tuple[dict[str, bool], dict[str, bool]]:
    before = [True] * lost + [False] * gained + [True] * kept
    after = [False] * lost + [True] * gained + [True] * kept
    names = [f"probe-{number}" for number in range(len(before))]
    return dict(zip(names, before, strict=True)), dict(zip(names, after, strict=True))


@pytest.mark.parametrize(
    ("lost", "gained", "kept", "state"),
    [
        (0, 0, 60, "PASS"),
        (3, 0, 57, "PASS"),
        (4, 0, 56, "WARN"),
        (6, 0, 54, "FAIL"),
        (0, 9, 51, "PASS"),
        (6, 6, 48, "PASS"),
    ],
)
def test_forgetting_fails_when_significantly_worse_and_warns_beyond_the_margin(
    lost: int, gained: int, kept: int, state: str
) -> None:
    guard = forgetting_guard(*_passed(lost, gained, kept), margin=0.05, alpha=0.05)
    assert guard.state == state
    assert guard.detail == f"60 probes: {lost} lost, {gained} gained"


def test_different_probes_are_refused() -> None:
    with pytest.raises(InputError, match="the probes differ: 1 for base, 0 for tuned"):
        forgetting_guard({"a": True}, {}, margin=0.05, alpha=0.05)
    with pytest.raises(InputError):
        forgetting_guard({}, {}, margin=0.05, alpha=0.05)


def test_losses_inside_the_noise_do_not_fail_the_probes() -> None:
    before, after = _passed(10, 0, 50)
    assert forgetting_guard(before, after, margin=0.05, alpha=0.05).state == "FAIL"
    noisy = forgetting_guard(before, after, margin=0.05, alpha=0.05, noise=0.1)
    assert (noisy.state, noisy.detail) == ("WARN", "60 probes: 10 lost, 0 gained")


N = 40
QUESTIONS = [question(id=f"q{i:02}", papers=(f"p{i // 4}",)) for i in range(N)]


def _lengths(model: Literal["base", "tuned"], words: Callable[[int], float], *, refused: int = 0) -> list[Score]:
    return [
        Score(f"q{i:02}", model, 0, "ok",
              {"correctness": 1.0, "answer_words": words(i), "false_refusal": float(i < refused)})
        for i in range(N)
    ]  # fmt: skip


def _verbosity(base: Callable[[int], float], tuned: Callable[[int], float], **changes: Any) -> GuardState:
    comparison = compare(_lengths("base", base), _lengths("tuned", tuned), QUESTIONS, **changes)
    return next(guard.state for guard in comparison.guards if guard.name == "verbosity")


@pytest.mark.parametrize(
    ("base", "tuned", "state"),
    [
        (175, 1614, "FAIL"),
        (175, 175, "PASS"),
        (175, 250, "PASS"),
        (175, 300, "WARN"),
        (175, 349, "WARN"),
        (175, 380, "FAIL"),
        (1614, 175, "PASS"),
        (3, 45, "PASS"),
        (3, 110, "FAIL"),
        (0, 0, "PASS"),
    ],
)
def test_answers_surely_more_than_twice_as_long_fail(base: float, tuned: float, state: str) -> None:
    assert _verbosity(lambda i: base + i % 3, lambda i: tuned + i % 3) == state


def test_length_that_may_be_chance_is_a_warning() -> None:
    assert _verbosity(lambda i: 100, lambda i: 90 if i // 4 < 4 else 260) == "WARN"


def test_a_verdict_with_1600_words_is_never_fine() -> None:
    comparison = compare(_lengths("base", lambda i: 175), _lengths("tuned", lambda i: 1614), QUESTIONS)
    assert comparison.verdict == "REGRESSED"
    assert "answer length (median 175 → 1,614 words)" in comparison.headline
    assert "shorten the answers in the training pairs" in comparison.headline


def test_the_verbosity_guard_respects_the_noise() -> None:
    assert _verbosity(lambda i: 100, lambda i: 230, noise={"answer_words": 40.0}) == "WARN"


def test_a_base_that_refuses_does_not_make_answers_long() -> None:
    refusing = _lengths("base", lambda i: 12, refused=N - 4)
    comparison = compare(refusing, _lengths("tuned", lambda i: 110), QUESTIONS)
    guard = next(guard for guard in comparison.guards if guard.name == "verbosity")
    assert guard.detail == "median 12 → 110 words"  # of the four that both answered
    everything = _lengths("base", lambda i: 12, refused=N)
    comparison = compare(everything, _lengths("tuned", lambda i: 110), QUESTIONS)
    assert not [guard for guard in comparison.guards if guard.name == "verbosity"]


def test_the_guards_are_the_same_every_time() -> None:
    one, two = (_verbosity(lambda i: 100 + i, lambda i: 205 + 2 * i) for _ in range(2))
    assert one == two
