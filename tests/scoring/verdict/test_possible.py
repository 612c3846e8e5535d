"""Whether a verdict is possible is known before anything is trained."""

from typing import Literal

import pytest

from mlx_ragtune.records import Question, Score
from mlx_ragtune.scoring.verdict.decision import compare_arms
from mlx_ragtune.scoring.verdict.possible import Outlook, describe_outlook, outlooks
from tests.scoring.made import question, unanswerable


def benchmark(papers: int, each: int, off: int = 0, near: int = 0) -> list[Question]:
    asked = [question(id=f"a{p}-{i}", papers=(f"p{p}",)) for p in range(papers) for i in range(each)]
    asked += [unanswerable("off_corpus", id=f"o{i}") for i in range(off)]
    return asked + [unanswerable("near_miss", id=f"n{i}") for i in range(near)]


def found(papers: int, each: int, off: int = 0, near: int = 0, *, comparisons: int = 1) -> dict[str, Outlook]:
    asked = benchmark(papers, each, off, near)
    return {outlook.kind: outlook for outlook in outlooks(asked, comparisons=comparisons)}


def perfect(asked: Question, arm: Literal["base", "tuned", "prompted"]) -> Score:
    value = float(arm == "tuned")
    if asked.answerable:
        return Score(asked.id, arm, 0, "ok", {"correctness": value, "false_refusal": 0.0})
    return Score(asked.id, arm, 0, "ok", {f"refusal_{asked.refusal_kind}": value})


@pytest.mark.parametrize(("papers", "each"), [(3, 8), (4, 1), (4, 4), (4, 5), (5, 2), (6, 2), (6, 4), (12, 1)])
@pytest.mark.parametrize("unanswered", [2, 7, 8, 14])
def test_what_is_called_possible_is_what_perfect_answers_reach(papers: int, each: int, unanswered: int) -> None:
    """Compared with the verdict itself on nonsense against perfect answers, with three arms."""
    asked = benchmark(papers, each, unanswered, unanswered)
    said: dict[str, bool] = {outlook.kind: outlook.decides for outlook in outlooks(asked, comparisons=2)}
    base, tuned, prompted = ([perfect(one, arm) for one in asked] for arm in ("base", "tuned", "prompted"))
    family = compare_arms(base, tuned, asked, prompted=prompted).against_base
    for kind, name in (("answerable", "correctness"), ("off_corpus", "refusal_off_corpus")):
        row = family.row(name)
        assert row is not None
        if said[kind]:  # the family has rows that these answers leave undefined, so the outlook is stricter
            assert row.verdict == "IMPROVED"
        elif row.all.n_clusters < 4:
            assert row.verdict == "INCONCLUSIVE"


def test_six_papers_as_init_once_advised_can_decide() -> None:
    kinds = found(6, 4, 5, 4, comparisons=2)
    assert kinds["answerable"].decides
    assert not kinds["off_corpus"].decides
    assert kinds["off_corpus"].missing_to_decide == 3


def test_what_init_advises_can_decide_every_kind() -> None:
    kinds = found(10, 4, 10, 10, comparisons=2)
    assert all(outlook.decides and outlook.detectable is not None for outlook in kinds.values())
    assert 0.3 < (kinds["answerable"].detectable or 0) < 0.5


def test_three_papers_decide_nothing_however_many_questions() -> None:
    outlook = found(3, 50)["answerable"]
    assert (outlook.decides, outlook.detectable, outlook.missing_to_decide) == (False, None, 1)
    assert describe_outlook(outlook) == (
        "150 questions that the papers answer, on 3 papers: no verdict is possible, whatever the answers; "
        "it takes 1 more paper with 50 questions each"
    )


def test_more_papers_find_more_than_more_questions() -> None:
    few, wide, deep = found(10, 4)["answerable"], found(20, 4)["answerable"], found(10, 8)["answerable"]
    assert few.detectable is not None
    assert wide.detectable is not None
    assert deep.detectable is not None
    assert wide.detectable < deep.detectable < few.detectable


def test_what_is_missing_is_enough_and_no_more() -> None:
    outlook = found(6, 4)["answerable"]
    enough = found(6 + outlook.missing_for_big, 4)["answerable"]
    less = found(6 + outlook.missing_for_big - 1, 4)["answerable"]
    assert enough.missing_for_big == 0
    assert less.missing_for_big == 1


def test_a_kind_that_is_not_asked_is_said() -> None:
    assert describe_outlook(found(12, 4)["near_miss"]).startswith(
        "no questions that the papers almost answer: no verdict"
    )
    assert describe_outlook(found(12, 4, 1)["off_corpus"]).startswith("1 question outside the papers: ")


def test_an_empty_benchmark_breaks_nothing() -> None:
    assert not any(outlook.decides for outlook in outlooks([]))
