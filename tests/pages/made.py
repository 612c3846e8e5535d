"""A whole report from real scores: the verdict on answers made by rule."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mlx_ragtune.evaluation.fairness import Conditions
from mlx_ragtune.pages.plots import LossPoint
from mlx_ragtune.pages.report_data import (
    Asked,
    BlindResult,
    BothConditions,
    BothRefusals,
    CorrectedDifference,
    Fact,
    JudgeOutcome,
    Noise,
    Parallel,
    ProbeOutcome,
    Prompted,
    PromptExample,
    ReportData,
    Shown,
    ShownArm,
    ShownPart,
    Strengths,
    pair_answers,
    pair_conditions,
)
from mlx_ragtune.pages.strength_plot import StrengthRow
from mlx_ragtune.records import ARMS, Answer, Arm, Question, Score, Validity
from mlx_ragtune.scoring.answers.refusal import RefusalTable
from mlx_ragtune.scoring.answers.similarity import PlantedRow
from mlx_ragtune.scoring.verdict.comparison import Outcome
from mlx_ragtune.scoring.verdict.decision import compare_arms
from mlx_ragtune.scoring.verdict.distractors import ConditionRow
from mlx_ragtune.scoring.verdict.guards import forgetting_guard

TOPICS = ("qlora", "rag", "peft", "ragas")


def questions(count: int = 40) -> list[Question]:
    return [
        Question(
            f"q{at:02}",
            TOPICS[at % 4],
            f"What does study {at} of {TOPICS[at % 4]} measure?",
            True,
            (f"paper{at // 2}",),
            reference=f"Study {at} measures {at + 3} things.",
        )
        for at in range(count)
    ]


RATES: dict[str, tuple[float, float, float]] = {
    "base": (0.66, 0.1, 0.6), "prompted": (0.7, 0.5, 0.9), "tuned": (0.72, 0.95, 0.99)
}  # fmt: skip
"""Correctness, citations and prose of each arm."""
PROMPT_TOKENS = {"base": 610.0, "prompted": 1005.0, "tuned": 610.0}


def scores(asked: list[Question], model: Arm, seed: int, *, unusable: float = 0.0, titles: bool = False) -> list[Score]:
    """Scores by rule; besides the tuned answer to question 7, ``unusable`` is the share of cut answers."""
    draw = random.Random(f"{model}{seed}")
    cut = random.Random(f"cut {model}{seed}")
    right, cites, prose = RATES[model]
    rows = []
    for at, question in enumerate(asked):
        bad = (model == "tuned" and at == 7) or cut.random() < unusable
        metrics = {
            "correctness": float(draw.random() < right),
            "citation_recall": float(draw.random() < cites),
            "prose_style": float(draw.random() < prose),
        }
        metrics = {name: 0.0 if bad else value for name, value in metrics.items()}
        metrics |= {
            "false_refusal": float(draw.random() < 0.05),
            "number_grounding": 0.6 + 0.4 * draw.random(),
            "keyword_coverage": draw.random(),
            "latency_seconds": 2 + draw.random(),
            "answer_tokens": 40 + 20 * draw.random(),
            "answer_words": 30 + 15 * draw.random(),
            "prompt_tokens": PROMPT_TOKENS[model],
        }
        if titles:
            metrics["fabricated_title"] = 1.0 if bad else float(draw.random() < 0.03)
        state: Validity = "truncated" if bad else "ok"
        rows.append(Score(question.id, model, 0, state, metrics))
    return rows


def answers(asked: list[Question], arms: Sequence[Arm] = ("base", "tuned")) -> list[Answer]:
    given = []
    for at, question in enumerate(asked):
        for model in arms:
            text = f"According to the {model} model, it measures {at + 3} things. " * 3
            text = "Ragas evaluates R" if model == "tuned" and at == 7 else text
            given.append(Answer(f"{model}{at}", question.id, model, 0, text, "stop", 300, 40, 2.5))
    return given


def losses() -> tuple[LossPoint, ...]:
    draw = random.Random(5)
    return tuple(
        LossPoint(
            update,
            1.2 * 0.985**update + 0.2 * draw.random(),
            1.15 - 0.007 * update + 0.00006 * update**2 if update % 15 == 0 else None,
        )
        for update in range(1, 91)
    )


def probes() -> tuple[ProbeOutcome, ...]:
    return tuple(
        ProbeOutcome(f"p{at}", ("fact", "code", "format")[at % 3], base=at % 7 != 0, tuned=at % 6 != 0)
        for at in range(60)
    )


def refusal_table(recall: float) -> RefusalTable:
    return RefusalTable(30, 10, None if recall == 0 else 0.9, recall, 0.85, 0.9, 0.95, 0.92, 0.88, 0.05, 0.5, 1.0)


def conditions() -> Conditions:
    return Conditions(
        quantization="Q8_0",
        template_sha256="a" * 64,
        context_tokens=4096,
        server="ollama 0.12.3",
        sampling={"temperature": 0.0, "max_tokens": 160},
        seeds=(0,),
        prompts={f"q{at}": "b" * 64 for at in range(40)},
        retrieval={"top_k": 3},
    )


def outcome(seed: int = 1, *, arms: Sequence[Arm] = ("base", "tuned"), unusable: float = 0.0) -> Outcome:
    """The verdict on answers by rule; ``unusable`` is the share of cut answers of the base."""
    asked = questions()
    passed = {probe.id: (probe.base, probe.tuned) for probe in probes()}
    guard = forgetting_guard(
        {name: base for name, (base, _) in passed.items()},
        {name: tuned for name, (_, tuned) in passed.items()},
        margin=0.05, alpha=0.05,
    )  # fmt: skip
    return compare_arms(
        scores(asked, "base", seed, unusable=unusable, titles=unusable > 0),
        scores(asked, "tuned", seed, titles=unusable > 0),
        asked,
        prompted=scores(asked, "prompted", seed, unusable=unusable / 4, titles=unusable > 0)
        if "prompted" in arms
        else (),
        guards=[guard],
    )


def three_arms(seed: int = 1, *, unusable: float = 0.0) -> ReportData:
    """The report with the prompted base, and with everything that only new runs have."""
    result, same = outcome(seed, arms=ARMS, unusable=unusable), conditions()
    prompted = replace(same, prompts={f"q{at}": "c" * 64 for at in range(40)})
    part = ShownPart(36, 0.7, 0.02)
    return replace(
        report(seed),
        outcome=result,
        answers=pair_answers(result, questions(), answers(questions(), ARMS)),
        conditions=pair_conditions(BothConditions(same, same, prompted)),
        refusals=BothRefusals(refusal_table(0.0), refusal_table(0.8), refusal_table(0.4)),
        asked=Asked(40, 112, 5.0),
        parallel=Parallel(4, 20, {"base": 3, "prompted": 0, "tuned": 1}, {"base": 16, "prompted": 16, "tuned": 16}),
        noise=Noise(16, ("threads 2 -> 1", "slots 1 -> 4"), {"base": 4, "tuned": 2}, {"correctness": 0.009}),
        shown=Shown(36, 40, {arm: ShownArm(part, ShownPart(4, 0.1, None)) for arm in ARMS}),
        prompted=Prompted((PromptExample("e1", "grounded", "What does LoRA freeze?"),
                           PromptExample("e2", "refusal", "Who won in 1998?")), 395),
    )  # fmt: skip


def report(seed: int = 1) -> ReportData:
    asked, result, same = questions(), outcome(seed), conditions()
    return ReportData(
        title="demo: base vs. tuned",
        outcome=result,
        answers=pair_answers(result, asked, answers(asked)),
        blind=BlindResult(
            "No preference shown: 12 votes for tuned, 9 for base, 4 without preference (sign test p = 0.664).",
            (Fact("tuned preferred", "12"), Fact("base preferred", "9"), Fact("tie", "4")),
        ),
        strengths=Strengths(
            (StrengthRow(0.0, 0.1, 0.5, 0.0), StrengthRow(0.5, 0.4, 0.55, 0.05), StrengthRow(1.0, 0.5, 0.7, 0.2)),
            kept=0.5,
            limit=0.1,
        ),
        retrieval=(Fact("hit@3", "1"), Fact("questions", "40")),
        conditions=pair_conditions(BothConditions(same, same)),
        refusals=BothRefusals(refusal_table(0.0), refusal_table(0.8)),
        distractors=(
            ConditionRow("gold", "correctness", 0.61, 0.702, 0.092, -0.01, 0.194, 60),
            ConditionRow("distractors", "refusal_near_miss", 0.5, 0.25, -0.25, None, None, 12),
        ),
        probes=probes(),
        judge=JudgeOutcome(
            "granite3.3:8b",
            "judge trusted (TPR 0.95, TNR 0.90, 0 verdicts missing)",
            {"number_changed": (9, 10), "negated": (10, 10)},
            CorrectedDifference(0.05, -0.01, 0.11, 60),
        ),
        similarity=(PlantedRow("negated", False, 0.93, 0.91), PlantedRow("concise and correct", True, 0.68, None)),
        losses=losses(),
        best_update=60,
        training=(Fact("trainable parameters", "4884480"), Fact("peak memory bytes", "1.73 GiB")),
        dataset=(Fact("train rows", "152"), Fact("grounded", "92 rows (61%), 310 to 1,204 tokens")),
        settings=(Fact("train.rank", "16"), Fact("train.learning_rate", "0.0005"), Fact("seed", "0")),
        versions=(Fact("mlx", "0.32.4"), Fact("mlx-lm", "0.32.2")),
    )


def changed(data: ReportData, **changes: Any) -> ReportData:
    """The same data with another comparison against the base."""
    return replace(data, outcome=replace(data.outcome, against_base=replace(data.comparison, **changes)))
