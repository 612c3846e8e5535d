"""The benchmark file: the only reader of its rows, whole ones and simple ones of question, answer and paper.

    {"question": "How much memory does LoRA save?", "answer": "It saves two thirds of it.", "paper": "lora.pdf"}
    {"question": "Who won the 2014 world cup?", "answer": null}

A simple row becomes a whole one: the answer is its reference, and its facts are derived (``derived_nuggets``). No
answer, or one that refuses, makes the question unanswerable: a near miss with a paper, off-corpus without.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlx_ragtune.errors import InputError
from mlx_ragtune.jsonl import parse_row, read_values
from mlx_ragtune.records import Question, RefusalKind
from mlx_ragtune.scoring.answers.derived_nuggets import derived_nuggets
from mlx_ragtune.scoring.answers.language import require_supported
from mlx_ragtune.scoring.answers.refusal import is_refusal

NO_ANSWER = "The papers do not answer this question."
"""Reference of a simple row without an answer."""
SHAPES = "write the keys that docs/benchmark.md lists, or question, answer and paper"


@dataclass(frozen=True)
class SimpleQuestion:
    """A row that a person writes in a minute. ``papers`` is for several; ``answer`` is null for no answer."""

    question: str
    answer: str | None
    paper: str | None = None
    papers: tuple[str, ...] = ()
    id: str = ""
    topic: str = ""
    refusal_kind: RefusalKind | None = None

    def whole(self) -> Question:
        """The same as a whole row; its id depends on the question alone."""
        papers = tuple(dict.fromkeys((*((self.paper,) if self.paper else ()), *self.papers)))
        answer = (self.answer or "").strip()
        answerable = bool(answer) and self.refusal_kind is None and not is_refusal(answer)
        kind: RefusalKind = self.refusal_kind or ("near_miss" if papers else "off_corpus")
        return Question(
            id=self.id or f"q-{hashlib.sha256(self.question.encode()).hexdigest()[:10]}",
            topic=self.topic or (papers[0] if papers else kind),
            question=self.question,
            answerable=answerable,
            papers=papers,
            reference=answer or NO_ANSWER,
            nuggets=derived_nuggets(answer, self.question) if answerable else (),
            refusal_kind=None if answerable else kind,
        )


def parse_question(value: object, *, where: str) -> Question:
    """The question of one JSON value. Raises InputError that names every wrong field."""
    try:
        if not isinstance(value, dict) or not _is_simple(value):
            return parse_row(Question, value, where=where)
        simple = parse_row(SimpleQuestion, value, where=where)
    except InputError as error:
        raise InputError(error.what.replace("a SimpleQuestion", "a Question"), where=error.where, fix=SHAPES) from None
    if simple.answer is not None and not simple.answer.strip():
        raise InputError("answer is empty", where=where, fix="write null if the papers do not answer the question")
    return simple.whole()


def _is_simple(row: Mapping[str, object]) -> bool:
    return "answerable" not in row and ("answer" in row or not row.keys() & {"reference", "nuggets", "evidence"})


def located_questions(path: Path, errors: list[InputError] | None = None) -> Iterator[tuple[str, Question]]:
    """``file:line`` and question of each row. Raises InputError at the first bad row, or adds it to ``errors``."""
    found: list[InputError] = [] if errors is None else errors
    for where, value in read_values(path, found):
        if errors is None and found:
            raise found[0]
        try:
            yield where, parse_question(value, where=where)
        except InputError as error:
            if errors is None:
                raise
            found.append(error)
    if errors is None and found:
        raise found[0]


def read_questions(path: Path) -> list[Question]:
    """The questions of a benchmark file, in order. Raises InputError with ``file:line`` at the first bad row."""
    return [question for _where, question in located_questions(path)]


def question_texts(path: Path) -> list[str]:
    """The texts of the questions of a benchmark file, in order. Raises InputError as ``read_questions``."""
    return [question.question for question in read_questions(path)]


def require_supported_benchmark(benchmark: Path) -> None:
    """Raise InputError when the benchmark's questions and references are in a language that cannot be scored."""
    rows = located_questions(benchmark)
    require_supported((where, f"{question.question}\n{question.reference}") for where, question in rows)
