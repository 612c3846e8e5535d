"""The report as one self-contained HTML page: no script, no font, no image and no address from outside."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from mlx_ragtune.pages import wording
from mlx_ragtune.pages.report_blocks import Report

_HERE = Path(__file__).parent


def render_html(report: Report) -> str:
    """One HTML page with every text escaped; the same report gives the same bytes."""
    sentence = report.headline.removeprefix(f"{report.verdict}:").strip()
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("report.html.jinja").render(
        report=report,
        sentence=sentence[:1].upper() + sentence[1:],
        css=Markup((_HERE / "style.css").read_text(encoding="utf-8")),  # noqa: S704 (a file of this package)
        state_label=wording.state_label,
        score=lambda share: f"{100 * share:.0f}%",
    )
