"""``ragtune draft``: a benchmark written by a model, on papers that are set aside first."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mlx_ragtune.artifact import OpenRun, Store
from mlx_ragtune.building.generators import common_digest, open_generators, require_generator, say_what_leaves
from mlx_ragtune.building.pair_sources import own_rows
from mlx_ragtune.commands.draft_file import (
    RECEIPT,
    Receipt,
    is_there,
    of_people,
    read_receipt,
    write_benchmark,
    write_receipt,
)
from mlx_ragtune.commands.outlook import outlook_json, outlook_of, outlook_text
from mlx_ragtune.errors import InputError, RecipeError, ToolError
from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.recipe import GeneratorSettings, Recipe
from mlx_ragtune.records import Chunk, Document, Question
from mlx_ragtune.retrieval.retriever import Retriever
from mlx_ragtune.scoring.verdict.possible import Outlook
from mlx_ragtune.searching.encoders import require_encoders
from mlx_ragtune.searching.opened import open_retriever
from mlx_ragtune.synthesis.benchmark_file import read_resolved
from mlx_ragtune.synthesis.call_plan import even_order
from mlx_ragtune.synthesis.draft_checks import Library
from mlx_ragtune.synthesis.draft_papers import by_paper, candidates, default_count, set_aside
from mlx_ragtune.synthesis.draft_plan import NOT_QUOTED, REFUSED, TASKS, DraftTask, draft_calls, planned, quotas
from mlx_ragtune.synthesis.drafting import Drafted, DraftSources, Writer, draft
from mlx_ragtune.synthesis.jobs import Jobs
from mlx_ragtune.synthesis.near_duplicates import Funnel
from mlx_ragtune.synthesis.off_corpus import off_corpus_fields
from mlx_ragtune.synthesis.own_rows import passages_of, question_variants

Say = Callable[[str], None]
NAMES: Mapping[DraftTask, str] = {
    "named": "answerable, names its method",
    "unnamed": "answerable, does not name it",
    "two_paper": "answerable from two papers",
    "near_miss": "near miss",
    "off_corpus": "off-corpus",
}
QUOTED = "not made with 'answers: quoted'"
LARGER = "ragtune draft RECIPE --model NAME, with a larger model"


@dataclass(frozen=True)
class Request:
    """What the user asks for; None is the default. ``model``, ``backend`` and ``hosts`` replace the generator's."""

    papers: int | None = None
    questions: int | None = None
    seed: int = 0
    redo: bool = False
    model: str | None = None
    backend: str | None = None
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What will be drafted: the papers that are set aside, how many questions of each kind, and what they can show."""

    papers: tuple[str, ...]
    of: int
    quota: Mapping[DraftTask, int]
    kept: tuple[Question, ...]
    outlook: tuple[Outlook, ...]
    quoted: bool = False

    @property
    def wanted(self) -> int:
        """Questions to draft."""
        return sum(self.quota.values())


@dataclass(frozen=True)
class Result:
    """What was written."""

    path: Path
    backup: Path | None
    plan: Plan
    drafted: Drafted
    outlook: tuple[Outlook, ...]
    model: str


def draft_benchmark(run: OpenRun, request: Request, *, say: Say) -> Result:
    """Write the benchmark of a recipe; the corpus is built first. Interrupted, the same command continues.

    Raises RecipeError without a generator, InputError for an existing file without ``redo`` and for too few papers,
    ToolError for a server, and when the model wrote no usable question: then nothing is written.
    """
    settings = generator_of(run.recipe, request)
    path = run.recipe.benchmark
    if is_there(path) and not request.redo:
        raise InputError(
            "the benchmark exists, and is not overwritten",
            where=str(path),
            fix="ragtune draft RECIPE --redo: it keeps every question that a person wrote, reviewed or edited",
        )
    require_generator(settings)
    require_encoders(run.recipe.retrieval)
    run.bring("corpus")
    corpus = run.artifact("corpus").folder
    with open_retriever(run.recipe.retrieval, corpus) as retriever:
        return _drafted(run, request, settings, corpus=corpus, retriever=retriever, say=say)


def _given(request: Request) -> Iterator[tuple[str, Any]]:
    yield from (("model", request.model), ("backend", request.backend), ("hosts", request.hosts))


def generator_of(recipe: Recipe, request: Request) -> GeneratorSettings:
    """The model that drafts. Raises RecipeError without one, and for a backend that does not exist."""
    given = {name: value for name, value in _given(request) if value}
    own = recipe.dataset.generator
    if own is None and "model" not in given:
        raise RecipeError(
            "the recipe has no generator, and drafting needs a model",
            where="dataset.generator",
            fix="ragtune draft RECIPE --model qwen3:4b-instruct",
        )
    values = own.model_dump() if own is not None else {}
    if own is not None and given.get("backend", own.backend) != own.backend:
        values.pop("hosts")
    try:
        return GeneratorSettings.model_validate(values | given)
    except ValidationError as error:
        problem = error.errors()[0]
        raise RecipeError(
            f"--{problem['loc'][0]}: {problem['msg']}", fix="ragtune draft RECIPE --model NAME --backend ollama"
        ) from None


def _drafted(
    run: OpenRun, request: Request, settings: GeneratorSettings, *, corpus: Path, retriever: Retriever, say: Say
) -> Result:
    documents = list(read_rows(corpus / "documents.jsonl", Document))
    chunks = list(read_rows(corpus / "chunks.jsonl", Chunk))
    used, avoid = _own(run.recipe, documents)
    receipt = read_receipt(run.home)
    kept = _kept(run.recipe.benchmark, documents, receipt) if request.redo else []
    quoted = settings.answers == "quoted"
    plan = _plan(run.recipe, request, documents, chunks, kept=kept, used=used, quoted=quoted)
    for line in describe_plan(plan, request.seed):
        say(line)
    own = by_paper(chunks, plan.papers)
    order = even_order([chunk for listed in own.values() for chunk in listed], request.seed)
    fields = off_corpus_fields(retriever, seed=request.seed)
    calls = draft_calls(plan.quota, order, fields, seed=request.seed, quoted=quoted)
    sources = DraftSources(
        {chunk.id: chunk for chunk in order},
        retriever,
        run.recipe.retrieval.top_k,
        Library({document.id: document.title for document in documents}),
        frozenset(document.id for document in documents),
    )
    say_what_leaves(settings, say)
    with ExitStack() as stack:
        backends = [stack.enter_context(backend) for backend in open_generators(settings)]
        writer = Writer(
            backends, settings.model, common_digest(settings, backends), settings.slots, settings.context_tokens
        )
        jobs = stack.enter_context(Jobs(_cache(run.home)))
        track = stack.enter_context(run.track("drafting questions", plan.wanted))
        drafted = draft(
            calls, plan.quota, sources, writer=writer, jobs=jobs, seed=request.seed, progress=track,
            known=kept, avoid=avoid, say=say,
        )  # fmt: skip
    return _write(run, request, plan, drafted, settings.model)


def _own(recipe: Recipe, documents: Sequence[Document]) -> tuple[set[str], list[str]]:
    """The papers that the user's own rows use or quote, and the questions that they ask; none with a generator."""
    if recipe.dataset.pairs is None:
        return set(), []
    rows = own_rows(recipe.dataset, documents)
    used = {paper for pair in rows.pairs for paper in pair.papers}
    if rows.prepared:
        shown = passages_of(documents)
        used |= {paper for row in rows.prepared.values() if (paper := shown(row))}
    return used, [variant.question for pair in rows.pairs for variant in question_variants(pair)]


def _kept(path: Path, documents: Sequence[Document], receipt: Receipt) -> list[Question]:
    """The questions of the file that a person stands behind."""
    return of_people(read_resolved(path, documents), receipt) if is_there(path) else []


def _cache(home: Path) -> Path:
    """The table of finished calls, shared by all recipes of the project."""
    folder = Store(home.parent).cache_folder
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "draft.sqlite"


def _plan(
    recipe: Recipe,
    request: Request,
    documents: Sequence[Document],
    chunks: Sequence[Chunk],
    *,
    kept: Sequence[Question],
    used: set[str],
    quoted: bool,
) -> Plan:
    found = candidates(documents, chunks, used)
    count = request.papers if request.papers is not None else max(1, default_count(found))
    before = {paper for question in kept for paper in question.papers}
    papers = set_aside(found, max(count, len(before & set(found.papers))), seed=request.seed, kept=before)
    quota = quotas(len(papers), request.questions, quoted=quoted)
    had = Counter(_task_of(question, quoted=quoted) for question in kept)
    quota = {task: wanted - had[task] for task, wanted in quota.items() if wanted > had[task]}
    outlook = outlook_of(recipe, [*kept, *planned(quota, papers)])
    return Plan(papers, len(documents), quota, tuple(kept), outlook, quoted)


def _task_of(question: Question, *, quoted: bool = False) -> DraftTask:
    """The kind that a question is of, whoever wrote it. ``quoted``: one kind for all on one paper."""
    if not question.answerable:
        return "off_corpus" if question.refusal_kind == "off_corpus" else "near_miss"
    if len(question.papers) > 1:
        return "two_paper"
    return "unnamed" if question.topic == "unnamed" and not quoted else "named"


def _write(run: OpenRun, request: Request, plan: Plan, drafted: Drafted, model: str) -> Result:
    """Write file and receipt. Raises ToolError, and writes nothing, when no answerable question was drafted."""
    questions = [*plan.kept, *drafted.questions]
    asked_for = any(task not in REFUSED for task in plan.quota)
    if asked_for and not any(question.answerable for question in drafted.questions):
        raise ToolError(
            f"'{model}' wrote no answerable question that passed the checks, so nothing was written:\n"
            f"{_reasons(drafted.funnels)}",
            where="ragtune draft",
            fix=LARGER,
        )
    backup = write_benchmark(run.recipe.benchmark, questions, replace=request.redo)
    funnels = {task: _funnel_json(funnel) for task, funnel in drafted.funnels.items()}
    about = {"model": model, "seed": request.seed, "funnel": funnels, "kept": [question.id for question in plan.kept]}
    write_receipt(run.home, papers=plan.papers, drafted=drafted.questions, about=about)
    return Result(run.recipe.benchmark, backup, plan, drafted, outlook_of(run.recipe, questions), model)


def _reasons(funnels: Mapping[DraftTask, Funnel], most: int = 6) -> str:
    counts: Counter[str] = Counter()
    for funnel in funnels.values():
        counts.update(funnel.rejections)
    return "\n".join(f"  {count} × {reason}" for reason, count in counts.most_common(most))


def describe_plan(plan: Plan, seed: int) -> list[str]:
    """What is set aside and planned, before the first request, and what it can show."""
    named = ", ".join(plan.papers[:10]) + (f", and {len(plan.papers) - 10} more" if len(plan.papers) > 10 else "")
    names = names_of(plan.quoted)
    kinds = ", ".join(f"{count} {names[task]}" for task, count in plan.quota.items())
    lines = [
        f"set aside {len(plan.papers)} of {plan.of} papers (seed {seed}), which will not be trained on: {named}",
        f"planned: {plan.wanted} questions: {kinds}" if plan.wanted else "planned: no question is missing",
    ]
    if plan.quoted:
        lines.append(f"{', '.join(NAMES[task] for task in NOT_QUOTED[1:])}: {QUOTED}")
    if plan.kept:
        lines.append(f"kept: {len(plan.kept)} questions that a person wrote, reviewed or edited")
    return [*lines, "if all of them succeed:", *outlook_text(plan.outlook).split("\n")[1:]]


ROWS = ("kind", "wanted", "asked", "kept", "most frequent reasons against the others")


def names_of(quoted: bool) -> Mapping[DraftTask, str]:
    """The kinds as they are printed; ``quoted`` does not ask for a name in the question."""
    return {**NAMES, "named": "answerable"} if quoted else NAMES


def funnel_rows(drafted: Drafted, *, quoted: bool = False) -> list[list[str]]:
    """A row of ``ROWS`` for each kind."""
    rows, names = [], names_of(quoted)
    for task in TASKS:
        if quoted and task in NOT_QUOTED[1:]:
            rows.append([names[task], "0", "0", "0", QUOTED])
        if funnel := drafted.funnels.get(task):
            reasons = "; ".join(f"{count} × {reason}" for reason, count in funnel.rejections.most_common(3))
            given_up = "given up; " if task in drafted.given_up else ""
            rows.append([names[task], str(funnel.wanted), str(funnel.asked), str(funnel.kept), given_up + reasons])
    return rows


def describe(result: Result) -> list[str]:
    """What was written, what it can show, and what to do next."""
    plan, drafted = result.plan, result.drafted
    lines = [f"wrote {result.path}: {len(drafted.questions)} of {plan.wanted} questions, drafted by {result.model}"]
    if plan.kept:
        lines[0] += f", beside {len(plan.kept)} that were kept"
    if result.backup is not None:
        lines.append(f"former content: {result.backup}")
    lines += outlook_text(result.outlook).split("\n")
    steps = "ragtune review RECIPE --what benchmark, then: ragtune run RECIPE"
    if len(drafted.questions) < plan.wanted:
        again = "larger model, or --seed for other questions: ragtune draft RECIPE --redo --model NAME"
        lines.append(f"{plan.wanted - len(drafted.questions)} questions are missing; for more, use a {again}")
    return [*lines, f"next: {steps}"]


def as_json(result: Result) -> dict[str, Any]:
    """The result for scripts."""
    return {
        "benchmark": str(result.path),
        "backup": str(result.backup) if result.backup else None,
        "papers": list(result.plan.papers),
        "wanted": result.plan.wanted,
        "drafted": len(result.drafted.questions),
        "kept": len(result.plan.kept),
        "requests": result.drafted.requests,
        "answer_tokens": result.drafted.answer_tokens,
        "given_up": list(result.drafted.given_up),
        "funnel": {task: _funnel_json(funnel) for task, funnel in result.drafted.funnels.items()},
        "verdict": outlook_json(result.outlook),
        "receipt": RECEIPT,
    }


def _funnel_json(funnel: Funnel) -> dict[str, Any]:
    return {
        "wanted": funnel.wanted,
        "asked": funnel.asked,
        "kept": funnel.kept,
        "failed_calls": funnel.failed_calls,
        "rejections": dict(funnel.rejections.most_common()),
        "repairs": dict(funnel.repairs.most_common()),
    }
