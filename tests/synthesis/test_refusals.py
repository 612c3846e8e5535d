"""Generated refusals: short plain prose that the scorer reads as a refusal."""

import pytest

from mlx_ragtune.scoring.answers.refusal import is_refusal
from mlx_ragtune.scoring.answers.style import is_prose
from mlx_ragtune.synthesis.refusals import WORDINGS, refusal, topic_of

TOPICS = ("the memory that LoRA saves", "FlashAttention", "the capital of France", "how rank is chosen in DoRA")


@pytest.mark.parametrize("wording", WORDINGS)
@pytest.mark.parametrize("topic", TOPICS)
def test_every_wording_refuses_in_plain_prose(wording: str, topic: str) -> None:
    text = wording.format(topic=topic)
    assert is_refusal(text)
    assert is_prose(text)
    assert topic in text


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
