"""One sitting of a reviewer: the items of the sample, the log, the papers, and what is shown of each item."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from mlx_ragtune.errors import InputError
from mlx_ragtune.papers.page_image import PageImage
from mlx_ragtune.records import Pair
from mlx_ragtune.reviewing.review_apply import Applied
from mlx_ragtune.reviewing.review_edits import problems
from mlx_ragtune.reviewing.review_estimate import DEFAULT_SAMPLE
from mlx_ragtune.reviewing.review_items import PARTS, Edit, Part, ReviewItem, item_of
from mlx_ragtune.reviewing.review_log import REASONS, Review, ReviewLog
from mlx_ragtune.reviewing.review_places import Library
from mlx_ragtune.reviewing.review_summary import KIND_LABELS, NOUNS, Summary, sample, summarize


@dataclass(frozen=True)
class Sent:
    """A decision as the page sends it. ``n`` is the item's number in the session, ``id`` its id."""

    n: int
    id: str
    action: Literal["accept", "reject", "edit", "skip"]
    reason: str = ""
    note: str = ""
    edit: Edit | None = None


@dataclass(frozen=True)
class Checked:
    """A change that is only to be checked."""

    n: int
    edit: Edit


@dataclass
class Session:
    """The items by part, in file order; ``shown`` are those of the samples, which the page numbers from 0.

    ``apply`` writes the reviews of a part into the user's file, ``next_step`` says what to do after that, and ``read``
    reads the items again.
    """

    name: str
    items: Mapping[Part, list[ReviewItem]]
    log: ReviewLog
    seed: int
    library: Library | None = None
    apply: Callable[[Part], Applied] | None = None
    next_step: Callable[[Applied], str] = lambda _applied: ""
    read: Callable[[], Mapping[Part, list[ReviewItem]]] | None = None
    shown: list[ReviewItem] = field(default_factory=list)
    finished: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def sample_size(self, part: Part) -> int:
        """How many items the sample has: as last planned, or DEFAULT_SAMPLE."""
        return self.log.reviews.planned.get(part) or DEFAULT_SAMPLE

    def plan(self, n: int | None = None, part: Part | None = None) -> None:
        """Draw the samples. ``n`` changes their size from now on, or that of one part.

        Raises ToolError when that cannot be saved.
        """
        for name in self.items if part is None else (part,):
            if n is not None and self.log.reviews.planned.get(name) != n:
                self.log.add(Review(name, "plan", note=str(n)))
        self.shown = [
            item
            for name, items in self.items.items()
            for item in sample(name, items, self.log.reviews, n=self.sample_size(name), seed=self.seed)
        ]

    def summary(self, part: Part) -> Summary:
        """What the reviews of a part say now."""
        return summarize(part, self.items[part], self.log.reviews, n=self.sample_size(part), seed=self.seed)

    def state(self) -> dict[str, Any]:
        """Everything that the page shows around the item: progress, decisions, summaries."""
        reviews = self.log.reviews
        parts = [part for part in PARTS if part in self.items]
        return {
            "name": self.name,
            "reasons": REASONS,
            "kinds": KIND_LABELS,
            "nouns": NOUNS,
            "can_undo": bool(reviews.history),
            "parts": [self.summary(part).as_json() for part in parts],
            "items": [
                {
                    "part": item.part,
                    "kind": item.kind,
                    "label": item.row.question[:120],
                    "decision": review.action if (review := reviews.current(item)) else "",
                    "changed": reviews.is_stale(item),
                }
                for item in self.shown
            ],
        }

    def item(self, n: int) -> ReviewItem:
        """The item of that number. Raises InputError for a number that no item has."""
        if not 0 <= n < len(self.shown):
            raise InputError(f"there is no item {n}")
        return self.shown[n]

    def _present(self, item: ReviewItem) -> ReviewItem:
        """The item with the reviewer's changes, if there are any."""
        review = self.log.reviews.current(item)
        if review is None or review.edited is None:
            return item
        return item_of(item.part, review.edited, where=item.id, task=item.task)

    def details(self, n: int) -> dict[str, Any]:
        """One item as the page shows it."""
        item = self.item(n)
        now = self._present(item)
        reviews = self.log.reviews
        review, earlier = reviews.current(item), reviews.last(item.id)
        return {
            "n": n,
            "id": item.row.id,
            "part": item.part,
            "kind": item.kind,
            "task": item.task,
            "repairs": list(item.repairs),
            "origin": "" if isinstance(item.row, Pair) else item.row.origin,
            "question": now.row.question,
            "answer": now.answer,
            "nuggets": [asdict(nugget) for nugget in now.nuggets],
            "papers": self.library.titles(item) if self.library else list(item.row.papers),
            "original": {"question": item.row.question, "answer": item.answer} if now is not item else None,
            "places": [asdict(place) for place in self.library.places(now)] if self.library else [],
            "problems": self._problems(now),
            "decision": review.action if review else "",
            "reason": review.reason if review else "",
            "note": review.note if review else "",
            "changed_since": earlier.at if earlier and not review else "",
            "earlier": earlier.action if earlier and not review else "",
        }

    def _problems(self, item: ReviewItem) -> list[dict[str, Any]]:
        if self.library is None:
            return []
        return [vars(problem) for problem in problems(self.library.known(item), self.library.documents)]

    def check(self, sent: Checked) -> list[dict[str, Any]]:
        """What would be wrong with the item after the change."""
        return self._problems(self.item(sent.n).edited(sent.edit))

    def decide(self, sent: Sent) -> None:
        """Save a decision. Raises InputError for one that is not complete, or an edit that could not be used."""
        item, edited = self.item(sent.n), None
        if item.row.id != sent.id:
            raise InputError("the list has changed: reload the page")
        if sent.action == "reject" and sent.reason not in REASONS:
            raise InputError("a rejected item needs a reason")
        if sent.action == "edit":
            if sent.edit is None:
                raise InputError("an edit needs the changed texts")
            changed = item.edited(sent.edit)
            blocking = [problem["text"] for problem in self._problems(changed) if problem["blocks"]]
            if blocking:
                raise InputError("; ".join(blocking))
            edited = asdict(changed.row)
        with self.lock:
            action, before = sent.action, self.log.reviews.current(item)
            if action == "accept" and before is not None and before.edited is not None:
                action, edited = "edit", before.edited  # what is shown is accepted: the changed text
            reason = sent.reason if action == "reject" else ""
            self.log.decide(item, action, reason=reason, note=sent.note, edited=edited)

    def undo(self) -> int | None:
        """Take back the last decision; the number of its item, -1 if it is not shown, None without a decision."""
        with self.lock:
            name = self.log.undo()
        if name is None:
            return None
        return next((n for n, item in enumerate(self.shown) if item.id == name), -1)

    def _part(self, name: object) -> Part:
        known = next((part for part in self.items if part == name), None)
        if known is None:
            raise InputError("no such part")
        return known

    def more(self, name: object) -> None:
        """Enlarge the sample of a part to what its summary advises. Raises InputError when it advises none."""
        part = self._part(name)
        with self.lock:
            advised = self.summary(part).advised
            if advised is None:
                raise InputError("there is nothing more to review")
            self.plan(advised, part)

    def write(self, name: object) -> Applied:
        """Apply the reviews of a part, and read the items again. Raises InputError for a part that is not reviewed."""
        part = self._part(name)
        if self.apply is None:
            raise InputError("there is nothing to apply")
        with self.lock:
            applied = self.apply(part)
            if self.read is not None:
                self.items = self.read()
                self.plan(None)
        return applied

    def image(self, n: int, place: int, page: int | None) -> PageImage:
        """The page of one of the item's places, or another page of the same paper. Raises InputError."""
        places = self.library.places(self._present(self.item(n))) if self.library else []
        if self.library is None or not 0 <= place < len(places):
            raise InputError("there is no such passage")
        return self.library.image(places[place], page)
