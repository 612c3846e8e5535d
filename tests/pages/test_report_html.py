"""The HTML page: the verdict first, every section that has data, nothing from outside, no markup from texts."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from mlx_ragtune.pages.report_blocks import Report
from mlx_ragtune.pages.report_data import ReportData
from mlx_ragtune.pages.report_html import render_html
from mlx_ragtune.pages.report_markdown import render_markdown
from mlx_ragtune.pages.report_sections import build_report
from mlx_ragtune.scoring.answers.metrics import METRICS
from mlx_ragtune.scoring.verdict.headline import within_sentence
from tests.pages import made

VOID = {"meta", "br"}
EVIL = '<script>alert(1)</script> | **x** <img src=x onerror="y">'


@pytest.fixture(scope="module")
def data() -> ReportData:
    return made.report()


@pytest.fixture(scope="module")
def report(data: ReportData) -> Report:
    return build_report(data)


@pytest.fixture(scope="module")
def page(report: Report) -> str:
    return render_html(report)


class Outline(HTMLParser):
    """Headings in order, text apart from style, and whether every element is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "h2":
            self.headings.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["h2"]:
            self.headings[-1] += data
        if "style" not in self.open:
            self.text += data


def test_the_verdict_comes_before_everything_else(page: str, report: Report) -> None:
    text = Outline(page).text
    body = text[text.index(report.title, text.index(report.title) + 1) :]
    assert body.split()[len(report.title.split())] == report.verdict
    assert body.index("The tuned model is better on") < body.index("What was compared") < body.index("Results")


def test_every_section_is_on_the_page_in_order(page: str, report: Report) -> None:
    assert Outline(page).headings == [section.title for section in report.sections]


def test_nothing_on_the_page_comes_from_outside_or_runs(page: str) -> None:
    assert not re.search(r"https?:|//[a-z]|<script|<link|<img|@import|url\(|\bon[a-z]+=", page)


def test_light_dark_phone_and_print_have_their_rules(page: str) -> None:
    for rule in ("prefers-color-scheme: dark", "max-width: 40rem", "@media print", 'name="viewport"'):
        assert rule in page


def test_what_models_and_people_write_cannot_become_markup(data: ReportData) -> None:
    outcome = replace(made.changed(data, reasons=(EVIL,)).outcome, headline=EVIL, advice=(EVIL,))
    answers = tuple(
        replace(pair, question=EVIL, topic=EVIL, tuned_text=EVIL, base_text=EVIL, reference=EVIL)
        for pair in data.answers
    )
    settings = tuple(replace(fact, label=EVIL, value=EVIL) for fact in data.settings)
    report = build_report(
        replace(data, title=EVIL, stamps=(EVIL,), outcome=outcome, answers=answers, settings=settings)
    )
    page = render_html(report)
    assert "<script" not in page
    assert "<img" not in page
    assert EVIL in Outline(page).text
    markdown = render_markdown(report)
    assert "<script" not in markdown
    assert "**x**" not in markdown
    rows = [line for line in markdown.split("\n") if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} <= set(range(3, 10))


def test_the_largest_regressions_show_both_answers_and_what_was_wrong(page: str) -> None:
    text = Outline(page).text
    part = text[text.index("Largest regressions") : text.index("All answers")]
    assert part.index("According to the base model") < part.index("Ragas evaluates R")
    assert "cut off at the token limit" in part
    assert "Reference: Study 7 measures 10 things." in part
    assert f"q07 · {within_sentence(METRICS['correctness'].label)} −100.0 points" in part


def test_an_empty_answer_is_said_to_be_none(data: ReportData) -> None:
    answers = tuple(replace(pair, tuned_text="  \n") for pair in data.answers)
    report = build_report(replace(data, answers=answers))
    assert "(no answer)" in render_html(report)
    assert "> (no answer)" in render_markdown(report)


def test_a_stamp_comes_before_the_verdict(data: ReportData) -> None:
    page = render_html(build_report(replace(data, stamps=("Different quantization (allowed)",))))
    assert page.index("Different quantization") < page.index("INCONCLUSIVE")


def test_control_and_direction_characters_in_answers_cannot_change_the_rest_of_the_page(data: ReportData) -> None:
    answers = tuple(replace(pair, tuned_text="\u202eabc \x1b[31m\0") for pair in data.answers)
    page = render_html(build_report(replace(data, answers=answers)))
    assert "unicode-bidi: isolate" in page
    markdown = render_markdown(build_report(replace(data, answers=answers)))
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", markdown)
    assert "x1b" in markdown


def test_the_same_report_gives_the_same_bytes(report: Report, page: str) -> None:
    assert render_html(build_report(made.report())) == page
    assert render_markdown(build_report(made.report())) == render_markdown(report)


def test_no_text_is_lost_between_the_page_and_markdown(report: Report, page: str) -> None:
    """Both show every section and note; Markdown leaves out plots and folded answers only."""
    markdown = render_markdown(report)
    for section in report.sections:
        assert section.title in Outline(page).text
        assert (f"## {section.title}\n" in markdown) == (section.title != "All answers")
