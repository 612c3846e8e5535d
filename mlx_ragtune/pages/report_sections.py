"""The sections of a report, in order. To add one, write a function and name it in ``SECTIONS``."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

from mlx_ragtune.pages import wording
from mlx_ragtune.pages.plots import Bar, Whisker, delta_bars, dot_whisker, loss_curve
from mlx_ragtune.pages.report_blocks import (
    Answers,
    Block,
    Cell,
    Column,
    Facts,
    Group,
    Paragraph,
    Plot,
    Report,
    Row,
    Section,
    Table,
    Tone,
)
from mlx_ragtune.pages.report_data import AnswerPair, Fact, ReportData
from mlx_ragtune.scoring.answers.metrics import METRICS
from mlx_ragtune.scoring.verdict.comparison import GuardState, MetricRow
from mlx_ragtune.scoring.verdict.distractors import LABELS
from mlx_ragtune.scoring.verdict.headline import percent, signed, within_sentence

ROLES = {
    "decides": "Deciding metrics",
    "guard": "Guards (can only block an improvement)",
    "supporting": "Supporting metrics (no effect on the verdict)",
    "secondary": "Secondary metrics (no effect on the verdict, easily misled)",
}
VERDICT_TONES: dict[str, Tone] = {"IMPROVED": "better", "REGRESSED": "worse"}
GUARD_TONES: dict[GuardState, Tone] = {"PASS": "better", "WARN": "warn", "FAIL": "worse"}
REFUSAL_RATES = {
    "refusal_precision": "correct refusals among all refusals",
    "refusal_recall": "unanswerable questions refused",
    "refusal_f1": "F1 of refusing",
    "answer_f1": "F1 of answering",
    "macro_f1": "macro-F1",
}


def _by_role(data: ReportData) -> list[tuple[str, list[MetricRow]]]:
    """Metrics that are shares, by role; one that could decide but is not in the family supports."""
    groups: dict[str, list[MetricRow]] = defaultdict(list)
    for row in data.comparison.rows:
        if row.unit == "share":
            groups["supporting" if row.role == "decides" and not row.in_family else row.role].append(row)
    return [(role, groups[role]) for role in ROLES if role in groups]


def _tone(row: MetricRow) -> Tone:
    return VERDICT_TONES.get(row.verdict or "", "plain")


def _facts(title: str, facts: Iterable[Fact], note: str = "") -> Section | None:
    rows = tuple(facts)
    return Section(title, (Facts(rows),), note) if rows else None


def _table(
    title: str, columns: tuple[Column, ...], rows: Iterable[Row], *, note: str = "", stacks: bool = False
) -> Section | None:
    """A section of one table, if it has rows."""
    group = Group(tuple(rows))
    return Section(title, (Table(columns, (group,), stacks=stacks),), note) if group.rows else None


def _numeric(first: str, *names: str) -> tuple[Column, ...]:
    """A column of labels, then columns of numbers."""
    return (Column(first), *(Column(name, numeric=True) for name in names))


def _cells(*texts: str) -> Row:
    return tuple(map(Cell, texts))


def validity(data: ReportData) -> Section | None:
    """How many answers of each model are in which state."""
    base = Counter(state for delta in data.comparison.questions for state in delta.base_validity)
    tuned = Counter(state for delta in data.comparison.questions for state in delta.tuned_validity)
    states = sorted({*base, *tuned}, key=lambda state: (state != "ok", state))
    rows = (_cells(wording.state_label(state), str(base[state]), str(tuned[state])) for state in states)
    return _table("Answer validity", _numeric("answers", "base", "tuned"), rows)


def guards(data: ReportData) -> Section | None:
    """The guards with their states."""
    rows = (
        (Cell(guard.label), Cell(guard.state.lower(), GUARD_TONES[guard.state]), Cell(guard.detail))
        for guard in data.comparison.guards
    )
    note = "A guard that fails makes the verdict REGRESSED; one that warns rules out IMPROVED and EQUIVALENT."
    columns = (Column("guard"), Column("state"), Column("base → tuned"))
    return _table("Guards", columns, rows, note=note)


def _metric_columns(level: str) -> tuple[Column, ...]:
    return (
        Column("metric"),
        Column("base", numeric=True),
        Column("tuned", numeric=True),
        Column("change", numeric=True),
        Column(f"{level} interval", numeric=True),
        Column("p", numeric=True, narrowest="phone"),
        Column("questions", numeric=True, narrowest="desktop"),
        Column("verdict"),
    )


def _metric_cells(row: MetricRow, primary: str) -> tuple[Cell, ...]:
    notes = []
    if row.name != "invalid" and row.due_to_invalid and row.unit == "share" and abs(row.due_to_invalid) >= 0.0005:
        notes.append(f"{signed(100 * row.due_to_invalid, 1)} points of it due to invalid answers")
    if row.n_undefined:
        notes.append(f"undefined for {row.n_undefined} question{'s' * (row.n_undefined > 1)}")
    return (
        Cell(row.label, tag="primary" if row.name == primary else "", notes=tuple(notes)),
        Cell(wording.amount(row, row.all.base_mean)),
        Cell(wording.amount(row, row.all.tuned_mean)),
        Cell(wording.change(row)),
        Cell(wording.interval(row)),
        Cell(wording.p_value(row.shown_p)),
        Cell(str(row.all.n_questions)),
        Cell((row.verdict or "not judged").lower(), _tone(row)),
    )


def _whiskers(rows: Sequence[MetricRow]) -> list[Whisker]:
    return [
        Whisker(
            row.label,
            100 * row.all.difference,
            None if row.all.low is None else 100 * row.all.low,
            None if row.all.high is None else 100 * row.all.high,
            wording.change(row),
            _tone(row),
        )
        for row in rows
    ]


def metrics(data: ReportData) -> Section | None:
    """Every quality metric: a plot of those that count, then all of them by role."""
    comparison, groups = data.comparison, _by_role(data)
    if not groups:
        return None
    level = percent(1 - comparison.alpha)
    blocks: list[Block] = []
    counting = [row for role, rows in groups if role in ("decides", "guard") for row in rows]
    if counting:
        blocks.append(Plot(dot_whisker(_whiskers(counting))))
    tabled = (
        Group(tuple(_metric_cells(row, comparison.primary) for row in rows), ROLES[role], summary=role != "secondary")
        for role, rows in groups
    )
    blocks.append(Table(_metric_columns(level), tuple(tabled), stacks=True))
    blocks.append(
        Paragraph(
            f"{comparison.n_questions} questions in {comparison.n_clusters} clusters (all questions about one paper "
            "are one cluster). Intervals are cluster-robust; p values of deciding metrics and guards are "
            f"Holm-adjusted. Changes within ±{100 * comparison.margin:g} points count as equivalent.",
            small=True,
        )
    )
    note = f"Change is tuned minus base, in percentage points, with {level} intervals. Color marks a verdict."
    return Section("Base vs. tuned", tuple(blocks), note)


def blind(data: ReportData) -> Section | None:
    """What people preferred without knowing which model answered."""
    if data.blind is None:
        return None
    return Section("Blind comparison by people", (Paragraph(data.blind.headline), Facts(data.blind.rows)))


def _primary_label(data: ReportData) -> str:
    row = data.comparison.row(data.comparison.primary)
    return row.label if row else data.comparison.primary


def count_gains(pairs: Sequence[AnswerPair]) -> str:
    """How many questions got worse, stayed the same, got better, and have no score."""
    gains = [pair.gain for pair in pairs if pair.gain is not None]
    counts = {
        "worse": sum(gain < 0 for gain in gains),
        "the same": sum(gain == 0 for gain in gains),
        "better": sum(gain > 0 for gain in gains),
        "without a score": len(pairs) - len(gains),
    }
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count or name != "without a score")


def differences(data: ReportData) -> Section | None:
    """One bar for each question."""
    bars = [
        Bar(f"{pair.topic} · {pair.question_id}: {signed(100 * pair.gain, 1)} · {pair.question}", pair.gain)
        for pair in data.answers
        if pair.gain is not None
    ]
    note = f"{_primary_label(data)}: {count_gains(data.answers)}. One bar per question."
    return Section("Change per question", (Plot(delta_bars(bars)),), note) if bars else None


def regressions(data: ReportData) -> Section | None:
    """The questions that lost most."""
    by_id = {pair.question_id: pair for pair in data.answers}
    worst = [by_id[name] for name in data.comparison.worst_regressions if name in by_id]
    label = within_sentence(_primary_label(data))

    def about(pair: AnswerPair) -> str:
        by = f" · {label} {signed(100 * pair.gain, 1)} points" if pair.gain is not None else ""
        return f"{pair.topic} · {pair.question_id}{by}"

    block = Answers(tuple((pair, about(pair)) for pair in worst))
    return Section("Largest regressions", (block,)) if worst else None


def all_answers(data: ReportData) -> Section | None:
    """Every answer, folded by topic."""
    topics: dict[str, list[tuple[AnswerPair, str]]] = defaultdict(list)
    for pair in data.answers:
        topics[pair.topic].append((pair, pair.question_id))
    blocks = tuple(
        Answers(tuple(pairs), f"{topic or 'no topic'} ({len(pairs)} question{'s' * (len(pairs) > 1)})")
        for topic, pairs in topics.items()
    )
    return Section("All answers", blocks) if blocks else None


def retrieval(data: ReportData) -> Section | None:
    """How well the retriever did."""
    return _facts("Retrieval", data.retrieval, "The same passages are shown to both models.")


def conditions(data: ReportData) -> Section | None:
    """The conditions of both models side by side."""
    rows = (
        (
            Cell(pair.name.replace("_", " ")),
            Cell(pair.base, "" if pair.equal else "worse"),
            Cell("same" if pair.equal else pair.tuned, "" if pair.equal else "worse"),
        )
        for pair in data.conditions
    )
    columns = (Column("condition"), Column("base"), Column("tuned"))
    return _table("Conditions", columns, rows, note="How both models were served and asked.")


def refusals(data: ReportData) -> Section | None:
    """Precision, recall and F1 of refusing and answering; 0/0 is undefined, not 0."""
    tables = data.refusals
    if tables is None:
        return None
    rows = (
        _cells(label, *(wording.rate(getattr(table, name)) for table in (tables.base, tables.tuned)))
        for name, label in REFUSAL_RATES.items()
    )
    note = "A refusal is correct when the papers do not answer the question."
    return _table("Refusals", _numeric("rate", "base", "tuned"), rows, note=note)


def distractors(data: ReportData) -> Section | None:
    """The same questions with other passages."""
    rows = []
    for row in data.distractors:
        interval = "" if row.low is None or row.high is None else f"{_points(row.low)} to {_points(row.high)}"
        label = f"{LABELS[row.condition]}: {within_sentence(METRICS[row.metric].label)}"
        rows.append(_cells(label, wording.rate(row.base), wording.rate(row.tuned), _points(row.difference), interval,
                     str(row.n_questions)))  # fmt: skip
    level = percent(1 - data.comparison.alpha)
    columns = _numeric("passages and metric", "base", "tuned", "change", f"{level} interval", "questions")
    note = (
        "Each answerable question is asked three more times: with passages of its papers only, with those among "
        "passages of other papers, and without passages of its papers, where the right answer is a refusal."
    )
    return _table("Distractors", columns, rows, note=note, stacks=True)


def _points(value: float) -> str:
    return signed(100 * value, 1)


def forgetting(data: ReportData) -> Section | None:
    """General probes passed by both models, for each category and in total."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for probe in data.probes:
        for name in (probe.category, "total"):
            counts[name].update(n=1, base=int(probe.base), tuned=int(probe.tuned))
    rows = (
        _cells(name, str(count["n"]), str(count["base"]), str(count["tuned"]))
        for name, count in sorted(counts.items(), key=lambda pair: (pair[0] == "total", pair[0]))
    )
    columns = _numeric("category", "probes", "base", "tuned")
    note = "General questions without passages, checked by a program, and how many of them each model passed."
    return _table("Forgetting", columns, rows, note=note)


def judge(data: ReportData) -> Section | None:
    """Whether the judge is trusted, and which planted errors it caught."""
    if data.judge is None:
        return None
    facts = [Fact(data.judge.model, data.judge.summary)]
    for kind, (caught, planted) in data.judge.caught.items():
        facts.append(Fact(kind.replace("_", " "), f"{caught} of {planted} planted errors caught"))
    corrected = data.judge.corrected
    if corrected is not None:
        between = f"{_points(corrected.low)} to {_points(corrected.high)}"
        text = f"{_points(corrected.difference)} points ({between}), {corrected.labels} labels"
        facts.append(Fact("change in correctness, corrected by human labels", text))
    return _facts("Judge", facts, "Before it judged, the judge was tested on errors planted in good answers.")


def similarity(data: ReportData) -> Section | None:
    """What the similarity metrics say of planted answers, right ones first."""

    def shown(value: float | None) -> str:
        return "undefined" if value is None else f"{value:.2f}"

    planted = sorted(data.similarity, key=lambda row: not row.right)
    with_bertscore = any(row.bertscore_f1 is not None for row in planted)
    rows = (
        _cells(f"{row.name} ({'right' if row.right else 'wrong'})", shown(row.similarity),
               *([shown(row.bertscore_f1)] if with_bertscore else []))
        for row in planted
    )  # fmt: skip
    columns = _numeric("planted answer", "cosine", *(["BERTScore F1"] if with_bertscore else []))
    note = "Similarity does not affect the verdict. This table shows its scores for answers known to be right or wrong."
    return _table("Limits of similarity", columns, rows, note=note)


def training(data: ReportData) -> Section | None:
    """Losses and the facts of training."""
    blocks: list[Block] = []
    note = ""
    curve = loss_curve(data.losses, best_update=data.best_update)
    if curve:
        blocks.append(Plot(curve))
        kept = "; green: the checkpoint that was kept" if data.best_update is not None else ""
        note = f"Loss in nats per answer token. Line: training (smoothed); dots: validation{kept}."
    if data.training:
        blocks.append(Facts(data.training))
    return Section("Training", tuple(blocks), note) if blocks else None


def dataset(data: ReportData) -> Section | None:
    """Rows and tokens of the training data."""
    return _facts("Training data", data.dataset)


def cost(data: ReportData) -> Section | None:
    """The metrics that are times and amounts."""
    rows = (_metric_cells(row, "")[:5] for row in data.comparison.rows if row.unit != "share")
    level = percent(1 - data.comparison.alpha)
    note = "Times were measured when the answer was generated; an answer from an earlier run keeps its times."
    return _table("Cost per answer", (Column("mean"), *_metric_columns(level)[1:5]), rows, note=note, stacks=True)


def settings(data: ReportData) -> Section | None:
    """The recipe."""
    return _facts("Settings", data.settings)


def versions(data: ReportData) -> Section | None:
    """When and with what the answers were made."""
    return _facts("Versions", data.versions)


SECTIONS: tuple[Callable[[ReportData], Section | None], ...] = (
    validity, guards, metrics, blind, differences, regressions, all_answers, retrieval, conditions, refusals,
    distractors, forgetting, judge, similarity, training, dataset, cost, settings, versions,
)  # fmt: skip


def build_report(data: ReportData) -> Report:
    """The report of the data, with a section for everything that is there."""
    comparison = data.comparison
    built = (section(data) for section in SECTIONS)
    return Report(
        title=data.title,
        stamps=data.stamps,
        verdict=comparison.verdict,
        tone="warn" if comparison.verdict == "INCONCLUSIVE" else VERDICT_TONES.get(comparison.verdict, "plain"),
        headline=comparison.headline,
        reasons=comparison.reasons,
        sections=tuple(section for section in built if section is not None),
    )
