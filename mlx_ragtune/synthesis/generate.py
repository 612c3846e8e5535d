"""Pairs written by a chat model: planned, asked for, checked, kept. Can be interrupted and resumed at any point.

    plan ─► calls ─► crew (threads × hosts) ─► jobs (SQLite) ─► selection ─► report
                        write, check by rule,                    then refusals made from
                        check by model                           the accepted pairs

The caller passes one backend for each host. Calls that an earlier run finished are not made again.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from mlx_ragtune.errors import RagtuneError, ToolError
from mlx_ragtune.recipe import GeneratorSettings
from mlx_ragtune.records import ChatReply, Chunk, Pair, Passage
from mlx_ragtune.synthesis import checks
from mlx_ragtune.synthesis.call_loop import CallLoop, Progress, Work
from mlx_ragtune.synthesis.call_plan import Call, Plan, Task
from mlx_ragtune.synthesis.checks import Windows, quote_in
from mlx_ragtune.synthesis.corpus_titles import OTHER_PAPER, CorpusTitles
from mlx_ragtune.synthesis.crew import Crew
from mlx_ragtune.synthesis.dedupe import Vectorizer
from mlx_ragtune.synthesis.funnel_text import funnel_lines
from mlx_ragtune.synthesis.generator_prompts import prompt_version, writing_request
from mlx_ragtune.synthesis.jobs import Jobs, Judged, Outcome, job_key
from mlx_ragtune.synthesis.judging import Judge, read_pairs_of, without_verdict
from mlx_ragtune.synthesis.near_duplicates import Funnel, Selection
from mlx_ragtune.synthesis.quoted_pairs import refuse_by_rule, write_quoted
from mlx_ragtune.synthesis.quoting import quoting_version
from mlx_ragtune.synthesis.refusals import refusal
from mlx_ragtune.synthesis.replies import Backend, UnusableReplyError, Windowed, ask
from mlx_ragtune.synthesis.visible_corpus import Retriever

JUDGED_EARLY = 40
SHOWN_REASONS = 4
DERIVED: tuple[Task, ...] = ("wrong_section", "without_paper")


@dataclass(frozen=True)
class Sources:
    """The chunks that questions are written on, the retriever of the served model, and what may not be asked.

    ``barred`` says why a pair may not be kept ("asks a benchmark question"), or "".
    """

    chunks: Mapping[str, Chunk]
    retriever: Retriever
    top_k: int
    barred: Callable[[Pair], str] = lambda _pair: ""


@dataclass(frozen=True)
class Generated:
    """A kept pair with its origin: the sha256 of its chunks' text, the model, the prompts, the scores, the repairs.

    ``topic`` is the noun phrase that a refusal of its question would name.
    """

    pair: Pair
    task: Task
    chunk_sha256: dict[str, str]
    model: str
    prompt_version: str
    scores: dict[str, float]
    repairs: tuple[str, ...] = ()
    topic: str = ""


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

    @property
    def repairs(self) -> dict[str, int]:
        """Name of a repair → kept pairs that it was made on, most frequent first."""
        return dict(Counter(name for row in self.rows for name in row.repairs).most_common())


def _outcome(asked: int, judged: Iterable[Judged], replies: Sequence[ChatReply], unusable: dict[str, int]) -> Outcome:
    return Outcome(
        asked,
        tuple(judged),
        unusable,
        len(replies),
        sum(reply.answer_tokens for reply in replies),
        round(sum(reply.latency_seconds for reply in replies), 3),
    )


def _write(backend: Backend, call: Call, chunks: Sequence[Chunk], *, key: str, seed: int, windows: Windows) -> Outcome:
    """The outcome of one call: the pairs written, repaired, checked by rule and by the model."""
    request = writing_request(call, chunks, seed=seed, windows=windows)
    try:
        written, replies = ask(
            backend, request, lambda reply: read_pairs_of(reply, call, chunks, key[:10], windows=windows)
        )
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


def _refuse(backend: Backend, draft: Judged, passages: Sequence[Chunk | Passage]) -> Outcome:
    """The outcome of one refusal made from an answerable pair: kept if the model finds no answer in the passages."""
    judge = Judge(backend)
    try:
        judged = judge.absent([draft], passages)
    except UnusableReplyError as problem:
        judged = without_verdict([draft], problem)
    return _outcome(1, judged, judge.replies, {})


class _Run:
    """The state of one generation."""

    def __init__(
        self, plan: Plan, sources: Sources, jobs: Jobs, *, settings: GeneratorSettings, model: str, progress: Progress
    ) -> None:
        self.plan, self.sources, self.settings, self.model = plan, sources, settings, model
        self.windows: Windows = settings.words
        self.quoted = settings.answers == "quoted"
        self.version = quoting_version() if self.quoted else prompt_version()
        vectorizer = Vectorizer(chunk.text for chunk in sources.chunks.values())
        self.titles = {chunk.document_id: chunk.title for chunk in sources.chunks.values()}
        self._corpus_titles = CorpusTitles(self.titles.values())
        self.selection = Selection(plan.quotas, vectorizer, self._barred)
        self._by_paper: dict[str, list[Chunk]] = defaultdict(list)
        for chunk in sources.chunks.values():
            self._by_paper[chunk.document_id].append(chunk)
        self._progress = progress
        self.loop: CallLoop[Task] = CallLoop(jobs, self._deliver)

    def written(self) -> Iterator[Work[Task]]:
        """The plan's calls that are not used yet, without those of tasks that have reached their quota."""
        for call in self.plan.calls:
            if self.selection.full(call.task):
                continue
            chunks = [self.sources.chunks[name] for name in call.chunk_ids]
            digest = hashlib.sha256(f"{self.plan.seed}\0{call.turn}".encode()).digest()
            seed = int.from_bytes(digest[:4], "big") >> 1
            if self.quoted:
                key = self._key(call, chunks, seed)
            else:
                key = self._key(call, chunks, writing_request(call, chunks, seed=seed, windows=self.windows))
            if key not in self.selection.taken:
                do = write_quoted if self.quoted else _write
                write = partial(do, call=call, chunks=chunks, key=key, seed=seed, windows=self.windows)
                yield Work(call.task, key, call.task, write)

    def derived(self, task: Task) -> Iterator[Work[Task]]:
        """Refusals of kept grounded questions, each question once: without their paper, or with another section."""
        used = {judged.pair.question for other in DERIVED for judged in self.selection.kept.get(other, ())}
        kept = [judged for judged in self.selection.kept.get("grounded", ()) if judged.topic or self.quoted]
        kept.sort(key=lambda judged: hashlib.sha256(f"{self.plan.seed}\0{judged.pair.id}".encode()).digest())
        for judged in kept:
            if task not in self.plan.quotas or self.selection.full(task):
                return
            wrong = task == "wrong_section"
            passages = self._wrong_section(judged.pair) if wrong else self._elsewhere(judged.pair)
            if not passages or judged.pair.question in used:
                continue
            pair = Pair(
                f"{task}-{judged.pair.id}",
                "refusal",
                judged.pair.question,
                refusal(judged.topic, judged.pair.question),
                judged.pair.papers,
                judged.pair.evidence if wrong else (),
                "near_miss",
            )
            draft = Judged(pair, "", judged.topic)
            key = self._key(draft, passages)
            refuse = partial(refuse_by_rule, answered=judged.pair) if self.quoted else _refuse
            yield Work(task, key, task, partial(refuse, draft=draft, passages=passages))

    def _key(self, *parts: object) -> str:
        """The key of a job: its parts, the prompts, the checks, the model, its context window and the windows of words.

        Chunks are parts because their ids become part of the pairs and other corpora share the table.
        """
        own = (self.model, self.settings.context_tokens, {kind: list(window) for kind, window in self.windows.items()})
        return job_key(*parts, self.version, checks.VERSION, *own)

    def _barred(self, pair: Pair) -> str:
        """Why a sound pair may not be kept, which depends on more than its job: on the benchmark and other papers."""
        own = [self.titles[paper] for paper in pair.papers if paper in self.titles]

        def shown() -> str:
            return "\n".join([pair.question, *(chunk.text for chunk in self._chunks_of(pair))])

        others = pair.kind != "refusal" and self._corpus_titles.others(pair.answer, own, shown)
        return OTHER_PAPER if others else self.sources.barred(pair)

    def _elsewhere(self, pair: Pair) -> Sequence[Passage]:
        search = self.sources.retriever.search
        return search(pair.question, self.sources.top_k, without_papers=pair.papers)

    def _wrong_section(self, pair: Pair) -> Sequence[Chunk]:
        """Other chunks of the pair's paper, none of which holds its evidence."""
        (quote,) = (evidence.quote for evidence in pair.evidence)
        others = self._chunks_of(pair)
        return [chunk for chunk in others if quote_in(quote, chunk.text)][: self.sources.top_k]

    def _chunks_of(self, pair: Pair) -> list[Chunk]:
        """The chunks of the pair's papers."""
        return [chunk for paper in pair.papers for chunk in self._by_paper[paper]]

    def _deliver(self, number: int, work: Work[Task], outcome: Outcome | None) -> None:
        self.selection.deliver(number, work.task, work.key, outcome)
        funnels = self.selection.funnels.values()
        kept, wanted = sum(funnel.kept for funnel in funnels), sum(funnel.wanted for funnel in funnels)
        self._progress.reach(kept, wanted, work.task)
        if sum(funnel.asked for funnel in funnels) >= JUDGED_EARLY:
            self.check_yield()

    def yield_share(self) -> float:
        """Pairs that passed all checks ÷ pairs asked for."""
        funnels = self.selection.funnels.values()
        return sum(funnel.passed for funnel in funnels) / max(1, sum(funnel.asked for funnel in funnels))

    def _reasons(self, funnels: Iterable[Funnel]) -> str:
        counts: Counter[str] = Counter()
        for funnel in funnels:
            counts.update(funnel.rejections)
        return "\n".join(f"  {count} × {reason}" for reason, count in counts.most_common(SHOWN_REASONS))

    def check_yield(self) -> None:
        """Raise ToolError when the share of pairs that pass the checks is below ``min_yield``."""
        funnels = list(self.selection.funnels.values())
        if self.yield_share() < self.settings.min_yield:
            raise ToolError(
                f"only {sum(funnel.passed for funnel in funnels)} of {sum(funnel.asked for funnel in funnels)} pairs "
                f"({self.yield_share():.0%}) passed the checks, dataset.generator.min_yield is "
                f"{self.settings.min_yield:.0%}:\n{self._reasons(funnels)}",
                where=f"generator {self.model}",
                fix="set a larger dataset.generator.model or a lower min_yield; pairs that passed are kept",
            )

    def make_up(self, main: Task, *others: Task) -> None:
        """Raise the quota of ``main`` by what the other tasks of its kind lack, so that each kind keeps its share."""
        funnels = self.selection.funnels
        lacking = sum(funnels[other].wanted - funnels[other].kept for other in others if other in funnels)
        if lacking and main in funnels:
            funnels[main].wanted += lacking

    def check_kept(self) -> None:
        """Raise ToolError when all planned calls are made and the share of the wanted pairs is below ``min_yield``."""
        funnels = list(self.selection.funnels.values())
        kept, wanted = sum(funnel.kept for funnel in funnels), sum(self.plan.quotas.values())
        if kept < self.settings.min_yield * wanted:
            raise ToolError(
                f"all planned calls are made and only {kept} of {wanted} pairs are kept, "
                f"dataset.generator.min_yield is {self.settings.min_yield:.0%}:\n{self._reasons(funnels)}",
                where=f"generator {self.model}",
                fix="set fewer dataset.generator.pairs, or add papers; pairs that passed are kept",
            )

    def rows(self) -> Iterator[Generated]:
        """The kept pairs, task by task in the plan's order."""
        for task, kept in self.selection.kept.items():
            for judged in kept:
                quotes = [evidence.quote for evidence in judged.pair.evidence]
                digests = {
                    chunk.id: hashlib.sha256(chunk.text.encode()).hexdigest()
                    for chunk in self._chunks_of(judged.pair)
                    if any(quote_in(quote, chunk.text) is None for quote in quotes)
                }
                own = (self.model, self.version, judged.scores, judged.repairs, judged.topic)
                yield Generated(judged.pair, task, digests, *own)


@dataclass(frozen=True)
class Trial:
    """The outcomes of the plan's first calls, and the kept pairs by task. Times and requests are those of this run."""

    outcomes: tuple[tuple[Task, Outcome], ...]
    kept: Mapping[Task, Sequence[Judged]]
    requests: int


def try_out(
    plan: Plan,
    sources: Sources,
    *,
    backends: Sequence[Backend],
    jobs: Jobs,
    settings: GeneratorSettings,
    model_digest: str,
    wanted: int,
    until: Callable[[], bool],
    progress: Progress,
    say: Callable[[str], None] = lambda _text: None,
) -> Trial:
    """The plan's first calls, until ``wanted`` pairs are kept or ``until`` is true; calls that have begun are finished.

    They are the calls that ``generate`` begins with, so that it finds them done. Raises ToolError when calls fail
    three times in a row.
    """
    lenient = settings.model_copy(update={"min_yield": 0.0})
    run = _Run(plan, sources, jobs, settings=lenient, model=model_digest, progress=progress)
    begun: list[Work[Task]] = []

    def first_calls() -> Iterator[Work[Task]]:
        for work in run.written():
            enough = sum(map(len, run.selection.kept.values())) >= wanted
            if begun and (enough or until()):  # the first call is made however late it is
                return
            begun.append(work)
            yield work

    windowed = [Windowed(backend, settings.context_tokens) for backend in backends]
    crew: Crew[Backend, Outcome] = Crew(windowed, settings.slots, lost=lambda error: say(_without(error)))
    try:
        run.loop.execute(first_calls(), crew)
    finally:
        crew.close()
    done = ((work.task, jobs.finished(work.key)) for work in begun)
    outcomes = tuple((task, outcome) for task, outcome in done if outcome is not None)
    return Trial(outcomes, run.selection.kept, run.loop.spent["requests"])


def _without(error: RagtuneError) -> str:
    return f"{error.where}: {error.what}; the other servers do its calls"


def generate(
    plan: Plan,
    sources: Sources,
    *,
    backends: Sequence[Backend],
    jobs: Jobs,
    settings: GeneratorSettings,
    model_digest: str,
    progress: Progress,
    say: Callable[[str], None] = lambda _text: None,
) -> GenerationReport:
    """The pairs of the plan, with ``settings.slots`` requests at a time on each backend.

    The result does not depend on the number of slots or on interruptions. A server that no longer answers leaves its
    calls to the others, and ``say`` is told. Raises ToolError when calls fail three times in a row, when the yield is
    below ``settings.min_yield`` (checked from 40 pairs on), or when fewer than that share of the wanted pairs are kept;
    a smaller lack is no error. ``say`` is told the funnel at the end, also when the run is stopped. Finished calls stay
    in ``jobs``.
    """
    run = _Run(plan, sources, jobs, settings=settings, model=model_digest, progress=progress)
    windowed = [Windowed(backend, settings.context_tokens) for backend in backends]
    crew: Crew[Backend, Outcome] = Crew(windowed, settings.slots, lost=lambda error: say(_without(error)))
    try:
        run.loop.execute(run.written(), crew)
        run.make_up("grounded", "partial")
        run.loop.execute(run.written(), crew)
        run.loop.execute(run.derived("wrong_section"), crew)
        run.make_up("without_paper", "off_corpus", "false_premise", "wrong_section")
        run.loop.execute(run.derived("without_paper"), crew)
        run.check_yield()
        run.check_kept()
    finally:
        crew.close()
        for line in funnel_lines(run.selection.funnels, plan.quotas):
            say(line)
    rejections: Counter[str] = Counter()
    for funnel in run.selection.funnels.values():
        rejections.update(funnel.rejections)
    return GenerationReport(
        rows=tuple(run.rows()),
        funnels=run.selection.funnels,
        rejections=dict(rejections.most_common()),
        yield_share=run.yield_share(),
        jobs={str(state): count for state, count in jobs.counts().items()},
        requests=run.loop.spent["requests"],
        answer_tokens=run.loop.spent["tokens"],
        seconds=round(run.loop.seconds, 3),
    )
