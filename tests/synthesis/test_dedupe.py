"""Repeated questions are found, different ones are left alone."""

import json
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_ragtune.jsonl import read_rows, write_rows
from mlx_ragtune.records import Question
from mlx_ragtune.synthesis.benchmark_view import BenchmarkView, HeldOut, dataset_view, view_of
from mlx_ragtune.synthesis.dedupe import (
    NEAR,
    QuestionIndex,
    Seen,
    Vectorizer,
    contamination,
    normal_form,
    without_duplicates,
)
from tests.synthesis.corpus import METHODS, grounded, near_miss, off_corpus

FILE = Path(__file__).parents[2] / "data" / "rag_notes" / "benchmark.jsonl"
BENCHMARK = tuple(read_rows(FILE, Question))
VIEW = view_of(BENCHMARK)
HELD = HeldOut(VIEW.papers, ())
VECTORIZER = Vectorizer(question.question for question in BENCHMARK)


def cosine(left: str, right: str) -> float:
    weights, others = (VECTORIZER.weights(normal_form(text)) for text in (left, right))
    return sum(weight * others.get(feature, 0.0) for feature, weight in weights.items())


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


def test_hundreds_of_questions_are_all_remembered() -> None:
    seen = Seen(VECTORIZER)
    for number in range(600):
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
    result = contamination([off_corpus(1), stolen, replace(stolen, id="again")], VIEW, HELD)
    asked = BENCHMARK[3].question
    assert [(duplicate.id, duplicate.of) for duplicate in result.questions] == [("stolen", asked), ("again", asked)]
    assert result


def test_a_benchmark_paper_among_the_pairs_is_reported() -> None:
    result = contamination([grounded("LoRA"), grounded("PPO")], VIEW, HELD)
    assert result.papers == {"g-lora-0": ("lora",)}


def test_clean_pairs_are_not_contaminated() -> None:
    assert not contamination([off_corpus(number) for number in range(3)], VIEW, HELD)
    assert not contamination([], VIEW, HELD)
    assert not contamination([grounded(name) for name in METHODS], view_of([]), HeldOut(frozenset(), ()))


WORDS = st.sampled_from(["how", "many", "bits", "does", "lora", "qlora", "save", "量化", "64", "?", "αβγδεζηθ"])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(WORDS, max_size=12).map(" ".join), min_size=1, max_size=12), st.lists(WORDS).map(" ".join))
def test_the_index_finds_exactly_what_comparing_with_every_question_finds(asked: list[str], question: str) -> None:
    vectorizer = Vectorizer([*asked, question])
    index = QuestionIndex(vectorizer)
    for text in asked:
        index.add(normal_form(text), text)
    weights = vectorizer.weights(normal_form(question))
    expected = set()
    for form in {normal_form(text) for text in asked}:
        others = vectorizer.weights(form)
        cosine = sum(weight * others.get(feature, 0.0) for feature, weight in weights.items())
        if form == normal_form(question) or cosine >= NEAR:
            expected.add(form)
    assert {name for name, _ in index.matches(question)} == expected


def test_questions_with_one_word_left_out_are_found_exactly_when_they_are_near() -> None:
    vectorizer = Vectorizer(question.question for question in BENCHMARK)
    index = QuestionIndex(vectorizer)
    for question in BENCHMARK[:40]:
        index.add(question.id, question.question)
    near: Counter[bool] = Counter()
    for question in BENCHMARK[:40]:
        parts = question.question.split()
        own = vectorizer.weights(normal_form(question.question))
        for number in range(len(parts)):
            variant = " ".join(parts[:number] + parts[number + 1 :])
            weights = vectorizer.weights(normal_form(variant))
            is_near = sum(weight * own.get(feature, 0.0) for feature, weight in weights.items()) >= NEAR
            assert (question.id in dict(index.matches(variant))) == is_near, variant
            near[is_near] += 1
    assert min(near.values()) > 20


def test_a_large_benchmark_is_compared_in_little_time_and_memory() -> None:
    questions = tuple(f"Which value has item {number} of the list {number % 97}?" for number in range(1500))
    pairs = [replace(off_corpus(1), id=f"p{number}", question=questions[number * 70]) for number in range(20)]
    tracemalloc.start()
    result = contamination([*pairs, off_corpus(2)], BenchmarkView(frozenset(), questions), HeldOut(frozenset(), ()))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [duplicate.id for duplicate in result.questions] == [pair.id for pair in pairs]
    assert peak < 12 * 2**20, "a dense matrix of the questions takes 24 MiB"


def test_the_data_set_depends_only_on_papers_questions_and_references(tmp_path: Path) -> None:
    changed = [
        replace(question, id=f"x{question.id}", topic="y", keywords=(), nuggets=()) for question in reversed(BENCHMARK)
    ]
    write_rows(tmp_path / "changed.jsonl", changed)
    assert dataset_view(tmp_path / "changed.jsonl") == dataset_view(FILE)
    for name, other in (
        ("question", replace(BENCHMARK[0], question="Another one?")),
        ("papers", replace(BENCHMARK[0], papers=("another",))),
        ("reference", replace(BENCHMARK[0], reference="another")),
    ):
        write_rows(tmp_path / f"{name}.jsonl", [other, *BENCHMARK[1:]])
        assert dataset_view(tmp_path / f"{name}.jsonl") != dataset_view(FILE), name
    json.dumps(dataset_view(FILE))


def test_normal_form_keeps_what_tells_methods_apart() -> None:
    assert normal_form("Is LoRA+ 2.5 % better?") != normal_form("Is LoRA 2.5 % better?")
    assert normal_form("Does it generalise?") == normal_form("does it GENERALIZE")
