"""Reviews in an append-only file, fsynced: a killed process loses nothing, and two tabs or commands may write.

Later lines win. ``undo`` takes back the last decision on its item. ``plan`` keeps how many items are in the sample,
``apply`` that the decision on an item is now in the user's file.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mlx_ragtune.errors import ArtifactError, InputError, ToolError
from mlx_ragtune.jsonl import RowLog
from mlx_ragtune.reviewing.review_items import ReviewItem, item_of

Decision = Literal["accept", "reject", "edit", "skip"]
DECISIONS: tuple[Decision, ...] = ("accept", "reject", "edit", "skip")
Action = Literal["accept", "reject", "edit", "skip", "undo", "plan", "apply"]
REASONS = {
    "wrong": "the answer is wrong",
    "unsupported": "the quote does not support the answer",
    "unclear": "the question is not clear without the paper",
    "paper": "wrong paper, or one is missing",
    "answerable": "a refusal, but the papers do answer it",
    "trivial": "nobody would ask this",
    "wording": "badly written",
    "other": "another reason",
}
"""Why an item is rejected, by the name in the file."""
MOST_NOTE = 2000
"""Longest note of a reviewer, in characters."""


@dataclass(frozen=True)
class Review:
    """One row of ``reviews.jsonl``. ``digest`` is that of the item as it was shown; ``at`` is the time in UTC.

    ``edited`` is the whole row as it was changed. ``kind`` and ``task`` are those of the item, for the estimate
    after a rejected item has left its file.
    """

    item: str
    action: Action
    digest: str = ""
    reason: str = ""
    note: str = ""
    kind: str = ""
    task: str = ""
    edited: dict[str, Any] | None = None
    at: str = ""
    reviewer: str = ""


@dataclass
class Reviews:
    """What the file says: decisions that count by item, and sample sizes by part.

    ``removed`` are the items that were taken out of their file, ``remaining`` the ids that the file then had, by part.
    """

    by_item: dict[str, list[Review]] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)
    planned: dict[str, int] = field(default_factory=dict)
    removed: dict[str, Review] = field(default_factory=dict)
    remaining: dict[str, list[str]] = field(default_factory=dict)

    def last(self, item: str) -> Review | None:
        """The decision on an item that counts, whatever its content is now."""
        return self.by_item[item][-1] if self.by_item.get(item) else None

    def current(self, item: ReviewItem) -> Review | None:
        """The decision on this content of the item: as it was shown, or as the reviewer changed it."""
        review = self.last(item.id)
        return review if review is not None and _is_about(review, item) else None

    def is_pending(self, part: str) -> bool:
        """Whether a decision on an item of the part is not in the user's file yet."""
        own = (self.last(item) for item in self.history if item.partition("/")[0] == part)
        return any(review is not None and review.action != "skip" for review in own)

    def is_stale(self, item: ReviewItem) -> bool:
        """Whether the item was decided on and has changed since then."""
        return self.last(item.id) is not None and self.current(item) is None


def _is_about(review: Review, item: ReviewItem) -> bool:
    if review.digest == item.digest:
        return True
    if review.edited is None:
        return False
    return item_of(item.part, review.edited, where=review.item).digest == item.digest


def fold(rows: Iterable[Review]) -> Reviews:
    """What the rows say, in their order."""
    found = Reviews()
    for row in rows:
        if row.action == "plan":
            found.planned[row.item] = int(row.note) if row.note.isdecimal() else 0
        elif row.action == "apply":
            part = row.item.partition("/")[0]  # what is in the user's file is not taken back by a key
            found.history = [item for item in found.history if item.partition("/")[0] != part]
            if row.reason == "removed":
                found.removed[row.item] = row
            elif row.edited is not None:
                found.remaining[part] = [str(name) for name in row.edited.get("ids", ())]
        elif row.action == "undo":
            if found.by_item.get(row.item):
                found.by_item[row.item].pop()
                last = len(found.history) - 1 - found.history[::-1].index(row.item) if row.item in found.history else -1
                if last >= 0:
                    del found.history[last]
        else:
            found.by_item.setdefault(row.item, []).append(row)
            found.history.append(row.item)
            found.removed.pop(row.item, None)
    return found


class ReviewLog:
    """The file of reviews of one run. ``reviews`` is read again whenever any process has added to it."""

    def __init__(self, path: Path, *, reviewer: str = "") -> None:
        self.path, self._reviewer = path, reviewer
        self._state: tuple[int, int] | None = None
        self._reviews = Reviews()

    @property
    def reviews(self) -> Reviews:
        """What the file says now. Raises ArtifactError with the line that cannot be read."""
        try:
            about = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return Reviews()
        except OSError as error:
            raise ArtifactError(
                f"cannot read the reviews: {error.strerror}", where=str(self.path), fix="correct the permissions"
            ) from None
        if (about.st_size, about.st_mtime_ns) != self._state:
            try:
                with RowLog(self.path) as log:  # removes a torn last line, so that the size is taken after that
                    about = self.path.stat()
                    self._reviews = fold(log.rows(Review))
            except InputError as error:
                raise ArtifactError(error.what, where=error.where, fix="remove this line") from None
            self._state = (about.st_size, about.st_mtime_ns)
        return self._reviews

    def add(self, row: Review) -> None:
        """Append a row, fsynced. Raises ToolError when it could not be saved; it then does not count."""
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        stamped = Review(**{**vars(row), "at": at, "reviewer": self._reviewer})
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with RowLog(self.path) as log:
                log.append(stamped)
        except OSError as error:
            raise ToolError(
                f"the review was not saved: {error.strerror or error}",
                where=str(self.path),
                fix="correct the permissions, then review again",
            ) from None
        except ToolError as error:
            fix = "free disk space or correct the permissions, then review again"
            raise ToolError(f"the review was not saved: {error.what}", where=error.where, fix=fix) from None

    def decide(
        self,
        item: ReviewItem,
        action: Decision,
        *,
        reason: str = "",
        note: str = "",
        edited: Mapping[str, Any] | None = None,
    ) -> None:
        """Append a decision on the item as it is now. Raises as ``add``."""
        self.add(
            Review(
                item.id,
                action,
                digest=item.digest,
                reason=reason,
                note=note[:MOST_NOTE],
                kind=item.kind,
                task=item.task,
                edited=dict(edited) if edited is not None else None,
            )
        )

    def undo(self) -> str | None:
        """Take back the last decision that is not applied yet; the id of its item, or None. Raises as ``add``."""
        history = self.reviews.history
        if not history:
            return None
        item = history[-1]
        self.add(Review(item, "undo"))
        return item
