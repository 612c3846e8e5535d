"""What a report shows, as plain data. Every part but the title may be missing, and is then not on the page.

verdict.json + questions + answers ─► from_comparison ─► Report ─► render_html, render_markdown, render_text
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Required, TypedDict

from mlx_ragtune.records import Answer, Question

Model = Literal["base", "tuned"]


class VerdictPart(TypedDict):
    """The verdict's word, its one sentence, and the reasons for it."""

    label: str
    headline: str
    reasons: list[str]


class MetricPart(TypedDict):
    """One metric, tuned − base with its interval. ``decides``: it is in the family that forms the verdict.

    ``p`` is adjusted where it decides. ``verdict`` is None for what is reported and not judged.
    ``due_to_invalid`` is the part of the difference that goes back to empty, cut or leaking answers.
    """

    name: str
    label: str
    role: str
    unit: str
    higher_is_better: bool
    decides: bool
    base: float
    tuned: float
    difference: float
    low: float | None
    high: float | None
    p: float
    verdict: str | None
    n: int
    n_undefined: int
    due_to_invalid: float | None


class GuardPart(TypedDict):
    """A veto on the verdict: HOLDS, STRAINED or BROKEN."""

    label: str
    state: str
    detail: str


class ValidityPart(TypedDict):
    """How many answers of each model are in this state."""

    state: str
    base: int
    tuned: int


class QuestionPart(TypedDict):
    """One question with both answers (the first seed's), and the primary metric's means over seeds.

    ``delta`` is tuned − base, its sign turned where lower is better: above 0 is a gain. Scores are None
    where the primary metric is not defined, as for unanswerable questions.
    """

    id: str
    topic: str
    question: str
    reference: str
    base_text: str
    tuned_text: str
    base_state: str
    tuned_state: str
    base_score: float | None
    tuned_score: float | None
    delta: float | None


class FairnessPart(TypedDict):
    """One condition: equal for both models, or different and allowed by name."""

    name: str
    base: str
    tuned: str
    equal: bool


class LossPart(TypedDict, total=False):
    """Losses after an update; a validation loss only where one was taken."""

    update: Required[int]
    epoch: float
    train_loss: float | None
    valid_loss: float | None


class RowPart(TypedDict):
    """A fact under its label, as text."""

    label: str
    value: str


class ABPart(TypedDict):
    """What people said who compared blind: see ``ab_analysis``."""

    headline: str
    rows: list[RowPart]


class Report(TypedDict, total=False):
    """Everything on the page. ``regressions`` are ids among ``questions``, the worst first.

    ``stamps`` are printed under the title on every page: conditions that differ and were allowed by name.
    ``fooled``: what the similarity metrics say of planted answers known to be right or wrong.
    """

    title: Required[str]
    recipe_name: Required[str]
    stamps: list[str]
    verdict: VerdictPart
    guards: list[GuardPart]
    validity: list[ValidityPart]
    metrics: list[MetricPart]
    primary: str
    margin: float
    alpha: float
    n_questions: int
    n_clusters: int
    questions: list[QuestionPart]
    regressions: list[str]
    retrieval: list[RowPart]
    fairness: list[FairnessPart]
    losses: list[LossPart]
    best_update: int | None
    training: list[RowPart]
    dataset: list[RowPart]
    human: ABPart
    refusals: list[RowPart]
    distractors: list[RowPart]
    forgetting: list[RowPart]
    judge: list[RowPart]
    fooled: list[RowPart]
    settings: dict[str, Any]
    versions: dict[str, str]
    notes: list[str]


def _metric(row: Mapping[str, Any]) -> MetricPart:
    view = row["all"]
    return {
        "name": row["name"],
        "label": row["label"],
        "role": row["role"],
        "unit": row["unit"],
        "higher_is_better": row["higher_is_better"],
        "decides": row["in_family"],
        "base": view["base_mean"],
        "tuned": view["tuned_mean"],
        "difference": view["difference"],
        "low": view["low"],
        "high": view["high"],
        "p": view["p"] if row["holm_p"] is None else row["holm_p"],
        "verdict": row["verdict"],
        "n": view["n_questions"],
        "n_undefined": row["n_undefined"],
        "due_to_invalid": row["due_to_invalid"],
    }


def _validity(deltas: Sequence[Mapping[str, Any]]) -> list[ValidityPart]:
    counts: dict[str, Counter[str]] = {
        model: Counter(state for delta in deltas for state in delta[f"{model}_validity"]) for model in ("base", "tuned")
    }
    states = sorted({*counts["base"], *counts["tuned"]}, key=lambda state: (state != "ok", state))
    return [{"state": state, "base": counts["base"][state], "tuned": counts["tuned"][state]} for state in states]


def _first_texts(answers: Sequence[Answer]) -> dict[tuple[str, Model], str]:
    by_question: dict[tuple[str, Model], list[Answer]] = defaultdict(list)
    for answer in answers:
        by_question[answer.question_id, answer.model].append(answer)
    return {key: min(found, key=lambda one: one.seed).text for key, found in by_question.items()}


def _question(
    delta: Mapping[str, Any],
    question: Question,
    texts: Mapping[tuple[str, Model], str],
    primary: Mapping[str, Any] | None,
) -> QuestionPart:
    scores = delta["metrics"].get(primary["name"]) if primary else None
    sign = 1 if primary and primary["higher_is_better"] else -1
    return {
        "id": question.id,
        "topic": question.topic,
        "question": question.question,
        "reference": question.reference,
        "base_text": texts.get((question.id, "base"), ""),
        "tuned_text": texts.get((question.id, "tuned"), ""),
        "base_state": _worst_state(delta["base_validity"]),
        "tuned_state": _worst_state(delta["tuned_validity"]),
        "base_score": scores[0] if scores else None,
        "tuned_score": scores[1] if scores else None,
        "delta": sign * (scores[1] - scores[0]) if scores else None,
    }


def _worst_state(states: Sequence[str]) -> str:
    return next((state for state in states if state != "ok"), "ok")


def from_comparison(comparison: Mapping[str, Any], questions: Sequence[Question], answers: Sequence[Answer]) -> Report:
    """The parts of a report that come from a verdict: ``comparison`` is ``verdict.json`` as it is read.

    Title and recipe name are empty, to be filled in.
    """
    known = {question.id: question for question in questions}
    texts = _first_texts(answers)
    primary = next((row for row in comparison["rows"] if row["name"] == comparison["primary"]), None)
    return {
        "title": "",
        "recipe_name": "",
        "verdict": {
            "label": comparison["verdict"],
            "headline": comparison["headline"],
            "reasons": list(comparison["reasons"]),
        },
        "guards": [{key: guard[key] for key in ("label", "state", "detail")} for guard in comparison["guards"]],  # type: ignore[misc]
        "validity": _validity(comparison["questions"]),
        "metrics": [_metric(row) for row in comparison["rows"]],
        "primary": comparison["primary"],
        "margin": comparison["margin"],
        "alpha": comparison["alpha"],
        "n_questions": comparison["n_questions"],
        "n_clusters": comparison["n_clusters"],
        "questions": [
            _question(delta, known[delta["question_id"]], texts, primary) for delta in comparison["questions"]
        ],
        "regressions": list(comparison["worst_regressions"]),
    }


def fairness_of(conditions: Mapping[str, Mapping[str, Any]]) -> list[FairnessPart]:
    """Every condition of ``conditions.json`` side by side; long ones by their number of entries."""
    base, tuned = conditions["base"], conditions["tuned"]
    return [
        {
            "name": name,
            "base": _shown(base[name]),
            "tuned": _shown(tuned.get(name)),
            "equal": base[name] == tuned.get(name),
        }
        for name in base
        if base[name] not in ("", {}, [], None) or tuned.get(name) not in ("", {}, [], None)
    ]


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        if len(value) > 12:
            return f"{len(value)} entries"
        return ", ".join(f"{key} {_shown(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_shown(one) for one in value)
    text = str(value)
    return text[:12] + "…" if len(text) == 64 and all(char in "0123456789abcdef" for char in text) else text


def stamps_of(allowed: Sequence[Mapping[str, Any]]) -> list[str]:
    """One stamp for each condition that differs and was allowed by name."""
    return [f"Not the same {one['name']}, allowed by name: base {one['base']}, tuned {one['tuned']}" for one in allowed]


def forgetting_of(probes: Sequence[Mapping[str, Any]]) -> list[RowPart]:
    """General probes passed by base and tuned, for each category and together."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for probe in probes:
        for name in (probe["category"], "together"):
            counts[name].update(["n"] + ["base"] * probe["base"] + ["tuned"] * probe["tuned"])
    return [
        {"label": name, "value": f"base {one['base']} of {one['n']}, tuned {one['tuned']}"}
        for name, one in sorted(counts.items(), key=lambda pair: (pair[0] == "together", pair[0]))
    ]


def judge_of(judge: Mapping[str, Any]) -> list[RowPart]:
    """Whether the judge is trusted, and which planted errors it caught."""
    rows: list[RowPart] = [{"label": judge["model"], "value": judge["summary"]}]
    for kind, (caught, planted) in judge["caught"].items():
        rows.append({"label": kind.replace("_", " "), "value": f"{caught} of {planted} planted errors caught"})
    if "corrected" in judge:
        one = judge["corrected"]
        low, high = 100 * one["low"], 100 * one["high"]
        text = f"{100 * one['difference']:+.1f} points ({low:+.1f} to {high:+.1f}), {one['labels']} labels"
        rows.append({"label": "correctness, corrected by people's labels", "value": text})
    return rows


def fooled_of(planted: Sequence[Mapping[str, Any]]) -> list[RowPart]:
    """Cosine and BERTScore of each planted answer, right ones first."""

    def shown(value: float | None) -> str:
        return "undefined" if value is None else f"{value:.2f}"

    rows: list[RowPart] = []
    for one in sorted(planted, key=lambda one: not one["right"]):
        bert = f", BERTScore F1 {shown(one['bertscore_f1'])}" if one["bertscore_f1"] is not None else ""
        label = f"{one['name']} ({'right' if one['right'] else 'wrong'})"
        rows.append({"label": label, "value": f"cosine {shown(one['similarity'])}{bert}"})
    return rows


_REFUSALS = {
    "refusal_precision": "refusals that were right",
    "refusal_recall": "unanswerable questions refused",
    "refusal_f1": "F1 of refusing",
    "answer_f1": "F1 of answering",
    "macro_f1": "macro-F1",
}


def refusals_of(tables: Mapping[str, Mapping[str, float | None]]) -> list[RowPart]:
    """Precision, recall and F1 of refusing and answering; 0/0 is undefined, not 0."""

    def shown(value: float | None) -> str:
        return "undefined" if value is None else f"{100 * value:.1f} %"

    return [
        {"label": label, "value": f"base {shown(tables['base'][name])}, tuned {shown(tables['tuned'][name])}"}
        for name, label in _REFUSALS.items()
    ]


def distractors_of(rows: Sequence[Mapping[str, Any]], labels: Mapping[str, str]) -> list[RowPart]:
    """What was measured under each condition; ``labels`` names metrics and conditions."""
    found: list[RowPart] = []
    for one in rows:
        between = "" if one["low"] is None else f" ({100 * one['low']:+.1f} to {100 * one['high']:+.1f})"
        value = (
            f"base {100 * one['base']:.1f} %, tuned {100 * one['tuned']:.1f} %, "
            f"{100 * one['difference']:+.1f} points{between}, {one['n_questions']} questions"
        )
        label = f"{labels[one['condition']]}: {labels[one['metric']].lower()}"
        found.append({"label": label, "value": value.replace("-", "−")})
    return found
