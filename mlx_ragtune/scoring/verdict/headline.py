"""The verdict in words that claim no more than the numbers: what was gained, what was paid, why."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from mlx_ragtune.records import Validity
from mlx_ragtune.scoring.answers.metrics import METRICS
from mlx_ragtune.scoring.verdict.advice import SAME_SHARE, UNUSABLE_SHARE, advice, most_unusable
from mlx_ragtune.scoring.verdict.comparison import Comparison, Guard, MetricRow, Outcome, Verdict
from mlx_ragtune.scoring.verdict.metric_rows import MIN_CLUSTERS
from mlx_ragtune.scoring.verdict.statistics import POWER

Reference = Literal["base", "prompted"]
NAMES: dict[Reference, str] = {"base": "the base", "prompted": "the base with examples in its prompt"}
WON: tuple[Verdict, ...] = ("IMPROVED", "MIXED")
CARRIES = 0.5
"""A question with this share of the whole difference is named."""
PROBLEMS: dict[Validity, str] = {
    "empty": "empty",
    "too_short": "too short",
    "truncated": "cut off",
    "think_leak": "mixed with reasoning",
    "prompt_leak": "copies of the prompt",
    "self_dialogue": "followed by questions of the model's own",
    "turn_token_leak": "mixed with control tokens",
    "prompt_overflow": "impossible because the prompt left no room",
    "repetition_loop": "repeating themselves",
}


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


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


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


def _guards(comparison: Comparison, state: str) -> list[str]:
    return [f"{within_sentence(guard.label)} ({guard.detail})" for guard in comparison.guards if guard.state == state]


def _losses(comparison: Comparison) -> list[str]:
    """What surely got worse."""
    return [*map(_change, _family(comparison, "REGRESSED")), *_guards(comparison, "FAIL")]


def _primary(comparison: Comparison) -> str:
    """What is known of the primary metric."""
    row = comparison.row(comparison.primary)
    if row is None:
        return f"{_label(comparison.primary)} is undefined for every question"
    rests = ", which rests on unusable answers" if row.rests_on_invalid else ""
    return f"{_change(row)} ({_interval(row, comparison.alpha)}){rests}"


def _aside(comparison: Comparison) -> str:
    """The primary metric, where the sentence has not named it yet; then the warnings."""
    row = comparison.row(comparison.primary)
    named = row is not None and row.verdict in ("IMPROVED", "REGRESSED")
    warnings = _guards(comparison, "WARN")
    unsure = f"; perhaps worse, but not surely: {_join(warnings)}" if warnings else ""
    return ("" if named else f"; {_primary(comparison)}") + unsure


def problems(validities: Iterable[Validity]) -> str:
    """What is wrong with the unusable answers: the most frequent reasons, at most two."""
    counts = Counter(validity for validity in validities if validity in PROBLEMS)
    return " or ".join(PROBLEMS[kind] for kind, _ in counts.most_common(2))


def _unusable(comparison: Comparison, reference: Reference, share: float = UNUSABLE_SHARE) -> str | None:
    """That more than ``share`` of the answers of one model, or of both, are unusable, and why; None otherwise."""
    sides = [
        (NAMES[reference], [kind for delta in comparison.questions for kind in delta.base_validity]),
        ("the tuned model", [kind for delta in comparison.questions for kind in delta.tuned_validity]),
    ]
    clauses = [
        f"{sum(kind != 'ok' for kind in kinds)} of {len(kinds)} answers of {name} are {problems(kinds)}"
        for name, kinds in sides
        if most_unusable(kinds, share)
    ]
    return f"{_join(clauses)}, so there is too little to compare" if clauses else None


def _inconclusive(comparison: Comparison, reference: Reference) -> str:
    if not comparison.questions:
        return "no question was answered by both models"
    better = _family(comparison, "IMPROVED")
    if unusable := _unusable(comparison, reference, UNUSABLE_SHARE if better else SAME_SHARE):
        return unusable
    if better:
        return (
            f"the tuned model is better on {_join(map(_change, better))}, but a loss elsewhere "
            f"cannot be ruled out: {_primary(comparison)}"
        )
    invalid = comparison.row("invalid")
    shares = f" ({_shares(invalid)} unusable)" if invalid else ""
    if rests := [row for row in comparison.rows if row.in_family and row.rests_on_invalid]:
        what = _join(map(_change, rests))
        return f"what was measured rests on unusable answers{shares}, not on what the usable ones say: {what}"
    if _guards(comparison, "FAIL"):
        return f"the tuned model gives more unusable answers{shares}, and nothing else surely differs"
    known = _primary(comparison)
    row = comparison.row(comparison.primary)
    return f"{known}; {_too_few(row)}{_warned(comparison)}" if row else known


def _too_few(row: MetricRow) -> str:
    verb = "is" if row.all.n_questions == 1 else "are"
    least = f": a verdict needs at least {MIN_CLUSTERS} papers" if row.all.n_clusters < MIN_CLUSTERS else ""
    return f"{_size(row)} {verb} too few to decide{least}"


def _warned(comparison: Comparison) -> str:
    warnings = _guards(comparison, "WARN")
    return f"; perhaps worse, but not surely: {_join(warnings)}" if warnings else ""


def _shares(row: MetricRow) -> str:
    return f"{100 * row.all.base_mean:.0f}% → {100 * row.all.tuned_mean:.0f}%"


def _size(row: MetricRow) -> str:
    """``33 questions``, with the papers where these are fewer."""
    n, papers = row.all.n_questions, row.all.n_clusters
    questions = f"{n} question{'s' * (n != 1)}"
    return questions if papers == n else f"{questions} on {papers} paper{'s' * (papers != 1)}"


def headline(comparison: Comparison, reference: Reference = "base") -> str:
    """One sentence: the verdict, what was gained, what was paid, and what to try next."""
    steps = comparison.advice
    return f"{comparison.verdict}: {_core(comparison, reference)}{f'; next: {steps[0]}' if steps else ''}."


def _core(comparison: Comparison, reference: Reference) -> str:
    """The sentence without the word and without what to try next."""
    better = _join(map(_change, _family(comparison, "IMPROVED"))) if _family(comparison, "IMPROVED") else ""
    if comparison.verdict == "IMPROVED":
        return f"the tuned model is better on {better}{_aside(comparison)}"
    if comparison.verdict == "MIXED":
        worse = _join(_losses(comparison))
        return f"the tuned model is better on {better}, but worse on {worse}{_aside(comparison)}"
    if comparison.verdict == "REGRESSED":
        return f"the tuned model is worse on {_join(_losses(comparison))}{_aside(comparison)}"
    if comparison.verdict == "EQUIVALENT":
        known = f"the models differ by less than {100 * comparison.margin:g} points; {_primary(comparison)}"
        return known + _warned(comparison)
    return _inconclusive(comparison, reference)


def in_words(comparison: Comparison, reference: Reference, *, primary_not_worse: bool) -> Comparison:
    """The comparison with its sentences: headline, gained, paid, advice and reasons."""
    better = [] if _unusable(comparison, reference) else _family(comparison, "IMPROVED")
    gains = [f"{_change(row)} ({_interval(row, comparison.alpha)})" for row in better]
    losses, warnings = _losses(comparison), _guards(comparison, "WARN")
    unsure = f"not surely: {_join(warnings)}" if warnings else ""
    paid = "; ".join(part for part in (_join(losses) if losses else "", unsure) if part)
    told = replace(
        comparison,
        gained=f"{_capital(_join(gains))}." if gains else "",
        paid=f"{_capital(paid)}." if paid else "",
        advice=advice(comparison),
    )
    return replace(told, headline=headline(told, reference), reasons=explain(told, primary_not_worse=primary_not_worse))


def join_arms(against_base: Comparison, against_prompted: Comparison | None) -> Outcome:
    """The outcome with a headline of at most three sentences that answers both questions."""
    if against_prompted is None:
        return Outcome(
            against_base.verdict, against_base.headline, against_base, None,
            against_base.gained, against_base.paid, against_base.advice,
        )  # fmt: skip
    cost = _prompt_cost(against_prompted)
    steps = _joint_advice(against_base, against_prompted)
    first = f"{against_base.verdict}: {_both(against_base, against_prompted)}: {_core(against_base, 'base')}."
    second = f"Against {NAMES['prompted']}{cost}, {against_prompted.verdict}: {_core(against_prompted, 'prompted')}."
    third = f" Next: {steps[0]}." if steps else ""
    return Outcome(
        against_base.verdict, f"{first} {second}{third}", against_base, against_prompted,
        against_base.gained, _with_cost(against_base.paid, cost), steps,
    )  # fmt: skip


RELATION: dict[Verdict, str] = {
    "IMPROVED": "beats {}",
    "MIXED": "beats {} at a price",
    "REGRESSED": "is worse than {}",
    "EQUIVALENT": "is as good as {}",
    "INCONCLUSIVE": "is not shown to beat {}",
}
UNCOMPARED = "cannot be compared with {}"


def _compared(comparison: Comparison, reference: Reference) -> bool:
    """Whether there were enough usable answers to compare."""
    return bool(comparison.questions) and _unusable(comparison, reference) is None


def _both(base: Comparison, prompted: Comparison) -> str:
    """The answer to both questions in a few words."""
    over_base, over_prompt = (comparison.verdict for comparison in (base, prompted))
    if over_base == over_prompt == "IMPROVED":
        return "the tuned model beats the base and the prompt"
    first = RELATION[over_base] if _compared(base, "base") else UNCOMPARED
    second = RELATION[over_prompt] if _compared(prompted, "prompted") else UNCOMPARED
    if over_base in WON and over_prompt not in WON and second != UNCOMPARED:
        return f"the tuned model {first.format('the base')}, not the prompt"
    return f"the tuned model {first.format('the base')} and {second.format('the prompt')}"


def _prompt_cost(prompted: Comparison) -> str:
    row = prompted.row("prompt_tokens")
    more = round(row.all.base_mean - row.all.tuned_mean) if row else 0
    return f" ({more:,} more prompt tokens per question)" if more > 0 else ""


def _with_cost(paid: str, cost: str) -> str:
    prompt = f"The prompt costs{cost.replace('(', '').replace(')', '')}." if cost else ""
    return " ".join(part for part in (paid, prompt) if part)


def _joint_advice(base: Comparison, prompted: Comparison) -> tuple[str, ...]:
    """What to try next, from both comparisons; the prompt first where it is as good as the tuned model.

    Where too few answers are usable, their cause comes before everything else.
    """
    steps = (*base.advice, *prompted.advice)
    use: tuple[str, ...] = ()
    if _compared(base, "base") and _compared(prompted, "prompted"):
        if prompted.verdict in ("EQUIVALENT", "REGRESSED"):
            use = ("use the base with examples in its prompt instead of the tuned model",)
        elif base.verdict in WON and prompted.verdict == "INCONCLUSIVE":
            use = ("try the base with examples in its prompt first: it needs no training and is not surely worse",)
    return tuple(dict.fromkeys((*use, *steps)))


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
    reasons += [_rests(row) for row in comparison.rows if row.in_family and row.rests_on_invalid]
    reasons += [_inside_noise(row) for row in comparison.rows if row.in_family and _is_inside_noise(row)]
    if primary and primary.verdict == "INCONCLUSIVE" and primary.detectable is not None:
        reasons.append(_power(primary, comparison.margin))
    reasons += [_guard_reason(guard) for guard in comparison.guards if guard.state != "PASS"]
    reasons += _influence_reasons(comparison)
    if comparison.dropped:
        reasons.append(
            f"{len(comparison.dropped)} answers left out for both models because a request failed: "
            f"{', '.join(comparison.dropped)}"
        )
    return tuple(reasons)


def _guard_reason(guard: Guard) -> str:
    word = "failed" if guard.state == "FAIL" else "warning"
    return f"guard {word}: {within_sentence(guard.label)}, {guard.detail}"


def _rests(row: MetricRow) -> str:
    usable = f"{_quantity(row, row.both_valid.difference)} where both answers are usable" if row.both_valid else ""
    return f"{_change(row)} rests on unusable answers: {usable or 'no question has two usable answers'}"


def _is_inside_noise(row: MetricRow) -> bool:
    return bool(row.noise) and 0 < abs(row.all.difference) <= (row.noise or 0.0)


def _inside_noise(row: MetricRow) -> str:
    floor = _quantity(row, row.noise or 0.0).removeprefix("+")
    return f"{_change(row)} is inside the numerical noise of {floor}: another server or thread count can undo it"


def _power(row: MetricRow, margin: float) -> str:
    """What this many questions can detect, and how many papers and questions the margin would need."""
    if (row.detectable or 0) >= 1 or row.all.n_clusters < MIN_CLUSTERS:
        start = f"{_size(row)} cannot detect any difference in {within_sentence(row.label)} with {percent(POWER)} power"
    else:
        start = (
            f"{_size(row)} detect a difference of {100 * (row.detectable or 0):.0f} points in "
            f"{within_sentence(row.label)} with {percent(POWER)} power"
        )
    if not row.needed_clusters or not row.needed_questions:
        return start
    return f"{start}; detecting {100 * margin:g} points takes {needed(row)}"


def needed(row: MetricRow) -> str:
    """``about 40 papers with 5 questions each``: how many of which kind detect the margin."""
    each = row.all.n_questions / row.all.n_clusters
    if each == 1:
        return f"about {row.needed_questions:,} questions, each about a paper of its own"
    return f"about {row.needed_clusters:,} papers with {each:.0f} questions each"


def _influence_reasons(comparison: Comparison) -> list[str]:
    reasons = []
    for influence in comparison.influence:
        row = comparison.row(influence.metric)
        share = influence.share or 0.0
        carries = share >= CARRIES and influence.metric == comparison.primary
        decides = influence.flips and {influence.verdict, influence.verdict_without} & {"IMPROVED", "REGRESSED"}
        if row is None or not (decides or carries or (influence.flips and influence.metric == comparison.primary)):
            continue
        what = (
            f"accounts for {100 * share:.0f}% of the difference in {within_sentence(row.label)}"
            if carries
            else f"decides the verdict on {within_sentence(row.label)}"
        )
        without = f"without it {_quantity(row, influence.difference_without)}, {influence.verdict_without}"
        reasons.append(f"{influence.kind} {influence.id} {what}: {without}")
    return reasons
