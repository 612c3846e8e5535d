"""What of a report is shown where: the same choice in HTML, in Markdown and on the terminal."""

from collections import defaultdict

from mlx_ragtune.pages.report_data import MetricPart, QuestionPart, Report

_ROLES = ("decides", "guard", "supporting", "secondary")


def quality(report: Report) -> list[MetricPart]:
    """The metrics that are shares of what was asked for, in the order of their roles."""
    shares = [metric for metric in report.get("metrics", []) if metric["unit"] == "share"]
    return sorted(shares, key=lambda metric: _ROLES.index(metric["role"]) if metric["role"] in _ROLES else len(_ROLES))


def cost(report: Report) -> list[MetricPart]:
    """The metrics that are times and amounts."""
    return [metric for metric in report.get("metrics", []) if metric["unit"] != "share"]


def groups(report: Report) -> list[tuple[str, list[MetricPart]]]:
    """The quality metrics by role. A metric that may decide but is not in the family supports."""
    found: dict[str, list[MetricPart]] = defaultdict(list)
    for metric in quality(report):
        aside = metric["role"] == "decides" and not metric["decides"]
        found["supporting" if aside else metric["role"]].append(metric)
    return [(role, found[role]) for role in (*_ROLES, *sorted(set(found) - set(_ROLES))) if role in found]


def worst(report: Report) -> list[QuestionPart]:
    """The questions that lost most, the worst first."""
    known = {question["id"]: question for question in report.get("questions", [])}
    return [known[name] for name in report.get("regressions", []) if name in known]


def primary_label(report: Report) -> str:
    """What the primary metric is called."""
    name = report.get("primary", "")
    return next((metric["label"] for metric in report.get("metrics", []) if metric["name"] == name), name or "Score")


def counted(questions: list[QuestionPart]) -> str:
    """How many questions got worse, stayed, got better, and have no score."""
    deltas = [question["delta"] for question in questions if question["delta"] is not None]
    parts = [
        f"{sum(value < 0 for value in deltas)} worse",
        f"{sum(value == 0 for value in deltas)} the same",
        f"{sum(value > 0 for value in deltas)} better",
    ]
    undefined = len(questions) - len(deltas)
    return ", ".join([*parts, *([f"{undefined} without this score"] if undefined else [])])


def sentence(report: Report) -> str:
    """The headline without the verdict's word in front, which stands above it."""
    verdict = report["verdict"]
    text = verdict["headline"].removeprefix(f"{verdict['label']}:").strip()
    return text[:1].upper() + text[1:]
