"""The sections of a report: there when their data is, absent when it is not, with counts that add up."""

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from rich.cells import cell_len

from mlx_ragtune.evaluation.fairness import Conditions, Difference
from mlx_ragtune.pages.report_blocks import Answers, Facts, Report, Section, Table
from mlx_ragtune.pages.report_data import (
    BothConditions,
    ProbeOutcome,
    ReportData,
    pair_answers,
    pair_conditions,
    stamps_of,
)
from mlx_ragtune.pages.report_html import render_html
from mlx_ragtune.pages.report_markdown import render_markdown
from mlx_ragtune.pages.report_sections import SECTIONS, build_report, count_gains
from mlx_ragtune.pages.report_text import render_text
from mlx_ragtune.pages.wording import p_value
from mlx_ragtune.records import Question, Score
from mlx_ragtune.scoring.answers.metrics import METRICS
from mlx_ragtune.scoring.verdict.decision import compare_arms
from mlx_ragtune.scoring.verdict.distractors import ConditionRow
from mlx_ragtune.scoring.verdict.headline import within_sentence
from tests.pages import made

OPTIONAL: dict[str, tuple[str, dict[str, Any]]] = {
    "blind": ("Blind comparison by people", {"blind": None}),
    "retrieval": ("Retrieval", {"retrieval": ()}),
    "conditions": ("Conditions", {"conditions": ()}),
    "refusals": ("Refusals", {"refusals": None}),
    "distractors": ("Distractors", {"distractors": ()}),
    "probes": ("Forgetting", {"probes": ()}),
    "judge": ("Judge", {"judge": None}),
    "similarity": ("Limits of similarity", {"similarity": ()}),
    "training": ("Training", {"training": (), "losses": ()}),
    "strengths": ("Strength of the adapter", {"strengths": None}),
    "dataset": ("Training data", {"dataset": ()}),
    "settings": ("Settings", {"settings": ()}),
    "versions": ("Versions", {"versions": ()}),
    "answers": ("All answers", {"answers": ()}),
}


@pytest.fixture(scope="module")
def data() -> ReportData:
    return made.report()


@pytest.fixture(scope="module")
def report(data: ReportData) -> Report:
    return build_report(data)


def section(report: Report, title: str) -> Section:
    return next(section for section in report.sections if section.title == title)


def texts(report: Report, title: str) -> list[list[str]]:
    """The cells of a section's table or facts."""
    rows: list[list[str]] = []
    for block in section(report, title).blocks:
        if isinstance(block, Table):
            rows += [[cell.text for cell in row] for group in block.groups for row in group.rows]
        if isinstance(block, Facts):
            rows += [[fact.label, fact.value] for fact in block.rows]
    return rows


def test_every_section_function_makes_a_section_of_the_whole_data(data: ReportData, report: Report) -> None:
    assert len(build_report(made.three_arms()).sections) == len(SECTIONS)
    assert [section.title for section in report.sections][:3] == ["Results", "Usable answers", "Checks against harm"]


@pytest.mark.parametrize("part", OPTIONAL)
def test_without_its_data_a_section_is_absent_in_every_rendering(part: str, data: ReportData, report: Report) -> None:
    title, without = OPTIONAL[part]
    fewer = build_report(replace(data, **without))
    assert title in [section.title for section in report.sections]
    assert title not in [section.title for section in fewer.sections]
    assert f"<h2>{title}</h2>" in render_html(report)
    assert f"<h2>{title}</h2>" not in render_html(fewer)
    assert f"## {title}\n" not in render_markdown(fewer)


def test_data_of_a_report_is_plain_json(data: ReportData) -> None:
    value = json.loads(json.dumps(asdict(data), allow_nan=False))
    assert value["outcome"]["against_base"]["verdict"] == "INCONCLUSIVE"
    assert value["blind"]["rows"][0] == {"label": "tuned preferred", "value": "12"}


def test_every_validity_state_is_counted_with_valid_ones_first(report: Report) -> None:
    assert texts(report, "Usable answers") == [["valid", "40", "39"], ["cut off at the token limit", "0", "1"]]


def test_metrics_are_grouped_by_what_they_may_decide(report: Report) -> None:
    tables = [block for block in section(report, "Results").blocks if isinstance(block, Table)]
    groups = {group.title: [row[0].text for row in group.rows] for group in tables[0].groups}
    assert list(groups.values()) == [
        [METRICS[name].label for name in ("correctness", "citation_recall", "prose_style")],
        [METRICS[name].label for name in ("invalid", "false_refusal")],
        [METRICS["number_grounding"].label],
        [METRICS["keyword_coverage"].label],
    ]


def test_a_metric_left_out_of_the_family_only_supports(data: ReportData) -> None:
    rows = tuple(replace(row, in_family=row.name != "prose_style") for row in data.comparison.rows)
    report = build_report(made.changed(data, rows=rows))
    table = next(block for block in section(report, "Results").blocks if isinstance(block, Table))
    supporting = next(group for group in table.groups if group.title.startswith("No effect on the verdict"))
    assert supporting.rows[0][0].text == "Plain prose"


def test_the_p_shown_is_adjusted_where_a_metric_decides(data: ReportData, report: Report) -> None:
    row = data.comparison.row("prose_style")
    assert row is not None
    assert row.holm_p is not None
    assert row.holm_p > row.all.p
    shown = {cells[0]: cells[2] for cells in texts(report, "How this was measured")}
    assert shown[row.label] == p_value(row.holm_p)


def test_a_metric_without_interval_or_verdict_is_shown_without(data: ReportData) -> None:
    rows = tuple(replace(row, verdict=None, all=replace(row.all, low=None, high=None)) for row in data.comparison.rows)
    report = build_report(made.changed(data, rows=rows))
    assert texts(report, "Results")[0][-1] == "not judged"
    for text in (render_html(report), render_markdown(report), render_text(report)):
        assert "None" not in text


def test_gains_and_losses_are_counted_apart_from_what_has_no_score() -> None:
    assert count_gains([1.0, -0.5, 0.0, None]) == "1 worse, 1 the same, 1 better, 1 without a score"
    assert count_gains([1.0, -0.5, 0.0]) == "1 worse, 1 the same, 1 better"


def test_where_lower_is_better_a_fall_is_a_gain() -> None:
    asked = [Question("q0", "t", "?", True, ("p",))]
    base = [Score("q0", "base", 0, "empty", {})]
    tuned = [Score("q0", "tuned", 0, "ok", {})]
    (pair,) = pair_answers(compare_arms(base, tuned, asked, family=("invalid",)), asked, [])
    assert (pair.gain, pair.base_state, pair.base_text) == (1.0, "empty", "")


def test_a_question_without_its_text_is_left_out_instead_of_failing(data: ReportData) -> None:
    assert pair_answers(data.outcome, [], []) == ()


def test_all_answers_are_folded_by_topic(report: Report) -> None:
    blocks = section(report, "All answers").blocks
    assert [block.fold for block in blocks if isinstance(block, Answers)] == [
        f"{topic} (10 questions)" for topic in made.TOPICS
    ]


def test_conditions_are_short_enough_to_read_and_differences_are_marked(data: ReportData) -> None:
    shown = {pair.name: pair.base for pair in data.conditions}
    assert shown["template_sha256"] == "aaaaaaaaaaaa…"
    assert shown["sampling"] == "temperature 0.0, max_tokens 160"
    assert shown["prompts"] == "40 entries"
    assert "renderer" not in shown
    base = Conditions("Q4_K_M", "a" * 64, 4096, "ollama", {}, (0,))
    pairs = pair_conditions(BothConditions(base, replace(base, quantization="Q8_0")))
    report = build_report(replace(data, conditions=pairs))
    assert texts(report, "Conditions")[0] == ["quantization", "Q4_K_M", "Q8_0"]
    assert texts(report, "Conditions")[1] == ["template sha256", "aaaaaaaaaaaa…", "same"]
    assert '<td class="tone worse" data-label="base">Q4_K_M</td>' in render_html(report)


def test_a_stamp_names_both_values() -> None:
    difference = Difference("template_sha256", "Q8_0", "Q4_K_M", fix="", allowed=True)
    assert stamps_of([difference]) == ("Different template sha256 (allowed): base Q8_0, tuned Q4_K_M",)


def test_nothing_refused_is_undefined_precision_and_not_zero(report: Report) -> None:
    assert texts(report, "Refusals")[0] == ["correct refusals among all refusals", "undefined", "90.0%"]


def test_distractor_rows_name_condition_and_metric_with_minus_signs(report: Report) -> None:
    assert texts(report, "Distractors") == [
        [
            f"gold passages only: {within_sentence(METRICS['correctness'].label)}",
            "61.0%",
            "70.2%",
            "+9.2",
            "−1.0 to +19.4",
            "60",
        ],
        [
            f"distractors only: {within_sentence(METRICS['refusal_near_miss'].label)}",
            "50.0%",
            "25.0%",
            "−25.0",
            "",
            "12",
        ],
    ]


def test_probes_are_counted_by_category_and_in_total(data: ReportData) -> None:
    probes = (
        ProbeOutcome("a", "fact", base=True, tuned=False),
        ProbeOutcome("b", "fact", base=True, tuned=True),
        ProbeOutcome("c", "code", base=False, tuned=True),
    )
    report = build_report(replace(data, probes=probes))
    assert texts(report, "Forgetting") == [
        ["code", "1", "0", "1"], ["fact", "2", "2", "1"], ["total", "3", "2", "2"],
    ]  # fmt: skip


def test_a_judge_is_shown_with_what_it_caught_and_the_correction(report: Report) -> None:
    assert texts(report, "Judge") == [
        ["granite3.3:8b", "judge trusted (TPR 0.95, TNR 0.90, 0 verdicts missing)"],
        ["number changed", "9 of 10 planted errors caught"],
        ["negated", "10 of 10 planted errors caught"],
        ["change in correctness, corrected by human labels", "+5.0 points (−1.0 to +11.0), 60 labels"],
    ]


def test_right_planted_answers_come_first_and_undefined_says_so(report: Report) -> None:
    assert texts(report, "Limits of similarity") == [
        ["concise and correct (right)", "0.68", "undefined"], ["negated (wrong)", "0.93", "0.91"],
    ]  # fmt: skip


def test_costs_are_apart_in_their_units(data: ReportData, report: Report) -> None:
    row = data.comparison.row("latency_seconds")
    assert row is not None
    assert [row.label, f"{row.all.base_mean:.2f} s"] in [cells[:2] for cells in texts(report, "Cost of an answer")]
    assert not any(row.label in cells[0] for cells in texts(report, "Results"))


def test_acronyms_keep_their_letters_in_labels(data: ReportData) -> None:
    row = ConditionRow("gold", "bertscore_f1", 0.5, 0.5, 0.0, None, None, 3)
    report = build_report(replace(data, distractors=(row,)))
    assert texts(report, "Distractors")[0][0] == "gold passages only: BERTScore F1 to the reference"


def test_the_terminal_gets_the_verdict_and_the_table_in_eighty_columns(report: Report) -> None:
    text = render_text(report)
    assert max(map(cell_len, text.split("\n"))) <= 80
    assert text.index("INCONCLUSIVE: the tuned model") < text.index("What was compared")
    assert text.index("What to do next") < text.index("\nmetric ")
    assert METRICS["keyword_coverage"].label not in text


def test_control_characters_do_not_reach_the_terminal(data: ReportData) -> None:
    advice = ("question \x1b]0;x\x07 論文" * 12,)
    outcome = replace(data.outcome, advice=advice, headline="X: \x9b31m")
    text = render_text(build_report(replace(data, title="a\x1bb", stamps=("c\x08d",), outcome=outcome)))
    assert not any((ord(char) < 32 and char != "\n") or 127 <= ord(char) < 160 for char in text)
    assert r"\x1b]0;x\x07" in text.replace("\n    ", "")
    assert max(map(cell_len, text.split("\n"))) <= 80
