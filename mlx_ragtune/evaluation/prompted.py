"""The examples that stand in the prompt of the prompted base: training rows as earlier chat turns.

A training row shows whole passages, several of which do not fit into the few hundred tokens that a prompt can spare.
An example therefore keeps the form of a real prompt, but of each passage only the sentences that its answer rests
on: the model sees how a title is cited, how short an answer is, and what a refusal looks like, and nothing in an
example answer is made up. In a refusal the passage is the first of the row's own, cut to the sentence nearest to the
question.
"""

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from mlx_ragtune.artifact import Inputs
from mlx_ragtune.errors import InputError
from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.models.prompts import prompt_text, text_tokens
from mlx_ragtune.recipe import PromptedSettings, Recipe
from mlx_ragtune.records import Chunk, Document, Example, Kind, Message, Passage
from mlx_ragtune.retrieval.prompt import build_messages
from mlx_ragtune.scoring.answers.normalize import fold, sentences, words
from mlx_ragtune.synthesis.benchmark_file import read_resolved
from mlx_ragtune.synthesis.benchmark_view import held_out, view_of

KINDS: tuple[Kind, ...] = ("grounded", "synthesis", "refusal")
"""The order in which kinds take turns."""
SUPPORTED = 0.5
"""Rows whose shortened passages hold a smaller share of the answer's words are chosen only when there are no others."""
_LETTERS = 3
"""Words of at least so many letters are compared."""


@dataclass(frozen=True)
class ChosenExample:
    """One example: the training row, and its chat turns with shortened passages."""

    id: str
    kind: Kind
    question: str
    messages: tuple[Message, Message]


@dataclass(frozen=True)
class Examples:
    """The examples in their order in the prompt, and how many tokens they add to it."""

    chosen: tuple[ChosenExample, ...]
    tokens: int

    @property
    def messages(self) -> tuple[Message, ...]:
        """The chat turns, to stand between the system turn and the question."""
        return tuple(message for example in self.chosen for message in example.messages)


class _Candidate(NamedTuple):
    example: ChosenExample
    tokens: int
    supported: bool


class ExampleChooser:
    """Chooses examples from training rows; none uses a paper in ``barred``.

    ``chunks`` are those of the corpus by id; the tokenizer is the base model's.
    """

    def __init__(self, rows: Sequence[Example], chunks: Mapping[str, Chunk], tokenizer: Any, *, thinking: bool) -> None:
        self._rows, self._chunks = rows, chunks
        self._tokenizer, self._thinking = tokenizer, thinking
        self._bare = build_messages((), "?")

    def choose(self, settings: PromptedSettings, *, seed: int, barred: frozenset[str]) -> Examples:
        """``settings.examples`` examples of at most ``settings.tokens`` tokens, one of each kind in turn.

        Fewer where so many do not fit; the kinds with the longest examples are then left out. The same arguments give
        the same examples. Raises InputError when there is no training row to choose from, or not even one fits.
        """
        pools = self._pools(seed, barred)
        turns = _turns({kind: len(pool) for kind, pool in pools.items()}, settings.examples)
        chosen: list[_Candidate] = []
        while turns and not chosen:
            chosen = _fill(turns, pools, settings.tokens)
            while chosen and self._tokens(chosen) > settings.tokens:  # one after the other may tokenize differently
                chosen.pop()
            if not chosen:
                turns.remove(max(turns, key=lambda kind: min(candidate.tokens for candidate in pools[kind])))
        chosen = chosen or next((pair for kind in pools if (pair := _fill([kind], pools, settings.tokens))), [])
        if not chosen:
            fewest = min(candidate.tokens for pool in pools.values() for candidate in pool)
            raise InputError(
                f"the shortest example from the training rows has {fewest} tokens, "
                f"but evaluate.prompted.tokens is {settings.tokens}",
                where="evaluate.prompted.tokens",
                fix=f"set evaluate.prompted.tokens to {fewest} or more, or evaluate.prompted to null",
            )
        return Examples(tuple(candidate.example for candidate in chosen), self._tokens(chosen))

    def _pools(self, seed: int, barred: frozenset[str]) -> dict[Kind, list[_Candidate]]:
        """The rows of each kind that may be used, in a seeded order, well supported ones first."""
        rows = sorted((row for row in self._rows if not self._papers(row) & barred), key=lambda row: row.id)
        random.Random(seed).shuffle(rows)  # noqa: S311 (a choice that can be repeated, not a secret)
        pools: dict[Kind, list[_Candidate]] = {kind: [] for kind in KINDS}
        for row in rows:
            if candidate := self._candidate(row):
                pools[candidate.example.kind].append(candidate)
        if not any(pools.values()):
            raise InputError(
                "no training row can be an example: all of them use papers of the benchmark, or there are none",
                where="evaluate.prompted",
                fix="write pairs on papers that the benchmark does not use, or set evaluate.prompted to null",
            )
        return {
            kind: sorted(pool, key=lambda candidate: not candidate.supported) for kind, pool in pools.items() if pool
        }

    def _papers(self, row: Example) -> set[str]:
        """The papers that the row's answer rests on and those that its context shows."""
        shown = {self._chunks[name].document_id for name in row.context_ids if name in self._chunks}
        return {*row.papers, *shown}

    def _candidate(self, row: Example) -> _Candidate | None:
        if row.kind == "rehearsal":
            return None
        if row.is_own:  # its prompt has a form of its own, and is shown whole
            question, user = row.messages[-2].content, row.messages[-2]
        else:
            question = _question(row) or ""
            passages = self._passages(row, question)
            if not question or not passages:
                return None
            user = build_messages(passages, question)[1]
        answer = replace(row.messages[-1], role="assistant")
        example = ChosenExample(row.id, row.kind, question, (user, answer))
        added = self._count((self._bare[0], user, answer, self._bare[1])) - self._count(self._bare)
        return _Candidate(example, added, row.kind == "refusal" or _support(answer.content, user.content) >= SUPPORTED)

    def _passages(self, row: Example, about: str) -> list[Passage]:
        """One shortened passage for each paper of the answer; for a refusal the first of its context."""
        shown = [self._chunks[name] for name in row.context_ids if name in self._chunks]
        if row.kind == "refusal":
            chosen = shown[:1]
        else:
            about = f"{row.messages[-1].content} {about}"
            by_paper: dict[str, Chunk] = {}
            for chunk in shown:
                best = by_paper.get(chunk.document_id)
                if best is None or _overlap(chunk.text, about) > _overlap(best.text, about):
                    by_paper[chunk.document_id] = chunk
            chosen = [by_paper[paper] for paper in row.papers if paper in by_paper]
        return [Passage(chunk.id, chunk.document_id, chunk.title, _nearest(chunk.text, about)) for chunk in chosen]

    def _count(self, messages: Sequence[Message]) -> int:
        text = prompt_text(messages, self._tokenizer, thinking=self._thinking)
        return len(text_tokens(text, self._tokenizer))

    def _tokens(self, chosen: Sequence[_Candidate]) -> int:
        turns = [message for candidate in chosen for message in candidate.example.messages]
        return self._count((self._bare[0], *turns, self._bare[1])) - self._count(self._bare)


def recipe_examples(
    recipe: Recipe, inputs: Inputs, tokenizer: Any, *, held: Collection[str] | None = None
) -> Examples | None:
    """The examples of a recipe's prompted base; None without that arm.

    ``inputs`` are the folders of ``corpus`` and ``dataset``; ``held`` are the papers that no example may use, by
    default those of the benchmark and their copies. Raises InputError as ``ExampleChooser.choose``.
    """
    settings = recipe.evaluate.prompted
    if settings is None:
        return None
    if held is None:
        documents = list(read_rows(inputs["corpus"] / "documents.jsonl", Document))
        held = held_out(view_of(read_resolved(recipe.benchmark, documents)).papers, documents).papers
    chooser = ExampleChooser(
        list(read_rows(inputs["dataset"] / "examples-train.jsonl", Example)),
        {chunk.id: chunk for chunk in read_rows(inputs["corpus"] / "chunks.jsonl", Chunk)},
        tokenizer,
        thinking=recipe.dataset.thinking == "on",
    )
    return chooser.choose(settings, seed=recipe.seed, barred=frozenset(held))


def _turns(sizes: Mapping[Kind, int], count: int) -> list[Kind]:
    """Which kind each example has: the kinds in turn, as long as there are rows."""
    left = dict(sizes)
    turns: list[Kind] = []
    while len(turns) < count and any(left.values()):
        for kind in left:
            if left[kind] and len(turns) < count:
                turns.append(kind)
                left[kind] -= 1
    return turns


def _fill(turns: Sequence[Kind], pools: Mapping[Kind, Sequence[_Candidate]], budget: int) -> list[_Candidate]:
    """A candidate for each turn, in the pools' order, so that the cheapest of the later turns still fit.

    What is left beyond those is shared equally, so that the first example does not take it all. Empty when the
    cheapest do not fit together.
    """
    chosen: list[_Candidate] = []
    for number, kind in enumerate(turns):
        cheapest = list(_cheapest(turns[number:], pools, chosen))
        slack = budget - sum(candidate.tokens for candidate in (*chosen, *cheapest))
        if slack < 0:
            return []
        most = cheapest[0].tokens + slack // (len(turns) - number)
        taken = {candidate.example.id for candidate in chosen}
        chosen.append(
            next(
                candidate for candidate in pools[kind] if candidate.tokens <= most and candidate.example.id not in taken
            )
        )
    return chosen


def _cheapest(
    turns: Sequence[Kind], pools: Mapping[Kind, Sequence[_Candidate]], chosen: Sequence[_Candidate]
) -> Iterator[_Candidate]:
    """The shortest candidates that are left for these turns."""
    taken = {candidate.example.id for candidate in chosen}
    left = {
        kind: iter(sorted((row for row in pool if row.example.id not in taken), key=lambda candidate: candidate.tokens))
        for kind, pool in pools.items()
    }
    for kind in turns:
        yield next(left[kind])


def _question(row: Example) -> str | None:
    """The question of a training row, which ends its user turn; None for a row of another form."""
    _, mark, question = row.messages[-2].content.rpartition("\n\nQuestion: ")
    return question if mark and row.messages[-1].role == "assistant" else None


def _content_words(text: str) -> set[str]:
    return {word for word in words(fold(text)) if len(word) >= _LETTERS or word.isdecimal()}


def _overlap(text: str, about: str) -> int:
    return len(_content_words(text) & _content_words(about))


def _support(answer: str, shown: str) -> float:
    """Share of the answer's words that the shortened prompt holds; 0 where a number is missing."""
    stated, seen = _content_words(answer), _content_words(shown)
    if any(word[:1].isdecimal() and word not in seen for word in stated):
        return 0.0
    return len(stated & seen) / max(1, len(stated))


def _nearest(text: str, about: str) -> str:
    """The sentence of a text that shares most words with ``about``; the whole text if it is one sentence."""
    parts = sentences(text)
    return max(parts, key=lambda part: _overlap(part, about)) if parts else text
