"""``ragtune compare``: any finished runs, or files of answers, judged like base against tuned.

The first is what the others are compared with. Runs must have been asked the same questions under the same
conditions; of a file of answers the conditions are not known, and every page says so.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mlx_ragtune.commands.models import runs_here as runs_folder
from mlx_ragtune.errors import ArtifactError, InputError
from mlx_ragtune.evaluation.fairness import Conditions, require_equal
from mlx_ragtune.jsonl import parse_row, read_rows
from mlx_ragtune.pages.report_data import Report, from_comparison, stamps_of
from mlx_ragtune.pipeline import stage_named
from mlx_ragtune.records import Answer, Document, Passage, Question, Sampling, Score
from mlx_ragtune.scoring.answers.score import score_answer
from mlx_ragtune.scoring.verdict.comparison import Comparison, Guard
from mlx_ragtune.scoring.verdict.decision import compare_all
from mlx_ragtune.scoring.verdict.guards import forgetting_guard

NEED_CONTEXTS = frozenset(
    ("citation_recall", "citation_rate", "citation_precision", "outside_context_citation", "fabricated_title",
     "number_grounding")
)  # fmt: skip
"""Metrics that mean nothing without the contexts and the corpus' titles."""


@dataclass(frozen=True)
class Contestant:
    """One set of scored answers. ``conditions`` is None for a file; ``probes`` maps general probes to passed."""

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


def _evaluated(name: str) -> tuple[Path, str]:
    """The evaluate artifact of ``RUN``, ``RUN:base`` or ``RUN:tuned``, and which model of it is meant."""
    run, _, model = name.partition(":")
    if model not in ("", "base", "tuned"):
        raise InputError(f"'{model}' is neither base nor tuned", where=name, fix=f"{run}:base or {run}:tuned")
    folder = Path(run) if Path(run).is_dir() else runs_folder() / Path(run).stem
    evaluate = folder / stage_named("evaluate").folder
    if not (evaluate / "scores.jsonl").exists():
        known = sorted(path.parts[-3] for path in runs_folder().glob(f"*/{evaluate.name}/scores.jsonl"))
        raise ArtifactError(
            f"no finished run '{run}' (finished: {', '.join(known) or 'none'})",
            where=str(evaluate),
            fix=f"ragtune run recipes/{Path(run).stem}.yaml",
        )
    return evaluate, model or "tuned"


def _json_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def read_run(name: str) -> Contestant:
    """One model of a finished run. Raises ArtifactError when there is none, InputError for a bad name."""
    evaluate, model = _evaluated(name)
    conditions = json.loads((evaluate / "conditions.json").read_text(encoding="utf-8"))[model]
    return Contestant(
        name if ":" in name else f"{Path(name).stem}:{model}",
        tuple(read_rows(evaluate / "questions.jsonl", Question)),
        tuple(one for one in read_rows(evaluate / "scores.jsonl", Score) if one.model == model),
        tuple(one for one in read_rows(evaluate / "used.jsonl", Answer) if one.model == model),
        Conditions(**{**conditions, "seeds": tuple(conditions["seeds"])}),
        {row["id"]: row[model] for row in _json_rows(evaluate / "probes.jsonl")},
    )


def read_file(path: Path, benchmark: Path, contexts: Path | None) -> Contestant:
    """Answers from elsewhere, scored here. ``contexts``: the evaluate artifact of a run on the same questions.

    Without it, what needs contexts or titles is left undefined. Raises InputError for unknown questions.
    """
    questions = {one.id: one for one in read_rows(benchmark, Question)}
    shown: dict[str, tuple[Passage, ...]] = {}
    titles: dict[str, str] = {}
    if contexts is not None:
        for row in _json_rows(contexts / "contexts.jsonl"):
            shown[row["question_id"]] = tuple(parse_row(Passage, one, where=str(contexts)) for one in row["passages"])
        corpus = contexts.parent / stage_named("corpus").folder
        titles = {one.id: one.title for one in read_rows(corpus / "documents.jsonl", Document)}
    answers, scores = [], []
    for given in read_rows(path, FileAnswer):
        question = questions.get(given.question_id)
        if question is None:
            raise InputError(f"question '{given.question_id}' is not in the benchmark", where=str(path))
        answer = Answer(
            "", question.id, "tuned", given.seed, given.text, given.done_reason, 0, len(given.text.split()), 0
        )
        score = score_answer(question, answer, shown.get(question.id, ()), titles, sampling=Sampling())
        unknown = {"latency_seconds", "tokens_per_second", *(() if contexts else NEED_CONTEXTS)}
        metrics = {name: value for name, value in score.metrics.items() if name not in unknown}
        answers.append(answer)
        scores.append(replace(score, metrics=metrics))
    if not answers:
        raise InputError("no answers in this file", where=str(path), fix='rows of {"question_id": …, "text": …}')
    asked = {one.question_id for one in answers}
    return Contestant(
        path.name, tuple(one for one in questions.values() if one.id in asked), tuple(scores), tuple(answers)
    )


def read_all(names: Sequence[str], benchmark: Path | None) -> list[Contestant]:
    """Every contestant named, runs before files so that a file's contexts are known. Raises as the readers."""
    files = [name for name in names if name.endswith(".jsonl")]
    runs = {name: read_run(name) for name in names if name not in files}
    if files and benchmark is None and not runs:
        raise InputError("answers in files need their questions", where=files[0], fix="--benchmark FILE")
    contexts = _evaluated(next(iter(runs)))[0] if runs else None
    asked = benchmark or (contexts / "questions.jsonl" if contexts else Path())
    return [runs[name] if name in runs else read_file(Path(name), asked, contexts) for name in names]


def _check_questions(first: Contestant, other: Contestant) -> None:
    mine = {one.id: one for one in first.questions}
    theirs = {one.id: one for one in other.questions}
    unequal = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
    if unequal:
        more = f" and {len(unequal) - 5} more" if len(unequal) > 5 else ""
        raise InputError(
            f"{first.name} and {other.name} were asked different questions: {', '.join(unequal[:5])}{more}",
            fix="run both recipes with one benchmark file",
        )


def _stamps(first: Contestant, other: Contestant, allow: Sequence[str]) -> list[str]:
    """What differs and was allowed, or is not known. Raises ToolError for what differs and was not."""
    _check_questions(first, other)
    unknown = [one.name for one in (first, other) if one.conditions is None]
    if first.conditions is None or other.conditions is None:
        return [f"It is not known under which conditions these were answered: {', '.join(unknown)}"]
    return stamps_of([asdict(one) for one in require_equal(first.conditions, other.conditions, allow=allow)])


def _guards(first: Contestant, other: Contestant, margin: float, alpha: float) -> Sequence[Guard]:
    both = first.probes and first.probes.keys() == other.probes.keys()
    return [forgetting_guard(first.probes, other.probes, margin=margin, alpha=alpha)] if both else ()


def compare_contestants(
    contestants: Sequence[Contestant], *, allow: Sequence[str], margin: float, alpha: float
) -> Iterator[tuple[Comparison, Report]]:
    """Each contestant after the first, against the first; Holm over all of them. Raises as the gates do."""
    first, *others = contestants
    names = [one.name for one in contestants]
    if len(set(names)) < len(names):
        raise InputError(f"named twice: {', '.join(sorted(set(names)))}", fix="give different runs or files")
    stamps = {one.name: _stamps(first, one, allow) for one in others}
    found = compare_all(
        [replace(one, model="base") for one in first.scores],
        {one.name: [replace(score, model="tuned") for score in one.scores] for one in others},
        first.questions,
        margin=margin,
        alpha=alpha,
        guards={one.name: _guards(first, one, margin, alpha) for one in others},
    )
    for one in others:
        answers = [replace(a, model="base") for a in first.answers] + [replace(a, model="tuned") for a in one.answers]
        report = from_comparison(json.loads(found[one.name].to_json()), first.questions, answers)
        title = f"base: {first.name} · tuned: {one.name}"
        yield found[one.name], {**report, "title": title, "recipe_name": title, "stamps": stamps[one.name]}
