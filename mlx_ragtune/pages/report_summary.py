"""How a report begins: what was compared, what got better and worse, what is due to unusable answers, what next.

A reader who has thirty seconds reads this and nothing else: plain words, few lines, no statistics but the intervals.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from mlx_ragtune.pages import wording
from mlx_ragtune.pages.report_blocks import Block, Lines, Paragraph, Section
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
NOTABLE = 0.005
"""Smallest part of a difference (a share) that is said to be due to unusable answers."""


def comparisons(data: ReportData) -> list[tuple[Arm, Comparison]]:
    """The comparisons of the tuned model, each with its reference."""
    pairs = zip(REFERENCES, (data.outcome.against_base, data.outcome.against_prompted), strict=True)
    return [(reference, comparison) for reference, comparison in pairs if comparison is not None]


def means(data: ReportData, name: str) -> dict[Arm, float]:
    """The mean of one metric for each arm that has one."""
    values: dict[Arm, float] = {}
    for reference, comparison in comparisons(data):
        row = comparison.row(name)
        if row is not None:
            values[reference] = row.all.base_mean
            values.setdefault("tuned", row.all.tuned_mean)
    return {arm: values[arm] for arm in data.arms if arm in values}


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


# 1. what was compared


def compared(data: ReportData) -> Section:
    """The arms, and what was the same for all."""
    blocks: list[Block] = [Lines(tuple(f"{arm}: {_arm(data, arm)}" for arm in data.arms))]
    blocks.append(Paragraph(f"{_size(data)} {_equal(data)}".strip()))
    if data.shown is not None:
        blocks.append(Paragraph(f"The answer is in what was shown: {data.shown.shown} of {data.shown.of}."))
    return Section("What was compared", tuple(blocks))


def _arm(data: ReportData, arm: Arm) -> str:
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
    same = [
        text.format(by_name[name].base) for name, text in said.items() if name in by_name and by_name[name].equal
    ]
    differ = [_different(pair) for pair in data.conditions if not pair.equal]
    parts = [f"The same {', '.join(same)}." if same else "", f"Not the same: {'; '.join(differ)}." if differ else ""]
    return " ".join(filter(None, parts))


def _different(pair: ConditionPair) -> str:
    values = [f"base {pair.base}", f"prompted {pair.prompted}" if pair.prompted else "", f"tuned {pair.tuned}"]
    return f"{pair.name.replace('_', ' ')} ({', '.join(filter(None, values))})"


# 2. what got better, what got worse


def _names(data: ReportData, verdict: str) -> list[str]:
    """Metrics with this verdict against at least one reference, in the order of the table; a guard only if it failed."""
    wanted = set()
    for _, comparison in comparisons(data):
        failed = {guard.name for guard in comparison.guards if guard.state == "FAIL"}
        for row in comparison.rows:
            counts = row.in_family or (row.role == "guard" and (verdict != "REGRESSED" or row.name in failed))
            if counts and row.verdict == verdict:
                wanted.add(row.name)
    return [name for name in METRICS if name in wanted]


def _line(data: ReportData, name: str, verdict: str) -> str:
    """``Correct facts: 48.0% → 52.0% → 79.0%; against base +31.0 (+20.1 to +41.9), against prompted …``."""
    rows = [(reference, row) for reference, comparison in comparisons(data) if (row := comparison.row(name))]
    first = rows[0][1]
    values = " → ".join(wording.amount(first, value) for value in means(data, name).values())
    changes = [_change(data, reference, row, verdict) for reference, row in rows]
    return f"{first.label}: {values}; {', '.join(changes)}"


def _change(data: ReportData, reference: Arm, row: MetricRow, verdict: str) -> str:
    where = "" if len(data.arms) == 2 else f"against {reference} "
    between = wording.interval(row)
    text = f"{where}{wording.change(row)}{f' ({between})' if between else ''}"
    return text if row.verdict == verdict else f"{text}, {wording.result(row.verdict)}"


def better(data: ReportData) -> Section:
    """What surely got better."""
    lines = tuple(_line(data, name, "IMPROVED") for name in _names(data, "IMPROVED"))
    return _listed(data, "What got better", lines, nothing="Nothing surely did.")


def worse(data: ReportData) -> Section:
    """What surely got worse, and what may have."""
    lines = [_line(data, name, "REGRESSED") for name in _names(data, "REGRESSED")]
    lines += _guard_lines(data, "FAIL", "")
    lines += _guard_lines(data, "WARN", "Perhaps, not surely: ")
    return _listed(data, "What got worse", tuple(lines), nothing="Nothing surely did.")


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


def _listed(data: ReportData, title: str, lines: tuple[str, ...], *, nothing: str) -> Section:
    arrows = f" ({' → '.join(data.arms)})" if lines else ""
    tone = "better" if title.endswith("better") else "worse"
    return Section(f"{title}{arrows}", (Lines(lines, tone) if lines else Paragraph(nothing),))


# 3. unusable answers


def unusable(data: ReportData) -> Section:
    """How many answers are unusable and why, and what the metrics say without them."""
    counted = states(data)
    if all(counts.total() == counts["ok"] for counts in counted.values()):
        return Section("Cut-off or repeated answers", (Paragraph("None: every answer is usable."),))
    lines = [f"{arm}: {_problems(counts)}" for arm, counts in counted.items()]
    blocks: list[Block] = [Lines(tuple(lines), "warn")]
    without = [line for name in _names_with_due(data) for line in _without(data, name)]
    if without:
        blocks.append(Paragraph("An unusable answer counts as the worst value. Where both answers are usable:"))
        blocks.append(Lines(tuple(without)))
    return Section("Cut-off or repeated answers", tuple(blocks))


def _problems(counts: Counter[str]) -> str:
    bad = counts.total() - counts["ok"]
    text = f"{bad} of {counts.total()} answers are unusable ({100 * unusable_share(counts):.0f}%)"
    kinds = [(state, n) for state, n in counts.most_common() if state != "ok"]
    listed = [f"{n} {wording.state_label(state)}" for state, n in kinds[:LISTED_STATES]]
    listed += [f"{sum(n for _, n in kinds[LISTED_STATES:])} other"] if len(kinds) > LISTED_STATES else []
    return f"{text}: {', '.join(listed)}" if bad else f"all {counts.total()} answers are usable"


def _names_with_due(data: ReportData) -> list[str]:
    """Deciding metrics of which a part of a difference is due to unusable answers."""
    due = {
        row.name
        for _, comparison in comparisons(data)
        for row in comparison.rows
        if row.in_family and row.due_to_invalid is not None and abs(row.due_to_invalid) >= NOTABLE
    }
    return [name for name in METRICS if name in due and name != "invalid"]


def _without(data: ReportData, name: str) -> Iterable[str]:
    for reference, comparison in comparisons(data):
        row = comparison.row(name)
        if row is None or row.both_valid is None:
            continue
        view = row.both_valid
        change = wording.points(view.difference)
        against = "" if len(data.arms) == 2 else f" ({reference} → tuned)"
        yield (
            f"{row.label}{against}: {wording.amount(row, view.base_mean)} → {wording.amount(row, view.tuned_mean)}, "
            f"{change} on {_plural(view.n_questions, 'question')} instead of {wording.change(row)}"
        )


# 4. what to do next


def advice(data: ReportData) -> Section | None:
    """What to try next: what the verdict's findings advise, then what only the report knows."""
    steps = [wording.sentence(step) for step in (*data.outcome.advice, *_more_advice(data))]
    return Section("What to do next", (Lines(tuple(dict.fromkeys(steps))),)) if steps else None


def _more_advice(data: ReportData) -> Iterator[str]:
    shown, asked = data.shown, data.asked
    if shown is not None and shown.shown < 0.95 * shown.of:
        lacking = f"the passages lack the answer to {shown.of - shown.shown} of {shown.of} questions"
        yield f"raise retrieval.top_k: {lacking}"
    if asked is not None and asked.questions < asked.of:
        yield f"raise evaluate.budget: {asked.of - asked.questions} of {asked.of} questions were not asked"


def summarize(data: ReportData) -> tuple[Section, ...]:
    """The sections with which a report begins, after the verdict."""
    sections = (compared(data), better(data), worse(data), unusable(data), advice(data))
    return tuple(section for section in sections if section is not None)
