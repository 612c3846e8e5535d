"""Which judged pairs are kept: in the plan's order, each question once, up to each task's quota.

Outcomes may arrive in any order. They are used in the order of the calls, so that the result does not
depend on which server was faster.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mlx_ragtune.records import Pair
from mlx_ragtune.synthesis.call_plan import Task
from mlx_ragtune.synthesis.dedupe import Seen, Vectorizer
from mlx_ragtune.synthesis.jobs import Judged, Outcome

FROM_MEMORY = 0.8
MEMORY_SHARE = 0.25
REPEATED = "repeats an earlier question"
REMEMBERED = "answerable without the paper"


@dataclass
class Funnel:
    """How many pairs of a task reached each step."""

    wanted: int
    calls: int = 0
    failed_calls: int = 0
    asked: int = 0
    written: int = 0
    sound: int = 0
    """Pairs that passed the rules."""
    passed: int = 0
    """Pairs that also passed the model's checks."""
    kept: int = 0
    rejections: Counter[str] = field(default_factory=Counter)
    repairs: Counter[str] = field(default_factory=Counter)
    """Repairs of the pairs that were kept, by name."""


class Selection:
    """The pairs kept so far, with the funnel of each task. ``barred`` says why a sound pair may not be kept, or ""."""

    def __init__(
        self, quotas: Mapping[Task, int], vectorizer: Vectorizer, barred: Callable[[Pair], str] = lambda _pair: ""
    ) -> None:
        self._barred = barred
        self.funnels = {task: Funnel(count) for task, count in quotas.items()}
        self.kept: dict[Task, list[Judged]] = {task: [] for task in quotas}
        self._seen = {refuses: Seen(vectorizer) for refuses in (False, True)}
        self.taken: set[str] = set()
        """Keys of the calls that were used: those that came before their task reached its quota."""
        self._waiting: dict[int, tuple[Task, str, Outcome | None]] = {}
        self._next = 0
        self._remembered: Counter[Task] = Counter()

    def full(self, task: Task) -> bool:
        """Whether the quota is met."""
        return self.funnels[task].kept >= self.funnels[task].wanted

    def deliver(self, number: int, task: Task, key: str, outcome: Outcome | None) -> None:
        """Use the outcome of call ``number`` (from 0, over all tasks); None when the server failed."""
        self._waiting[number] = (task, key, outcome)
        while self._next in self._waiting:
            task, key, ready = self._waiting.pop(self._next)
            self._next += 1
            if not self.full(task):
                self.taken.add(key)
                self._take(task, ready)

    def _take(self, task: Task, outcome: Outcome | None) -> None:
        funnel = self.funnels[task]
        funnel.calls += 1
        if outcome is None:
            funnel.failed_calls += 1
            return
        funnel.asked += outcome.asked
        funnel.written += len(outcome.judged)
        funnel.rejections.update(outcome.rejections())
        for judged in outcome.judged:
            funnel.sound += not judged.reason or judged.reason.startswith("model:")
            funnel.passed += not judged.reason
            if not judged.reason and not self.full(task):
                self._keep(task, judged)

    def _keep(self, task: Task, judged: Judged) -> None:
        """Keep a pair that passed, unless it repeats a question or too many are answerable from memory."""
        funnel = self.funnels[task]
        remembered = judged.scores.get("closed_book", 0.0) >= FROM_MEMORY
        if remembered and self._remembered[task] + 1 > MEMORY_SHARE * funnel.wanted:
            funnel.rejections[REMEMBERED] += 1
        elif reason := self._barred(judged.pair):
            funnel.rejections[reason] += 1
        elif self._seen[judged.pair.kind == "refusal"].add(judged.pair.id, judged.pair.question):
            funnel.rejections[REPEATED] += 1
        else:
            self._remembered[task] += remembered
            funnel.repairs.update(judged.repairs)
            self.kept[task].append(judged)
            funnel.kept += 1
