"""A whole report from real scores: the verdict of the scoring room on answers made by rule."""

import json
import random
from dataclasses import asdict

from mlx_ragtune.pages.report_data import LossPart, Report, fairness_of, from_comparison
from mlx_ragtune.records import Answer, Question, Score, Validity
from mlx_ragtune.scoring.verdict.decision import compare

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


def scores(asked: list[Question], model: str, seed: int) -> list[Score]:
    draw = random.Random(f"{model}{seed}")
    rows = []
    for at, question in enumerate(asked):
        tuned = model == "tuned"
        state: Validity = "truncated" if tuned and at == 7 else "ok"
        right = 0.0 if state != "ok" else float(draw.random() < (0.72 if tuned else 0.66))
        metrics = {
            "correctness": right,
            "citation_recall": float(draw.random() < (0.95 if tuned else 0.1)) if state == "ok" else 0.0,
            "prose_style": float(draw.random() < (0.99 if tuned else 0.6)) if state == "ok" else 0.0,
            "false_refusal": float(draw.random() < 0.05),
            "number_grounding": 0.6 + 0.4 * draw.random(),
            "keyword_coverage": draw.random(),
            "latency_seconds": 2 + draw.random(),
            "answer_tokens": 40 + 20 * draw.random(),
        }
        rows.append(Score(question.id, "tuned" if tuned else "base", 0, state, metrics))
    return rows


def answers(asked: list[Question]) -> list[Answer]:
    made = []
    for at, question in enumerate(asked):
        for model in ("base", "tuned"):
            text = f"According to the {model} model, it measures {at + 3} things. " * 3
            text = "Ragas evaluates R" if model == "tuned" and at == 7 else text
            made.append(
                Answer(
                    f"{model}{at}", question.id, "tuned" if model == "tuned" else "base", 0, text, "stop", 300, 40, 2.5
                )
            )
    return made


def losses() -> list[LossPart]:
    draw = random.Random(5)
    rows: list[LossPart] = []
    for update in range(1, 91):
        row: LossPart = {
            "update": update,
            "epoch": update / 30,
            "train_loss": 1.2 * 0.985**update + 0.2 * draw.random(),
        }
        if update % 15 == 0:
            row["valid_loss"] = 1.15 - 0.007 * update + 0.00006 * update**2
        rows.append(row)
    return rows


def report(seed: int = 1) -> Report:
    asked = questions()
    comparison = compare(scores(asked, "base", seed), scores(asked, "tuned", seed), asked)
    made = from_comparison(json.loads(json.dumps(asdict(comparison))), asked, answers(asked))
    conditions = {
        "quantization": "Q8_0",
        "template_sha256": "a" * 64,
        "sampling": {"temperature": 0.0, "max_tokens": 160},
        "prompts": {f"q{at}": "b" * 64 for at in range(40)},
        "renderer": "",
        "seeds": [0],
    }
    made.update({
        "title": "demo: SmolLM2-135M-Instruct, base against tuned",
        "recipe_name": "demo",
        "fairness": fairness_of({"base": conditions, "tuned": conditions}),
        "losses": losses(),
        "best_update": 60,
        "training": [{"label": "trainable parameters", "value": "4,884,480 of 139,399,488 (3.50 %)"}],
        "dataset": [{"label": "training rows", "value": "152 (grounded 92, synthesis 30, refusal 30)"}],
        "retrieval": [{"label": "hit@3", "value": "100.0 % of 77"}],
        "settings": {"train": {"rank": 16, "learning_rate": 5e-4, "clip_norm": None}, "evaluate": {"seeds": [0]}},
        "versions": {"mlx": "0.32.4", "mlx-lm": "0.32.2"},
        "notes": ["Near-miss refusals are shown in a row of their own."],
    })  # fmt: skip
    return made
