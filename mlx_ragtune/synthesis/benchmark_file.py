"""A benchmark file, checked as a whole: every problem of every row at once, each with its line.

Papers may be written as file name, title or id. They are resolved here, for everything that uses the benchmark: what
is held out of training, and what an answer should cite.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.paper_names import PaperNames
from mlx_ragtune.records import Document, Question
from mlx_ragtune.scoring.answers.benchmark_rows import located_questions
from mlx_ragtune.scoring.answers.nuggets import nugget_state
from mlx_ragtune.scoring.answers.reference_check import question_problems
from mlx_ragtune.synthesis.checks import quote_in
from mlx_ragtune.synthesis.dedupe import normal_form

SHOWN_PROBLEMS = 20
MOST_REFERENCES = 10_000
"""References that are scored, which takes about 3 ms each; a warning says when there are more."""


@dataclass(frozen=True)
class Finding:
    """Something about one line: an error, or a warning about a question that can show less than it could."""

    where: str
    what: str
    error: bool = True

    def __str__(self) -> str:
        return f"{self.where}: {'' if self.error else 'warning: '}{self.what}"


@dataclass(frozen=True)
class Examined:
    """The questions of a file that are readable, with papers as ids, and all that was found, in the order of lines."""

    questions: tuple[Question, ...]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What must be corrected."""
        return tuple(finding for finding in self.findings if finding.error)


def resolved(question: Question, names: PaperNames) -> Question:
    """The question with the ids of its papers, each once; names that no paper has stay as they are."""
    if not question.papers and not question.evidence:
        return question
    papers = dict.fromkeys(names.find(paper) or paper for paper in question.papers)
    evidence = (replace(item, paper=names.find(item.paper) or item.paper) for item in question.evidence)
    return replace(question, papers=tuple(papers), evidence=tuple(evidence))


def examine(path: Path, *, names: PaperNames | None = None, documents: Collection[Document] = ()) -> Examined:
    """The whole file, checked. ``documents`` are those of the corpus; ``names`` is for when it is not built yet.

    Without either, names of papers are not checked. Raises InputError when the file cannot be read.
    """
    if documents:
        names = PaperNames.of_documents(documents)
    by_id = {document.id: document for document in documents}
    titles = {document.id: document.title for document in documents}
    errors: list[InputError] = []
    findings: list[Finding] = []
    questions: list[Question] = []
    ids, texts = dict[str, str](), dict[str, str]()
    for where, row in located_questions(path, errors):
        if names is not None:
            findings += (Finding(where, problem) for problem in _unknown(row, names))
        question = resolved(row, names) if names is not None else row
        findings += (Finding(where, problem) for problem in _repeated(question, where, ids, texts))
        scored = question if len(questions) < MOST_REFERENCES else replace(question, reference="")
        findings += (Finding(where, problem) for problem in question_problems(scored, titles, _texts(scored, by_id)))
        findings += (Finding(where, problem) for problem in _misquoted(question, by_id))
        findings += (Finding(where, what, error=False) for what in _weak(question))
        questions.append(question)
    findings += (Finding(error.where, f"{error.what}; {error.fix}" if error.fix else error.what) for error in errors)
    if not questions and not findings:
        raise InputError("the benchmark has no questions", where=str(path), fix="ragtune draft RECIPE")
    if len(questions) > MOST_REFERENCES:
        findings.append(Finding(str(path), f"only the first {MOST_REFERENCES:,} references are checked", error=False))
    findings.sort(key=lambda finding: _line(finding.where))
    return Examined(tuple(questions), tuple(findings))


def _line(where: str) -> int:
    number = where.rpartition(":")[2]
    return int(number) if number.isdigit() else 0


def _unknown(question: Question, names: PaperNames) -> Iterator[str]:
    for paper in dict.fromkeys((*question.papers, *(item.paper for item in question.evidence))):
        if problem := names.problem(paper):
            yield problem


def _repeated(question: Question, where: str, ids: dict[str, str], texts: dict[str, str]) -> Iterator[str]:
    """Whether an earlier line has the same id, or asks the same."""
    first = ids.setdefault(question.id, where)
    if first != where:
        yield f"duplicate question id '{question.id:.60}', first used in line {_line(first)}"
    first = texts.setdefault(normal_form(question.question), where)
    if first != where:
        yield f"asks the same as line {_line(first)}: {question.question:.80}"


def _texts(question: Question, documents: Mapping[str, Document]) -> list[str]:
    return [documents[paper].text for paper in question.papers if paper in documents]


def _misquoted(question: Question, documents: Mapping[str, Document]) -> Iterator[str]:
    for item in question.evidence:
        if item.paper in documents and item.paper not in question.papers:
            yield f"evidence from '{item.paper}', which is not among the question's papers"
        if item.paper in documents and (reason := quote_in(item.quote, documents[item.paper].text)):
            yield f"{reason} of '{item.paper}': {item.quote!r:.80}"


def _weak(question: Question) -> Iterator[str]:
    if question.answerable and not question.papers:
        yield "names no paper, so that the paper with its answer is not kept out of training"
    if question.answerable and not any(nugget.vital for nugget in question.nuggets):
        yield "has no nuggets that count, so that its answers have no score for correct facts"
    for nugget in question.nuggets:
        if nugget.vital and nugget_state(question.question, nugget) == "supported":
            yield f"the question itself states the nugget '{nugget.text:.80}': an answer that repeats it gets the marks"


def require_sound(path: Path, *, documents: Collection[Document] = ()) -> list[Question]:
    """The questions of a benchmark file, with papers as ids of ``documents`` where these are given.

    Raises InputError that lists the first 20 problems with ``file:line`` and counts all.
    """
    examined = examine(path, documents=documents)
    if errors := examined.errors:
        raise InputError(listed(errors), fix=f"correct these lines of {path}, then: ragtune validate RECIPE")
    return list(examined.questions)


def read_resolved(path: Path, documents: Collection[Document]) -> list[Question]:
    """The questions of a file that was checked before, with papers as ids. Raises InputError for an unknown paper."""
    names = PaperNames.of_documents(documents)
    rows = list(located_questions(path))
    errors = [Finding(where, problem) for where, row in rows for problem in _unknown(row, names)]
    if errors:
        raise InputError(listed(errors), fix=f"correct these lines of {path}, then: ragtune validate RECIPE")
    return [resolved(row, names) for _where, row in rows]


def listed(errors: Collection[Finding]) -> str:
    """The problems of a benchmark as one message: the first 20, and how many there are."""
    lines = "\n".join(f"  {error}" for error in list(errors)[:SHOWN_PROBLEMS])
    more = len(errors) - SHOWN_PROBLEMS
    text = f"{len(errors)} problem{'s' * (len(errors) > 1)} in the benchmark:\n{lines}"
    return text + (f"\n  and {more} more" if more > 0 else "")
