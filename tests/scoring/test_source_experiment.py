"""The experiment this project began with, read again: its own table cannot say whether tuning hurt."""

from dataclasses import replace
from typing import Literal

import pytest

from mlx_ragtune.errors import ToolError
from mlx_ragtune.evaluation.fairness import Conditions, require_equal
from mlx_ragtune.records import Question, Score
from mlx_ragtune.scoring.verdict.comparison import Comparison
from mlx_ragtune.scoring.verdict.decision import compare

COVERAGE = {
    "qlora": (83, 100),
    "rag": (100, 100),
    "rag_eval": (100, 100),
    "peft": (100, 100),
    "prompt_engineering": (100, 100),
    "vector_db": (100, 83),
    "rag_security": (100, 83),
    "instruction_tuning": (80, 80),
    "multihop_rag": (80, 60),
    "small_llm": (80, 80),
    "double_quant": (60, 60),
    "hallucination": (40, 40),
    "lora": (40, 20),
    "lora_plus": (40, 40),
    "ragas": (100, 20),
}


def _scores(model: Literal["base", "tuned"]) -> list[Score]:
    rows = []
    for topic, values in COVERAGE.items():
        cut = model == "tuned" and topic == "ragas"  # "Ragas evaluates R"
        metrics = {"keyword_coverage": values[model == "tuned"] / 100, "substantive": float(not cut)}
        rows.append(Score(topic, model, 0, "truncated" if cut else "ok", metrics))
    return rows


@pytest.fixture(scope="module")
def verdict() -> Comparison:
    questions = [Question(topic, topic, f"What about {topic}?", answerable=True) for topic in COVERAGE]
    return compare(_scores("base"), _scores("tuned"), questions, family=("keyword_coverage", "substantive"))


def test_the_table_is_the_published_one(verdict: Comparison) -> None:
    row = verdict.row("keyword_coverage")
    assert row is not None
    assert 100 * row.all.base_mean == pytest.approx(80.2, abs=0.05)
    assert 100 * row.all.tuned_mean == pytest.approx(71.1, abs=0.05)
    assert 100 * row.all.difference == pytest.approx(-9.1, abs=0.05)


def test_it_is_inconclusive(verdict: Comparison) -> None:
    assert verdict.verdict == "INCONCLUSIVE"
    assert {row.verdict for row in verdict.rows if row.in_family} == {"INCONCLUSIVE"}
    assert verdict.headline.startswith("INCONCLUSIVE: keyword coverage −9.1 points (95% interval −19.6 to +3.5)")


def test_the_smallest_detectable_effect_is_about_24_points_when_each_of_three_tests_must_be_sure(
    verdict: Comparison,
) -> None:
    row = verdict.row("keyword_coverage")
    assert row is not None
    assert row.detectable == pytest.approx(0.24, abs=0.005)
    assert row.needed_questions is not None
    assert row.needed_questions > 200


def test_ragas_is_named_as_what_carries_the_drop(verdict: Comparison) -> None:
    first = verdict.influence[0]
    assert (first.metric, first.id) == ("keyword_coverage", "ragas")
    assert first.share == pytest.approx(80 / 137)
    assert first.difference_without == pytest.approx(-0.57 / 14)
    assert any("ragas accounts for 58% of the difference" in reason for reason in verdict.reasons)
    assert verdict.worst_regressions[0] == "ragas"


def test_more_than_half_of_the_drop_is_due_to_one_invalid_output(verdict: Comparison) -> None:
    row = verdict.row("keyword_coverage")
    assert row is not None
    assert row.both_valid is not None
    assert row.due_to_invalid == pytest.approx(-1.37 / 15 + 0.57 / 14)


def test_fifteen_of_fifteen_against_fourteen_is_one_discordant_pair(verdict: Comparison) -> None:
    row = verdict.row("substantive")
    assert row is not None
    assert row.mcnemar_p == 1.0
    assert row.all.low is not None
    assert row.all.high is not None
    assert row.all.low < 0 < row.all.high


def test_its_quantizations_are_no_comparison() -> None:
    base = Conditions("Q4_K_M", "aa", 4096, "ollama", {}, (0,))
    with pytest.raises(ToolError, match="quantization: base Q4_K_M, tuned Q8_0"):
        require_equal(base, replace(base, quantization="Q8_0"))
