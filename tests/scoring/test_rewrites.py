"""All references of the shipped benchmark, rewritten: notation costs nothing, another value or a denial everything."""

import random
import re
from functools import cache
from pathlib import Path

import pytest
import yaml

from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.records import Nugget, Question
from mlx_ragtune.scoring.answers.citation import without_titles
from mlx_ragtune.scoring.answers.nuggets import correctness, nugget_state
from mlx_ragtune.scoring.answers.numbers import number_grounding
from tests.scoring.rewrites import (
    AROUND,
    CHANGING_NUMBERS,
    CHANGING_UNITS,
    DENYING,
    KEEPING,
    Rewrite,
    around,
    outside_titles,
)

FOLDER = Path(__file__).parents[2] / "data" / "rag_notes"
QUESTIONS = [question for question in read_rows(FOLDER / "benchmark.jsonl", Question) if question.answerable]


@cache
def titles() -> dict[str, str]:
    heads = {path.stem: path.read_text(encoding="utf-8").split("---\n")[1] for path in FOLDER.glob("papers/*.md")}
    cited = {paper for question in QUESTIONS for paper in question.papers}
    return {paper: str(yaml.safe_load(head)["title"]) for paper, head in heads.items() if paper in cited}


def score(question: Question, text: str) -> float:
    own = {paper: titles()[paper] for paper in question.papers}
    result = correctness(without_titles(text, own), question.nuggets).score
    assert result is not None
    return result


def rewritten(text: str, name: str, rewrite: Rewrite) -> str:
    return outside_titles(text, lambda part: rewrite(part, random.Random(f"{name}{part}")))


def mean_score(texts: list[tuple[Question, str]]) -> float:
    return sum(score(question, text) for question, text in texts) / len(texts)


@pytest.mark.parametrize("name", KEEPING)
def test_another_notation_costs_less_than_a_point(name: str) -> None:
    texts = [(question, rewritten(question.reference, name, KEEPING[name])) for question in QUESTIONS]
    assert mean_score(texts) > 0.99
    assert any(text != question.reference for question, text in texts)


@pytest.mark.parametrize("seed", range(4))
def test_four_notations_at_once_cost_less_than_a_point(seed: int) -> None:
    texts = []
    for question in QUESTIONS:
        draw = random.Random(f"{seed}{question.id}")
        text = question.reference
        for name in draw.sample(sorted(KEEPING), 4):
            text = rewritten(text, f"{seed}{name}", KEEPING[name])
        texts.append((question, around(text, AROUND[draw.choice(sorted(AROUND))])))
    assert mean_score(texts) > 0.99


@pytest.mark.parametrize("name", DENYING)
def test_a_denied_reference_is_not_correct(name: str) -> None:
    texts = [(question, around(question.reference, DENYING[name])) for question in QUESTIONS]
    assert mean_score(texts) < 0.02


def _in_numbers(nugget: Nugget, pattern: str) -> bool:
    """Whether an anchor group has only aliases with a number: then the nugget stands or falls with it."""
    return any(all(re.search(pattern, alias) for alias in aliases) for aliases in nugget.anchors)


NUMERIC = [
    (question, nugget)
    for question in QUESTIONS
    for nugget in question.nuggets
    if nugget.vital and _in_numbers(nugget, r"^\d[\d,.]*(?: ?%| ?GB| ?B| percent)?$|^\d.*percent$|^\d.*gigabytes$")
]
WITH_UNIT = [
    (question, nugget) for question, nugget in NUMERIC if _in_numbers(nugget, r"\d.*(?:%|GB|B|percent|bytes)$")
]


def supported(rows: list[tuple[Question, Nugget]], name: str, rewrite: Rewrite) -> list[str]:
    own = {question.id: {paper: titles()[paper] for paper in question.papers} for question, _ in rows}
    return [
        f"{question.id}: {text}"
        for question, nugget in rows
        for text in [rewritten(question.reference, name, rewrite)]
        if nugget_state(without_titles(text, own[question.id]), nugget) == "supported"
    ]


@pytest.mark.parametrize("name", CHANGING_NUMBERS)
def test_another_number_supports_no_numeric_nugget(name: str) -> None:
    assert len(NUMERIC) >= 15
    assert supported(NUMERIC, name, CHANGING_NUMBERS[name]) == []


@pytest.mark.parametrize("name", CHANGING_UNITS)
def test_another_unit_supports_no_nugget_with_a_unit(name: str) -> None:
    assert len(WITH_UNIT) >= 8
    assert supported(WITH_UNIT, name, CHANGING_UNITS[name]) == []


@pytest.mark.parametrize("name", KEEPING)
def test_numbers_in_another_notation_stay_grounded(name: str) -> None:
    for question in QUESTIONS:
        text = rewritten(question.reference, name, KEEPING[name])
        assert number_grounding(text, [question.reference]) in (None, 1.0), text


@pytest.mark.parametrize("name", ["sign", "LaTeX sign", "decimal point", "a thousandth"])
def test_other_numbers_are_not_grounded(name: str) -> None:
    shares = []
    for question, _ in NUMERIC:
        bare = outside_titles(question.reference, lambda part: part).split('"')[-1]
        changed = CHANGING_NUMBERS[name](bare, random.Random(0))
        shares.append(number_grounding(changed, [bare]) or 0.0)
    assert sum(shares) / len(shares) < 0.15
