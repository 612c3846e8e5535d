"""The sections of a report, in order. To add one, write a function and name it in ``SECTIONS``."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from mlx_ragtune.pages import wording
from mlx_ragtune.pages.plots import Bar, delta_bars, loss_curve
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
from mlx_ragtune.pages.report_metrics import cost, measured, metrics, verdict_tone
from mlx_ragtune.pages.report_summary import comparisons, states, summarize
from mlx_ragtune.pages.strength_plot import strength_line
from mlx_ragtune.scoring.answers.metrics import METRICS
from mlx_ragtune.scoring.verdict.comparison import Guard, GuardState
from mlx_ragtune.scoring.verdict.distractors import LABELS
from mlx_ragtune.scoring.verdict.headline import percent, signed, within_sentence

GUARD_TONES: dict[GuardState, Tone] = {"PASS": "better", "WARN": "warn", "FAIL": "worse"}
REFUSAL_RATES = {
    "refusal_precision": "correct refusals among all refusals",
    "refusal_recall": "unanswerable questions refused",
    "refusal_f1": "F1 of refusing",
    "answer_f1": "F1 of answering",
    "macro_f1": "macro-F1",
}


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
    counted = states(data)
    names = sorted({state for counts in counted.values() for state in counts}, key=lambda name: (name != "ok", name))
    rows = (_cells(wording.state_label(name), *(str(counts[name]) for counts in counted.values())) for name in names)
    note = "An unusable answer gets the worst value of every metric."
    return _table("Usable answers", _numeric("answers", *counted), rows, note=note)


def guards(data: ReportData) -> Section | None:
    """The guards with their states, against each reference."""
    against = [{guard.name: guard for guard in comparison.guards} for _, comparison in comparisons(data)]
    names = list(dict.fromkeys(name for by_name in against for name in by_name))
    rows = (_guard_cells([by_name.get(name) for by_name in against]) for name in names)
    note = "One that fails rules out an improvement; one that warns is worse, but not surely, and changes no verdict."
    if len(data.arms) == 2:
        columns: tuple[Column, ...] = (Column("check"), Column("state"), Column("base → tuned"))
    else:
        columns = (Column("check"), Column("against base"), Column("against prompted"))
    return _table("Checks against harm", columns, rows, note=note, stacks=True)


def _guard_cells(guards: Sequence[Guard | None]) -> Row:
    """A guard's label, then its state and detail against each reference; of two references below each other."""
    label = Cell(next(guard.label for guard in guards if guard is not None))
    if len(guards) == 1 and guards[0] is not None:
        return (label, _state(guards[0]), Cell(guards[0].detail))
    return (label, *(Cell("") if guard is None else _state(guard, guard.detail) for guard in guards))


def _state(guard: Guard, *notes: str) -> Cell:
    return Cell(guard.state.lower(), GUARD_TONES[guard.state], notes=notes)


def shown(data: ReportData) -> Section | None:
    """Correctness and refusals with and without the answer in the passages."""
    if data.shown is None:
        return None
    parts = [
        (_SHOWN[name], arm, part)
        for name in ("shown", "not_shown")
        for arm in data.arms
        if arm in data.shown.arms
        for part in (getattr(data.shown.arms[arm], name),)
    ]
    rows = (
        _cells(label, arm, str(part.n), wording.rate(part.correctness), wording.rate(part.false_refusal))
        for label, arm, part in parts
    )
    columns = (Column("the answer is"), Column("model"), *_numeric("", "questions", "correct facts", "refused")[1:])
    note = (
        f"The answer is in what was shown: {data.shown.shown} of {data.shown.of}. Where the passages lack it, no model "
        "can answer from them, and refusing is right."
    )
    return _table("What could be answered", columns, rows, note=note)


_SHOWN = {"shown": "in what was shown", "not_shown": "not in it"}


def blind(data: ReportData) -> Section | None:
    """What people preferred without knowing which model answered."""
    if data.blind is None:
        return None
    return Section("Blind comparison by people", (Paragraph(data.blind.headline), Facts(data.blind.rows)))


def _primary_label(data: ReportData) -> str:
    row = data.comparison.row(data.comparison.primary)
    return row.label if row else data.comparison.primary


def count_gains(values: Sequence[float | None]) -> str:
    """How many questions got worse, stayed the same, got better, and have no score."""
    gains = [gain for gain in values if gain is not None]
    counts = {
        "worse": sum(gain < 0 for gain in gains),
        "the same": sum(gain == 0 for gain in gains),
        "better": sum(gain > 0 for gain in gains),
        "without a score": len(values) - len(gains),
    }
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count or name != "without a score")


def differences(data: ReportData) -> Section | None:
    """One bar for each question, against each reference."""
    blocks: list[Block] = []
    gains: list[tuple[str, list[float | None]]] = [("base", [pair.gain for pair in data.answers])]
    if len(data.arms) > 2:
        gains.append(("prompted", [pair.gain_over_prompted for pair in data.answers]))
    for reference, values in gains:
        pairs = zip(data.answers, values, strict=True)
        bars = [Bar(_bar_label(pair, gain), gain) for pair, gain in pairs if gain is not None]
        if bars:
            blocks += [Paragraph(f"Tuned against {reference}: {count_gains(values)}."), Plot(delta_bars(bars))]
    note = f"{_primary_label(data)}, one bar per question."
    return Section("Change per question", tuple(blocks), note) if blocks else None


def _bar_label(pair: AnswerPair, gain: float) -> str:
    return f"{pair.topic} · {pair.question_id}: {signed(100 * gain, 1)} · {pair.question}"


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
    return _facts("Retrieval", data.retrieval, "The same passages are shown to all models.")


def conditions(data: ReportData) -> Section | None:
    """The conditions of the models side by side."""
    columns = (Column("condition"), *map(Column, data.arms))
    rows = []
    for pair in data.conditions:
        tone: Tone = "" if pair.equal else "worse"
        others = [pair.tuned] if len(data.arms) == 2 else [pair.prompted or "", pair.tuned]
        shown = ["same" if pair.equal and value == pair.base else value for value in others]
        rows.append((Cell(pair.name.replace("_", " ")), Cell(pair.base, tone), *(Cell(text, tone) for text in shown)))
    return _table("Conditions", columns, rows, note="How the models were served and asked.")


def requests(data: ReportData) -> Section | None:
    """How many questions were asked, in parallel or one by one, and how many answers that changes."""
    facts = []
    if data.asked is not None:
        limit = f", within {data.asked.minutes:g} minutes, in a random order" if data.asked.minutes else ""
        facts.append(Fact("questions asked", f"{data.asked.questions} of {data.asked.of}{limit}"))
    parallel = data.parallel
    if parallel is not None:
        at_a_time = "one by one" if parallel.slots == 1 else f"{parallel.slots} at a time"
        facts.append(Fact("requests", at_a_time))
        if parallel.slots > 1:
            facts.append(Fact("sent one by one, to measure latency", str(parallel.serial)))
            if parallel.overlap is not None:
                facts.append(Fact("answers that the server generated at a time", f"{parallel.overlap:.1f}"))
            facts += _differ("differ between parallel and one by one", parallel.differ, parallel.compared)
    return _facts("Requests", facts)


def _differ(label: str, differ: Mapping[str, int], compared: Mapping[str, int]) -> list[Fact]:
    text = ", ".join(f"{arm} {n} of {compared.get(arm, 0)}" for arm, n in differ.items())
    return [Fact(f"answers that {label}", text)] if text else []


def noise(data: ReportData) -> Section | None:
    """How far the metrics move when only the arithmetic of the machine changes."""
    if data.noise is None:
        return None
    measured = data.noise
    facts = [Fact("varied", ", ".join(measured.varied) or "nothing")]
    if measured.no_second_engine:
        facts.append(Fact("second engine", f"not measured: {measured.no_second_engine}"))
    facts += _differ("differ", measured.differ, dict.fromkeys(measured.differ, measured.compared))
    for name, value in measured.floors.items():
        known = METRICS.get(name)
        facts.append(
            Fact(
                known.label if known else "General probes", f"±{wording.floor(value, known.unit if known else 'share')}"
            )
        )
    note = (
        "The same model and prompts with other threads, parallel requests or another server: "
        "a change within this floor decides nothing."
    )
    return _facts("Numerical noise", facts, note)


def examples(data: ReportData) -> Section | None:
    """The training rows in the prompt of the prompted base."""
    if data.prompted is None:
        return None
    facts = [Fact(example.kind, example.question) for example in data.prompted.examples]
    note = f"The same for every question, {data.prompted.tokens:,} tokens, chosen from the training rows."
    return _facts("Examples in the prompt", facts, note)


def refusals(data: ReportData) -> Section | None:
    """Precision, recall and F1 of refusing and answering; 0/0 is undefined, not 0."""
    if data.refusals is None:
        return None
    by_arm = {"base": data.refusals.base, "prompted": data.refusals.prompted, "tuned": data.refusals.tuned}
    tables = [(arm, table) for arm in data.arms if (table := by_arm[arm]) is not None]
    rows = (
        _cells(label, *(wording.rate(getattr(table, name)) for _, table in tables))
        for name, label in REFUSAL_RATES.items()
    )
    note = "A refusal is correct when the papers do not answer the question."
    return _table("Refusals", _numeric("rate", *(arm for arm, _ in tables)), rows, note=note)


def distractors(data: ReportData) -> Section | None:
    """The same questions with other passages."""
    rows = []
    for row in data.distractors:
        interval = (
            "" if row.low is None or row.high is None else f"{wording.points(row.low)} to {wording.points(row.high)}"
        )
        label = f"{LABELS[row.condition]}: {within_sentence(METRICS[row.metric].label)}"
        change = wording.points(row.difference)
        rows.append(
            _cells(label, wording.rate(row.base), wording.rate(row.tuned), change, interval, str(row.n_questions))
        )
    level = percent(1 - data.comparison.alpha)
    columns = _numeric("passages and metric", "base", "tuned", "change", f"{level} interval", "questions")
    note = (
        "Each answerable question is asked three more times: with passages of its papers only, with those among "
        "passages of other papers, and without passages of its papers, where the right answer is a refusal."
    )
    return _table("Distractors", columns, rows, note=note, stacks=True)


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
        between = f"{wording.points(corrected.low)} to {wording.points(corrected.high)}"
        text = f"{wording.points(corrected.difference)} points ({between}), {corrected.labels} labels"
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
        own = any(point.rehearsal_loss is not None for point in data.losses)
        gray = "; gray: on the base's own answers that were held out" if own else ""
        note = f"Loss in nats per answer token. Line: training (smoothed); dots: validation{kept}{gray}."
    if data.training:
        blocks.append(Facts(data.training))
    return Section("Training", tuple(blocks), note) if blocks else None


def strength(data: ReportData) -> Section | None:
    """What each strength of the adapter gains and forgets, and which one was kept."""
    tried = data.strengths
    if tried is None:
        return None
    columns = _numeric("strength", "task score", "loss on the base's own answers", "increase")
    rows = (
        _cells(
            "0 (base)" if point.scale == 0 else f"{point.scale:g}{' (kept)' if point.scale == tried.kept else ''}",
            wording.rate(point.task_score),
            f"{point.rehearsal_loss:.3f}",
            f"{point.loss_increase:+.3f}",
        )
        for point in tried.points
    )
    exported = f" Exported at strength {tried.exported:g} (fuse.strength)." if tried.exported is not None else ""
    note = (
        "The trained adapter weaker and at full strength. Task score: answers to validation questions. Loss: in nats "
        "per token, on held-out answers of the base. Kept: the best score with an increase of at most "
        f"{tried.limit:g}, or the smallest increase.{exported}"
    )
    table = _table("Strength of the adapter", columns, rows, note=note)
    curve = strength_line(tried.points, limit=tried.limit, kept=tried.kept)
    return replace(table, blocks=(Plot(curve), *table.blocks)) if table and curve else table


def dataset(data: ReportData) -> Section | None:
    """Rows and tokens of the training data."""
    return _facts("Training data", data.dataset)


def settings(data: ReportData) -> Section | None:
    """The recipe."""
    return _facts("Settings", data.settings)


def versions(data: ReportData) -> Section | None:
    """When and with what the answers were made."""
    return _facts("Versions", data.versions)


SECTIONS: tuple[Callable[[ReportData], Section | None], ...] = (
    metrics, shown, validity, guards, cost, blind, training, strength, forgetting, differences, regressions,
    all_answers, measured, noise, requests, examples, retrieval, conditions, refusals, distractors, judge, similarity,
    dataset, settings, versions,
)  # fmt: skip


def _dropped(data: ReportData) -> list[str]:
    """A warning for the answers that no comparison counts because a request failed."""
    dropped = list(dict.fromkeys(name for _, comparison in comparisons(data) for name in comparison.dropped))
    if not dropped:
        return []
    return [f"{len(dropped)} answers left out for all models because a request failed: {', '.join(dropped)}"]


def build_report(data: ReportData) -> Report:
    """The report of the data, with a section for everything that is there."""
    built = (section(data) for section in SECTIONS)
    return Report(
        title=data.title,
        stamps=(*data.stamps, *_dropped(data)),
        verdict=data.outcome.verdict,
        tone=verdict_tone(data.comparison),
        headline=data.outcome.headline,
        summary=summarize(data),
        sections=tuple(section for section in built if section is not None),
    )
