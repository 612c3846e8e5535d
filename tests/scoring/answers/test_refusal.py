import pytest

from mlx_ragtune.scoring.answers.refusal import is_refusal, outcomes, refusal_table
from tests.scoring.answers import refusal_paragraphs
from tests.scoring.made import question, score, unanswerable

REFUSALS = [
    "The provided papers do not contain information about diffusion models.",
    "I cannot answer this question from the given context.",
    "The papers do not say how many GPUs were used. They discuss low-rank adapters and quantization instead.",
    "Not in the papers.",
    "I don't know.",
    "None of the papers discusses FlashAttention, so the question cannot be answered from them.",
    "There is no information about this topic in the provided contexts.",
    "Sorry, but the context doesn't mention the capital of France.",
    "I'm sorry. The passages do not mention the capital of France. Please ask something else.",
    "The answer is not found in the passages.",
    "Based on the provided context, there is no mention of the learning rate.",
    "This question is outside the scope of the papers.",
    "There is not enough information in the context to answer.",
    "The question isn't addressed in the given context.",
    "Neither of the papers mentions that.",
    "It is not clear from the passages how many rows were used.",
    "As an AI language model, I don't have access to that.",
    "The text doesn't specify the optimizer used.",
    "The papers do not state the cost, but they describe how memory is lowered.",
    "The notes shown do not cover this. They are about LoRA, which adds two thin matrices to each weight "
    "and keeps the rest frozen, and about QLoRA, which quantizes the base model to four bits.",
    'The contexts do not mention FlashAttention. "LoRA: Low-Rank Adaptation of Large Language Models" '
    "describes how thin matrices are added to frozen weights, and nothing else is described there.",
]
ANSWERS = [
    "Not in the papers, but generally the learning rate is 2e-4.",
    "The context does not mention it. However, it is widely known that Paris is the capital of France.",
    "The papers do not say. In general, one uses a warm-up.",
    "The papers do not say so directly. Paris is the capital of France and lies on the Seine, where about "
    "two million people live in twenty districts called arrondissements.",
    "LoRA does not add inference latency.",
    "According to RAGAS, no human references are needed.",
    "The paper does not need human annotations, since it asks a model.",
    "The paper does not give the exact figure, but it says that memory falls to 48GB.",
    "QLoRA reduces memory. The paper does not report the training time.",
    "LoRA keeps each weight frozen and there is no additional inference latency.",
    "The authors found no evidence of a drop in accuracy when the rank is one.",
    "",
]


@pytest.mark.parametrize("text", [*REFUSALS, *refusal_paragraphs.REFUSALS])
def test_this_refuses(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize("text", [*ANSWERS, *refusal_paragraphs.ANSWERS])
def test_this_answers(text: str) -> None:
    assert not is_refusal(text)


def test_rates_by_hand() -> None:
    rows = (
        [(question(), True)] * 2
        + [(question(), False)] * 8
        + [(unanswerable("near_miss"), True)]
        + [(unanswerable("near_miss"), False)] * 3
        + [(unanswerable("off_corpus"), True)] * 5
        + [(unanswerable("off_corpus"), False)]
    )
    table = refusal_table(rows)
    assert (table.n_answerable, table.n_unanswerable) == (10, 10)
    assert table.refusal_precision == pytest.approx(6 / 8)
    assert table.refusal_recall == pytest.approx(6 / 10)
    assert table.refusal_f1 == pytest.approx(12 / 18)
    assert table.answer_precision == pytest.approx(8 / 12)
    assert table.answer_recall == pytest.approx(8 / 10)
    assert table.answer_f1 == pytest.approx(16 / 22)
    assert table.macro_f1 == pytest.approx((12 / 18 + 16 / 22) / 2)
    assert table.false_refusal_rate == pytest.approx(0.2)
    assert table.near_miss_recall == 0.25
    assert table.off_corpus_recall == pytest.approx(5 / 6)


def test_nothing_over_nothing_is_undefined() -> None:
    table = refusal_table([(question(), False)])
    assert table.refusal_precision is table.refusal_recall is table.refusal_f1 is table.macro_f1 is None
    assert table.near_miss_recall is table.off_corpus_recall is None
    assert table.answer_f1 == 1.0
    assert table.false_refusal_rate == 0.0
    assert refusal_table([]).false_refusal_rate is None


def test_the_table_of_scores_counts_an_invalid_answer_against_the_model() -> None:
    questions = [question(id="a"), question(id="b"), unanswerable("near_miss", id="n"), unanswerable(id="o")]
    scores = [
        score("a", "tuned", {"false_refusal": 0.0}),
        score("b", "tuned", {"false_refusal": 0.0}, validity="empty"),
        score("n", "tuned", {"refusal_near_miss": 0.0}, validity="empty"),
        score("o", "tuned", {"refusal_off_corpus": 1.0}),
        score("o", "tuned", {}, seed=1, validity="transport_error"),
    ]
    table = refusal_table(outcomes(questions, scores))
    assert (table.false_refusal_rate, table.near_miss_recall, table.off_corpus_recall) == (0.5, 0.0, 1.0)
