"""Small real records for the scoring tests."""

from dataclasses import replace
from typing import Any, Literal

from mlx_ragtune.records import Answer, Nugget, Passage, Question, Sampling, Score

TITLES = {
    "lora": "LoRA: Low-Rank Adaptation of Large Language Models",
    "lora_plus": "LoRA+: Efficient Low Rank Adaptation of Large Models",
    "qlora": "QLoRA: Efficient Finetuning of Quantized LLMs",
    "ragas": "RAGAS: Automated Evaluation of Retrieval Augmented Generation",
    "rag": "Retrieval-Augmented Generation for Knowledge-Intensive NLP Tasks",
    "rgb": "Benchmarking Large Language Models in Retrieval-Augmented Generation",
    "lost": "Lost in the Middle: How Language Models Use Long Contexts",
    "flan": "Finetuned Language Models Are Zero-Shot Learners",
}
SAMPLING = Sampling(max_tokens=160, context_tokens=2048)

_QUESTION = Question(
    id="q1",
    topic="qlora",
    question="How far does QLoRA lower the memory needed to fine-tune a 65B model?",
    answerable=True,
    papers=("qlora",),
    keywords=(("48GB", "48 gigabytes"), ("16-bit",), ("single GPU", "one GPU")),
    nuggets=(
        Nugget("Memory falls to less than 48GB.", (("48GB", "48 gigabytes"),)),
        Nugget("16-bit performance is preserved.", (("16-bit",), ("preserved", "kept"))),
        Nugget("It was more than 780GB before.", (("780GB",),), vital=False),
    ),
)
_ANSWER = Answer("k", "q1", "base", 0, "", "stop", 300, 40, 2.0, 0.5)


def question(**changes: Any) -> Question:
    return replace(_QUESTION, **changes)


def unanswerable(kind: str = "off_corpus", **changes: Any) -> Question:
    return question(
        **{
            "answerable": False,
            "refusal_kind": kind,
            "papers": (),
            "nuggets": (),
            "keywords": (),
            **changes,
        }
    )


def answer(text: str, **changes: Any) -> Answer:
    return replace(_ANSWER, text=text, **changes)


def passage(paper: str, text: str = "Some text.") -> Passage:
    return Passage(f"{paper}-0", paper, TITLES[paper], text)


def score(question_id: str, model: Literal["base", "tuned"], metrics: dict[str, float], **changes: Any) -> Score:
    return replace(Score(question_id, "base", 0, "ok", metrics), model=model, **changes)
