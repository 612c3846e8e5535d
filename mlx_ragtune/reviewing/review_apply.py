"""Reviews in the user's file: rejected rows are left out, edited ones replaced. A copy of the file is kept."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.jsonl import write_rows
from mlx_ragtune.records import Question
from mlx_ragtune.reviewing.review_items import Part, ReviewItem, as_rows, item_of
from mlx_ragtune.reviewing.review_log import Review, ReviewLog, Reviews


@dataclass(frozen=True)
class Applied:
    """What was written: the file, the copy of its former content, and the ids of the rows by what became of them.

    ``ids`` are those of all rows that the file has now.
    """

    part: Part
    path: Path
    backup: Path | None
    written: int
    removed: tuple[str, ...]
    replaced: tuple[str, ...]
    accepted: tuple[str, ...]
    unreviewed: int
    changed: tuple[str, ...]
    ids: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What changed, in one line."""
        done = f"{self.path}: {self.written} rows; {len(self.removed)} removed, {len(self.replaced)} replaced, "
        done += f"{len(self.accepted)} accepted, {self.unreviewed} kept without a review"
        if self.changed:
            done += f"; {len(self.changed)} changed after their review, which was not applied: "
            done += ", ".join(self.changed[:5])
        return f"{done}; former content: {self.backup}" if self.backup else done


def reviewed_rows(
    items: Sequence[ReviewItem], reviews: Reviews
) -> tuple[list[ReviewItem], dict[str, list[ReviewItem]]]:
    """The rows that remain, and the items by what happens to them: the decision, ``none`` or ``changed``.

    An accepted or edited question gets the origin ``reviewed``.
    """
    kept: list[ReviewItem] = []
    by: dict[str, list[ReviewItem]] = {name: [] for name in ("accept", "reject", "edit", "none", "changed")}
    for item in items:
        review = reviews.current(item)
        if review is None or review.action == "skip":
            by["changed" if reviews.is_stale(item) else "none"].append(item)
            kept.append(item)
            continue
        by[review.action].append(item)
        if review.action == "reject":
            continue
        result = item_of(item.part, review.edited, where=item.id, task=item.task) if review.edited else item
        row = replace(result.row, id=item.row.id)
        if isinstance(row, Question):
            row = replace(row, origin="reviewed")
        kept.append(item if row == item.row else replace(result, row=row, written=None))
    return kept, by


def write_reviewed(items: Sequence[ReviewItem], reviews: Reviews, target: Path) -> Applied:
    """Write the rows that remain to ``target`` in one step; what was there is copied beside it first.

    Raises InputError when nothing would remain, ToolError when it cannot be written.
    """
    kept, by = reviewed_rows(items, reviews)
    part: Part = items[0].part if items else "pairs"
    if not kept:
        raise InputError(
            "every row is rejected, so that nothing would remain",
            where=str(target),
            fix="write new questions" if part == "benchmark" else "generate new pairs",
        )
    target = Path(os.path.realpath(target))
    return Applied(
        part,
        target,
        _replace(target, kept),
        len(kept),
        tuple(item.row.id for item in by["reject"]),
        tuple(item.row.id for item in by["edit"]),
        tuple(item.row.id for item in by["accept"]),
        len(by["none"]) + len(by["changed"]),
        tuple(item.row.id for item in by["changed"]),
        tuple(item.row.id for item in kept),
    )


def _replace(target: Path, kept: Sequence[ReviewItem]) -> Path | None:
    """Write the rows aside, copy the old file, rename. Returns the copy; None without an old file, or a new content."""
    aside = target.with_name(f".{target.name[:200]}.{os.getpid()}")
    backup = None
    try:
        try:
            write_rows(aside, as_rows(kept))
            if target.exists():
                if target.read_bytes() == aside.read_bytes():
                    return None
                shutil.copymode(target, aside)
                backup = _free_name(target)
                shutil.copy2(target, backup)
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise ToolError(
            f"cannot write: {error.strerror or error}",
            where=str(target),
            fix="free disk space or correct the permissions, then run the same command again",
        ) from None
    return backup


def _free_name(target: Path) -> Path:
    """``NAME.bak``, or the first of ``NAME.bak2``, ``NAME.bak3``, … that is free: no copy is ever overwritten."""
    number = 1
    while (backup := target.with_name(f"{target.name}.bak{number if number > 1 else ''}")).exists():
        number += 1
    return backup


def record(applied: Applied, items: Sequence[ReviewItem], log: ReviewLog) -> None:
    """Note in the log what was applied, so that a removed item still counts in the estimate."""
    removed = set(applied.removed)
    for item in items:
        if item.row.id in removed and item.id not in log.reviews.removed:
            row = Review(item.id, "apply", digest=item.digest, reason="removed", kind=item.kind, task=item.task)
            log.add(row)
    log.add(Review(applied.part, "apply", reason="written", note=applied.path.name, edited={"ids": [*applied.ids]}))
