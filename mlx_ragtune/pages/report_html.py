"""The report as one self-contained HTML page: the verdict first, then what it rests on.

No script, no font, no picture and no address from outside: the page reads the same in ten years, offline.
"""

from collections import defaultdict
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from mlx_ragtune.pages import wording
from mlx_ragtune.pages.answer_selection import cost, counted, groups, primary_label, sentence, worst
from mlx_ragtune.pages.plots import Bar, LossPoint, Whisker, delta_bars, dot_whisker, loss_curve, signed
from mlx_ragtune.pages.report_data import QuestionPart, Report, RowPart

_HERE = Path(__file__).parent
_VERDICT_TONES = {"IMPROVED": "better", "REGRESSED": "worse", "EQUIVALENT": "plain", "INCONCLUSIVE": "warn"}


def _whiskers(report: Report) -> Markup:
    rows = [
        Whisker(
            metric["label"],
            100 * metric["difference"],
            None if metric["low"] is None else 100 * metric["low"],
            None if metric["high"] is None else 100 * metric["high"],
            wording.change(metric),
            wording.tone(metric),
        )
        for role, metrics in groups(report)
        if role in ("decides", "guard")
        for metric in metrics
    ]
    return dot_whisker(rows) if rows else Markup("")


def _bars(questions: list[QuestionPart]) -> Markup:
    bars = [
        Bar(f"{one['topic']} · {one['id']}: {signed(100 * one['delta'], 1)} · {one['question']}", one["delta"])
        for one in questions
        if one["delta"] is not None
    ]
    return delta_bars(bars) if bars else Markup("")


def _curve(report: Report) -> Markup:
    points = [
        LossPoint(one["update"], one.get("train_loss"), one.get("valid_loss")) for one in report.get("losses", [])
    ]
    return loss_curve(points, best_update=report.get("best_update"))


def _topics(questions: list[QuestionPart]) -> list[tuple[str, list[QuestionPart]]]:
    found: dict[str, list[QuestionPart]] = defaultdict(list)
    for question in questions:
        found[question["topic"]].append(question)
    return list(found.items())


def _rows(pairs: list[tuple[str, str]]) -> list[RowPart]:
    return [{"label": label, "value": value} for label, value in pairs]


def render_html(report: Report) -> str:
    """One HTML page, every text escaped; the same report gives the same bytes."""
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        trim_blocks=False,
        keep_trailing_newline=True,
    )
    questions = report.get("questions", [])
    verdict = report.get("verdict")
    return environment.get_template("report.html.jinja").render(
        r=report,
        w=wording,
        css=Markup((_HERE / "style.css").read_text(encoding="utf-8")),  # noqa: S704 (a file of this package)
        verdict_tone=_VERDICT_TONES.get(verdict["label"], "plain") if verdict else "",
        sentence=sentence(report) if verdict else "",
        level=f"{100 * (1 - report.get('alpha', 0.05)):g}",
        whiskers=_whiskers(report),
        groups=groups(report),
        cost=cost(report),
        primary_label=primary_label(report),
        bars=_bars(questions),
        counts=counted(questions),
        worst=worst(report),
        topics=_topics(questions),
        curve=_curve(report),
        settings=_rows(list(wording.flat(report.get("settings", {})))),
        versions=_rows(sorted(report.get("versions", {}).items())),
        score=lambda value: f"{100 * value:.0f} %",
        delta=lambda value: f"{signed(100 * value, 1)} points",
        due=lambda metric: signed(100 * metric["due_to_invalid"], 1),
    )
