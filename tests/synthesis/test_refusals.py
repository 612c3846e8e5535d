"""Generated refusals: short plain prose that the scorer reads as a refusal."""

import pytest

from mlx_ragtune.records import Pair
from mlx_ragtune.scoring.answers.refusal import is_refusal
from mlx_ragtune.scoring.answers.style import is_prose
from mlx_ragtune.synthesis.refusals import OTHER_LANGUAGES, WORDINGS, RefusalWording, refusal, topic_of

TOPICS = ("the memory that LoRA saves", "FlashAttention", "the capital of France", "how rank is chosen in DoRA")


@pytest.mark.parametrize("wording", WORDINGS)
@pytest.mark.parametrize("topic", TOPICS)
def test_every_wording_refuses_in_plain_prose(wording: str, topic: str) -> None:
    text = wording.format(topic=topic)
    assert is_refusal(text)
    assert is_prose(text)
    assert topic in text


QUESTIONS = {
    "de": "Wie hoch waren die Kosten der Messung in diesem Winter?",
    "fr": "Quelle est la profondeur de la mer dans les passages du nord ?",
    "es": "¿Cuál es la profundidad del mar en los pasos del norte?",
    "it": "Qual è la profondità del mare nei passi del nord e come si misura?",
    "zh": "这项研究的经费一共是多少元？",
    "ja": "この研究の費用はいくらですか？",
    "ko": "이 연구의 비용은 얼마입니까?",
}


@pytest.mark.parametrize("language", OTHER_LANGUAGES)
def test_a_question_in_another_language_is_refused_in_it(language: str) -> None:
    for wording in OTHER_LANGUAGES[language]:
        assert is_refusal(wording), wording
        assert is_prose(wording)
    assert refusal("the cost", QUESTIONS[language]) in OTHER_LANGUAGES[language]
    pair = Pair("p", "grounded", QUESTIONS[language], "x", ("a",))
    assert RefusalWording({"p": "the cost"})(pair) in OTHER_LANGUAGES[language]
    assert RefusalWording({})(pair) in OTHER_LANGUAGES[language]


def test_the_wording_depends_on_the_question_alone_and_varies() -> None:
    texts = {refusal("x", f"Why is number {number} so?") for number in range(60)}
    assert len(texts) == len(WORDINGS)
    assert refusal("x", "Why?") == refusal("x", "Why?")


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("The memory of LoRA.", "the memory of LoRA"),
        (" 'LoRA  on\nGPT-3' ", "LoRA on GPT-3"),
        ("LoRA", "LoRA"),
        ("How LoRA 2.0 works", "how LoRA 2.0 works"),
        ("", None),
        ("...", None),
        ("It is this. And it is that", None),
        ("word " * 15, None),
    ],
)
def test_a_topic_is_a_short_phrase_as_it_stands_in_a_sentence(text: str, topic: str | None) -> None:
    assert topic_of(text) == topic
