"""``ragtune compare``: finished runs, or files of answers, each compared with the first.

Runs must have been asked the same questions under the same conditions. The conditions of a file of answers
are unknown, and every page says so. Where a run was also asked with examples in the prompt of its base, these
answers are compared too.
"""

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mlx_ragtune.artifact import STAGE_FOLDERS
from mlx_ragtune.commands.models import runs_here
from mlx_ragtune.commands.runs import Needs, read_run_row
from mlx_ragtune.errors import ArtifactError, InputError, printable
from mlx_ragtune.evaluation.fairness import Conditions, require_equal
from mlx_ragtune.evaluation.noise import FORGETTING
from mlx_ragtune.evaluation.quick_path import stamps_of_path
from mlx_ragtune.jsonl import parse_row, read_json, read_located_rows, read_rows
from mlx_ragtune.pages.redact import redacted
from mlx_ragtune.pages.report_data import (
    Noise,
    ProbeOutcome,
    ReportData,
    pair_answers,
    pair_conditions_of,
    read_conditions,
    stamps_of,
)
from mlx_ragtune.pages.run_rows import RunRow, list_runs
from mlx_ragtune.papers.paper_names import PaperNames
from mlx_ragtune.records import ARMS, Answer, Arm, Document, Passage, Question, Sampling, Score
from mlx_ragtune.retrieval.prompt import SYSTEM
from mlx_ragtune.scoring.answers.benchmark_rows import located_questions, require_supported_benchmark
from mlx_ragtune.scoring.answers.score import score_answer
from mlx_ragtune.scoring.verdict.comparison import Comparison, Guard, Outcome
from mlx_ragtune.scoring.verdict.decision import compare_all, compare_arms
from mlx_ragtune.scoring.verdict.guards import forgetting_guard
from mlx_ragtune.synthesis.benchmark_file import resolved

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

    ``conditions`` is None for a file; ``probes`` maps general probes to whether they passed. ``prompted`` is the
    base of the same run with examples in its prompt, for a tuned model whose run asked it.
    """

    name: str
    questions: tuple[Question, ...]
    scores: tuple[Score, ...]
    answers: tuple[Answer, ...]
    conditions: Conditions | None = None
    probes: Mapping[str, bool] = field(default_factory=dict)
    arm: Arm = "tuned"
    prompted: "Contestant | None" = None
    noise: Noise | None = None
    home: Path | None = None
    """Its run folder; None for a file."""


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


def _evaluated(name: str) -> tuple[Path, Arm]:
    """The evaluate artifact of ``RUN``, or ``RUN:`` and one of ``ARMS``, and which of its models is meant."""
    suffixes = tuple(f":{arm}" for arm in ARMS)
    run, _, model = name.rpartition(":") if name.endswith(suffixes) else name.partition(":")
    arm: Arm | None = "tuned" if not model else next((arm for arm in ARMS if arm == model), None)
    if arm is None:
        fix = " or ".join(f"{run}{suffix}" for suffix in suffixes)
        raise InputError(f"'{model}' is neither 'base' nor 'prompted' nor 'tuned'", where=name, fix=fix)
    for folder in (Path(run), runs_here() / _run_name(run)) if run else ():
        evaluate = folder / STAGE_FOLDERS["evaluate"]
        if (evaluate / "scores.jsonl").is_file():
            return evaluate, arm
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
    evaluate, arm = _evaluated(name)
    contestant = _read_arm(evaluate, arm)
    if contestant is None:
        raise InputError(
            "the run was not asked with examples in the prompt of its base",
            where=name,
            fix="give evaluate.prompted in the recipe, and run it again",
        )
    return replace(contestant, prompted=_read_arm(evaluate, "prompted")) if arm == "tuned" else contestant


def _read_arm(evaluate: Path, arm: Arm) -> Contestant | None:
    """One arm of a run; None where the run has no prompted base. This one has the probes of the base: its weights."""
    every = read_conditions(evaluate / "conditions.json")
    conditions = {"base": every.base, "prompted": every.prompted, "tuned": every.tuned}[arm]
    if conditions is None:
        return None
    probes, noise = evaluate / "probes.jsonl", evaluate / "noise.json"
    outcomes = read_rows(probes, ProbeOutcome) if probes.exists() else ()
    return Contestant(
        f"{evaluate.parent.absolute()}:{arm}",
        tuple(read_rows(evaluate / "questions.jsonl", Question)),
        tuple(score for score in read_rows(evaluate / "scores.jsonl", Score) if score.model == arm),
        tuple(answer for answer in read_rows(evaluate / "used.jsonl", Answer) if answer.model == arm),
        conditions,
        {outcome.id: outcome.tuned if arm == "tuned" else outcome.base for outcome in outcomes},
        arm,
        noise=parse_row(Noise, read_json(noise), where=str(noise)) if noise.exists() else None,
        home=evaluate.parent,
    )


def _questions(path: Path) -> dict[str, Question]:
    """The benchmark's questions by id. Raises InputError for a duplicate id or an empty file."""
    questions: dict[str, Question] = {}
    for where, question in located_questions(path):
        if question.id in questions:
            raise InputError(
                f"duplicate question id '{question.id}'", where=where, fix="give every question its own id"
            )
        questions[question.id] = question
    if not questions:
        raise InputError(
            "no questions in this file", where=str(path), fix="give the benchmark whose questions were asked"
        )
    require_supported_benchmark(path)
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
        papers = list(read_rows(documents, Document))
        titles = {document.id: document.title for document in papers}
        names = PaperNames.of_documents(papers)
        questions = {name: resolved(question, names) for name, question in questions.items()}
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

    def short(contestant: Contestant) -> Contestant:
        prompted = contestant.prompted and short(contestant.prompted)
        return replace(contestant, name=printable("/".join(Path(contestant.name).parts[-depth:])), prompted=prompted)

    return [short(contestant) for contestant in contestants]


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


def _without_prompts(contestant: Contestant, other: Contestant) -> Conditions | None:
    """Its conditions; without the prompts where one of the two, and only one, has examples in them."""
    differ = (contestant.arm == "prompted") != (other.arm == "prompted")
    return replace(contestant.conditions, prompts={}) if contestant.conditions and differ else contestant.conditions


def _stamps(first: Contestant, other: Contestant, allow: Sequence[str]) -> tuple[str, ...]:
    """What differs and was allowed, or is unknown. Raises ToolError for what differs and was not allowed."""
    _check_questions(first, other)
    left, right = _without_prompts(first, other), _without_prompts(other, first)
    if left is None or right is None:
        unknown = [contestant.name for contestant in (first, other) if contestant.conditions is None]
        unsure = f"Unknown conditions: how these answers were generated is not recorded ({', '.join(unknown)})"
        return (*stamps_of_path(left, right), unsure)
    return (*stamps_of_path(left, right), *stamps_of(require_equal(left, right, allow=allow)))


def _guards(first: Contestant, other: Contestant, margin: float, alpha: float) -> Sequence[Guard]:
    if not first.probes or first.probes.keys() != other.probes.keys():
        return ()
    noise = _floors(first, other).get(FORGETTING, 0.0)
    return [forgetting_guard(first.probes, other.probes, margin=margin, alpha=alpha, noise=noise)]


def _floors(*contestants: Contestant) -> dict[str, float]:
    """The larger noise floor of each metric."""
    floors: dict[str, float] = {}
    for contestant in contestants:
        for name, floor in (contestant.noise.floors if contestant.noise else {}).items():
            floors[name] = max(floor, floors.get(name, 0.0))
    return floors


def _scores(contestant: Contestant, arm: Arm) -> list[Score]:
    """The contestant's scores in the place of an arm."""
    return [replace(score, model=arm) for score in contestant.scores]


def compare_contestants(
    contestants: Sequence[Contestant], *, allow: Sequence[str], margin: float, alpha: float
) -> list[ReportData]:
    """Each contestant after the first, compared with the first; Holm over all of them.

    Of two, the second one is also compared with its prompted base. Of more, the prompted bases are contestants of
    their own. Raises InputError for different questions or unusable numbers, ToolError for different conditions.
    """
    first, *others = contestants
    if len(others) == 1:
        return [_compare_two(first, others[0], allow=allow, margin=margin, alpha=alpha)]
    others = _with_prompted(first, others)
    stamps = {other.name: _stamps(first, other, allow) for other in others}
    comparisons = compare_all(
        _scores(first, "base"),
        {other.name: _scores(other, "tuned") for other in others},
        first.questions,
        margin=margin,
        alpha=alpha,
        guards={other.name: _guards(first, other, margin, alpha) for other in others},
        noise={other.name: _floors(first, other) for other in others},
    )
    return [_data(first, other, _alone(comparisons[other.name]), stamps[other.name]) for other in others]


def _with_prompted(first: Contestant, others: Sequence[Contestant]) -> list[Contestant]:
    """The others, each followed by its prompted base; equal answers of several runs only once."""
    known = {_texts(contestant) for contestant in (first, *others) if contestant.arm == "prompted"}
    listed: list[Contestant] = []
    for other in others:
        listed.append(replace(other, prompted=None))
        if other.prompted is not None and _texts(other.prompted) not in known:
            known.add(_texts(other.prompted))
            listed.append(other.prompted)
    return listed


def _texts(contestant: Contestant) -> tuple[tuple[str, int, str], ...]:
    return tuple(sorted((answer.question_id, answer.seed, answer.text) for answer in contestant.answers))


def _compare_two(
    first: Contestant, other: Contestant, *, allow: Sequence[str], margin: float, alpha: float
) -> ReportData:
    """The other one against the first, and against its own prompted base unless that is the first."""
    stamps = _stamps(first, other, allow)
    prompted = other.prompted
    if prompted is not None and (first.arm == "prompted" or prompted.name == first.name):
        prompted = None
    if prompted is not None:
        stamps += tuple(stamp for stamp in _stamps(prompted, other, allow) if stamp not in stamps)
    outcome = compare_arms(
        _scores(first, "base"),
        _scores(other, "tuned"),
        first.questions,
        prompted=_scores(prompted, "prompted") if prompted else (),
        margin=margin,
        alpha=alpha,
        guards=_guards(first, other, margin, alpha),
        noise=_floors(first, other),
    )
    return _data(first, replace(other, prompted=prompted), outcome, stamps)


def _alone(comparison: Comparison) -> Outcome:
    """The outcome of one comparison."""
    return Outcome(
        comparison.verdict, comparison.headline, comparison, None,
        comparison.gained, comparison.paid, comparison.advice,
    )  # fmt: skip


def _data(first: Contestant, other: Contestant, outcome: Outcome, stamps: tuple[str, ...]) -> ReportData:
    sides: list[tuple[Contestant, Arm]] = [(first, "base"), (other, "tuned")]
    sides += [(other.prompted, "prompted")] if other.prompted else []
    answers = [replace(answer, model=arm) for contestant, arm in sides for answer in contestant.answers]
    names = {arm: contestant.name for contestant, arm in sorted(sides, key=lambda side: ARMS.index(side[1]))}
    data = ReportData(
        title=" · ".join(f"{arm}: {name}" for arm, name in names.items()),
        outcome=outcome,
        answers=pair_answers(outcome, first.questions, answers),
        stamps=stamps,
        conditions=pair_conditions_of({arm: contestant.conditions for contestant, arm in sides}),
        names={str(arm): name for arm, name in names.items()},
    )
    return redacted(data, keep=("answers",))


def trained_runs(contestants: Sequence[Contestant], needs: Needs) -> dict[str, RunRow]:
    """The runs of the tuned models among the contestants, by the contestants' names."""
    tuned = [(contestant.name, contestant.home) for contestant in contestants if contestant.arm == "tuned"]
    return {name: read_run_row(home, needs) for name, home in tuned if home is not None}


def as_rows(reports: Sequence[ReportData], runs: Mapping[str, RunRow]) -> list[dict[str, Any]]:
    """Each comparison as JSON: title, warnings, the verdict, the comparison with the first, and with the prompt.

    ``runs`` says of each tuned model how it was trained, and which settings differ.
    """
    listed = list_runs(list(runs.values()))
    training = {
        name: {
            "settings": dict(own),
            "valid_loss": row.valid_loss,
            "train_seconds": row.train_seconds,
            "peak_memory_bytes": row.peak_memory_bytes,
        }
        for (name, row), own in zip(runs.items(), listed.own, strict=True)
    }
    rows = []
    for data in reports:
        outcome = asdict(data.outcome)
        against = outcome.pop("against_base")
        names = [name for name in data.names.values() if name in training]
        trained = {"runs": {name: training[name] for name in names}}
        rows.append({"title": data.title, "stamps": list(data.stamps), **trained, **against, **outcome})
    return [json.loads(json.dumps(row, allow_nan=False)) for row in rows]
