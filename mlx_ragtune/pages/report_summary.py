"""How a report begins: what was compared, what got better and worse, what is due to unusable answers, what next.

A reader who has thirty seconds reads this and nothing else: plain words, few lines, no statistics but the intervals.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from mlx_ragtune.pages import wording
from mlx_ragtune.pages.report_blocks import Block, Lines, Paragraph, Section, Tone
from mlx_ragtune.pages.report_data import ConditionPair, ReportData
from mlx_ragtune.records import Arm
from mlx_ragtune.scoring.answers.metrics import METRICS
from mlx_ragtune.scoring.verdict.comparison import Comparison, Guard, MetricRow, QuestionDelta

NAMES: dict[Arm, str] = {
    "base": "the model before tuning",
    "prompted": "the base with examples in its prompt",
    "tuned": "the model after tuning",
}
REFERENCES: tuple[Arm, ...] = ("base", "prompted")
LISTED_STATES = 3
"""How many kinds of unusable answers the summary names for each arm."""
NOTABLE = 0.03
"""Smallest part of a difference (a share) that the summary says is due to unusable answers."""
IMPUTED = 0.05
"""From this difference on, a value that counts unusable answers as worst is marked (a share)."""
MARK = "*"


def comparisons(data: ReportData) -> list[tuple[Arm, Comparison]]:
    """The comparisons of the tuned model, each with its reference."""
    pairs = zip(REFERENCES, (data.outcome.against_base, data.outcome.against_prompted), strict=True)
    return [(reference, comparison) for reference, comparison in pairs if comparison is not None]


def rows_of(data: ReportData, name: str) -> list[tuple[Arm, MetricRow]]:
    """The row of one metric against each reference that has it."""
    return [(reference, row) for reference, comparison in comparisons(data) if (row := comparison.row(name))]


def states(data: ReportData) -> dict[Arm, Counter[str]]:
    """How many answers of each arm are in which state."""
    counted: dict[Arm, Counter[str]] = {arm: Counter() for arm in data.arms}
    for reference, comparison in comparisons(data):
        for delta in comparison.questions:
            counted[reference].update(delta.base_validity)
    counted["tuned"].update(state for delta in data.comparison.questions for state in delta.tuned_validity)
    return counted


def unusable_share(counts: Counter[str]) -> float:
    """The share of answers that are not valid; 0 without answers."""
    return 1 - counts["ok"] / counts.total() if counts.total() else 0.0


def is_imputed(data: ReportData, row: MetricRow, arm: Arm) -> bool:
    """Whether an arm's mean comes to a notable part from unusable answers that count as worst."""
    if row.unit != "share" or METRICS[row.name].worst is None or unusable_share(states(data)[arm]) < IMPUTED:
        return False
    if row.both_valid is None:
        return True
    whole, usable = (
        (row.all.tuned_mean, row.both_valid.tuned_mean)
        if arm == "tuned"
        else (row.all.base_mean, row.both_valid.base_mean)
    )
    return (usable - whole if row.higher_is_better else whole - usable) >= IMPUTED


def mean_text(data: ReportData, row: MetricRow, arm: Arm) -> str:
    """An arm's mean, marked where it comes to a notable part from unusable answers."""
    value = row.all.tuned_mean if arm == "tuned" else row.all.base_mean
    return f"{wording.amount(row, value)}{MARK if is_imputed(data, row, arm) else ''}"


def imputed_note(data: ReportData, names: Collection[str]) -> str:
    """What the mark means and which arms it is about; empty without marked values among these metrics."""
    marked = {
        arm
        for reference, comparison in comparisons(data)
        for row in comparison.rows
        for arm in (reference, "tuned")
        if row.name in names and is_imputed(data, row, arm)
    }
    counted = states(data)
    shares = [f"{100 * unusable_share(counted[arm]):.0f}% of the {arm} answers" for arm in data.arms if arm in marked]
    return f"{MARK} {_and(shares)} were unusable and count as worst." if shares else ""


def _and(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


# 1. what was compared


def compared(data: ReportData) -> Section:
    """The arms, and what was the same for all."""
    blocks: list[Block] = [Lines(tuple(f"{arm}: {_arm(data, arm)}" for arm in data.arms))]
    blocks.append(Paragraph(f"{_size(data)} {_equal(data)}".strip()))
    if data.outcome.provenance:
        blocks.append(Paragraph(data.outcome.provenance))
    if data.shown is not None:
        blocks.append(Paragraph(f"The answer is in what was shown: {data.shown.shown} of {data.shown.of}."))
    return Section("What was compared", tuple(blocks))


def _arm(data: ReportData, arm: Arm) -> str:
    if arm in data.names:
        return data.names[arm]
    if arm == "prompted" and data.prompted is not None:
        n = len(data.prompted.examples)
        return f"the base with {n} training example{'s' * (n != 1)} in its prompt ({data.prompted.tokens:,} tokens)"
    return NAMES[arm]


def papers(questions: Sequence[QuestionDelta]) -> int:
    """How many papers the questions are about."""
    return len({delta.cluster for delta in questions if delta.cluster.startswith("paper:")})


def _plural(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' * (n != 1)}"


def _size(data: ReportData) -> str:
    comparison = data.comparison
    about = papers(comparison.questions)
    text = f"The same {_plural(comparison.n_questions, 'question')}"
    text += f" on {_plural(about, 'paper')}" if about else ""
    asked = data.asked
    if asked is not None and asked.questions < asked.of:
        limit = f" within {asked.minutes:g} minutes" if asked.minutes else ""
        text += f" (asked: {asked.questions} of {asked.of}{limit})"
    return f"{text} for {'both' if len(data.arms) == 2 else 'all three'}."


def _equal(data: ReportData) -> str:
    """What was the same for all arms; nothing where the conditions are unknown."""
    by_name = {pair.name: pair for pair in data.conditions}
    said = {"retrieval": "passages", "quantization": "quantization ({})", "server": "server ({})"}
    same = [text.format(by_name[name].base) for name, text in said.items() if name in by_name and by_name[name].equal]
    differ = [_different(pair) for pair in data.conditions if not pair.equal]
    parts = [f"The same {_and(same)}." if same else "", f"Not the same: {'; '.join(differ)}." if differ else ""]
    return " ".join(filter(None, parts))


def _different(pair: ConditionPair) -> str:
    values = [f"base {pair.base}", f"prompted {pair.prompted}" if pair.prompted else "", f"tuned {pair.tuned}"]
    return f"{pair.name.replace('_', ' ')} ({', '.join(filter(None, values))})"


# 2. what got better, what got worse


def _names(data: ReportData, verdict: str) -> list[str]:
    """Metrics with this verdict against at least one reference, in the order of the table; guards if they failed."""
    wanted = set()
    for _, comparison in comparisons(data):
        failed = {guard.name for guard in comparison.guards if guard.state == "FAIL"}
        for row in comparison.rows:
            counts = row.in_family or (row.role == "guard" and (verdict != "REGRESSED" or row.name in failed))
            if counts and row.verdict == verdict:
                wanted.add(row.name)
    return [name for name in METRICS if name in wanted]


def _line(data: ReportData, name: str, verdict: str) -> str:
    """``Correct facts: 48.0% → 52.0% → 79.0%; against base +31.0 points (+20.1 to +41.9), against prompted …``."""
    rows = rows_of(data, name)
    known = dict(rows)
    values = [mean_text(data, known[arm], arm) if arm in known else "no value" for arm in data.arms[:-1]]
    values.append(mean_text(data, rows[0][1], "tuned"))
    changes = [_change(data, reference, row, verdict) for reference, row in rows]
    return f"{rows[0][1].label}: {' → '.join(values)}; {', '.join(changes)}"


def _change(data: ReportData, reference: Arm, row: MetricRow, verdict: str) -> str:
    where = "" if len(data.arms) == 2 else f"against {reference} "
    between = wording.interval(row)
    unit = " points" if row.unit == "share" else ""
    text = f"{where}{wording.change(row)}{unit}{f' ({between})' if between else ''}"
    if row.rests_on_invalid:
        return f"{text}, due to unusable answers"
    return text if row.verdict == verdict else f"{text}, {wording.result(row.verdict)}"


def better(data: ReportData) -> Section:
    """What surely got better."""
    return _listed(data, "What got better", _names(data, "IMPROVED"), verdict="IMPROVED")


def worse(data: ReportData) -> Section:
    """What surely got worse, and what may have."""
    more = [*_guard_lines(data, "FAIL", ""), *_guard_lines(data, "WARN", "Perhaps, not surely: ")]
    return _listed(data, "What got worse", _names(data, "REGRESSED"), verdict="REGRESSED", more=more)


def same(data: ReportData) -> Section | None:
    """The deciding metrics that stayed the same against every reference."""
    names = _undecided(data, {"EQUIVALENT"})
    return _listed(data, "What stayed the same", names, verdict="EQUIVALENT") if names else None


def unclear(data: ReportData) -> Section | None:
    """The deciding metrics that are neither better, nor worse, nor the same."""
    names = [
        name
        for name in _undecided(data, {"INCONCLUSIVE", "EQUIVALENT"})
        if name not in _undecided(data, {"EQUIVALENT"})
    ]
    return _listed(data, "What stays unclear", names, verdict="INCONCLUSIVE") if names else None


def _undecided(data: ReportData, verdicts: Collection[str]) -> list[str]:
    """Metrics of the family whose verdicts against all references are among these."""
    family = data.comparison.family
    return [
        name for name in family if (rows := rows_of(data, name)) and all(row.verdict in verdicts for _, row in rows)
    ]


def _guard_lines(data: ReportData, state: str, prefix: str) -> Iterator[str]:
    """Guards in this state that no listed metric covers; one line each, with the reference if there are two."""
    listed = set(_names(data, "REGRESSED"))
    said: set[str] = set()
    for reference, comparison in comparisons(data):
        for guard in comparison.guards:
            line = f"{prefix}{_guard(data, guard, reference)}"
            if guard.state == state and guard.name not in listed and guard.detail not in said:
                said.add(guard.detail)  # general probes are the same against both
                yield line


def _guard(data: ReportData, guard: Guard, reference: Arm) -> str:
    two = len(data.arms) > 2 and guard.name != "forgetting"
    return f"{guard.label}{f' (against {reference})' if two else ''}: {guard.detail}"


def _listed(data: ReportData, title: str, names: Sequence[str], *, verdict: str, more: Sequence[str] = ()) -> Section:
    """A line for each metric, then further lines; without any a sentence that says so."""
    lines = (*(_line(data, name, verdict) for name in names), *more)
    if not lines:
        return Section(title, (Paragraph("Nothing surely did."),))
    arrows = f" ({' → '.join(data.arms)})" if names else ""
    return Section(f"{title}{arrows}", (Lines(lines, _TONES[verdict]),))


_TONES: dict[str, Tone] = {"IMPROVED": "better", "REGRESSED": "worse", "EQUIVALENT": "plain", "INCONCLUSIVE": "plain"}


# 3. unusable answers


def unusable(data: ReportData) -> Section:
    """How many answers are unusable and why, and what the metrics say without them."""
    title = "How much is due to cut-off, repeated or other unusable answers"
    counted = states(data)
    if not any(counts.total() for counts in counted.values()):
        return Section(title, (Paragraph("Unknown: no question was answered by the models that are compared."),))
    if all(counts.total() == counts["ok"] for counts in counted.values()):
        return Section(title, (Paragraph("Nothing: every answer is usable."),))
    blocks: list[Block] = [Lines(tuple(f"{arm}: {_problems(counts)}" for arm, counts in counted.items()), "warn")]
    without = tuple(_without(data, name) for name in _names_with_due(data))
    if without:
        marked = f", also in the values marked with {MARK}" if imputed_note(data, data.comparison.family) else ""
        blocks.append(Paragraph(f"They count as worst{marked}. The change where both answers are usable:"))
        blocks.append(Lines(without))
    return Section(title, tuple(blocks))


def _problems(counts: Counter[str]) -> str:
    bad = counts.total() - counts["ok"]
    if not bad:
        return f"none of {counts.total()} answers"
    kinds = [(state, n) for state, n in counts.most_common() if state != "ok"]
    listed = [f"{n} {wording.state_label(state)}" for state, n in kinds[:LISTED_STATES]]
    listed += [f"{sum(n for _, n in kinds[LISTED_STATES:])} other"] if len(kinds) > LISTED_STATES else []
    reasons = wording.state_label(kinds[0][0]) if len(kinds) == 1 else ", ".join(listed)
    return f"{bad} of {counts.total()} answers ({100 * unusable_share(counts):.0f}%), {reasons}"


def _names_with_due(data: ReportData) -> list[str]:
    """Deciding metrics of which a part of a difference is due to unusable answers."""
    return [
        name
        for name in data.comparison.family
        if any(abs(row.due_to_invalid or 0.0) >= NOTABLE for _, row in rows_of(data, name))
    ]


def _without(data: ReportData, name: str) -> str:
    """``Correct facts: +15.4 instead of +47.5 against base (13 questions)``."""
    rows = rows_of(data, name)
    parts = []
    for reference, row in rows:
        if row.both_valid is not None:
            against = "" if len(data.arms) == 2 else f" against {reference}"
            usable = f"{wording.points(row.both_valid.difference)} instead of {wording.change(row)}"
            parts.append(f"{usable}{against} ({_plural(row.both_valid.n_questions, 'question')})")
    return f"{rows[0][1].label}: {', '.join(parts)}"


# 4. what to do next


def advice(data: ReportData) -> Section | None:
    """What to try next: what the verdict's findings advise, then what only the report knows."""
    steps: dict[str, str] = {}
    for step in (*data.outcome.advice, *_more_advice(data)):
        steps.setdefault(re.split(r"\d", step)[0], wording.sentence(step))  # once, whatever the number
    return Section("What to do next", (Lines(tuple(steps.values())),)) if steps else None


def _more_advice(data: ReportData) -> Iterator[str]:
    shown, asked = data.shown, data.asked
    if shown is not None and shown.shown < 0.95 * shown.of:
        lacking = f"the passages lack the answer to {shown.of - shown.shown} of {shown.of} questions"
        yield f"raise retrieval.top_k: {lacking}"
    if asked is not None and asked.questions < asked.of:
        yield f"raise evaluate.budget: {asked.of - asked.questions} of {asked.of} questions were not asked"


def summarize(data: ReportData) -> tuple[Section, ...]:
    """The sections with which a report begins, after the verdict."""
    sections = (compared(data), better(data), worse(data), same(data), unclear(data), unusable(data), advice(data))
    return tuple(section for section in sections if section is not None)
