"""What both models are asked: the training render, the right passages under each condition, ids that never meet."""

from pathlib import Path

import pytest

from mlx_ragtune.evaluation.items import PROBE_SYSTEM, ItemMaker
from mlx_ragtune.jsonl import write_rows
from mlx_ragtune.models.prompts import load_tokenizer, prompt_tokens
from mlx_ragtune.models.toy import write_toy_model
from mlx_ragtune.records import Question
from mlx_ragtune.retrieval.fusion import Hit
from mlx_ragtune.retrieval.retriever import Retriever
from mlx_ragtune.scoring.answers.benchmark_rows import read_questions
from mlx_ragtune.scoring.answers.probes import ExactCheck, Probe
from tests.retrieval.made import chunk

TOPICS = {"lora": "Low rank adapters are trained.", "rag": "Passages are retrieved.", "flan": "Tasks are instructions."}


class ByWords:
    """Ranks chunks by the words they share with the question."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = texts

    def search(self, query: str, k: int) -> list[Hit]:
        words = set(query.lower().replace("?", "").split())
        scores = {name: len(words & set(text.lower().replace(".", "").split())) for name, text in self.texts.items()}
        ranked = sorted(scores, key=lambda name: (-scores[name], name))
        return [Hit(name, float(scores[name])) for name in ranked[:k]]


@pytest.fixture
def maker(tmp_path: Path) -> ItemMaker:
    write_toy_model(tmp_path / "base")
    chunks = [
        chunk(f"{paper}:{number}", f"{text} Part {number}.", paper=paper)
        for paper, text in TOPICS.items()
        for number in range(3)
    ]
    index = ByWords({one.id: one.text for one in chunks})
    return ItemMaker(Retriever(index, chunks), load_tokenizer(tmp_path / "base"), top_k=2, thinking=False)


QUESTIONS = [
    Question("q1", "t", "Which low rank adapters are trained?", True, ("lora",), "r"),
    Question("q2", "t", "Who won the match?", False, (), refusal_kind="off_corpus"),
]


def test_a_question_is_shown_what_retrieval_finds_and_counted_as_trained(maker: ItemMaker, tmp_path: Path) -> None:
    write_rows(tmp_path / "benchmark.jsonl", QUESTIONS)
    first, _ = maker.questions(read_questions(tmp_path / "benchmark.jsonl"))
    assert [one.document_id for one in first.passages] == ["lora", "lora"]
    assert first.ranked_papers[:2] == ("lora", "lora")
    assert len(first.ranked_papers) == 9
    tokens = prompt_tokens(first.messages, load_tokenizer(tmp_path / "base"), thinking=False)
    assert first.prompt_tokens == len(tokens)
    assert first.messages[-1].content in first.trained
    assert not first.once


def test_each_condition_shows_the_passages_it_names(maker: ItemMaker, tmp_path: Path) -> None:
    write_rows(tmp_path / "benchmark.jsonl", QUESTIONS)
    items = list(maker.questions(read_questions(tmp_path / "benchmark.jsonl")))
    found = {one.question.id: one for one in maker.variants(items)}
    assert set(found) == {"gold:q1", "mixed:q1", "distractors:q1"}  # nothing to vary where no paper answers
    assert {one.document_id for one in found["gold:q1"].passages} == {"lora"}
    mixed = [one.document_id for one in found["mixed:q1"].passages]
    assert mixed.count("lora") == 1
    assert len(mixed) == 2
    assert "lora" not in {one.document_id for one in found["distractors:q1"].passages}
    assert all(one.once for one in found.values())


def test_without_its_paper_a_question_is_one_to_refuse(maker: ItemMaker, tmp_path: Path) -> None:
    write_rows(tmp_path / "benchmark.jsonl", QUESTIONS)
    items = list(maker.questions(read_questions(tmp_path / "benchmark.jsonl")))
    kinds = {one.question.id: (one.question.answerable, one.question.refusal_kind) for one in maker.variants(items)}
    assert kinds["gold:q1"] == (True, None)
    assert kinds["distractors:q1"] == (False, "near_miss")


def test_the_same_question_is_mixed_the_same_way_every_time(maker: ItemMaker, tmp_path: Path) -> None:
    write_rows(tmp_path / "benchmark.jsonl", QUESTIONS)
    items = list(maker.questions(read_questions(tmp_path / "benchmark.jsonl")))
    assert [one.messages for one in maker.variants(items)] == [one.messages for one in maker.variants(items)]


def test_a_probe_has_no_papers_and_an_explicit_system_message(maker: ItemMaker) -> None:
    [item] = maker.probes([Probe("p1", "fact", "Capital of France?", ExactCheck("exact", ("Paris",)), "Paris", "Rome")])
    assert item.question.id == "probe:p1"
    assert [one.content for one in item.messages] == [PROBE_SYSTEM, "Capital of France?"]
    assert item.passages == ()
    assert item.once


def test_a_copy_of_a_questions_paper_is_not_a_distractor(maker: ItemMaker, tmp_path: Path) -> None:
    write_rows(tmp_path / "benchmark.jsonl", QUESTIONS)
    items = list(maker.questions(read_questions(tmp_path / "benchmark.jsonl")))
    usual = {passage.document_id for item in maker.variants(items) for passage in item.passages} - {"lora"}
    held = list(maker.variants(items, lambda papers: usual if papers == {"lora"} else ()))
    assert usual
    assert len(held) == 3
    assert not {passage.document_id for item in held for passage in item.passages} & usual
