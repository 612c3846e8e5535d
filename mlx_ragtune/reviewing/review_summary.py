"""What the reviews of one part say: counts, the estimated share of defective items, and what to do next."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mlx_ragtune.reviewing.review_estimate import TOLERABLE, Rate, Unit, draw, more_needed, rate, rates
from mlx_ragtune.reviewing.review_items import Part, ReviewItem
from mlx_ragtune.reviewing.review_log import REASONS, Reviews

NOUNS: dict[Part, tuple[str, str]] = {
    "benchmark": ("question", "questions"),
    "pairs": ("pair", "pairs"),
    "votes": ("served answer", "served answers"),
}
KIND_LABELS = {
    "grounded": "one paper", "synthesis": "several papers", "near_miss": "near miss", "off_corpus": "off-corpus"
}  # fmt: skip


@dataclass(frozen=True)
class Summary:
    """Counts of one part. ``sampled`` and ``done`` are of the sample, the other counts of all items.

    ``pending``: some decisions are not in the user's file yet.
    ``estimate`` and ``kinds`` come from the sample alone, which nobody chose.
    """

    part: Part
    total: int
    sampled: int
    done: int
    accepted: int
    rejected: int
    edited: int
    skipped: int
    changed: int
    removed: int
    estimate: Rate | None
    kinds: dict[str, Rate]
    reasons: dict[str, int]
    pending: bool = False

    @property
    def text(self) -> str:
        """What the sample shows, in one or two sentences."""
        one, many = NOUNS[self.part]
        if not self.total:
            return f"There are no {many} to review."
        found = self.estimate
        if found is None:
            return f"Nothing is reviewed yet: the sample has {self.sampled} of {self.total} {many}."
        have = f"{found.defective} of {found.reviewed} {one if found.reviewed == 1 else many}"
        verb = "has" if found.defective == 1 else "have"
        if found.reviewed == found.total:
            return f"{have} {verb} a defect. All are reviewed."
        text = (
            f"{have} {verb} a defect: about {_percent(found.share)} of all {found.total} "
            f"({_percent(found.low, sign=False)} to {_percent(found.high)}, 95% interval)."
        )
        left = self.sampled - self.done
        return f"{text} {left} of the sample {'is' if left == 1 else 'are'} still to review." if left else text

    @property
    def next(self) -> str:
        """What to do now, as a sentence."""
        many = NOUNS[self.part][1]
        if not self.total:
            return ""
        if self.done < self.sampled:
            if self.sampled == self.total:
                return f"Review all {self.total}: each one counts."
            return f"Review these {self.sampled}: they decide whether the rest can be trusted."
        found = self.estimate
        if found is None or found.reviewed == found.total:
            return "Apply the reviews." if self.pending else "The reviews are applied."
        if self.advised is None:
            start = "Apply the reviews, and use" if self.pending else "The reviews are applied: use"
            return f"{start} the other {found.total - found.reviewed} {many} as they are."
        if self.part == "benchmark":
            return "Review all (--all): every wrong question counts in the verdict."
        if self.advised < self.total:
            enough = f"{100 * TOLERABLE:g}%"
            return f"Review more (--sample {self.advised}): that shows whether at most {enough} are defective."
        frequent = max(self.reasons, key=lambda name: self.reasons[name], default="")
        why = f" (most often: {REASONS.get(frequent, frequent)})" if frequent else ""
        return f"Too many are defective{why}: generate them again with a larger model, or review all (--all)."

    @property
    def advised(self) -> int | None:
        """The size of the sample that is advised after this one; None where the rest is used as it is."""
        found = self.estimate
        if found is None or self.done < self.sampled or found.reviewed == found.total or found.high <= TOLERABLE:
            return None
        enough = None if self.part == "benchmark" or found.share >= TOLERABLE else more_needed(found)
        return enough or self.total

    def as_json(self) -> dict[str, Any]:
        """For a script and for the page."""
        return {**asdict(self), "text": self.text, "next": self.next, "advised": self.advised}


def _percent(share: float, *, sign: bool = True) -> str:
    value = 100 * share
    text = f"{value:.1f}" if 0 < value < 1 else f"{value:.0f}"
    return f"{text}%" if sign else text


def units(part: Part, items: Sequence[ReviewItem], reviews: Reviews) -> list[Unit]:
    """The whole that the sample is drawn from: the items, and those that a review took out of their file."""
    found = [Unit(item.id, item.kind, item.task, _is_defective(item, reviews)) for item in items]
    here = {unit.id for unit in found}
    remaining = reviews.remaining.get(part, [])
    if 2 * sum(f"{part}/{name}" in here for name in remaining) < len(remaining):
        return found  # most of the items that were not removed are gone too: these are new ones
    gone = [(name, row) for name, row in reviews.removed.items() if name.startswith(f"{part}/") and name not in here]
    return [*found, *(Unit(name, row.kind, row.task, True) for name, row in gone)]


def _is_defective(item: ReviewItem, reviews: Reviews) -> bool | None:
    """A rejected item is defective, and so is one that had to be changed; None without a decision."""
    review = reviews.current(item)
    return None if review is None or review.action == "skip" else review.action in ("reject", "edit")


def sample(part: Part, items: Sequence[ReviewItem], reviews: Reviews, *, n: int, seed: int) -> list[ReviewItem]:
    """The items of the sample in the order in which they are shown. What a review removed counts in ``n``."""
    known = {item.id: item for item in items}
    return [known[name] for name in draw(units(part, items, reviews), n, seed=seed) if name in known]


def summarize(part: Part, items: Sequence[ReviewItem], reviews: Reviews, *, n: int, seed: int) -> Summary:
    """The counts and the estimate of one part with a sample of ``n``."""
    whole = units(part, items, reviews)
    drawn = set(draw(whole, n, seed=seed))
    seen = [unit if unit.id in drawn else Unit(unit.id, unit.kind, unit.task) for unit in whole]
    current = [review for item in items if (review := reviews.current(item)) is not None]
    counts = Counter(review.action for review in current)
    reasons = Counter(review.reason for review in current if review.action == "reject" and review.reason)
    return Summary(
        part=part,
        total=len(whole),
        sampled=len(drawn),
        done=sum(unit.defective is not None for unit in seen),
        accepted=counts["accept"],
        rejected=counts["reject"] + len(whole) - len(items),
        edited=counts["edit"],
        skipped=counts["skip"],
        changed=sum(reviews.is_stale(item) for item in items),
        removed=len(whole) - len(items),
        estimate=rate(seen),
        kinds=rates(seen),
        reasons=dict(reasons.most_common()),
        pending=reviews.is_pending(part),
    )
