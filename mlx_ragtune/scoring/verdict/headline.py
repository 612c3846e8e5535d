"""The verdict in one sentence and the reasons for it, in words that claim no more than the numbers."""

from collections.abc import Iterable

from mlx_ragtune.scoring.answers.metrics import METRICS
from mlx_ragtune.scoring.verdict.comparison import Comparison, Guard, MetricRow
from mlx_ragtune.scoring.verdict.statistics import POWER

CARRIES = 0.5
"""A question with this share of the whole difference is named."""


def signed(value: float, digits: int = 0) -> str:
    """The number with its sign and a typographic minus; no sign for what rounds to zero."""
    text = f"{value:+.{digits}f}"
    return (text[1:] if float(text) == 0 else text).replace("-", "−")


def within_sentence(label: str) -> str:
    """A label as it stands inside a sentence: ``Plain prose`` → ``plain prose``, ``BERTScore F1`` unchanged."""
    first = label.partition(" ")[0]
    return label[:1].lower() + label[1:] if first[1:].islower() or len(first) == 1 else label


def percent(share: float) -> str:
    """``0.95`` → ``95%``."""
    return f"{100 * share:g}%"


def _quantity(row: MetricRow, value: float) -> str:
    return f"{signed(100 * value, 1)} points" if row.unit == "share" else f"{signed(value, 2)} {row.unit}"


def _change(row: MetricRow) -> str:
    return f"{within_sentence(row.label)} {_quantity(row, row.all.difference)}"


def _interval(row: MetricRow, alpha: float) -> str:
    if row.all.low is None or row.all.high is None:
        return "no interval: all questions are about one paper"
    scale = 100 if row.unit == "share" else 1
    return f"{percent(1 - alpha)} interval {signed(scale * row.all.low, 1)} to {signed(scale * row.all.high, 1)}"


def _join(parts: Iterable[str]) -> str:
    listed = list(parts)
    return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}"


def _family(comparison: Comparison, verdict: str) -> list[MetricRow]:
    return [row for row in comparison.rows if row.in_family and row.verdict == verdict]


def _label(name: str) -> str:
    return within_sentence(METRICS[name].label)


def _guards(guards: Iterable[Guard]) -> list[str]:
    return [f"{within_sentence(guard.label)} ({guard.detail})" for guard in guards]


def headline(comparison: Comparison) -> str:
    """One sentence: the verdict, the metrics behind it, and the primary metric with its interval."""
    primary = comparison.row(comparison.primary)
    known = (
        f"{_change(primary)} ({_interval(primary, comparison.alpha)})"
        if primary
        else f"{_label(comparison.primary)} is undefined for every question"
    )
    better, worse = _family(comparison, "IMPROVED"), _family(comparison, "REGRESSED")
    aside = "" if primary in (*better, *worse) else f"; {known}"
    gains = _join(map(_change, better)) if better else ""
    if comparison.verdict == "IMPROVED":
        return f"IMPROVED: the tuned model is better on {gains}{aside}."
    if comparison.verdict == "REGRESSED":
        failed = _guards(guard for guard in comparison.guards if guard.state == "FAIL")
        but = f", although better on {gains}" if better else ""
        return f"REGRESSED: the tuned model is worse on {_join([*map(_change, worse), *failed])}{but}{aside}."
    if comparison.verdict == "EQUIVALENT":
        return f"EQUIVALENT: the models differ by less than {100 * comparison.margin:g} points; {known}."
    if better:
        blocked = _guards(guard for guard in comparison.guards if guard.state != "PASS")
        return (
            f"INCONCLUSIVE: the tuned model is better on {gains}, but a loss elsewhere "
            f"cannot be ruled out: {_join(blocked) if blocked else known}."
        )
    few = f"; {comparison.n_questions} questions are too few to decide" if primary else ""
    return f"INCONCLUSIVE: {known}{few}."


def explain(comparison: Comparison, *, primary_not_worse: bool) -> tuple[str, ...]:
    """Why this verdict and no other, most important first."""
    reasons = []
    primary = comparison.row(comparison.primary)
    if comparison.untested:
        reasons.append(f"not measured, undefined for every question: {', '.join(map(_label, comparison.untested))}")
    if primary and not primary_not_worse and _family(comparison, "IMPROVED"):
        reasons.append(
            f"a loss of more than {100 * comparison.margin:g} points in {within_sentence(primary.label)} "
            f"cannot be ruled out ({_interval(primary, comparison.alpha)})"
        )
    if primary and primary.verdict == "INCONCLUSIVE" and primary.detectable is not None:
        reasons.append(_power(primary, comparison.margin))
    for guard in comparison.guards:
        if guard.state != "PASS":
            word = "failed" if guard.state == "FAIL" else "warning"
            reasons.append(f"guard {word}: {within_sentence(guard.label)}, {guard.detail}")
    reasons += _influence_reasons(comparison)
    if comparison.dropped:
        reasons.append(
            f"{len(comparison.dropped)} answers left out for both models because a request failed: "
            f"{', '.join(comparison.dropped)}"
        )
    return tuple(reasons)


def _power(row: MetricRow, margin: float) -> str:
    """What this many questions can detect, and how many the margin would need."""
    need = f"; detecting {100 * margin:g} points takes about {row.needed_questions:,}" if row.needed_questions else ""
    return (
        f"{row.all.n_questions} questions detect a difference of {100 * (row.detectable or 0):.0f} points in "
        f"{within_sentence(row.label)} with {percent(POWER)} power{need}"
    )


def _influence_reasons(comparison: Comparison) -> list[str]:
    reasons = []
    for influence in comparison.influence:
        row = comparison.row(influence.metric)
        share = influence.share or 0.0
        carries = share >= CARRIES and influence.metric == comparison.primary
        if row is None or not (influence.flips or carries):
            continue
        what = (
            f"accounts for {100 * share:.0f}% of the difference in {within_sentence(row.label)}"
            if carries
            else f"decides the verdict on {within_sentence(row.label)}"
        )
        without = f"without it {_quantity(row, influence.difference_without)}, {influence.verdict_without}"
        reasons.append(f"{influence.kind} {influence.id} {what}: {without}")
    return reasons
