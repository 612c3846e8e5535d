"""Notation never decides: equal values in any notation support a nugget, other values and negations do not."""

import pytest

from mlx_ragtune.records import Nugget
from mlx_ragtune.scoring.answers.keywords import keyword_coverage
from mlx_ragtune.scoring.answers.nuggets import nugget_state
from mlx_ragtune.scoring.answers.numbers import number_grounding
from tests.scoring.answers import outside_formatting_rows
from tests.scoring.answers.formatting_cases import FIFTH, FIRST, FOURTH, SECOND, THIRD, Case

# Figures of the first try: of the 195 rows of FIRST, phrases without values judged 104 rightly; of the 88 rows of
# SECOND, the first version of the code with values judged 81 rightly, phrases 50. One nugget was then reworded.


def _rows(*, supported: bool) -> list[tuple[Nugget, str]]:
    def answers(case: Case) -> tuple[str, ...]:
        return case.supported if supported else case.not_supported

    return [(case.nugget, answer) for case in (*FIRST, *SECOND, *THIRD, *FOURTH, *FIFTH) for answer in answers(case)]


@pytest.mark.parametrize(("nugget", "answer"), _rows(supported=True), ids=lambda value: str(value)[:60])
def test_equal_values_support_a_nugget(nugget: Nugget, answer: str) -> None:
    assert nugget_state(answer, nugget) == "supported"


@pytest.mark.parametrize(("nugget", "answer"), _rows(supported=False), ids=lambda value: str(value)[:60])
def test_other_values_and_negations_do_not(nugget: Nugget, answer: str) -> None:
    assert nugget_state(answer, nugget) != "supported"


def _outside(rows: tuple[outside_formatting_rows.Row, ...], *, supported: bool) -> list[tuple[Nugget, str]]:
    return [
        (Nugget(text, tuple(tuple(alias.split(" / ")) for alias in anchors.split(" & "))), answer)
        for text, anchors, stated, other in rows
        for answer in (stated if supported else other)
    ]


@pytest.mark.parametrize(
    ("nugget", "answer"),
    [
        *_outside(outside_formatting_rows.ROWS, supported=True),
        *_outside(outside_formatting_rows.SECOND, supported=True),
        *_outside(outside_formatting_rows.THIRD, supported=True),
    ],
    ids=lambda value: str(value)[:60],
)
def test_equal_values_of_an_outsider_support_a_nugget_and_are_keywords(nugget: Nugget, answer: str) -> None:
    assert nugget_state(answer, nugget) == "supported"
    assert keyword_coverage(answer, nugget.anchors) == 1.0


@pytest.mark.parametrize(
    ("nugget", "answer"),
    [
        *_outside(outside_formatting_rows.ROWS, supported=False),
        *_outside(outside_formatting_rows.SECOND, supported=False),
        *_outside(outside_formatting_rows.THIRD, supported=False),
    ],
    ids=lambda value: str(value)[:60],
)
def test_other_values_of_an_outsider_do_not(nugget: Nugget, answer: str) -> None:
    assert nugget_state(answer, nugget) != "supported"


@pytest.mark.parametrize(
    ("nugget", "answer"), _outside(outside_formatting_rows.ROWS, supported=True), ids=lambda value: str(value)[:60]
)
def test_equal_values_of_an_outsider_are_grounded(nugget: Nugget, answer: str) -> None:
    assert number_grounding(answer, [nugget.text]) in (1.0, None)
