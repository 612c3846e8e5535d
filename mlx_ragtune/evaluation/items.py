"""What the models are asked, with fixed prompts and their training renders: questions, variants, probes."""

import random
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlx_ragtune.evaluation.forgetting import PREFIX
from mlx_ragtune.models.prompts import prompt_text, text_tokens
from mlx_ragtune.records import Arm, Message, Passage, Question
from mlx_ragtune.retrieval.prompt import build_messages
from mlx_ragtune.retrieval.retriever import Retriever
from mlx_ragtune.scoring.answers.probes import Probe
from mlx_ragtune.scoring.verdict.distractors import CONDITIONS, Condition, condition_id

RANKED = 10
"""Depth of the ranking that the retrieval metrics are computed on."""
GOLD_DEPTH = 50
"""Depth of the search for a question's own papers."""
PROBE_SYSTEM = "You are a helpful assistant."
"""Sent with every general probe, because a server may drop the default system prompt of a template."""


@dataclass(frozen=True)
class Rendered:
    """Messages, the prompt that training renders of them, and its length in tokens."""

    messages: tuple[Message, ...]
    trained: str
    tokens: int


@dataclass(frozen=True)
class Item:
    """One question with the prompt that base and tuned model get; ``trained`` is the prompt as training renders it.

    ``prompted`` is the prompt of the base with examples; None where that arm is not asked.
    """

    question: Question
    passages: tuple[Passage, ...]
    messages: tuple[Message, ...]
    ranked_papers: tuple[str, ...]
    trained: str
    prompt_tokens: int
    once: bool = False
    """Asked with the first seed only: the question is not part of the verdict's statistics."""
    prompted: Rendered | None = None

    def prompt(self, arm: Arm) -> Rendered:
        """The prompt of one arm. Raises ValueError for an arm that is not asked."""
        if arm != "prompted":
            return Rendered(self.messages, self.trained, self.prompt_tokens)
        if self.prompted is None:
            raise ValueError(f"'{self.question.id}' is not asked with examples")
        return self.prompted


class ItemMaker:
    """Makes items with the corpus retriever and the base model's tokenizer; ``top_k`` passages per question.

    ``examples`` are the earlier chat turns of the prompted base, the same for every question; none: no such arm.
    """

    def __init__(
        self,
        retriever: Retriever,
        tokenizer: Any,
        *,
        top_k: int,
        thinking: bool,
        examples: Sequence[Message] = (),
    ) -> None:
        self._retriever, self._tokenizer = retriever, tokenizer
        self._top_k, self._thinking, self._examples = top_k, thinking, tuple(examples)

    def _rendered(self, messages: tuple[Message, ...]) -> Rendered:
        trained = prompt_text(messages, self._tokenizer, thinking=self._thinking)
        return Rendered(messages, trained, len(text_tokens(trained, self._tokenizer)))

    def _item(
        self,
        question: Question,
        passages: tuple[Passage, ...],
        messages: tuple[Message, ...],
        papers: tuple[str, ...] | None = None,
    ) -> Item:
        own = self._rendered(messages)
        once = papers is None
        examples = self._examples if not once else ()
        prompted = self._rendered((messages[0], *examples, *messages[1:])) if examples else None
        return Item(question, passages, messages, papers or (), own.trained, own.tokens, once=once, prompted=prompted)

    def questions(self, questions: Iterable[Question]) -> Iterator[Item]:
        """Every question with the contexts that retrieval finds."""
        for question in questions:
            ranked = self._retriever.search(question.question, max(RANKED, self._top_k))
            passages = tuple(ranked[: self._top_k])
            messages = build_messages(passages, question.question)
            yield self._item(question, passages, messages, tuple(passage.document_id for passage in ranked))

    def variants(
        self, items: Sequence[Item], copies_of: Callable[[Iterable[str]], Collection[str]] = lambda _papers: ()
    ) -> Iterator[Item]:
        """Answerable questions with gold passages only, with gold passages and distractors, with distractors only.

        Without its gold passages a question becomes unanswerable: a near miss. ``copies_of``: the papers of the
        corpus that are copies of some papers, which are no distractors. A question whose gold passages are not found
        is left out.
        """
        for item in items:
            papers = set(item.question.papers)
            if not item.question.answerable or not papers:
                continue
            ranked = self._retriever.search(item.question.question, GOLD_DEPTH)
            gold = [passage for passage in ranked if passage.document_id in papers][: self._top_k]
            hard = self._retriever.search(
                item.question.question, self._top_k, without_papers={*papers, *copies_of(papers)}
            )
            if gold and hard:
                for condition in CONDITIONS:
                    yield self._variant(item.question, condition, gold, hard)

    def _variant(
        self, question: Question, condition: Condition, gold: Sequence[Passage], hard: Sequence[Passage]
    ) -> Item:
        mixed = [*gold[: max(1, self._top_k // 2)], *hard][: max(2, self._top_k)]
        random.Random(question.id).shuffle(mixed)  # noqa: S311 (a fixed order, not a secret)
        passages = tuple({"gold": gold, "mixed": mixed, "distractors": hard}[condition])
        asked = replace(question, id=condition_id(question.id, condition))
        if condition == "distractors":
            asked = replace(asked, answerable=False, refusal_kind="near_miss", nuggets=(), keywords=())
        return self._item(asked, passages, build_messages(passages, question.question))

    def probes(self, probes: Sequence[Probe]) -> Iterator[Item]:
        """General probes as questions without contexts."""
        for probe in probes:
            messages = (Message("system", PROBE_SYSTEM), Message("user", probe.prompt))
            question = Question(f"{PREFIX}{probe.id}", probe.category, probe.prompt, answerable=True)
            yield self._item(question, (), messages)
