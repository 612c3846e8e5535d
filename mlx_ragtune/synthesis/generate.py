"""Pairs written by a chat model: planned, asked for, checked, kept; resumable at any point.

    plan ─► calls ─► crew (threads × hosts) ─► jobs (SQLite) ─► selection ─► report
                        write, check by rule,                    then refusals made from
                        check by model                           the accepted pairs

The caller passes one backend for each host. What an earlier run finished is not asked again.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from mlx_ragtune.errors import RagtuneError, ToolError
from mlx_ragtune.recipe import GeneratorSettings
from mlx_ragtune.records import ChatReply, Chunk, Pair, Passage
from mlx_ragtune.synthesis.assemble import Retriever
from mlx_ragtune.synthesis.call_plan import Call, Plan, Task
from mlx_ragtune.synthesis.checks import quote_in
from mlx_ragtune.synthesis.crew import Crew
from mlx_ragtune.synthesis.dedupe import Vectoriser
from mlx_ragtune.synthesis.generator_prompts import prompt_version, writing_request
from mlx_ragtune.synthesis.jobs import Jobs, Judged, Outcome, job_key
from mlx_ragtune.synthesis.judging import Judge, read_pairs_of, without_verdict
from mlx_ragtune.synthesis.near_duplicates import Funnel, Selection
from mlx_ragtune.synthesis.refusals import refusal
from mlx_ragtune.synthesis.replies import Backend, UnusableReplyError, Windowed, ask

FAILURES_IN_A_ROW = 3
JUDGED_EARLY = 40
SHOWN_REASONS = 4
DERIVED: tuple[Task, ...] = ("wrong_section", "without_paper")
MAIN: tuple[Task, ...] = ("grounded", "synthesis", "without_paper")


class Progress(Protocol):
    """Told how far the generation is."""

    def reach(self, done: int, total: int, note: str = "") -> None:
        """``done`` of ``total`` pairs are kept."""


@dataclass(frozen=True)
class Sources:
    """The chunks that questions are written on, and what the served model would be shown of them."""

    chunks: Mapping[str, Chunk]
    retriever: Retriever
    top_k: int


@dataclass(frozen=True)
class Generated:
    """A kept pair with its origin: the sha256 of its chunks' text, the model, the prompts, the scores."""

    pair: Pair
    task: Task
    chunk_sha256: dict[str, str]
    model: str
    prompt_version: str
    scores: dict[str, float]


@dataclass(frozen=True)
class GenerationReport:
    """The kept pairs and the funnel of each task. ``yield_share``: passed ÷ asked.

    ``requests``, ``answer_tokens`` and ``seconds`` are those of this run, without earlier ones.
    """

    rows: tuple[Generated, ...]
    funnels: dict[Task, Funnel]
    rejections: dict[str, int]
    yield_share: float
    jobs: dict[str, int]
    requests: int
    answer_tokens: int
    seconds: float

    @property
    def pairs(self) -> list[Pair]:
        """The kept pairs."""
        return [row.pair for row in self.rows]

    def table(self) -> list[tuple[str, ...]]:
        """The funnel, a line for each task, all cells as text."""
        header = ("task", "wanted", "asked", "written", "sound", "passed", "kept")
        lines = [(task, *(str(getattr(one, name)) for name in header[1:])) for task, one in self.funnels.items()]
        return [header, *lines]


@dataclass(frozen=True)
class _Work:
    task: Task
    key: str
    do: Callable[[Backend], Outcome]


def _outcome(asked: int, judged: Iterable[Judged], replies: Sequence[ChatReply], unusable: dict[str, int]) -> Outcome:
    return Outcome(
        asked,
        tuple(judged),
        unusable,
        len(replies),
        sum(reply.answer_tokens for reply in replies),
        round(sum(reply.latency_seconds for reply in replies), 3),
    )


def _write(backend: Backend, call: Call, chunks: Sequence[Chunk], key: str, seed: int) -> Outcome:
    """One call: the pairs written, judged by rule and by the model."""
    request = writing_request(call, chunks, seed=seed)
    try:
        written, replies = ask(backend, request, lambda reply: read_pairs_of(reply, call, chunks, key[:10]))
    except UnusableReplyError as problem:
        return _outcome(call.pairs, (), (), {f"reply: {problem}": call.pairs})
    judge = Judge(backend)
    judged = list(written.judged)
    try:
        if call.task == "false_premise":
            judged = judge.absent(judged, chunks)
        elif call.task != "off_corpus":
            judged = judge.supported(judged, chunks)
    except UnusableReplyError as problem:
        judged = without_verdict(judged, problem)
    return _outcome(call.pairs, judged, [*replies, *judge.replies], written.unusable)


def _refuse(backend: Backend, one: Judged, passages: Sequence[Chunk | Passage]) -> Outcome:
    """One refusal made from an answerable pair: kept if the model finds no answer in the passages."""
    judge = Judge(backend)
    try:
        judged = judge.absent([one], passages)
    except UnusableReplyError as problem:
        judged = without_verdict([one], problem)
    return _outcome(1, judged, judge.replies, {})


class _Run:
    """One generation under way."""

    def __init__(self, plan: Plan, sources: Sources, jobs: Jobs, settings: GeneratorSettings, model: str) -> None:
        self.plan, self.sources, self.jobs, self.settings, self.model = plan, sources, jobs, settings, model
        self.selection = Selection(plan.quotas, Vectoriser(chunk.text for chunk in sources.chunks.values()))
        self.spent: Counter[str] = Counter()
        self.seconds = 0.0
        self._failures = 0
        self._begun = 0

    def written(self) -> Iterator[_Work]:
        """The plan's calls that are not taken up yet, without those of a task that has its quota."""
        for call in self.plan.calls:
            if self.selection.full(call.task):
                continue
            chunks = [self.sources.chunks[one] for one in call.chunk_ids]
            digest = hashlib.sha256(f"{self.plan.seed}\0{call.turn}".encode()).digest()
            seed = int.from_bytes(digest[:4], "big") >> 1
            key = self._key(writing_request(call, chunks, seed=seed))
            if key not in self.selection.taken:
                yield _Work(call.task, key, partial(_write, call=call, chunks=chunks, key=key, seed=seed))

    def derived(self, task: Task) -> Iterator[_Work]:
        """Refusals of grounded questions that were kept, each question once: without their paper, or with
        another section of it.
        """
        taken = {one.pair.question for other in DERIVED for one in self.selection.kept.get(other, ())}
        kept = [one for one in self.selection.kept.get("grounded", ()) if one.topic]
        kept.sort(key=lambda one: hashlib.sha256(f"{self.plan.seed}\0{one.pair.id}".encode()).digest())
        for one in kept:
            if task not in self.plan.quotas or self.selection.full(task):
                return
            wrong = task == "wrong_section"
            passages = self._wrong_section(one.pair) if wrong else self._elsewhere(one.pair)
            if not passages or one.pair.question in taken:
                continue
            pair = Pair(
                f"{task}-{one.pair.id}",
                "refusal",
                one.pair.question,
                refusal(one.topic, one.pair.question),
                one.pair.papers,
                one.pair.evidence if wrong else (),
                "near_miss",
            )
            draft = Judged(pair, "", one.topic)
            key = self._key(draft, passages)
            yield _Work(task, key, partial(_refuse, one=draft, passages=passages))

    def _key(self, *parts: object) -> str:
        return job_key(*parts, prompt_version(), self.model, self.settings.context_tokens)

    def _elsewhere(self, pair: Pair) -> Sequence[Passage]:
        search = self.sources.retriever.search
        return search(pair.question, self.sources.top_k, without_papers=pair.papers)

    def _wrong_section(self, pair: Pair) -> Sequence[Chunk]:
        """Other chunks of the pair's paper, none of which holds its evidence."""
        (quote,) = (one.quote for one in pair.evidence)
        others = [one for one in self.sources.chunks.values() if one.document_id in pair.papers]
        return [one for one in others if quote_in(quote, one.text)][: self.sources.top_k]

    def execute(self, works: Iterator[_Work], crew: Crew[Backend, Outcome], progress: Progress) -> None:
        """Do the works that no earlier run has finished; keep each outcome before the next is begun."""
        flying: dict[int, _Work] = {}
        for work in works:
            number, self._begun = self._begun, self._begun + 1
            if (known := self.jobs.finished(work.key)) is not None:
                self._deliver(number, work, known, progress)
                continue
            while len(flying) >= crew.size:
                self._receive(crew, flying, progress)
            self.jobs.begin([(work.key, work.task)])
            flying[number] = work
            crew.submit(number, work.do)
        while flying:
            self._receive(crew, flying, progress)

    def _receive(self, crew: Crew[Backend, Outcome], flying: dict[int, _Work], progress: Progress) -> None:
        number, result = crew.next()
        work = flying.pop(number)
        if isinstance(result, Exception):
            self._fail(work, result)
            self._deliver(number, work, None, progress)
            return
        self._failures = 0
        self.jobs.finish(work.key, work.task, result)
        self.spent.update(requests=result.requests, tokens=result.answer_tokens)
        self.seconds += result.seconds
        self._deliver(number, work, result, progress)

    def _fail(self, work: _Work, error: Exception) -> None:
        """Note a server's failure; the third in a row ends the run. Any other exception is a bug."""
        if not isinstance(error, RagtuneError):
            raise error
        self.jobs.fail(work.key, work.task, error.what)
        self._failures += 1
        if self._failures >= FAILURES_IN_A_ROW:
            raise ToolError(
                f"{self._failures} calls failed in a row, the last one so: {error.what}",
                where=error.where,
                fix=(f"{error.fix}; then " if error.fix else "") + "the same command goes on where it stopped",
            ) from error

    def _deliver(self, number: int, work: _Work, outcome: Outcome | None, progress: Progress) -> None:
        self.selection.deliver(number, work.task, work.key, outcome)
        funnels = self.selection.funnels.values()
        kept, wanted = sum(one.kept for one in funnels), sum(one.wanted for one in funnels)
        progress.reach(kept, wanted, work.task)
        if sum(one.asked for one in funnels) >= JUDGED_EARLY:
            self.check_yield()

    def yield_share(self) -> float:
        """Pairs that passed all checks ÷ pairs asked for."""
        funnels = self.selection.funnels.values()
        return sum(one.passed for one in funnels) / max(1, sum(one.asked for one in funnels))

    def _reasons(self, funnels: Iterable[Funnel]) -> str:
        counts: Counter[str] = Counter()
        for one in funnels:
            counts.update(one.rejections)
        return "\n".join(f"  {count} × {reason}" for reason, count in counts.most_common(SHOWN_REASONS))

    def check_yield(self) -> None:
        """Raise ToolError when too small a share of the pairs passes the checks."""
        funnels = list(self.selection.funnels.values())
        if self.yield_share() < self.settings.min_yield:
            raise ToolError(
                f"only {sum(one.passed for one in funnels)} of {sum(one.asked for one in funnels)} pairs "
                f"({self.yield_share():.0%}) passed the checks, dataset.generator.min_yield is "
                f"{self.settings.min_yield:.0%}:\n{self._reasons(funnels)}",
                where=f"generator {self.model}",
                fix="a larger dataset.generator.model, or a lower min_yield; what passed is kept",
            )

    def make_up(self, main: Task, *others: Task) -> None:
        """Let ``main`` make up for what the other tasks of its kind lack, so that the kinds' shares hold."""
        funnels = self.selection.funnels
        lacking = sum(funnels[one].wanted - funnels[one].kept for one in others if one in funnels)
        if lacking and main in funnels:
            funnels[main].wanted += lacking

    def check_quotas(self) -> None:
        """Raise ToolError when the plan is used up and a kind has not got its pairs."""
        funnels = self.selection.funnels
        if any(funnels[one].kept < funnels[one].wanted for one in MAIN if one in funnels):
            short = {task: one for task, one in funnels.items() if one.kept < one.wanted}
            listing = "; ".join(f"{task}: {one.kept} of {one.wanted}" for task, one in short.items())
            raise ToolError(
                f"the plan is used up and pairs are missing ({listing}):\n{self._reasons(short.values())}",
                where=f"generator {self.model}",
                fix="fewer dataset.generator.pairs, or more papers; what passed is kept",
            )

    def rows(self) -> Iterator[Generated]:
        """The kept pairs, task by task in the plan's order."""
        for task, kept in self.selection.kept.items():
            for one in kept:
                own = [c for c in self.sources.chunks.values() if c.document_id in one.pair.papers]
                held = [c for c in own if any(quote_in(e.quote, c.text) is None for e in one.pair.evidence)]
                digests = {c.id: hashlib.sha256(c.text.encode()).hexdigest() for c in held}
                yield Generated(one.pair, task, digests, self.model, prompt_version(), one.scores)


def generate(
    plan: Plan,
    sources: Sources,
    *,
    backends: Sequence[Backend],
    jobs: Jobs,
    settings: GeneratorSettings,
    model_digest: str,
    progress: Progress,
) -> GenerationReport:
    """The pairs that the plan wants, from ``settings.slots`` requests at a time on each backend.

    The result does not depend on the number of slots or on interruptions. Raises ToolError when a server
    fails three times in a row, when the yield is below ``settings.min_yield`` (looked at from 40 pairs
    on), or when the plan ends before a kind has its pairs; what was answered stays in ``jobs``.
    """
    run = _Run(plan, sources, jobs, settings, model_digest)
    windowed = [Windowed(backend, settings.context_tokens) for backend in backends]
    crew: Crew[Backend, Outcome] = Crew(windowed, settings.slots)
    try:
        run.execute(run.written(), crew, progress)
        run.make_up("grounded", "partial")
        run.execute(run.written(), crew, progress)
        run.execute(run.derived("wrong_section"), crew, progress)
        run.make_up("without_paper", "off_corpus", "false_premise", "wrong_section")
        run.execute(run.derived("without_paper"), crew, progress)
    finally:
        crew.close()
    run.check_yield()
    run.check_quotas()
    rejections: Counter[str] = Counter()
    for funnel in run.selection.funnels.values():
        rejections.update(funnel.rejections)
    return GenerationReport(
        rows=tuple(run.rows()),
        funnels=run.selection.funnels,
        rejections=dict(rejections.most_common()),
        yield_share=run.yield_share(),
        jobs={str(state): count for state, count in jobs.counts().items()},
        requests=run.spent["requests"],
        answer_tokens=run.spent["tokens"],
        seconds=round(run.seconds, 3),
    )
