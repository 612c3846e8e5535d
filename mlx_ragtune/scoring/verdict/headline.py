"""The verdict in one sentence, and the reasons for it, in words that claim no more than the numbers."""

from collections.abc import Iterable

from mlx_ragtune.scoring.verdict.comparison import Comparison, MetricRow


def _points(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "−")


def _quantity(row: MetricRow, value: float) -> str:
    return f"{_points(value)} points" if row.unit == "share" else f"{value:+.2f} {row.unit}".replace("-", "−")


def _change(row: MetricRow) -> str:
    return f"{row.label.lower()} {_quantity(row, row.all.difference)}"


def _interval(row: MetricRow, alpha: float) -> str:
    if row.all.low is None or row.all.high is None:
        return "no interval: one cluster"
    scale = 100 if row.unit == "share" else 1
    low, high = (f"{scale * end:+.1f}".replace("-", "−") for end in (row.all.low, row.all.high))
    return f"{100 * (1 - alpha):.0f} % interval {low} to {high}"


def _join(parts: Iterable[str]) -> str:
    listed = list(parts)
    return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}"


def _family(comparison: Comparison, verdict: str) -> list[MetricRow]:
    return [row for row in comparison.rows if row.in_family and row.verdict == verdict]


def headline(comparison: Comparison) -> str:
    """One sentence: the verdict, what carries it, and the primary metric with its interval."""
    primary = comparison.row(comparison.primary)
    margin = f"{100 * comparison.margin:g} points"
    known = (
        f"{_change(primary)} ({_interval(primary, comparison.alpha)})"
        if primary
        else f"{comparison.primary} is undefined for every question"
    )
    better, worse = _family(comparison, "IMPROVED"), _family(comparison, "REGRESSED")
    broken = [guard for guard in comparison.guards if guard.state == "BROKEN"]
    aside = "" if primary in (*better, *worse) else f"; {known}"
    if comparison.verdict == "IMPROVED":
        return f"IMPROVED: the tuned model is better in {_join(map(_change, better))}{aside}."
    if comparison.verdict == "REGRESSED":
        losses = [*map(_change, worse), *(f"{guard.label.lower()} ({guard.detail})" for guard in broken)]
        but = f", although better in {_join(map(_change, better))}" if better else ""
        return f"REGRESSED: the tuned model is worse in {_join(losses)}{but}{aside}."
    if comparison.verdict == "EQUIVALENT":
        return f"EQUIVALENT: the tuned model differs by less than {margin} in {known}."
    if better:
        strained = [f"{guard.label.lower()} ({guard.detail})" for guard in comparison.guards if guard.state != "HOLDS"]
        return (
            f"INCONCLUSIVE: the tuned model is better in {_join(map(_change, better))}, but a loss elsewhere "
            f"is not ruled out: {_join(strained) if strained else known}."
        )
    return f"INCONCLUSIVE: {known}; {comparison.n_questions} questions cannot tell."


def explain(comparison: Comparison, *, primary_not_worse: bool) -> tuple[str, ...]:
    """Why this verdict and no other, most important first."""
    reasons = []
    primary = comparison.row(comparison.primary)
    if comparison.untested:
        reasons.append(f"not tested, undefined for every question: {', '.join(comparison.untested)}")
    if primary and not primary_not_worse and _family(comparison, "IMPROVED"):
        reasons.append(
            f"a loss of more than {100 * comparison.margin:g} points in {primary.label.lower()} "
            f"is not ruled out ({_interval(primary, comparison.alpha)})"
        )
    if primary and primary.verdict == "INCONCLUSIVE" and primary.detectable is not None:
        need = (
            f"; about {primary.needed_questions} would find {100 * comparison.margin:g}"
            if primary.needed_questions
            else ""
        )
        reasons.append(
            f"{primary.label.lower()}: {primary.all.n_questions} questions find a difference of "
            f"{100 * primary.detectable:.0f} points in 19 of 20 runs{need}"
        )
    for guard in comparison.guards:
        if guard.state != "HOLDS":
            reasons.append(f"guard {guard.state.lower()}: {guard.label.lower()}, {guard.detail}")
    reasons += _influence_reasons(comparison)
    if comparison.dropped:
        reasons.append(
            f"{len(comparison.dropped)} answers dropped for both models after transport errors: "
            f"{', '.join(comparison.dropped)}"
        )
    return tuple(reasons)


def _influence_reasons(comparison: Comparison) -> list[str]:
    reasons = []
    for one in comparison.influence:
        row = comparison.row(one.metric)
        carries = one.share is not None and one.share >= 0.5 and one.metric == comparison.primary
        if row is None or not (one.flips or carries):
            continue
        share = f" carries {100 * one.share:.0f} % of" if carries and one.share is not None else " decides"
        without = f"without it {_quantity(row, one.difference_without)} and {one.verdict_without}"
        reasons.append(f"{one.kind} {one.id}{share} the difference in {row.label.lower()}: {without}")
    return reasons
