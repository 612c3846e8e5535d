"""Drafts a benchmark: calls to the model, each checked by rule, by the scorer, by retrieval and by the model.

    calls ─► crew (threads × hosts) ─► jobs (SQLite) ─► kept, each question once, evenly over the papers

A finished call is never made again. The result does not depend on the number of slots or on interruptions. A model
that writes nothing usable is not asked to the end of the plan.
"""

import hashlib
import math
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from mlx_ragtune.clients.protocol import PromptOverflowError
from mlx_ragtune.recipe_data import ANSWER_WORDS
from mlx_ragtune.records import ChatReply, Chunk, Passage, Question
from mlx_ragtune.synthesis.assemble import Retriever
from mlx_ragtune.synthesis.call_loop import CallLoop, Progress, Work
from mlx_ragtune.synthesis.crew import Crew
from mlx_ragtune.synthesis.dedupe import Seen, Vectorizer
from mlx_ragtune.synthesis.draft_checks import VERSION, Library, marks_reason, question_of, read_item
from mlx_ragtune.synthesis.draft_plan import REFUSED, DraftCall, DraftTask
from mlx_ragtune.synthesis.draft_prompts import FIELDS, draft_request, draft_version
from mlx_ragtune.synthesis.generator_prompts import prompt_version
from mlx_ragtune.synthesis.jobs import Jobs, Judged, Outcome, job_key
from mlx_ragtune.synthesis.judging import Judge, item_problem, without_verdict
from mlx_ragtune.synthesis.near_duplicates import FROM_MEMORY, MEMORY_SHARE, REMEMBERED, REPEATED, Funnel
from mlx_ragtune.synthesis.off_corpus import CLOSE, is_near
from mlx_ragtune.synthesis.quoted_pairs import asked_again, field_pair, quoted_pair
from mlx_ragtune.synthesis.quoting import field_request, question_request, quoting_version
from mlx_ragtune.synthesis.replies import Backend, UnusableReplyError, Windowed, ask, json_list

FOUND_IN = 10
"""The paper of a question that does not name it must be among so many that retrieval finds."""
NOT_FOUND = "retrieval does not find its paper"
OVERFLOW = "the passages do not fit into dataset.generator.context_tokens"
OWN_PASSAGES = 4
"""Passages of the paper itself in which a near miss must not be answered."""
HOPELESS_ASKED, HOPELESS_YIELD = 40, 0.05
"""A kind is given up after so many questions of which a smaller share was usable."""


@dataclass(frozen=True)
class DraftSources:
    """The chunks that questions are written on, the retriever over the whole corpus, and all titles."""

    chunks: Mapping[str, Chunk]
    retriever: Retriever
    top_k: int
    library: Library
    papers: frozenset[str]
    """All papers of the corpus."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def found(self, question: str, k: int, *, only: str = "") -> list[Passage]:
        """The best passages for a question: of the whole corpus, or of one paper."""
        with self.lock:
            without = self.papers - {only} if only else frozenset()
            return self.retriever.search(question, k, without_papers=without)


@dataclass(frozen=True)
class Drafted:
    """The kept questions in the order of kinds, the funnel of each kind, and what this run has asked for.

    ``given_up`` are the kinds of which the model wrote nothing usable.
    """

    questions: tuple[Question, ...]
    funnels: Mapping[DraftTask, Funnel]
    requests: int
    answer_tokens: int
    given_up: tuple[DraftTask, ...] = ()


def _write(backend: Backend, call: DraftCall, sources: DraftSources, key: str, seed: int) -> Outcome:
    """The outcome of one call: the questions written, with everything that is checked about one alone."""
    try:
        if call.quoted:
            return _quoted(backend, call, sources, key, seed)
        return _written(backend, call, sources, key, seed)
    except PromptOverflowError:
        return Outcome(call.count, (), {OVERFLOW: call.count})


def _written(backend: Backend, call: DraftCall, sources: DraftSources, key: str, seed: int) -> Outcome:
    chunks = [sources.chunks[name] for name in call.chunk_ids]
    request = draft_request(call, chunks, seed=seed)
    unusable: Counter[str] = Counter()

    def read(reply: ChatReply) -> list[Judged]:
        unusable.clear()
        judged = []
        for number, item in enumerate(json_list(reply, "pairs")[: call.count]):
            if problem := item_problem(item, FIELDS[call.task]):
                unusable[problem] += 1
            else:
                judged.append(read_item(call, chunks, item, f"{call.task}-{key[:10]}-{number}"))  # type: ignore[arg-type]
        return judged

    try:
        written, replies = ask(backend, request, read)
    except UnusableReplyError as problem:
        return Outcome(call.count, (), {f"reply: {problem}": call.count})
    if missing := call.count - len(written) - sum(unusable.values()):
        unusable["question not written"] = missing
    judge = Judge(backend)
    judged = [_marked(item, call.task, chunks, sources) for item in written]
    try:
        judged = _judged(judge, judged, call, chunks, sources)
    except UnusableReplyError as problem:
        judged = without_verdict(judged, problem)
    asked = [*replies, *judge.replies]
    tokens, seconds = sum(reply.answer_tokens for reply in asked), sum(reply.latency_seconds for reply in asked)
    return Outcome(call.count, tuple(judged), dict(unusable), len(asked), tokens, round(seconds, 3))


def _quoted(backend: Backend, call: DraftCall, sources: DraftSources, key: str, seed: int) -> Outcome:
    """The outcome of a call with ``answers: quoted``: no model judges, and retrieval must find a question's paper."""
    identifier = f"{call.task}-{key[:10]}-0"
    first = seed if call.turn else None
    chunks = [sources.chunks[name] for name in call.chunk_ids]

    def on_field(question: str) -> Judged:
        item = field_pair(question, call.angle, identifier, ANSWER_WORDS)
        with sources.lock:
            near = not item.reason and is_near(question, sources.retriever)
        return replace(item, reason=CLOSE) if near else item

    def on_sentence(question: str) -> Judged:
        item = quoted_pair(question, call.angle, chunks[0], identifier, ANSWER_WORDS)
        return _marked(replace(item, topic=""), call.task, chunks, sources, must_find=True)

    if call.task == "off_corpus":
        return asked_again(
            backend, lambda turn: field_request(call.angle, seed=seed + turn if turn else first), on_field
        )
    request = question_request
    return asked_again(backend, lambda turn: request(call.angle, seed=seed + turn if turn else first), on_sentence)


def _marked(
    item: Judged, task: DraftTask, chunks: Sequence[Chunk], sources: DraftSources, *, must_find: bool = False
) -> Judged:
    """The item, rejected if its reference lacks full marks, or retrieval does not find the paper it does not name.

    ``must_find``: retrieval must find it although the question may name it.
    """
    reason = item.reason or marks_reason(item, task, chunks, sources.library) or ""
    if not reason and (must_find or task == "unnamed"):
        found = {passage.document_id for passage in sources.found(item.pair.question, FOUND_IN)}
        reason = "" if found & set(item.pair.papers) else NOT_FOUND
    return replace(item, reason=reason)


def _judged(
    judge: Judge, judged: list[Judged], call: DraftCall, chunks: Sequence[Chunk], sources: DraftSources
) -> list[Judged]:
    """As the model sees it: answerable questions are stated by their source, others not answered in any passage."""
    if call.task not in REFUSED:
        return judge.supported(judged, chunks)
    result = []
    for item in judged:
        passages: dict[str, Chunk | Passage] = {chunk.id: chunk for chunk in chunks}
        own = sources.found(item.pair.question, OWN_PASSAGES, only=chunks[0].document_id) if chunks else []
        for passage in (*own, *sources.found(item.pair.question, sources.top_k)):
            passages.setdefault(passage.chunk_id, passage)
        result += judge.absent([item], list(passages.values()))
    return result


class _Drafting:
    """The state of one draft."""

    def __init__(
        self,
        quota: Mapping[DraftTask, int],
        sources: DraftSources,
        jobs: Jobs,
        *,
        writer: "Writer",
        seed: int,
        progress: Progress,
    ) -> None:
        self.sources, self.model, self.writer, self.seed = sources, writer.digest, writer.name, seed
        self.funnels = {task: Funnel(count) for task, count in quota.items()}
        self.kept: dict[DraftTask, list[Judged]] = {task: [] for task in quota}
        self.spare: dict[DraftTask, list[Judged]] = {task: [] for task in quota}
        self.given_up: list[DraftTask] = []
        self._seen = Seen(Vectorizer(chunk.text for chunk in sources.chunks.values()))
        self._by_paper: dict[DraftTask, Counter[str]] = {task: Counter() for task in quota}
        self._remembered: Counter[DraftTask] = Counter()
        self._waiting: dict[int, tuple[Work[DraftTask], Outcome | None]] = {}
        self._next = 0
        self._progress = progress
        self.loop: CallLoop[DraftTask] = CallLoop(jobs, self._deliver)
        written_on = {chunk.document_id for chunk in sources.chunks.values()}
        self._papers = max(1, len(written_on))

    def remember(self, questions: Collection[str]) -> None:
        """Questions that are not to be asked again."""
        for number, question in enumerate(questions):
            self._seen.add(f"known-{number}", question)

    def _done(self, task: DraftTask) -> bool:
        return self.funnels[task].kept >= self.funnels[task].wanted or task in self.given_up

    def works(self, calls: Sequence[DraftCall]) -> Iterator[Work[DraftTask]]:
        """The calls whose kind still lacks questions, each with its key."""
        for call in calls:
            if self._done(call.task):
                continue
            digest = hashlib.sha256(f"{self.seed}\0draft\0{call.turn}".encode()).digest()
            seed = int.from_bytes(digest[:4], "big") >> 1
            chunks = [self.sources.chunks[name] for name in call.chunk_ids]
            versions = (draft_version(), prompt_version(), VERSION)
            if call.quoted:
                versions = (quoting_version(), *versions[1:])
            key = job_key("draft", call, chunks, seed, versions, self.model, self.sources.top_k)
            do = partial(_write, call=call, sources=self.sources, key=key, seed=seed)
            yield Work(call.task, key, f"draft {call.task}", do)

    def _deliver(self, number: int, work: Work[DraftTask], outcome: Outcome | None) -> None:
        """Use outcomes in the order of the calls, whichever server was faster."""
        self._waiting[number] = (work, outcome)
        while self._next in self._waiting:
            work, ready = self._waiting.pop(self._next)
            self._next += 1
            if not self._done(work.task):
                self._take(work.task, ready)
        kept, wanted = (sum(getattr(funnel, name) for funnel in self.funnels.values()) for name in ("kept", "wanted"))
        self._progress.reach(kept, wanted, work.task.replace("_", " "))

    def _take(self, task: DraftTask, outcome: Outcome | None) -> None:
        funnel = self.funnels[task]
        funnel.calls += 1
        if outcome is None:
            funnel.failed_calls += 1
            return
        funnel.asked += outcome.asked
        funnel.written += len(outcome.judged)
        funnel.rejections.update(outcome.rejections())
        for judged in outcome.judged:
            funnel.passed += not judged.reason
            if not judged.reason and funnel.kept < funnel.wanted:
                self._keep(task, judged)
        if funnel.asked >= HOPELESS_ASKED and funnel.passed < HOPELESS_YIELD * funnel.asked:
            self.given_up.append(task)

    def _keep(self, task: DraftTask, judged: Judged) -> None:
        """Keep a question that passed; one of a paper that has its part already is a spare."""
        funnel = self.funnels[task]
        remembered = judged.scores.get("closed_book", 0.0) >= FROM_MEMORY
        if remembered and self._remembered[task] + 1 > MEMORY_SHARE * funnel.wanted:
            funnel.rejections[REMEMBERED] += 1
            return
        if task != "off_corpus" and self._has_its_part(task, judged.pair.papers[0]):
            self.spare[task].append(judged)
            return
        if self._seen.add(judged.pair.id, judged.pair.question):
            funnel.rejections[REPEATED] += 1
            return
        self._remembered[task] += remembered
        self._count(task, judged)

    def _count(self, task: DraftTask, judged: Judged) -> None:
        funnel = self.funnels[task]
        self._by_paper[task].update(judged.pair.papers[:1])
        self.kept[task].append(judged)
        funnel.kept += 1
        funnel.repairs.update(judged.repairs)

    def _kinds_beside(self, task: DraftTask) -> list[DraftTask]:
        """The kinds of which a paper gets its part together: those that one paper answers; else the kind alone."""
        together: list[DraftTask] = [kind for kind in self.funnels if kind in ("named", "unnamed")]
        return together if task in together else [task]

    def _has_its_part(self, task: DraftTask, paper: str) -> bool:
        """Whether a paper has its part of a kind, rounded up, or of all kinds that one paper answers together."""
        return any(
            sum(self._by_paper[kind][paper] for kind in kinds)
            >= math.ceil(sum(self.funnels[kind].wanted for kind in kinds) / self._papers)
            for kinds in ([task], self._kinds_beside(task))
        )

    def fill_up(self) -> None:
        """Questions of papers that have their part take the places left free, first of papers with the fewest."""
        for task, spares in self.spare.items():
            funnel, waiting = self.funnels[task], list(spares)
            beside = [self._by_paper[kind] for kind in self._kinds_beside(task)]
            while waiting and funnel.kept < funnel.wanted:
                papers = [sum(count[judged.pair.papers[0]] for count in beside) for judged in waiting]
                judged = waiting.pop(papers.index(min(papers)))
                if not self._seen.add(judged.pair.id, judged.pair.question):
                    self._count(task, judged)

    def questions(self, taken: Collection[str]) -> Iterator[Question]:
        """The kept questions with ids of their own: by paper, or by kind. ``taken``: ids that others have."""
        counts: Counter[str] = Counter()
        ids = set(taken)
        for task, kept in self.kept.items():
            for judged in kept:
                stem = judged.pair.papers[0] if task in ("named", "unnamed") else task
                while True:
                    counts[stem] += 1
                    identifier = f"{stem}-{counts[stem]:02d}"
                    if identifier not in ids:
                        break
                ids.add(identifier)
                yield question_of(judged, task, id=identifier, writer=self.writer)


@dataclass(frozen=True)
class Writer:
    """The model that drafts: one backend for each server, its name and digest, and its limits."""

    backends: Sequence[Backend]
    name: str
    digest: str
    slots: int
    context_tokens: int


def draft(
    calls: Sequence[DraftCall],
    quota: Mapping[DraftTask, int],
    sources: DraftSources,
    *,
    writer: Writer,
    jobs: Jobs,
    seed: int,
    progress: Progress,
    known: Collection[Question] = (),
    avoid: Collection[str] = (),
    say: Callable[[str], None] = lambda _text: None,
) -> Drafted:
    """As many questions of each kind as the calls give, at most ``quota``; fewer are no error.

    ``known`` are questions that are kept beside them, ``avoid`` the texts of others that are not to be repeated.
    Raises ToolError when calls fail three times in a row.
    """
    state = _Drafting(quota, sources, jobs, writer=writer, seed=seed, progress=progress)
    state.remember([*(question.question for question in known), *avoid])
    crew: Crew[Backend, Outcome] = Crew(
        [Windowed(backend, writer.context_tokens) for backend in writer.backends],
        writer.slots,
        lost=lambda error: say(f"{error.where}: {error.what}; the other servers do its calls"),
    )
    try:
        state.loop.execute(state.works(calls), crew)
    finally:
        crew.close()
    state.fill_up()
    questions = tuple(state.questions([question.id for question in known]))
    spent = state.loop.spent
    return Drafted(questions, state.funnels, spent["requests"], spent["tokens"], tuple(state.given_up))
