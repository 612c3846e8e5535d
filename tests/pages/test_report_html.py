"""The report: the verdict first, every part when it is there and none when it is not, nothing from outside."""

import copy
import re
from html.parser import HTMLParser
from typing import cast

import pytest

from mlx_ragtune.pages.answer_selection import counted, groups, sentence, worst
from mlx_ragtune.pages.report_data import MetricPart, Report, fairness_of, from_comparison
from mlx_ragtune.pages.report_html import render_html
from mlx_ragtune.pages.report_text import render_markdown, render_text
from mlx_ragtune.pages.tables import cell_width
from tests.pages import made

VOID = {"meta", "br"}
HEADINGS = {
    "validity": "Were the answers valid?",
    "guards": "Guards",
    "metrics": "Base against tuned",
    "questions": "All answers",
    "regressions": "Worst regressions",
    "retrieval": "Retrieval, shared by both",
    "fairness": "Same conditions for both",
    "training": "Training",
    "dataset": "Training data",
    "notes": "Notes",
    "settings": "Settings",
    "versions": "Versions",
}


@pytest.fixture(scope="module")
def report() -> Report:
    return made.report()


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


def without(report: Report, *parts: str) -> Report:
    return cast(Report, {key: value for key, value in report.items() if key not in parts})


def test_the_verdict_comes_before_everything_else(page: str, report: Report) -> None:
    text = Outline(page).text
    body = text[text.index(report["title"], text.index(report["title"]) + 1) :]
    assert body.split()[len(report["title"].split())] == report["verdict"]["label"]
    assert body.index(sentence(report)) < body.index("Were the answers valid?")


def test_sections_are_in_the_order_of_what_a_reader_asks(page: str) -> None:
    assert Outline(page).headings == [
        "Were the answers valid?", "Guards", "Base against tuned", "Question by question", "Worst regressions",
        "All answers", "Retrieval, shared by both", "Same conditions for both", "Training", "Training data",
        "Cost of an answer", "Notes", "Settings", "Versions",
    ]  # fmt: skip


@pytest.mark.parametrize("part", HEADINGS)
def test_a_missing_part_is_absent_and_not_blank(part: str, report: Report) -> None:
    parts = {"training": ("training", "losses")}.get(part, (part,))
    fewer = without(report, *parts)
    headings = Outline(render_html(fewer)).headings
    assert HEADINGS[part] not in headings
    assert f"## {HEADINGS[part]}\n" not in render_markdown(fewer)
    assert len(headings) >= len(Outline(render_html(report)).headings) - 3


def test_a_title_alone_is_a_page() -> None:
    bare: Report = {"title": "Only this", "recipe_name": "x"}
    assert Outline(render_html(bare)).headings == []
    assert render_markdown(bare) == "# Only this\n"
    assert render_text(bare) == "Only this\n"


def test_nothing_on_the_page_comes_from_outside_or_runs(page: str) -> None:
    assert not re.search(r"https?:|//[a-z]|<script|<link|<img|@import|url\(|\bon[a-z]+=", page)


def test_light_dark_phone_and_print_have_their_rules(page: str) -> None:
    for rule in ("prefers-color-scheme: dark", "max-width: 40rem", "@media print", 'name="viewport"'):
        assert rule in page


def test_what_models_and_people_write_cannot_become_markup(report: Report) -> None:
    evil = '<script>alert(1)</script> | **x** <img src=x onerror="y">'
    one = copy.deepcopy(report)
    one["title"] = one["notes"][0] = one["verdict"]["headline"] = one["verdict"]["reasons"][0] = evil
    for question in one["questions"]:
        question.update({"question": evil, "topic": evil, "tuned_text": evil, "base_text": evil, "reference": evil})
    one["settings"] = {evil: evil}
    page = render_html(one)
    assert "<script" not in page
    assert "<img" not in page
    assert evil in Outline(page).text
    markdown = render_markdown(one)
    assert "<script" not in markdown
    assert "**x**" not in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)\|", line)) in (3, 4, 5, 6, 9) for line in rows)


def test_the_worst_regressions_show_both_answers_and_what_was_wrong(report: Report, page: str) -> None:
    assert worst(report)[0]["id"] == "q07"
    text = Outline(page).text
    part = text[text.index("Worst regressions") : text.index("All answers")]
    assert part.index("According to the base model") < part.index("Ragas evaluates R")
    assert "cut off at the token limit" in part
    assert "Reference: Study 7 measures 10 things." in part


def test_an_empty_answer_is_said_to_be_none(report: Report) -> None:
    one = copy.deepcopy(report)
    next(question for question in one["questions"] if question["id"] == "q07")["tuned_text"] = "  \n"
    assert "(no answer)" in render_html(one)
    assert "> (no answer)" in render_markdown(one)


def test_metrics_stand_under_what_they_may_decide(report: Report) -> None:
    assert [(role, [metric["name"] for metric in metrics]) for role, metrics in groups(report)] == [
        ("decides", ["correctness", "citation_recall", "prose_style"]),
        ("guard", ["invalid", "false_refusal"]),
        ("supporting", ["number_grounding"]),
        ("secondary", ["keyword_coverage"]),
    ]


def test_a_metric_left_out_of_the_family_only_supports(report: Report) -> None:
    one = copy.deepcopy(report)
    one["metrics"][0]["decides"] = False
    assert one["metrics"][0]["name"] in [metric["name"] for metric in dict(groups(one))["supporting"]]


def test_gains_and_losses_are_counted_apart_from_what_has_no_score(report: Report) -> None:
    questions = copy.deepcopy(report["questions"][:4])
    for question, delta in zip(questions, (1.0, -0.5, 0.0, None), strict=True):
        question["delta"] = delta
    assert counted(questions) == "1 worse, 1 the same, 1 better, 1 without this score"


def test_where_lower_is_better_a_fall_is_a_gain() -> None:
    row = {
        "name": "invalid", "label": "Invalid", "role": "guard", "unit": "share", "higher_is_better": False,
        "in_family": True, "holm_p": None, "verdict": "IMPROVED", "n_undefined": 0, "due_to_invalid": None,
        "all": {"base_mean": 1, "tuned_mean": 0, "difference": -1, "low": None, "high": None, "p": 1, "n_questions": 1},
    }  # fmt: skip
    asked = made.questions(1)
    comparison = {
        "verdict": "IMPROVED", "headline": "IMPROVED: x.", "reasons": [], "primary": "invalid", "margin": 0.05,
        "alpha": 0.05, "n_questions": 1, "n_clusters": 1, "rows": [row], "guards": [], "worst_regressions": [],
        "questions": [{"question_id": "q00", "base_validity": ["empty"], "tuned_validity": ["ok"],
                       "metrics": {"invalid": [1.0, 0.0]}}],
    }  # fmt: skip
    (question,) = from_comparison(comparison, asked, made.answers(asked))["questions"]
    assert (question["delta"], question["base_state"]) == (1.0, "empty")


def test_a_metric_without_interval_or_verdict_is_shown_without(report: Report) -> None:
    one = copy.deepcopy(report)
    changed: dict[str, object] = {"low": None, "high": None, "verdict": None}
    cast(dict[str, object], one["metrics"][0]).update(changed)
    assert "not judged" in render_html(one)
    assert "None" not in Outline(render_html(one)).text


def test_an_allowed_difference_is_stamped_and_marked(report: Report) -> None:
    one = copy.deepcopy(report)
    one["stamps"] = ["Compared although the quantization differs"]
    one["fairness"] = fairness_of({"base": {"quantization": "Q4_K_M"}, "tuned": {"quantization": "Q8_0"}})
    page = render_html(one)
    assert page.index("although the quantization differs") < page.index("INCONCLUSIVE")
    assert '<td class="tone worse">Q4_K_M</td><td class="tone worse">Q8_0</td>' in page
    assert "| quantization | Q4\\_K\\_M | Q8\\_0 | DIFFERENT |" in render_markdown(one)
    assert "although the quantization differs" in render_text(one)


def test_conditions_are_short_enough_to_read(report: Report) -> None:
    shown = {row["name"]: row["base"] for row in report["fairness"]}
    assert shown == {
        "quantization": "Q8_0",
        "template_sha256": "aaaaaaaaaaaa…",
        "sampling": "temperature 0.0, max_tokens 160",
        "prompts": "40 entries",
        "seeds": "0",
    }


def test_every_validity_state_is_counted_with_valid_ones_first(report: Report) -> None:
    assert report["validity"] == [
        {"state": "ok", "base": 40, "tuned": 39},
        {"state": "truncated", "base": 0, "tuned": 1},
    ]


def test_costs_stand_apart_in_their_units(page: str, report: Report) -> None:
    text = Outline(page).text
    part = text[text.index("Cost of an answer") :]
    latency = next(metric for metric in report["metrics"] if metric["name"] == "latency_seconds")
    assert f"{latency['base']:.2f} s" in part
    assert "Latency" not in text[: text.index("Cost of an answer")]


def test_the_same_report_gives_the_same_bytes(report: Report, page: str) -> None:
    assert render_html(copy.deepcopy(report)) == page
    assert render_markdown(copy.deepcopy(report)) == render_markdown(report)


def test_the_terminal_gets_the_table_and_the_verdict_in_eighty_columns(report: Report) -> None:
    text = render_text(report)
    assert max(map(cell_width, text.splitlines())) <= 80
    assert text.index("Cites the right paper") < text.index("INCONCLUSIVE:")
    assert "+67.0 to +94.9" in text
    assert "Keyword coverage" not in text


def test_blind_votes_are_shown_when_there_are_any(report: Report) -> None:
    one = copy.deepcopy(report)
    one["human"] = {"headline": "People prefer the tuned model.", "rows": [{"label": "ties", "value": "12"}]}
    for text in (Outline(render_html(one)).text, render_markdown(one)):
        assert "What people said, blind" in text
        assert "People prefer the tuned model." in text


def test_metric_fixture_has_every_key(report: Report) -> None:
    assert all(set(metric) == set(MetricPart.__annotations__) for metric in report["metrics"])
