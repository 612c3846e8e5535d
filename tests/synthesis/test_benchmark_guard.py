"""A pair that asks the benchmark in other words, or answers with its reference, is told from any other pair."""

from dataclasses import replace
from pathlib import Path

import pytest

from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.records import Pair
from mlx_ragtune.synthesis.benchmark_guard import ASKS, PARAPHRASES, REFERENCE, BenchmarkGuard
from mlx_ragtune.synthesis.benchmark_view import read_view, view_of
from mlx_ragtune.synthesis.corpus_titles import CorpusTitles
from tests.synthesis.corpus import grounded

NOTES = Path(__file__).parents[2] / "data" / "rag_notes"
PAIRS, BENCHMARK = NOTES / "pairs.jsonl", NOTES / "benchmark.jsonl"


@pytest.fixture(scope="module")
def guard() -> BenchmarkGuard:
    return BenchmarkGuard(read_view(BENCHMARK))


@pytest.mark.parametrize(
    "question",
    [
        "By how much does QLoRA lower the GPU memory that fine-tuning a 65B parameter model needs?",
        "In prefix-tuning, what is trained, what is frozen, and which share of the parameters is learned?",
        "How big is TinyLlama, and how much text was it pre-trained on?",
        "Which commercial web search engine did Corrective RAG use and what did each query cost?",
    ],
)
def test_a_question_of_the_benchmark_in_other_words_is_found(question: str, guard: BenchmarkGuard) -> None:
    assert guard.reason(replace(grounded("LoRA"), question=question)) in (ASKS, PARAPHRASES)


@pytest.mark.parametrize(
    "question",
    [
        "By how much does LoftQ lower the GPU memory that fine-tuning a 65B parameter model needs?",
        "How big is Phi-3, and how much text was it pre-trained on?",
        "Which ranks does QLoRA use in its adapters?",
    ],
)
def test_another_question_on_the_subject_is_not(question: str, guard: BenchmarkGuard) -> None:
    assert guard.reason(replace(grounded("LoRA"), question=question)) == ""


def test_an_answer_with_a_run_of_a_reference_is_found(guard: BenchmarkGuard) -> None:
    copied = "It is known that the memory needed falls from more than 780GB to less than 48GB, so that it fits."
    assert guard.reason(replace(grounded("LoRA"), answer=copied)) == REFERENCE
    own = "The memory needed falls from more than 30GB to less than 4GB, so it fits."
    assert guard.reason(replace(grounded("LoRA"), answer=own)) == ""


def test_the_shipped_training_pairs_teach_nothing_of_the_shipped_benchmark(guard: BenchmarkGuard) -> None:
    assert [pair.id for pair in read_rows(PAIRS, Pair) if guard.reason(pair)] == []


def test_an_empty_benchmark_bars_nothing() -> None:
    assert BenchmarkGuard(view_of([])).reason(grounded("LoRA")) == ""


def test_titles_of_other_papers_are_found_unless_the_source_names_them() -> None:
    titles = CorpusTitles(["LoRA: Low-Rank Adaptation", "QLoRA: Efficient Finetuning of Quantized LLMs", "Attention"])
    own = ["LoRA: Low-Rank Adaptation"]
    cited = "As QLoRA - Efficient finetuning of quantized LLMs reports, it saves."
    assert titles.others(cited, own, lambda: "") == ["QLoRA: Efficient Finetuning of Quantized LLMs"]
    assert titles.others(cited, own, lambda: f"See [4]: {cited}") == []
    assert titles.others('"LoRA: Low-Rank Adaptation" uses attention.', own, lambda: "") == []
    assert titles.others('"Attention" uses attention.', own, lambda: "") == ["Attention"]
