from dataclasses import replace

import pytest

from mlx_ragtune.records import Nugget, Passage, Score
from mlx_ragtune.scoring.answers.shown import answer_shown, shown_table
from tests.scoring.made import passage, question, unanswerable

MEMORY = "Memory falls to 48GB."
KEPT = "Performance of 16-bit tuning is preserved."


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([f"{MEMORY} {KEPT}"], True),
        ([MEMORY, KEPT], True),
        ([KEPT, "Something else."], False),
        ([f"It falls to 24GB. {KEPT}"], False),
        ([MEMORY, "Performance of 16-bit tuning is not preserved."], False),
        ([], False),
    ],
)
def test_the_answer_was_shown_if_the_passages_state_every_vital_fact(texts: list[str], expected: bool) -> None:
    assert answer_shown(question(), [passage("qlora", text) for text in texts]) is expected


def test_a_fact_that_is_not_vital_need_not_be_shown() -> None:
    facts = (Nugget("It is 48GB.", (("48GB",),)), Nugget("It was 780GB.", (("780GB",),), vital=False))
    assert answer_shown(question(nuggets=facts), [passage("qlora", MEMORY)])
    assert not answer_shown(question(nuggets=facts[1:]), [passage("qlora", "It was 780GB.")])


def test_passages_that_say_what_is_unknown_are_no_refusal() -> None:
    text = f"The paper does not say how long it takes. {MEMORY} {KEPT}"
    assert answer_shown(question(), [Passage("c", "qlora", "", text)])


def _score(name: str, correct: float, refused: float, *, seed: int = 0) -> Score:
    return Score(name, "base", seed, "ok", {"correctness": correct, "false_refusal": refused})


def test_each_arm_is_counted_with_and_without_the_answer() -> None:
    asked = [question(id=name) for name in ("a", "b", "c")] + [unanswerable(id="u"), question(id="v", nuggets=())]
    base = [_score("a", 1.0, 0.0), _score("a", 0.0, 0.0, seed=1), _score("b", 1.0, 0.0), _score("c", 0.0, 1.0)]
    lost = replace(_score("c", 0.0, 0.0), validity="transport_error", metrics={})
    table = shown_table(asked, {"base": base, "tuned": [_score("a", 1.0, 0.0), lost]}, {"a", "b"})
    assert table == {
        "shown": 2,
        "of": 3,
        "arms": {
            "base": {
                "shown": {"n": 2, "correctness": 0.75, "false_refusal": 0.0},
                "not_shown": {"n": 1, "correctness": 0.0, "false_refusal": 1.0},
            },
            "tuned": {
                "shown": {"n": 1, "correctness": 1.0, "false_refusal": 0.0},
                "not_shown": {"n": 0, "correctness": None, "false_refusal": None},
            },
        },
    }
