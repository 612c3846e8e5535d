"""How a report begins: a newcomer learns in plain words what was compared, better, worse, and what to do next."""

import re
from dataclasses import replace
from typing import Any

import pytest
from rich.cells import cell_len

from mlx_ragtune.pages.report_blocks import Lines, Paragraph, Report, Section, Table
from mlx_ragtune.pages.report_data import Asked, ConditionPair, ReportData
from mlx_ragtune.pages.report_html import render_html
from mlx_ragtune.pages.report_markdown import render_markdown
from mlx_ragtune.pages.report_sections import build_report
from mlx_ragtune.pages.report_summary import imputed_note, mean_text, states, summarize
from mlx_ragtune.pages.report_text import render_text
from mlx_ragtune.records import Score, Validity
from mlx_ragtune.scoring.answers.metrics import METRICS
from mlx_ragtune.scoring.verdict.comparison import Guard
from mlx_ragtune.scoring.verdict.decision import compare_arms
from tests.pages import made

CORRECT = METRICS["correctness"].label
CITES = METRICS["citation_recall"].label


@pytest.fixture(scope="module")
def three() -> ReportData:
    return made.three_arms()


@pytest.fixture(scope="module")
def cut() -> ReportData:
    """Two thirds of the base's answers are cut off."""
    return made.three_arms(unusable=0.66)


def titled(data: ReportData, start: str) -> Section:
    return next(section for section in summarize(data) if section.title.startswith(start))


def said(data: ReportData, start: str) -> str:
    """The text of one part of the summary."""
    lines: list[str] = []
    for block in titled(data, start).blocks:
        if isinstance(block, Lines):
            lines += block.lines
        if isinstance(block, Paragraph):
            lines.append(block.text)
    return "\n".join(lines)


def guarded(data: ReportData, *guards: Guard) -> ReportData:
    return made.changed(data, guards=guards)


# what was compared


def test_the_arms_the_questions_and_what_was_the_same_are_named(three: ReportData) -> None:
    text = said(three, "What was compared")
    assert "base: the model before tuning" in text
    assert "prompted: the base with 2 training examples in its prompt (395 tokens)" in text
    assert "tuned: the model after tuning" in text
    assert "The same 40 questions on 20 papers (asked: 40 of 112 within 5 minutes) for all three." in text
    assert "The same passages, quantization (Q8_0) and server (ollama 0.12.3)." in text
    assert "The answer is in what was shown: 36 of 40." in text


def test_two_arms_are_both_and_a_whole_benchmark_has_no_count() -> None:
    data = replace(made.report(), asked=Asked(40, 40))
    assert "The same 40 questions on 20 papers for both." in said(data, "What was compared")
    assert "prompted" not in said(data, "What was compared")


def test_conditions_that_differ_are_not_called_the_same(three: ReportData) -> None:
    pairs = (ConditionPair("quantization", "Q4_K_M", "Q8_0", False, "Q4_K_M"),)
    text = said(replace(three, conditions=pairs), "What was compared")
    assert "Not the same: quantization (base Q4_K_M, prompted Q4_K_M, tuned Q8_0)." in text
    assert "The same quantization" not in text


def test_other_models_in_the_place_of_the_arms_are_named(three: ReportData) -> None:
    text = said(replace(three, names={"base": "r8:tuned", "tuned": "r16:tuned"}), "What was compared")
    assert "base: r8:tuned" in text
    assert "tuned: r16:tuned" in text
    assert "before tuning" not in text


def test_unknown_conditions_are_not_called_the_same(three: ReportData) -> None:
    text = said(replace(three, conditions=()), "What was compared")
    assert "server" not in text


# better and worse


def test_a_gain_names_all_arms_and_both_changes_with_intervals(three: ReportData) -> None:
    base, prompted = three.outcome.against_base, three.outcome.against_prompted
    assert prompted is not None
    first, second = base.row("citation_recall"), prompted.row("citation_recall")
    assert first is not None
    assert second is not None
    (line,) = (line for line in said(three, "What got better").split("\n") if line.startswith(CITES))
    values = [first.all.base_mean, second.all.base_mean, first.all.tuned_mean]
    assert " → ".join(f"{100 * value:.1f}%" for value in values) in line
    assert re.search(r"against base \+\d+\.\d points \(\+\d+\.\d to \+\d+\.\d\), against prompted \+", line)


def test_a_change_that_is_sure_against_one_arm_only_says_so(three: ReportData) -> None:
    assert "against prompted +7.5 points (−5.8 to +20.1), unclear" in said(three, "What got better")


def test_what_is_undecided_is_neither_better_nor_worse(three: ReportData) -> None:
    assert CORRECT not in said(three, "What got better") + said(three, "What got worse")
    assert CORRECT in said(three, "What stays unclear")


def test_what_stayed_the_same_has_a_part_of_its_own(three: ReportData) -> None:
    def same(comparison: Any) -> Any:
        return replace(comparison, rows=tuple(replace(row, verdict="EQUIVALENT") for row in comparison.rows))

    outcome = three.outcome
    equal = replace(outcome, against_base=same(outcome.against_base), against_prompted=same(outcome.against_prompted))
    data = replace(three, outcome=equal)
    assert CORRECT in said(data, "What stayed the same")
    assert said(data, "What got better") == "Nothing surely did."


def test_a_failed_guard_is_worse_and_a_warning_only_perhaps() -> None:
    lost = Guard("forgetting", "General probes", "FAIL", 0.8, 0.5, "60 probes: 18 lost, 2 gained")
    longer = Guard("verbosity", "Answer length", "WARN", 1.0, 1.5, "median 40 → 60 words")
    text = said(guarded(made.report(), lost, longer), "What got worse").split("\n")
    assert text == [
        "General probes: 60 probes: 18 lost, 2 gained",
        "Perhaps, not surely: Answer length: median 40 → 60 words",
    ]


def test_the_same_guard_against_both_arms_is_said_once(three: ReportData) -> None:
    lost = Guard("forgetting", "General probes", "FAIL", 0.8, 0.5, "60 probes: 18 lost, 2 gained")
    prompted = three.outcome.against_prompted
    assert prompted is not None
    both = replace(
        three.outcome, against_base=replace(three.comparison, guards=(lost,)),
        against_prompted=replace(prompted, guards=(lost,)),
    )  # fmt: skip
    assert said(replace(three, outcome=both), "What got worse").count("18 lost") == 1


# unusable answers


def test_unusable_answers_are_counted_for_each_arm_with_their_cause(cut: ReportData) -> None:
    counts = states(cut)["base"]
    text = said(cut, "How much is due to")
    bad = counts["truncated"]
    assert f"base: {bad} of 40 answers ({100 * bad / 40:.0f}%), cut off at the token limit" in text
    assert "tuned: 1 of 40 answers" in text


def test_a_change_is_also_given_without_unusable_answers(cut: ReportData) -> None:
    row = cut.comparison.row("correctness")
    assert row is not None
    assert row.both_valid is not None
    usable = f"+{100 * row.both_valid.difference:.1f} instead of +{100 * row.all.difference:.1f} against base"
    assert f"{CORRECT}: {usable}" in said(cut, "How much is due to")


def test_without_unusable_answers_nothing_is_due_to_them() -> None:
    data = made.report()
    fine = tuple(replace(delta, tuned_validity=("ok",)) for delta in data.comparison.questions)
    assert said(made.changed(data, questions=fine), "How much is due to") == "Nothing: every answer is usable."


def test_a_value_made_of_unusable_answers_is_marked_wherever_it_stands(cut: ReportData) -> None:
    """Two thirds of cut answers count as fabricated titles: that must not read as a fact."""
    row = cut.comparison.row("fabricated_title")
    assert row is not None
    assert row.all.base_mean > 0.5
    report = build_report(cut)
    table = next(block for block in report.sections[0].blocks if isinstance(block, Table))
    (cells,) = (row for group in table.groups for row in group.rows if row[0].text == METRICS["fabricated_title"].label)
    assert cells[1].text.endswith("%*")
    assert "where both answers are usable" in cells[1].notes[0]
    share = f"{100 * states(cut)['base']['truncated'] / 40:.0f}%"
    assert imputed_note(cut, ["fabricated_title"]).startswith(f"* {share} of the base answers")
    for text in (render_html(report), render_text(report), render_markdown(report).replace("\\*", "*")):
        assert f"* {share} of the base answers" in " ".join(text.split())


def test_without_any_pair_of_usable_answers_every_worst_value_is_marked() -> None:
    """No change can be given without them, so the mark is all that says it."""
    data = made.three_arms(unusable=1.0)
    row = data.comparison.row("fabricated_title")
    assert row is not None
    assert row.both_valid is None
    assert mean_text(data, row, "base") == "100.0%*"
    assert "*" not in mean_text(data, row, "tuned")


def test_a_measured_value_is_not_marked(three: ReportData) -> None:
    assert "*" not in render_text(build_report(three))


def test_a_difference_that_rests_on_unusable_answers_says_so(cut: ReportData) -> None:
    row = cut.comparison.row("correctness")
    assert row is not None
    assert row.rests_on_invalid
    line = rf"{CORRECT}: .* against base \+[\d.]+ points \([^)]*\), due to unusable answers"
    assert re.search(line, said(cut, "What stays unclear"))


def test_without_any_answer_nothing_is_said_to_be_usable() -> None:
    asked = made.questions(6)
    failed, fine = ([Score(one.id, "base", 0, state, {}) for one in asked] for state in FAILED)
    outcome = compare_arms(failed, [replace(score, model="tuned") for score in fine], asked)
    text = said(ReportData(title="t", outcome=outcome, answers=()), "How much is due to")
    assert text == "Unknown: no question was answered by the models that are compared."


FAILED: tuple[Validity, Validity] = ("transport_error", "ok")


def test_who_reviewed_the_questions_stands_with_what_was_compared(three: ReportData) -> None:
    told = "12 of 40 questions were reviewed by a person, 28 only drafted by qwen3:4b."
    assert told not in said(three, "What was compared")
    data = replace(three, outcome=replace(three.outcome, provenance=told))
    assert told in said(data, "What was compared")


def test_an_arm_without_a_value_is_not_skipped(three: ReportData) -> None:
    prompted = three.outcome.against_prompted
    assert prompted is not None
    rows = tuple(row for row in prompted.rows if row.name != "citation_recall")
    outcome = replace(three.outcome, against_prompted=replace(prompted, rows=rows))
    assert f"{CITES}: 7.5% → no value → 95.0%" in said(replace(three, outcome=outcome), "What got better")


# what to do next


def test_the_advice_of_the_verdict_comes_first_then_what_only_the_report_knows(three: ReportData) -> None:
    data = replace(three, outcome=replace(three.outcome, advice=("raise evaluate.sampling.max_tokens", "use it")))
    assert said(data, "What to do next").split("\n") == [
        "Raise evaluate.sampling.max_tokens.",
        "Use it.",
        "Raise retrieval.top_k: the passages lack the answer to 4 of 40 questions.",
        "Raise evaluate.budget: 72 of 112 questions were not asked.",
    ]


def test_one_step_with_two_numbers_is_said_once(three: ReportData) -> None:
    data = replace(three, outcome=replace(three.outcome, advice=("ask about 20 papers", "ask about 30 papers")))
    assert said(data, "What to do next").count("Ask about") == 1


def test_nothing_to_do_has_no_part(three: ReportData) -> None:
    data = replace(three, shown=None, asked=None, outcome=replace(three.outcome, advice=()))
    assert not any(section.title == "What to do next" for section in summarize(data))


# in every rendering


@pytest.fixture(scope="module")
def report(three: ReportData) -> Report:
    return build_report(three)


def test_the_summary_stands_at_the_head_of_every_rendering(report: Report) -> None:
    for text in (render_html(report), render_text(report), render_markdown(report)):
        places = [text.index(part) for part in (report.verdict, *(section.title for section in report.summary))]
        assert places == sorted(places)
        assert METRICS["latency_seconds"].label in text[places[-1] :]


@pytest.mark.parametrize("unusable", [0.0, 0.3, 0.66, 1.0])
def test_three_arms_fit_into_eighty_columns(unusable: float) -> None:
    text = render_text(build_report(made.three_arms(unusable=unusable)))
    assert max(map(cell_len, text.split("\n"))) <= 80
    assert re.search(r"metric +base +prompted +tuned +vs. base +vs. prompted", text)
    assert re.search(r"per answer +base +prompted +tuned", text)


def test_no_word_of_the_trade_stands_in_the_summary(three: ReportData, cut: ReportData) -> None:
    for data in (three, cut, made.report()):
        text = "\n".join(said(data, section.title) for section in summarize(data))
        assert not re.search(r"strained|broken|cluster|Holm|bootstrap|\bp =|imputed|arm\b", text)


def test_curve_and_forgetting_stand_before_the_answers_and_statistics_after(report: Report) -> None:
    titles = [section.title for section in report.sections]
    order = ["Results", "Training", "Forgetting", "All answers", "How this was measured", "Conditions"]
    assert [title for title in titles if title in order] == order


def test_all_three_answers_to_a_question_are_shown(report: Report) -> None:
    assert "According to the prompted model" in render_html(report)
    assert "Prompted:" in render_markdown(report)


def test_costs_of_each_arm_are_in_the_terminal(report: Report) -> None:
    text = render_text(report)
    assert re.search(rf"{METRICS['latency_seconds'].label} +\d\.\d\d s +\d\.\d\d s +\d\.\d\d s", text)


def test_requests_in_parallel_and_noise_stand_beside_the_figures(report: Report) -> None:
    text = " ".join(render_text(report).split())
    assert "Requests were sent 4 at a time; latency is that of 20 sent one by one." in text
    assert "base 3 of 16, prompted 0 of 16, tuned 1 of 16" in text
    assert "Numerical noise alone moves" in text
    page = render_html(report)
    assert "numerical noise alone: ±0.9 points" in page
    assert "threads 2 -&gt; 1, slots 1 -&gt; 4" in page


def test_correctness_with_and_without_the_answer_in_the_passages(report: Report) -> None:
    section = next(section for section in report.sections if section.title == "What could be answered")
    (table,) = (block for block in section.blocks if isinstance(block, Table))
    rows = [[cell.text for cell in row] for group in table.groups for row in group.rows]
    assert rows[0] == ["in what was shown", "base", "36", "70.0%", "2.0%"]
    assert rows[3] == ["not in it", "base", "4", "10.0%", "undefined"]
    assert len(rows) == 6
