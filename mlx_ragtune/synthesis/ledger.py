"""What became of each row that was read: kept in a split, or left out for one reason. Nothing is lost between the two.

read ─► left out, each for the first reason that applies ─► kept: train, valid, test
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlx_ragtune.records import Kind, Pair, Split

REFUSAL_KIND = "refusal kind not in dataset.refusal_kinds"
NO_SHARE = "kind without a share in dataset.shares"
BENCHMARK = "asks a benchmark question or uses its papers"
CONTROL_TOKEN = "holds a control token of a chat template"
FAULTY_ANSWER = "answer holds a dialogue, a part of a prompt or thinking"
DUPLICATE = "repeats an earlier question"
OVER_SHARE = "more than its share (dataset.balance: drop)"
ACROSS = "its papers are in two splits"
TOO_LONG = "longer than dataset.max_tokens"
NO_ANSWER = "no answer tokens"
EXCLUDED = (REFUSAL_KIND, NO_SHARE, OVER_SHARE)
"""Reasons that the recipe asks for by name: they are listed, and are no loss."""
KINDS: tuple[Kind, ...] = ("grounded", "synthesis", "refusal")
UNPLACED: Sequence[Split | None] = ("train", "valid", "test", None)
FIXES: Mapping[str, str] = {
    BENCHMARK: "remove these rows, or the benchmark's questions about these papers",
    FAULTY_ANSWER: "remove from these rows what does not belong to the answer",
    CONTROL_TOKEN: "write the tokens with a space in them: < |im_end| >",
    DUPLICATE: "remove the repeated questions",
    ACROSS: "write more pairs on single papers, or lower dataset.valid_share",
    TOO_LONG: "raise dataset.max_tokens, or lower retrieval.top_k or corpus.chunk_tokens",
    "an evidence quote is in no chunk": "raise corpus.overlap_tokens, or quote shorter sentences",
    "evidence in more chunks": "raise retrieval.top_k or corpus.chunk_tokens",
    "no evidence quote": "add the quote that supports the answer",
    NO_ANSWER: "write an answer in these rows",
}
"""What to do about a reason, by the reason or its start."""


@dataclass(frozen=True)
class LeftOut:
    """A row that is not trained on. ``split`` is None when it was left out before the split."""

    id: str
    kind: Kind
    split: Split | None
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Account:
    """Rows read, left out by reason (in the order of the steps) and kept by split, each by kind.

    ``made`` counts rows that the tool added to those that were read. For every kind, read + made is the sum of
    ``left_out`` and ``kept``.
    """

    read: dict[Kind, int]
    made: dict[Kind, int]
    left_out: dict[str, dict[Kind, int]]
    kept: dict[Split, dict[Kind, int]]
    repaired: dict[Kind, int]
    made_for_train: dict[Kind, int]
    lost_before_split: int
    by_split: dict[str, dict[Split, int]]

    @property
    def rows_read(self) -> int:
        """All rows read."""
        return sum(self.read.values())

    @property
    def rows_kept(self) -> int:
        """All rows kept, in any split."""
        return sum(sum(kinds.values()) for kinds in self.kept.values())

    @property
    def rows_asked(self) -> int:
        """All rows read and added, without those that the recipe excludes by name."""
        excluded = sum(sum(self.left_out.get(reason, {}).values()) for reason in EXCLUDED)
        return self.rows_read + sum(self.made.values()) - excluded

    @property
    def losses(self) -> dict[str, int]:
        """Reason → rows, the largest first, without the reasons that the recipe asks for by name."""
        counts = {reason: sum(kinds.values()) for reason, kinds in self.left_out.items() if reason not in EXCLUDED}
        return dict(sorted(counts.items(), key=lambda item: -item[1]))

    @property
    def lost_share(self) -> float:
        """Rows lost ÷ rows that the recipe asks for, in [0, 1]; 0 without rows."""
        return sum(self.losses.values()) / self.rows_asked if self.rows_asked > 0 else 0.0

    @property
    def train_shares(self) -> dict[Kind, float]:
        """Share of each kind in the training rows, without rows that the tool made; 0 without rows."""
        train = {kind: rows - self.made_for_train.get(kind, 0) for kind, rows in self.kept["train"].items()}
        return {kind: train.get(kind, 0) / max(1, sum(train.values())) for kind in KINDS}

    def as_json(self) -> dict[str, Any]:
        """The counts for ``statistics.json``."""
        return {
            "read": self.read,
            "made": self.made,
            "left_out": self.left_out,
            "left_out_by_split": self.by_split,
            "kept": self.kept,
            "repaired": self.repaired,
            "lost_share": round(self.lost_share, 4),
        }


@dataclass
class _Fate:
    kind: Kind
    made: bool
    repaired: bool = False
    split: Split | None = None
    reason: str = ""
    detail: str = ""
    kept: bool = False


@dataclass
class Ledger:
    """The fate of each row by id. A row has at most one: the first reason counts, and a row left out is never kept."""

    _fates: dict[str, _Fate] = field(default_factory=dict)

    def read(self, pairs: Iterable[Pair], *, made: bool = False) -> None:
        """Enter rows; ``made`` for those that the tool added. Raises ValueError for an id that was entered before."""
        for pair in pairs:
            if pair.id in self._fates:
                raise ValueError(f"row '{pair.id}' was read twice")
            self._fates[pair.id] = _Fate(pair.kind, made)

    def repair(self, ids: Iterable[str]) -> None:
        """Note rows that were changed and used."""
        for identifier in ids:
            self._fates[identifier].repaired = True

    def leave_out(self, reason: str, ids: Iterable[str] | Mapping[str, str], *, split: Split | None = None) -> None:
        """Leave rows out; a mapping gives details by id. A row that was left out before keeps its first reason."""
        details = ids if isinstance(ids, Mapping) else dict.fromkeys(ids, "")
        for identifier, detail in details.items():
            fate = self._fates[identifier]
            if not fate.reason:
                fate.reason, fate.detail, fate.split = reason, detail, split

    def keep(self, split: Split, ids: Iterable[str]) -> None:
        """Keep rows in a split. Raises ValueError for a row that was left out or kept before."""
        for identifier in ids:
            fate = self._fates[identifier]
            if fate.reason or fate.kept:
                raise ValueError(f"row '{identifier}' was {'kept' if fate.kept else 'left out'} before")
            fate.kept, fate.split = True, split

    def listing(self) -> list[LeftOut]:
        """The rows left out, in the order in which they were read."""
        return [
            LeftOut(identifier, fate.kind, fate.split, fate.reason, fate.detail)
            for identifier, fate in self._fates.items()
            if fate.reason
        ]

    def account(self) -> Account:
        """All counts. Raises ValueError when a row has no fate: each step must leave out or keep what it was given."""
        open_rows = [identifier for identifier, fate in self._fates.items() if not (fate.kept or fate.reason)]
        if open_rows:
            raise ValueError(f"{len(open_rows)} rows are neither kept nor left out: {', '.join(open_rows[:5])}")
        fates = list(self._fates.values())
        reasons = list(dict.fromkeys(fate.reason for fate in fates if fate.reason))
        return Account(
            read=_kinds(fate.kind for fate in fates if not fate.made),
            made=_kinds(fate.kind for fate in fates if fate.made),
            left_out={reason: _kinds(fate.kind for fate in fates if fate.reason == reason) for reason in reasons},
            kept={
                split: _kinds(fate.kind for fate in fates if fate.kept and fate.split == split)
                for split in ("train", "valid", "test")
            },
            repaired=_kinds(fate.kind for fate in fates if fate.repaired),
            made_for_train=_kinds(fate.kind for fate in fates if fate.made and fate.kept and fate.split == "train"),
            lost_before_split=sum(bool(fate.reason) and fate.split is None for fate in fates),
            by_split={
                reason: dict(Counter(fate.split for fate in fates if fate.reason == reason and fate.split))
                for reason in reasons
            },
        )


def _kinds(kinds: Iterable[Kind]) -> dict[Kind, int]:
    counts = Counter(kinds)
    return {kind: counts[kind] for kind in KINDS if counts[kind]}


def fix_for(reason: str) -> str:
    """What to do about a reason; empty when there is no one thing to do."""
    return next((fix for start, fix in FIXES.items() if reason.startswith(start)), "")


def share_gaps(account: Account, shares: Mapping[Kind, float], *, tolerance: float) -> list[str]:
    """``grounded 98 % (target 60 %)`` for each kind whose share of the training rows is off by more than that.

    Rows that the tool made come on top of the shares and do not count.
    """
    train = {kind: rows - account.made_for_train.get(kind, 0) for kind, rows in account.kept["train"].items()}
    total = sum(train.values())
    if not total:
        return []
    got = {kind: train.get(kind, 0) / total for kind in KINDS}
    return [
        f"{kind} {got[kind]:.0%} (target {shares.get(kind, 0.0):.0%})"
        for kind in KINDS
        if abs(got[kind] - shares.get(kind, 0.0)) > tolerance
    ]
