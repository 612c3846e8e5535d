"""The sections of figures: every metric for every arm with its changes, the cost, and how it was measured."""

from collections import defaultdict
from collections.abc import Sequence

from mlx_ragtune.pages import wording
from mlx_ragtune.pages.plots import Whisker, dot_whisker
from mlx_ragtune.pages.report_blocks import Block, Cell, Column, Group, Lines, Paragraph, Plot, Section, Table, Tone
from mlx_ragtune.pages.report_data import ReportData
from mlx_ragtune.pages.report_summary import comparisons, imputed_note, is_imputed, mean_text, papers, rows_of
from mlx_ragtune.records import Arm
from mlx_ragtune.scoring.verdict.comparison import Comparison, MetricRow
from mlx_ragtune.scoring.verdict.headline import percent, within_sentence

ROLES = {
    "decides": "These decide",
    "guard": "These can only block an improvement",
    "supporting": "No effect on the verdict",
    "secondary": "No effect on the verdict, and easily misled",
}
VERDICT_TONES: dict[str, Tone] = {"IMPROVED": "better", "REGRESSED": "worse"}
SUMMARY_COSTS = ("prompt_tokens", "answer_tokens", "answer_words", "latency_seconds")


def tone_of(row: MetricRow) -> Tone:
    """The color of a row's verdict."""
    return VERDICT_TONES.get(row.verdict or "", "plain")


def _role(row: MetricRow) -> str:
    """A metric that could decide but is not in the family only supports."""
    return "supporting" if row.role == "decides" and not row.in_family else row.role


def _by_role(data: ReportData) -> list[tuple[str, list[str]]]:
    """Names of the metrics that are shares, by role."""
    groups: dict[str, list[str]] = defaultdict(list)
    rows = {row.name: row for _, comparison in reversed(comparisons(data)) for row in comparison.rows}
    for row in rows.values():
        if row.unit == "share":
            groups[_role(row)].append(row.name)
    return [(role, groups[role]) for role in ROLES if role in groups]


def _columns(data: ReportData, first: str, last: str = "result") -> tuple[Column, ...]:
    """The columns of a table of metrics: each arm, then each change; of two arms the interval has its own column."""
    arms = tuple(Column(arm, numeric=True) for arm in data.arms)
    level = percent(1 - data.comparison.alpha)
    if len(data.arms) == 2:
        change = (Column("change", numeric=True), Column(f"{level} interval", numeric=True))
        ends = (Column("questions", numeric=True, narrowest="desktop"), Column(last)) if last else ()
        return (Column(first), *arms, *change, *ends)
    return (Column(first), *arms, Column("vs. base", numeric=True), Column("vs. prompted", numeric=True))


def _value(data: ReportData, row: MetricRow, arm: Arm) -> Cell:
    """A mean, marked with the mean without unusable answers where these change it much."""
    if not is_imputed(data, row, arm) or row.both_valid is None:
        return Cell(mean_text(data, row, arm))
    usable = row.both_valid.tuned_mean if arm == "tuned" else row.both_valid.base_mean
    return Cell(mean_text(data, row, arm), notes=(f"{wording.amount(row, usable)} where both answers are usable",))


def _values(data: ReportData, rows: Sequence[tuple[Arm, MetricRow]]) -> list[Cell]:
    by_reference = dict(rows)
    cells = []
    for arm in data.arms:
        row = rows[0][1] if arm == "tuned" else by_reference.get(arm)
        cells.append(Cell("") if row is None else _value(data, row, arm))
    return cells


def _notes(data: ReportData, row: MetricRow) -> tuple[str, ...]:
    """What is to be known beside a metric: what is due to unusable answers, the noise floor, what is undefined."""
    notes = []
    if row.name != "invalid" and row.due_to_invalid and row.unit == "share" and abs(row.due_to_invalid) >= 0.0005:
        notes.append(f"{wording.points(row.due_to_invalid)} points of the change due to unusable answers")
    floor = noise_of(data, row)
    if floor:
        notes.append(f"numerical noise alone: ±{wording.floor(floor, row.unit)}")
    if row.n_undefined:
        notes.append(f"undefined for {row.n_undefined} question{'s' * (row.n_undefined > 1)}")
    return tuple(notes)


def noise_of(data: ReportData, row: MetricRow) -> float | None:
    """How far noise alone moves the metric; None when it was not measured."""
    if row.noise is not None or data.noise is None:
        return row.noise
    return data.noise.floors.get(row.name)


def _metric_cells(data: ReportData, name: str, *, judged: bool = True) -> tuple[Cell, ...]:
    """One row of a table of metrics, under ``_columns``."""
    rows = rows_of(data, name)
    first = rows[0][1]
    tag = "primary" if name == data.comparison.primary and judged else ""
    label = Cell(first.label, tag=tag, notes=_notes(data, first))
    if len(data.arms) == 2:
        change = (Cell(wording.change(first)), Cell(wording.interval(first)))
        ends = (Cell(str(first.all.n_questions)), Cell(wording.result(first.verdict), tone_of(first)))
        return (label, *_values(data, rows), *change, *(ends if judged else ()))
    by_reference = dict(rows)
    changes = []
    for reference, _ in comparisons(data):
        row = by_reference.get(reference)
        changes.append(Cell("") if row is None else _change_cell(row, judged=judged))
    return (label, *_values(data, rows), *changes)


def _change_cell(row: MetricRow, *, judged: bool) -> Cell:
    """A change with its plain word, the interval below it."""
    judged = judged and row.verdict is not None
    word = f" {wording.result(row.verdict)}" if judged else ""
    between = wording.interval(row)
    return Cell(f"{wording.change(row)}{word}", tone_of(row) if judged else "", notes=(between,) if between else ())


def _whiskers(rows: Sequence[MetricRow]) -> list[Whisker]:
    return [
        Whisker(
            row.label,
            100 * row.all.difference,
            None if row.all.low is None else 100 * row.all.low,
            None if row.all.high is None else 100 * row.all.high,
            wording.change(row),
            tone_of(row),
        )
        for row in rows
    ]


def _plots(data: ReportData) -> list[Block]:
    """One plot for each comparison, of the metrics that count."""
    blocks: list[Block] = []
    for reference, comparison in comparisons(data):
        rows = [row for row in comparison.rows if row.unit == "share" and _role(row) in ("decides", "guard")]
        if rows:
            if len(data.arms) > 2:
                blocks.append(Paragraph(f"Change of tuned against {reference}, in percentage points:"))
            blocks.append(Plot(dot_whisker(_whiskers(rows), against=reference)))
    return blocks


def metrics(data: ReportData) -> Section | None:
    """Every quality metric: plots of those that count, then all of them by role."""
    groups = _by_role(data)
    if not groups:
        return None
    tabled = (
        Group(tuple(_metric_cells(data, name) for name in names), ROLES[role], summary=role != "secondary")
        for role, names in groups
    )
    blocks = [*_plots(data), Table(_columns(data, "metric"), tuple(tabled), stacks=True)]
    level = percent(1 - data.comparison.alpha)
    note = f"Changes are in percentage points, with {level} intervals. Color marks what is surely better or worse."
    return Section(
        "Results",
        (*blocks, *_below(data, groups)),
        note,
    )


def _below(data: ReportData, groups: Sequence[tuple[str, list[str]]]) -> list[Block]:
    """What the mark means, and how far noise alone moves the metrics that count."""
    shown = [name for role, names in groups if role != "secondary" for name in names]
    counting = [name for role, names in groups if role in ("decides", "guard") for name in names]
    notes = [imputed_note(data, shown)]
    rows = [(row, noise_of(data, row)) for name in counting for row in (rows_of(data, name)[0][1],)]
    floors = [f"{within_sentence(row.label)} ±{wording.floor(floor, row.unit)}" for row, floor in rows if floor]
    if floors:
        notes.append(f"Numerical noise alone moves {', '.join(floors)}: a smaller change decides nothing.")
    elif any(floor is not None for _, floor in rows):
        notes.append("Numerical noise alone moves none of the figures that count.")
    return [Paragraph(note, small=True) for note in notes if note]


def cost(data: ReportData) -> Section | None:
    """The metrics that are times and amounts."""
    names = [row.name for row in data.comparison.rows if row.unit != "share"]
    names += [
        row.name
        for _, comparison in comparisons(data)[1:]
        for row in comparison.rows
        if row.unit != "share" and row.name not in names
    ]
    if not names:
        return None
    shown = [name for name in names if name in SUMMARY_COSTS]
    others = [name for name in names if name not in SUMMARY_COSTS]
    groups = [
        Group(tuple(_metric_cells(data, name, judged=False) for name in part), summary=part is shown)
        for part in (shown, others)
        if part
    ]
    note = "Means. Times were measured when the answer was generated; an answer from an earlier run keeps its times."
    table = Table(_columns(data, "per answer", last=""), tuple(groups), stacks=True)
    return Section("Cost of an answer", (table, *_sent(data)), note)


def _sent(data: ReportData) -> list[Block]:
    """How requests were sent, where it was not one by one, and how many answers that changes."""
    parallel = data.parallel
    if parallel is None or parallel.slots == 1:
        return []
    differ = ", ".join(f"{arm} {n} of {parallel.compared.get(arm, 0)}" for arm, n in parallel.differ.items())
    text = f"Requests were sent {parallel.slots} at a time; latency is that of {parallel.serial} sent one by one."
    return [Paragraph(f"{text} Answers that differ between the two: {differ or 'not compared'}.", small=True)]


def measured(data: ReportData) -> Section:
    """The statistics: p values of every comparison, what they mean, and the reasons for the verdict."""
    comparison = data.comparison
    about = papers(comparison.questions)
    others = comparison.n_clusters - about
    alone = f" and {others} questions about none" if others else ""
    blocks: list[Block] = [
        Paragraph(
            f"{comparison.n_questions} questions about {about} papers{alone}. All questions about one paper are one "
            "cluster. Intervals are cluster-robust; the p values of deciding metrics and guards are Holm-adjusted "
            f"over {'both comparisons' if len(data.arms) > 2 else 'all of them'}. Changes within "
            f"±{100 * comparison.margin:g} points count as the same. Facts and titles are matched by words and values, "
            "not by meaning, unless a metric says that it was judged."
        )
    ]
    for reference, against in comparisons(data):
        title = f"Against {reference}" if len(data.arms) > 2 else ""
        rows = tuple(_measured_cells(row) for row in against.rows if row.unit == "share")
        if rows:
            blocks.append(Table(_MEASURED, (Group(rows, title),), stacks=True))
    for reference, against in comparisons(data):
        if against.reasons:
            blocks += [Paragraph(f"Reasons for {against.verdict} against {reference}:"), Lines(against.reasons)]
    return Section("How this was measured", tuple(blocks))


_MEASURED = (
    Column("metric"),
    Column("questions", numeric=True),
    Column("p", numeric=True),
    Column("p (McNemar)", numeric=True),
    Column("detectable", numeric=True),
    Column("usable only", numeric=True),
    Column("verdict"),
)


def _measured_cells(row: MetricRow) -> tuple[Cell, ...]:
    detectable = "" if row.detectable is None else f"±{100 * row.detectable:.1f}"
    usable = "" if row.both_valid is None else wording.points(row.both_valid.difference)
    return (
        Cell(row.label),
        Cell(str(row.all.n_questions)),
        Cell(wording.p_value(row.shown_p)),
        Cell("" if row.mcnemar_p is None else wording.p_value(row.mcnemar_p)),
        Cell(detectable),
        Cell(usable),
        Cell((row.verdict or "not judged").lower(), tone_of(row)),
    )


def verdict_tone(comparison: Comparison) -> Tone:
    """The color of an overall verdict."""
    if comparison.verdict in ("INCONCLUSIVE", "MIXED"):
        return "warn"
    return VERDICT_TONES.get(comparison.verdict, "plain")
