"""The report as text: 80 columns for a terminal, and Markdown."""

from mlx_ragtune.pages.report_data import MetricPart, Report
from mlx_ragtune.pages.tables import render_table
from mlx_ragtune.pages.wording import amount, change, interval

HEADERS = ("metric", "base", "tuned", "change", "95 % interval", "verdict")


def _cells(metric: MetricPart) -> list[str]:
    verdict = metric["verdict"] if metric["decides"] or metric["role"] == "guard" else ""
    return [
        metric["label"],
        amount(metric, metric["base"]),
        amount(metric, metric["tuned"]),
        change(metric),
        interval(metric),
        (verdict or "").lower(),
    ]


def _deciding_first(report: Report) -> list[MetricPart]:
    return sorted(report["metrics"], key=lambda metric: (not metric["decides"], metric["role"] == "secondary"))


def _reasons(report: Report) -> list[str]:
    return report["verdict"]["reasons"][:5]


def render_text(report: Report) -> str:
    """Verdict, reasons and the base-against-tuned table, at most 80 columns wide."""
    table = render_table(list(HEADERS), [_cells(metric) for metric in _deciding_first(report)])
    counts = f"{report['n_questions']} questions, {report['n_clusters']} clusters"
    reasons = "".join(f"  - {reason}\n" for reason in _reasons(report))
    return f"\n{table}\n\n{counts}\n{report['verdict']['headline']}\n{reasons}"


def _markdown_table(headers: tuple[str, ...], rows: list[list[str]]) -> str:
    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return "\n".join([line(list(headers)), "|" + "---|" * len(headers), *map(line, rows)])


def render_markdown(report: Report) -> str:
    """The whole report as Markdown: verdict, validity, metrics, fairness, questions, settings, versions."""
    parts = [f"# {report['title']}", f"**{report['verdict']['headline']}**"]
    parts += [f"- {reason}" for reason in _reasons(report)]
    parts.append("## Validity")
    validity = [[row["state"], str(row["base"]), str(row["tuned"])] for row in report["validity"]]
    parts.append(_markdown_table(("state", "base", "tuned"), validity))
    parts.append("## Metrics")
    parts.append(_markdown_table(HEADERS, [_cells(metric) for metric in _deciding_first(report)]))
    parts.append("## Conditions")
    fairness = [[row["name"], row["base"], row["tuned"]] for row in report["fairness"]]
    parts.append(_markdown_table(("condition", "base", "tuned"), fairness))
    for name in ("retrieval", "training", "dataset"):
        rows = [[row["label"], row["value"]] for row in report[name]]  # type: ignore[literal-required]
        parts += [f"## {name.capitalize()}", _markdown_table(("what", "value"), rows)]
    parts.append("## Questions")
    questions = [[one["id"], one["question"], one["base_text"], one["tuned_text"]] for one in report["questions"]]
    parts.append(_markdown_table(("id", "question", "base", "tuned"), questions))
    parts.append("## Versions")
    parts.append(_markdown_table(("what", "version"), [[name, value] for name, value in report["versions"].items()]))
    return "\n\n".join(parts) + "\n"
