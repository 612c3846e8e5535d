"""``ragtune compare``: finished runs, or files of answers, each compared with the first.

Runs must have been asked the same questions under the same conditions. The conditions of a file of answers
are unknown, and every page says so.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mlx_ragtune.artifact import STAGE_FOLDERS
from mlx_ragtune.commands.models import runs_here
from mlx_ragtune.errors import ArtifactError, InputError, printable
from mlx_ragtune.evaluation.fairness import Conditions, require_equal
from mlx_ragtune.jsonl import read_located_rows, read_rows
from mlx_ragtune.pages.redact import redacted
from mlx_ragtune.pages.report_data import ProbeOutcome, ReportData, pair_answers, read_conditions, stamps_of
from mlx_ragtune.records import Answer, Document, Passage, Question, Sampling, Score
from mlx_ragtune.retrieval.prompt import SYSTEM
from mlx_ragtune.scoring.answers.score import score_answer
from mlx_ragtune.scoring.verdict.comparison import Guard
from mlx_ragtune.scoring.verdict.decision import compare_all
from mlx_ragtune.scoring.verdict.guards import forgetting_guard

UNKNOWN = frozenset(("latency_seconds", "tokens_per_second", "answer_tokens"))
"""Metrics that a file of answers does not have the measurements for."""
NEED_CONTEXTS = frozenset(
    ("citation_recall", "citation_rate", "citation_precision", "outside_context_citation", "fabricated_title",
     "number_grounding")
)  # fmt: skip
"""Metrics that are undefined without the contexts and the titles of the corpus."""
LISTED = 5
"""How many ids an error message lists."""


@dataclass(frozen=True)
class Contestant:
    """One set of scored answers. ``name`` is its absolute path until ``read_all`` shortens it.

    ``conditions`` is None for a file; ``probes`` maps general probes to whether they passed.
    """

    name: str
    questions: tuple[Question, ...]
    scores: tuple[Score, ...]
    answers: tuple[Answer, ...]
    conditions: Conditions | None = None
    probes: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class FileAnswer:
    """A row of a file of answers from elsewhere; ``done_reason`` ``length`` marks one that was cut off."""

    question_id: str
    text: str
    seed: int = 0
    done_reason: str = "stop"


@dataclass(frozen=True)
class Contexts:
    """A row of ``contexts.jsonl``: the passages that a question was asked with."""

    question_id: str
    passages: tuple[Passage, ...]


def _is_file(name: str) -> bool:
    """Whether a contestant is a file of answers, not a run or a recipe."""
    suffix = Path(name).suffix.lower()
    return suffix in (".jsonl", ".json", ".ndjson") or (suffix not in (".yaml", ".yml") and Path(name).is_file())


def _run_name(run: str) -> str:
    """The name of the folder under runs/ that belongs to a recipe's path or a run's name."""
    path = Path(run)
    return path.stem if path.suffix in (".yaml", ".yml") else path.name


def _evaluated(name: str) -> tuple[Path, str]:
    """The evaluate artifact of ``RUN``, ``RUN:base`` or ``RUN:tuned``, and which of its models is meant."""
    run, _, model = name.rpartition(":") if name.endswith((":base", ":tuned")) else name.partition(":")
    if model not in ("", "base", "tuned"):
        raise InputError(f"'{model}' is neither 'base' nor 'tuned'", where=name, fix=f"{run}:base or {run}:tuned")
    for folder in (Path(run), runs_here() / _run_name(run)) if run else ():
        evaluate = folder / STAGE_FOLDERS["evaluate"]
        if (evaluate / "scores.jsonl").is_file():
            return evaluate, model or "tuned"
    pattern = f"*/{STAGE_FOLDERS['evaluate']}/scores.jsonl"
    finished = sorted(path.parts[-3] for path in runs_here().glob(pattern))
    near = difflib.get_close_matches(_run_name(run), finished, n=1)
    raise ArtifactError(
        f"no finished run '{run}' (finished: {', '.join(finished) or 'none'})",
        where=str(runs_here()),
        fix=f"ragtune compare with '{near[0]}'" if near else f"ragtune run recipes/{_run_name(run) or 'NAME'}.yaml",
    )


def read_run(name: str) -> Contestant:
    """One model of a finished run. Raises ArtifactError when there is none, InputError for a bad name or file."""
    evaluate, model = _evaluated(name)
    conditions = read_conditions(evaluate / "conditions.json")
    probes = evaluate / "probes.jsonl"
    outcomes = read_rows(probes, ProbeOutcome) if probes.exists() else ()
    return Contestant(
        f"{evaluate.parent.absolute()}:{model}",
        tuple(read_rows(evaluate / "questions.jsonl", Question)),
        tuple(score for score in read_rows(evaluate / "scores.jsonl", Score) if score.model == model),
        tuple(answer for answer in read_rows(evaluate / "used.jsonl", Answer) if answer.model == model),
        conditions.base if model == "base" else conditions.tuned,
        {outcome.id: outcome.base if model == "base" else outcome.tuned for outcome in outcomes},
    )


def _questions(path: Path) -> dict[str, Question]:
    """The benchmark's questions by id. Raises InputError for a duplicate id or an empty file."""
    questions: dict[str, Question] = {}
    for where, question in read_located_rows(path, Question):
        if question.id in questions:
            raise InputError(
                f"duplicate question id '{question.id}'", where=where, fix="give every question its own id"
            )
        questions[question.id] = question
    if not questions:
        raise InputError(
            "no questions in this file", where=str(path), fix="give the benchmark whose questions were asked"
        )
    return questions


def _file_answers(path: Path, questions: Mapping[str, Question]) -> list[FileAnswer]:
    """The answers in a file. Raises InputError with ``file:line`` for an unknown question or a duplicate."""
    lines: dict[tuple[str, int], str] = {}
    answers = []
    for where, answer in read_located_rows(path, FileAnswer):
        if answer.question_id not in questions:
            near = difflib.get_close_matches(answer.question_id, questions, n=1)
            fix = f"did you mean '{near[0]}'?" if near else f"question ids are like '{next(iter(questions))}'"
            raise InputError(f"question '{answer.question_id}' is not in the benchmark", where=where, fix=fix)
        key = (answer.question_id, answer.seed)
        if key in lines:
            raise InputError(
                f"second answer to question '{answer.question_id}' with seed {answer.seed}, the first is in "
                f"line {lines[key].rpartition(':')[2]}",
                where=where,
                fix="remove one of them, or give them different seeds",
            )
        lines[key] = where
        answers.append(answer)
    if not answers:
        raise InputError("no answers in this file", where=str(path), fix='write rows of {"question_id": …, "text": …}')
    return answers


def read_file(path: Path, benchmark: Path, contexts: Path | None) -> Contestant:
    """Answers from elsewhere, scored here. ``contexts``: the evaluate artifact of a run on the same questions.

    Without it, metrics that need contexts or titles are undefined. Raises InputError for a row that cannot
    be scored.
    """
    questions = _questions(benchmark)
    passages: dict[str, tuple[Passage, ...]] = {}
    titles: dict[str, str] = {}
    if contexts is not None:
        passages = {row.question_id: row.passages for row in read_rows(contexts / "contexts.jsonl", Contexts)}
        documents = contexts.parent / STAGE_FOLDERS["corpus"] / "documents.jsonl"
        titles = {document.id: document.title for document in read_rows(documents, Document)}
    undefined = UNKNOWN if contexts else UNKNOWN | NEED_CONTEXTS
    answers, scores = [], []
    for given in _file_answers(path, questions):
        answer = Answer("", given.question_id, "tuned", given.seed, given.text, given.done_reason, 0, 0, 0.0)
        shown = passages.get(given.question_id, ())
        score = score_answer(questions[given.question_id], answer, shown, titles, sampling=Sampling(), system=SYSTEM)
        metrics = {name: value for name, value in score.metrics.items() if name not in undefined}
        answers.append(answer)
        scores.append(replace(score, metrics=metrics))
    asked = {answer.question_id for answer in answers}
    return Contestant(
        str(path.absolute()),
        tuple(question for question in questions.values() if question.id in asked),
        tuple(scores),
        tuple(answers),
    )


def read_all(names: Sequence[str], benchmark: Path | None) -> list[Contestant]:
    """Every contestant named; files get the contexts of the first run. Raises as ``read_run`` and ``read_file``."""
    files = [name for name in names if _is_file(name)]
    runs = {name: read_run(name) for name in names if name not in files}
    if files and benchmark is None and not runs:
        raise InputError("files of answers need their questions", where=files[0], fix="--benchmark FILE")
    if benchmark is not None and not files:
        raise InputError("--benchmark has no effect on runs", where=str(benchmark), fix="leave --benchmark out")
    contexts = _evaluated(next(iter(runs)))[0] if runs else None
    asked = benchmark or (contexts / "questions.jsonl" if contexts else Path())
    contestants = [runs[name] if name in runs else read_file(Path(name), asked, contexts) for name in names]
    return _shortly_named(contestants)


def _shortly_named(contestants: Sequence[Contestant]) -> list[Contestant]:
    """The contestants, each called by as many last parts of its path as tell them apart."""
    paths = [Path(contestant.name) for contestant in contestants]
    twice = sorted({path.name for path in paths if paths.count(path) > 1})
    if twice:
        raise InputError(f"named twice: {', '.join(twice)}", fix="give different runs or files")
    depth = 1
    while len({path.parts[-depth:] for path in paths}) < len(paths):
        depth += 1
    return [
        replace(contestant, name=printable("/".join(path.parts[-depth:])))
        for contestant, path in zip(contestants, paths, strict=True)
    ]


def _listed(ids: Iterable[str]) -> str:
    ordered = sorted(ids)
    more = f" and {len(ordered) - LISTED} more" if len(ordered) > LISTED else ""
    return ", ".join(ordered[:LISTED]) + more


def _check_questions(first: Contestant, other: Contestant) -> None:
    left = {question.id: question for question in first.questions}
    right = {question.id: question for question in other.questions}
    problems = [
        f"{contestant.name} has no answer to {_listed(missing)}"
        for contestant, missing in ((first, right.keys() - left.keys()), (other, left.keys() - right.keys()))
        if missing
    ]
    changed = [name for name in left.keys() & right.keys() if left[name] != right[name]]
    if changed:
        problems.append(f"the benchmarks differ in {_listed(changed)}")
    if problems:
        raise InputError(
            f"{first.name} and {other.name} were asked different questions: {'; '.join(problems)}",
            fix="ask both models the questions of one benchmark file",
        )


def _stamps(first: Contestant, other: Contestant, allow: Sequence[str]) -> tuple[str, ...]:
    """What differs and was allowed, or is unknown. Raises ToolError for what differs and was not allowed."""
    _check_questions(first, other)
    if first.conditions is None or other.conditions is None:
        unknown = [contestant.name for contestant in (first, other) if contestant.conditions is None]
        return (f"Unknown conditions: how these answers were generated is not recorded ({', '.join(unknown)})",)
    return stamps_of(require_equal(first.conditions, other.conditions, allow=allow))


def _guards(first: Contestant, other: Contestant, margin: float, alpha: float) -> Sequence[Guard]:
    both = first.probes and first.probes.keys() == other.probes.keys()
    return [forgetting_guard(first.probes, other.probes, margin=margin, alpha=alpha)] if both else ()


def compare_contestants(
    contestants: Sequence[Contestant], *, allow: Sequence[str], margin: float, alpha: float
) -> list[ReportData]:
    """Each contestant after the first, compared with the first; Holm over all of them.

    Raises InputError for different questions or unusable numbers, ToolError for different conditions.
    """
    first, *others = contestants
    stamps = {other.name: _stamps(first, other, allow) for other in others}
    comparisons = compare_all(
        [replace(score, model="base") for score in first.scores],
        {other.name: [replace(score, model="tuned") for score in other.scores] for other in others},
        first.questions,
        margin=margin,
        alpha=alpha,
        guards={other.name: _guards(first, other, margin, alpha) for other in others},
    )
    reports = []
    for other in others:
        answers = [replace(answer, model="base") for answer in first.answers]
        answers += [replace(answer, model="tuned") for answer in other.answers]
        comparison = comparisons[other.name]
        data = ReportData(
            title=f"base: {first.name} · tuned: {other.name}",
            comparison=comparison,
            answers=pair_answers(comparison, first.questions, answers),
            stamps=stamps[other.name],
        )
        reports.append(redacted(data, keep=("answers",)))
    return reports
