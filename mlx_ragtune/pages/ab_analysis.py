"""Statistics of blind votes: wins, ties, a sign test, an interval over papers, and how reliable the voter is."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from mlx_ragtune.pages.ab_plan import Source, Trial
from mlx_ragtune.pages.report_data import ABPart, RowPart

Choice = Literal["left", "right", "tie", "both_bad"]
CHOICES: tuple[Choice, ...] = ("left", "right", "tie", "both_bad")
RESAMPLES = 10_000


@dataclass(frozen=True)
class ABResult:
    """Votes on the real trials; ``score`` is the mean of win 1, no preference ½, loss 0 for the tuned model.

    ``sign_p``: exact two-sided sign test on the votes with a preference (1 if there are none). ``low``/``high``:
    95% percentile interval of ``score`` with whole papers resampled; None for a single paper. ``repeats``
    and ``checks`` are (agreed or passed, total). ``judge_kappa``: agreement with the judge's
    preferences (base, tuned, tie; both bad counts as a tie), None without a judge.
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
    trials: Sequence[Trial], votes: Mapping[str, Choice], *, judge: Mapping[str, str] | None = None
) -> ABResult:
    """The result of all votes given (trial id → choice). Raises ValueError when no real trial has one.

    ``judge`` maps question ids to base, tuned or tie.
    """
    real = [(trial, winner(trial, votes[trial.id])) for trial in trials if trial.kind == "real" and trial.id in votes]
    if not real:
        raise ValueError("no vote on a real trial")
    counts = Counter(won for _, won in real)
    wins, losses = counts["tuned"], counts["base"]
    scores = [{"tuned": 1.0, "base": 0.0}.get(won, 0.5) for _, won in real]
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
        repeats=_repeats(trials, votes, {trial.item.question_id: won for trial, won in real}),
        checks=_checks(trials, votes),
        judge_kappa=_with_judge({trial.item.question_id: won for trial, won in real}, judge or {}),
    )


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


def judged(result: ABResult) -> str:
    """One sentence that claims no more than the votes show."""
    n = result.wins + result.losses
    counted = (
        f"{result.wins} votes for tuned, {result.losses} for base, {result.ties + result.both_bad} without a preference"
    )
    if result.checks[0] < result.checks[1]:
        return f"Not reliable, because a planted bad answer was not noticed: {counted}."
    if n and result.sign_p <= 0.05:
        better = "tuned" if result.wins > result.losses else "base"
        return f"The {better} model is preferred: {counted} (sign test p = {result.sign_p:.3f})."
    needed = f"detecting a 60/40 preference takes {needed_votes(0.6)} votes"
    return f"No preference shown: {counted} (sign test p = {result.sign_p:.3f}); {needed}."


def report_part(result: ABResult) -> ABPart:
    """The result for the report."""
    between = (
        "" if result.low is None or result.high is None else f" ({100 * result.low:.0f} to {100 * result.high:.0f}%)"
    )
    rows: list[RowPart] = [
        {"label": "tuned preferred", "value": str(result.wins)},
        {"label": "base preferred", "value": str(result.losses)},
        {"label": "tie", "value": str(result.ties)},
        {"label": "both bad", "value": str(result.both_bad)},
        {"label": "wins + ½ ties", "value": f"{100 * result.score:.0f}%{between}, {result.n_clusters} papers"},
        {"label": "repeats with the same vote", "value": f"{result.repeats[0]} of {result.repeats[1]}"},
        {"label": "planted bad answers noticed", "value": f"{result.checks[0]} of {result.checks[1]}"},
    ]
    if result.judge_kappa is not None:
        rows.append({"label": "agreement with the judge", "value": f"κ = {result.judge_kappa:.2f}"})
    return {"headline": judged(result), "rows": rows}
