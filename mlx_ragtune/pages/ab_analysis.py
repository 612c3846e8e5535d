"""Statistics of blind votes: wins, ties, a sign test, an interval over papers, and how reliable the voter is."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from mlx_ragtune.pages.ab_plan import REFERENCES, Reference, Source, Trial
from mlx_ragtune.pages.report_data import ABPart, RowPart
from mlx_ragtune.scoring.verdict.statistics import holm

Choice = Literal["left", "right", "tie", "both_bad"]
CHOICES: tuple[Choice, ...] = ("left", "right", "tie", "both_bad")
RESAMPLES = 10_000


@dataclass(frozen=True)
class ABResult:
    """Votes on the real trials against one reference.

    ``score`` is the mean of win 1, no preference ½, loss 0 for the tuned model.
    ``sign_p``: exact two-sided sign test on the votes with a preference (1 if there are none). ``low``/``high``:
    95% percentile interval of ``score`` with whole papers resampled; None for a single paper. ``repeats``
    and ``checks`` are (agreed or passed, total) over the whole session. ``judge_kappa``: agreement with the
    judge's preferences (reference, tuned, tie; both bad counts as a tie), None without a judge.
    """

    wins: int
    losses: int
    ties: int
    both_bad: int
    sign_p: float
    score: float
    low: float | None
    high: float | None
    n_clusters: int
    repeats: tuple[int, int]
    checks: tuple[int, int]
    judge_kappa: float | None = None
    against: Reference = "base"


NAMES: dict[Reference, str] = {"base": "base", "prompted": "base with examples in its prompt"}
"""What a reference is called in the result."""


def needed_votes(share: float, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """Votes with a preference that detect ``share`` against one half (normal approximation of the sign test)."""
    spread = float(stats.norm.ppf(1 - alpha / 2)) * 0.5 + float(stats.norm.ppf(power)) * math.sqrt(share * (1 - share))
    return math.ceil((spread / abs(share - 0.5)) ** 2)


def winner(trial: Trial, choice: Choice) -> Source | Literal["tie", "both_bad"]:
    """The source of the preferred answer."""
    return {"left": trial.left, "right": trial.right, "tie": "tie", "both_bad": "both_bad"}[choice]


def _interval(scores: Sequence[float], clusters: Sequence[str]) -> tuple[float | None, float | None]:
    """Percentile bootstrap over whole clusters, with a fixed seed (Field & Welsh 2007)."""
    _, codes = np.unique(np.array(clusters), return_inverse=True)
    groups = int(codes.max()) + 1
    if groups < 2:
        return None, None
    sums, sizes = np.bincount(codes, weights=np.array(scores)), np.bincount(codes)
    sampled = np.random.default_rng(85_194).integers(0, groups, (RESAMPLES, groups))
    means = sums[sampled].sum(axis=1) / sizes[sampled].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def analyze(
    trials: Sequence[Trial],
    votes: Mapping[str, Choice],
    *,
    against: Reference = "base",
    judge: Mapping[str, str] | None = None,
) -> ABResult:
    """The result of all votes given (trial id → choice) on the tuned model against one reference.

    Raises ValueError when no such trial has a vote. ``judge`` maps question ids to the reference, tuned or tie.
    """
    voted = [(trial, winner(trial, votes[trial.id])) for trial in trials if trial.id in votes and trial.kind == "real"]
    real = [(trial, won) for trial, won in voted if trial.against == against]
    if not real:
        raise ValueError("no vote on a real trial")
    counts = Counter(won for _, won in real)
    wins, losses = counts["tuned"], counts[against]
    scores = [{"tuned": 1.0, against: 0.0}.get(won, 0.5) for _, won in real]
    low, high = _interval(scores, [trial.item.cluster for trial, _ in real])
    return ABResult(
        wins=wins,
        losses=losses,
        ties=counts["tie"],
        both_bad=counts["both_bad"],
        sign_p=float(stats.binomtest(wins, wins + losses, 0.5).pvalue) if wins + losses else 1.0,
        score=sum(scores) / len(scores),
        low=low,
        high=high,
        n_clusters=len({trial.item.cluster for trial, _ in real}),
        repeats=_repeats(trials, votes, {trial.item.question_id: won for trial, won in voted}),
        checks=_checks(trials, votes),
        judge_kappa=_with_judge({trial.item.question_id: won for trial, won in real}, judge or {}),
        against=against,
    )


def references(trials: Sequence[Trial]) -> list[Reference]:
    """What the tuned model is compared with in these trials."""
    return [reference for reference in REFERENCES if any(trial.against == reference for trial in trials)]


def _with_judge(people: Mapping[str, str], judge: Mapping[str, str]) -> float | None:
    both = [name for name in people if name in judge]
    votes = ["tie" if people[name] == "both_bad" else people[name] for name in both]
    return cohen_kappa(votes, [judge[name] for name in both]) if both else None


def _repeats(trials: Sequence[Trial], votes: Mapping[str, Choice], first: Mapping[str, str]) -> tuple[int, int]:
    """How many repeats, with the sides swapped, have the same winner as the first time."""
    again = [
        winner(trial, votes[trial.id]) == first[trial.item.question_id]
        for trial in trials
        if trial.kind == "repeat" and trial.id in votes and trial.item.question_id in first
    ]
    return sum(again), len(again)


def _checks(trials: Sequence[Trial], votes: Mapping[str, Choice]) -> tuple[int, int]:
    """How many planted bad answers neither won nor tied (both bad is accepted: a real answer can be as bad)."""
    passed = [
        winner(trial, votes[trial.id]) not in ("planted", "tie")
        for trial in trials
        if trial.kind == "check" and trial.id in votes
    ]
    return sum(passed), len(passed)


def cohen_kappa(first: Sequence[str], second: Sequence[str]) -> float | None:
    """Agreement of two raters beyond chance (Cohen 1960) on the same items; None when chance agreement is 1."""
    if len(first) != len(second) or not first:
        raise ValueError("two raters need the same items, at least one")
    n = len(first)
    left, right = Counter(first), Counter(second)
    chance = sum(left[name] * right[name] for name in left) / n**2
    agreed = sum(left_rating == right_rating for left_rating, right_rating in zip(first, second, strict=True)) / n
    return None if chance >= 1 else (agreed - chance) / (1 - chance)


def judged(result: ABResult, *, p: float | None = None) -> str:
    """One sentence that claims no more than the votes show. ``p`` replaces the unadjusted p of the sign test."""
    n, name = result.wins + result.losses, NAMES[result.against]
    p = result.sign_p if p is None else p
    counted = (
        f"{result.wins} votes for tuned, {result.losses} for {name}, "
        f"{result.ties + result.both_bad} without a preference"
    )
    if result.checks[0] < result.checks[1]:
        return f"Not reliable, because a planted bad answer was not noticed: {counted}."
    if n and p <= 0.05:
        better = "tuned model" if result.wins > result.losses else _model(result.against)
        return f"The {better} is preferred: {counted} (sign test p = {p:.3f})."
    needed = f"detecting a 60/40 preference takes {needed_votes(0.6)} votes"
    return f"No preference shown: {counted} (sign test p = {p:.3f}); {needed}."


def _model(reference: Reference) -> str:
    return "base model" if reference == "base" else NAMES[reference]


def report_part(*results: ABResult) -> ABPart:
    """The result for the report, one for each reference; Holm over their sign tests."""
    adjusted = holm({result.against: result.sign_p for result in results})
    rows: list[RowPart] = []
    for result in results:
        prefix = "" if len(results) == 1 else f"against the {NAMES[result.against]}: "
        rows += [{"label": f"{prefix}{label}", "value": value} for label, value in _counts(result)]
    first = results[0]
    checks = f"{first.checks[0]} of {first.checks[1]}" if first.checks[1] else "none planted: none was surely wrong"
    rows += [
        {"label": "repeats with the same vote", "value": f"{first.repeats[0]} of {first.repeats[1]}"},
        {"label": "planted bad answers noticed", "value": checks},
    ]
    return {"headline": " ".join(judged(result, p=adjusted[result.against]) for result in results), "rows": rows}


def _counts(result: ABResult) -> list[tuple[str, str]]:
    between = (
        "" if result.low is None or result.high is None else f" ({100 * result.low:.0f} to {100 * result.high:.0f}%)"
    )
    counts = [
        ("tuned preferred", str(result.wins)),
        (f"{NAMES[result.against]} preferred", str(result.losses)),
        ("tie", str(result.ties)),
        ("both bad", str(result.both_bad)),
        ("wins + ½ ties", f"{100 * result.score:.0f}%{between}, {result.n_clusters} papers"),
    ]
    if result.judge_kappa is not None:
        counts.append(("agreement with the judge", f"κ = {result.judge_kappa:.2f}"))
    return counts
