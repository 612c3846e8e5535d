"""What both models are asked, each prompt frozen with its training render: questions, their variants, probes."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlx_ragtune.evaluation.asker import Item
from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.models.prompts import prompt_text
from mlx_ragtune.records import Message, Passage, Question
from mlx_ragtune.retrieval.prompt import build_messages
from mlx_ragtune.retrieval.retriever import Retriever
from mlx_ragtune.scoring.answers.probes import Probe
from mlx_ragtune.scoring.verdict.distractors import CONDITIONS, Condition, condition_id

RANKED = 10
"""Depth of the ranking that the retrieval metrics are computed on."""
GOLD_DEPTH = 50
"""How deep a question's own papers are looked for."""
PROBE_SYSTEM = "You are a helpful assistant."
"""Sent with every general probe: a server may lose the default that a template would put there."""


class ItemMaker:
    """Makes items with a corpus' retriever and the base's tokenizer; ``top_k`` passages a question."""

    def __init__(self, retriever: Retriever, tokenizer: Any, *, top_k: int, thinking: bool) -> None:
        self._retriever, self._tokenizer = retriever, tokenizer
        self._top_k, self._thinking = top_k, thinking

    def _item(
        self,
        question: Question,
        passages: tuple[Passage, ...],
        messages: tuple[Message, ...],
        papers: tuple[str, ...] | None = None,
    ) -> Item:
        trained = prompt_text(messages, self._tokenizer, thinking=self._thinking)
        count = len(self._tokenizer.encode(trained, add_special_tokens=False))
        return Item(question, passages, messages, papers or (), trained, count, once=papers is None)

    def questions(self, benchmark: Path) -> Iterator[Item]:
        """Every question with the contexts that retrieval finds."""
        for question in read_rows(benchmark, Question):
            ranked = self._retriever.search(question.question, max(RANKED, self._top_k))
            passages = tuple(ranked[: self._top_k])
            messages = build_messages(passages, question.question)
            yield self._item(question, passages, messages, tuple(one.document_id for one in ranked))

    def variants(self, items: Sequence[Item]) -> Iterator[Item]:
        """Answerable questions with their gold passages alone, with distractors among them, with distractors alone.

        Without the gold passages the question has become unanswerable: a near miss. A question whose gold
        passages are not found is left out.
        """
        for item in items:
            papers = set(item.question.papers)
            if not item.question.answerable or not papers:
                continue
            found = self._retriever.search(item.question.question, GOLD_DEPTH)
            gold = [one for one in found if one.document_id in papers][: self._top_k]
            hard = self._retriever.search(item.question.question, self._top_k, without_papers=papers)
            if gold and hard:
                for condition in CONDITIONS:
                    yield self._variant(item.question, condition, gold, hard)

    def _variant(
        self, question: Question, condition: Condition, gold: Sequence[Passage], hard: Sequence[Passage]
    ) -> Item:
        mixed = [*gold[: max(1, self._top_k // 2)], *hard][: max(2, self._top_k)]
        random.Random(question.id).shuffle(mixed)  # noqa: S311 (the same order every time, nothing secret)
        passages = tuple({"gold": gold, "mixed": mixed, "distractors": hard}[condition])
        asked = replace(question, id=condition_id(question.id, condition))
        if condition == "distractors":
            asked = replace(asked, answerable=False, refusal_kind="near_miss", nuggets=(), keywords=())
        return self._item(asked, passages, build_messages(passages, question.question))

    def probes(self, probes: Sequence[Probe]) -> Iterator[Item]:
        """General probes as questions without contexts; their ids cannot meet a benchmark's."""
        for probe in probes:
            messages = (Message("system", PROBE_SYSTEM), Message("user", probe.prompt))
            question = Question(f"probe:{probe.id}", probe.category, probe.prompt, answerable=True)
            yield self._item(question, (), messages)
