"""M6: pairs are made within a condition, and without its paper a question is one to refuse."""

import pytest

from mlx_ragtune.errors import InputError
from mlx_ragtune.records import Question, Score
from mlx_ragtune.scoring.verdict.distractors import condition_id, condition_rows


def asked(count: int) -> list[Question]:
    return [
        Question(condition_id(f"q{at}", condition), "t", "?", condition != "distractors", (f"p{at}",),
                 refusal_kind="near_miss" if condition == "distractors" else None)
        for at in range(count) for condition in ("gold", "distractors")
    ]  # fmt: skip


def scored(questions: list[Question], model: str, *, gold: float, refused: float) -> list[Score]:
    return [
        Score(one.id, model, 0, "ok", {"correctness": gold} if one.answerable else {"refusal_near_miss": refused})  # type: ignore[arg-type]
        for one in questions
    ]


def test_each_condition_is_compared_apart() -> None:
    questions = asked(8)
    base = scored(questions, "base", gold=0.25, refused=0.0)
    tuned = scored(questions, "tuned", gold=0.75, refused=1.0)
    rows = {(one.condition, one.metric): one for one in condition_rows(base, tuned, questions, alpha=0.05)}
    assert set(rows) == {("gold", "correctness"), ("distractors", "refusal_near_miss")}
    assert rows["gold", "correctness"].difference == pytest.approx(0.5)
    refusing = rows["distractors", "refusal_near_miss"]
    assert (refusing.base, refusing.tuned, refusing.n_questions) == (0.0, 1.0, 8)
    assert refusing.low is not None
    assert 0 < refusing.low < 1  # never an interval without width, though every question agrees


def test_one_paper_gives_no_interval() -> None:
    questions = asked(1)
    base, tuned = (scored(questions, model, gold=0.5, refused=0.0) for model in ("base", "tuned"))
    assert [(one.low, one.high) for one in condition_rows(base, tuned, questions, alpha=0.05)] == [(None, None)] * 2


def test_answers_to_different_questions_are_refused() -> None:
    questions = asked(3)
    base = scored(questions, "base", gold=0.5, refused=0.0)
    with pytest.raises(InputError):
        condition_rows(base, base[2:], questions, alpha=0.05)


def test_without_variants_there_are_no_rows() -> None:
    assert condition_rows([], [], [], alpha=0.05) == []
