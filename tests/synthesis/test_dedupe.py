"""Repeated questions are found, different ones are left alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.records import Question
from mlx_ragtune.synthesis.dedupe import (
    BLOCK,
    Seen,
    Vectorizer,
    contamination,
    normal_form,
    without_duplicates,
)
from tests.synthesis.corpus import METHODS, grounded, near_miss, off_corpus

BENCHMARK = tuple(read_rows(Path(__file__).parents[2] / "data" / "rag_notes" / "benchmark.jsonl", Question))
VECTORIZER = Vectorizer(question.question for question in BENCHMARK)


def cosine(left: str, right: str) -> float:
    one, two = VECTORIZER.vectors([left, right])
    return float(one @ two)


def test_vectors_have_length_one_and_an_empty_text_has_none() -> None:
    rows = VECTORIZER.vectors(["What is LoRA?", "…"])
    assert np.allclose(np.linalg.norm(rows, axis=1), [1, 0])
    assert rows.dtype == np.float32


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("How many bits does QLoRA save?", "How many bits does QLoRA save ?"),
        ("How many bits per parameter does QLoRA save?", "how many bits per parameter does qlora save"),
        ("How does DoRA decompose the weights of a model?", "How does DoRA decompose weights of a model?"),
        ("What does quantization cost?", "What does quantization cost?"),
    ],
)
def test_a_question_in_the_same_words_is_near(left: str, right: str) -> None:
    assert cosine(left, right) >= 0.92


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("How many bits does QLoRA save?", "How many bits does DoRA save?"),
        ("How many parameters has LoRA?", "How many parameters has LoRA+?"),
        ("What is the accuracy at rank 4?", "What is the accuracy at rank 64?"),
        ("What does RAGAS measure?", "How is HNSW built?"),
    ],
)
def test_a_question_about_something_else_is_not_near(left: str, right: str) -> None:
    assert cosine(left, right) < 0.92


def test_the_benchmark_repeats_no_question() -> None:
    seen = Seen(VECTORIZER)
    assert [found for one in BENCHMARK if (found := seen.add(one.id, one.question))] == []


def test_more_questions_than_a_block_are_all_remembered() -> None:
    seen = Seen(VECTORIZER)
    for number in range(BLOCK + 5):
        assert seen.add(f"q{number}", f"What happened in year {number} to person {number * 7}?") is None
    again = seen.add("again", "What happened in year 0 to person 0?")
    assert again is not None
    assert (again.of, again.cosine) == ("q0", 1.0)


def test_later_duplicates_go_and_the_first_stays() -> None:
    asked = "How does DoRA decompose the pre-trained weights of a large language model?"
    first, other = replace(grounded("LoRA"), question=asked), grounded("DoRA")
    exact = replace(first, id="exact")
    near = replace(first, id="near", question=asked.replace("the ", ""))
    kept, gone = without_duplicates([first, exact, other, near])
    assert [pair.id for pair in kept] == ["g-lora-0", "g-dora-0"]
    assert [(one.id, one.of) for one in gone] == [("exact", "g-lora-0"), ("near", "g-lora-0")]
    assert gone[0].cosine == 1.0 > gone[1].cosine >= 0.92


def test_a_refusal_may_ask_what_an_answerable_pair_asks() -> None:
    pair = grounded("LoRA")
    contrast = replace(near_miss("LoRA"), question=pair.question)
    kept, gone = without_duplicates([pair, contrast, replace(contrast, id="twice")])
    assert kept == [pair, contrast]
    assert [one.id for one in gone] == ["twice"]


def test_a_benchmark_question_among_the_pairs_is_reported() -> None:
    stolen = replace(grounded("LoRA"), id="stolen", question=BENCHMARK[3].question.upper())
    found = contamination([off_corpus(1), stolen], BENCHMARK)
    assert [(one.id, one.of) for one in found.questions] == [("stolen", BENCHMARK[3].id)]
    assert found


def test_a_benchmark_paper_among_the_pairs_is_reported() -> None:
    found = contamination([grounded("LoRA"), grounded("PPO")], BENCHMARK)
    assert found.papers == {"g-lora-0": ("lora",)}


def test_clean_pairs_are_not_contaminated() -> None:
    assert not contamination([off_corpus(number) for number in range(3)], BENCHMARK)
    assert not contamination([], BENCHMARK)
    assert not contamination([grounded(name) for name in METHODS], [])


def test_normal_form_keeps_what_tells_methods_apart() -> None:
    assert normal_form("Is LoRA+ 2.5 % better?") != normal_form("Is LoRA 2.5 % better?")
    assert normal_form("Does it generalise?") == normal_form("does it GENERALIZE")
