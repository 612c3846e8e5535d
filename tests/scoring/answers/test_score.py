import pytest

from mlx_ragtune.records import Nugget
from mlx_ragtune.scoring.answers.metrics import FAMILY, GUARDS, METRICS
from mlx_ragtune.scoring.answers.score import score_answer
from tests.scoring.made import SAMPLING, TITLES, answer, passage, question, unanswerable

GOOD = (
    'According to "QLoRA: Efficient Finetuning of Quantized LLMs", memory falls to 48GB on a single GPU, '
    "and 16-bit performance is preserved."
)
PASSAGES = [
    passage("qlora", "Memory falls from 780GB to 48GB on a single GPU; 16-bit performance is preserved."),
    passage("lora"),
]


def _metrics(text: str, **changes: object) -> dict[str, float]:
    return score_answer(
        question(), answer(text, **changes), PASSAGES, TITLES, sampling=SAMPLING
    ).metrics  # fmt: skip


def test_a_good_answer_has_every_metric_of_an_answerable_question() -> None:
    score = score_answer(question(), answer(GOOD, seed=3), PASSAGES, TITLES, sampling=SAMPLING)
    assert (score.question_id, score.model, score.seed, score.validity) == ("q1", "base", 3, "ok")
    assert score.metrics == {
        "answer_tokens": 40.0,
        "answer_words": 21.0,
        "citation_precision": 1.0,
        "citation_rate": 1.0,
        "citation_recall": 1.0,
        "correctness": 1.0,
        "fabricated_title": 0.0,
        "false_refusal": 0.0,
        "first_token_seconds": 0.5,
        "keyword_coverage": 1.0,
        "latency_seconds": 2.0,
        "number_grounding": 1.0,
        "outside_context_citation": 0.0,
        "prompt_tokens": 300.0,
        "prose_style": 1.0,
        "substantive": 1.0,
        "tokens_per_second": pytest.approx(26.0),
    }


def test_an_invalid_answer_gets_the_worst_value_of_everything_but_its_costs() -> None:
    cut = {"done_reason": "length", "answer_tokens": 160}
    score = score_answer(question(), answer(GOOD, **cut), PASSAGES, TITLES, sampling=SAMPLING)
    assert score.validity == "truncated"
    for name, value in score.metrics.items():
        if METRICS[name].worst is not None:
            assert value == METRICS[name].worst, name
    assert score.metrics["latency_seconds"] == 2.0


def test_a_broken_answer_is_not_counted_as_a_refusal() -> None:
    """The guard compares real refusals; broken answers have a guard of their own."""
    assert _metrics("", answer_tokens=0)["false_refusal"] == 0.0
    assert _metrics("The papers do not say.", done_reason="length", answer_tokens=160)["false_refusal"] == 1.0


def test_the_words_of_an_invalid_answer_count_too() -> None:
    assert _metrics("word " * 1600)["answer_words"] == 1600.0
    assert _metrics("", answer_tokens=0)["answer_words"] == 0.0


def test_a_repeated_system_prompt_makes_an_answer_invalid() -> None:
    system = "Answer from the papers below, and cite every title in double quotes."
    said = [answer(f"{text} {GOOD}") for text in (system, "")]
    scores = [score_answer(question(), one, PASSAGES, TITLES, sampling=SAMPLING, system=system) for one in said]
    assert [score.validity for score in scores] == ["prompt_leak", "ok"]


def test_an_empty_answer_is_never_perfect() -> None:
    metrics = _metrics("", answer_tokens=0)
    assert metrics["correctness"] == metrics["citation_recall"] == metrics["prose_style"] == 0.0
    assert metrics["fabricated_title"] == 1.0
    assert "number_grounding" not in metrics


def test_after_a_transport_error_nothing_is_scored() -> None:
    score = score_answer(question(), answer("", error="reset"), PASSAGES, TITLES, sampling=SAMPLING)
    assert (score.validity, score.metrics) == ("transport_error", {})


@pytest.mark.parametrize(("kind", "metric"), [("off_corpus", "refusal_off_corpus"), ("near_miss", "refusal_near_miss")])
def test_unanswerable_questions_are_scored_by_refusal_only(kind: str, metric: str) -> None:
    no = "The provided papers do not say this."
    for text, expected in ((no, 1.0), (GOOD, 0.0)):
        score = score_answer(unanswerable(kind), answer(text), PASSAGES, TITLES, sampling=SAMPLING)
        assert score.metrics[metric] == expected
        absent = {"correctness", "citation_rate", "citation_recall", "false_refusal", "substantive"}
        assert not absent & set(score.metrics)


def test_a_refusal_of_an_answerable_question_is_false() -> None:
    metrics = _metrics("The provided papers do not say how far memory falls, 48GB or not.")
    assert metrics["false_refusal"] == 1.0
    assert metrics["correctness"] == 0.0


def test_every_metric_that_is_written_is_known_and_each_role_is_filled() -> None:
    written = set(_metrics(GOOD)) | {"refusal_off_corpus", "refusal_near_miss"}
    assert written <= set(METRICS)
    assert FAMILY[0] == "correctness"
    assert GUARDS == ("invalid", "false_refusal")
    assert METRICS["keyword_coverage"].role == METRICS["similarity"].role == "secondary"


def test_a_cited_title_states_nothing() -> None:
    nugget = Nugget("Large language models are adapted by low rank.", (("low-rank adaptation",),))
    asked = question(nuggets=(nugget,), papers=("lora",))
    titled = f'According to "{TITLES["lora"]}", it is done somehow.'
    said = f"{titled} It is low-rank adaptation."
    values = [
        score_answer(asked, answer(text), PASSAGES, TITLES, sampling=SAMPLING).metrics["correctness"]
        for text in (titled, said)
    ]
    assert values == [0.0, 1.0]
