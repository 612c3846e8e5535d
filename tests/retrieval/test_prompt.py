"""The one prompt: short instructions, papers first, the question last, the same bytes each time."""

from mlx_ragtune.records import Passage
from mlx_ragtune.retrieval.prompt import SYSTEM, build_messages

PASSAGES = (
    Passage("a:0", "a", "LoRA: Low-Rank  Adaptation", " Weights stay frozen.\n"),
    Passage("b:0", "b", "Caf\u0065\u0301 Models", "Line one.\nLine two."),
)


def test_the_whole_prompt_to_the_letter() -> None:
    system, user = build_messages(PASSAGES, "What stays\n frozen? ")
    assert (system.role, system.content) == ("system", SYSTEM)
    assert (user.role, user.content) == (
        "user",
        'Papers:\n\n[1] "LoRA: Low-Rank Adaptation"\nWeights stay frozen.\n\n'
        '[2] "Café Models"\nLine one.\nLine two.\n\nQuestion: What stays frozen?',
    )


def test_the_instructions_are_short_and_say_what_is_wanted() -> None:
    assert len(SYSTEM.split()) <= 60
    for wish in ("papers", "title", "double quotes", "plain prose", "without lists or headings", "do not contain"):
        assert wish in SYSTEM


def test_questions_on_the_same_papers_share_everything_before_the_question() -> None:
    first, second = (build_messages(PASSAGES, question)[1].content for question in ("Why so?", "How many?"))
    shared = first.removesuffix("Why so?")
    assert shared.endswith("\n\nQuestion: ")
    assert second == shared + "How many?"


def test_wrapping_costs_few_words() -> None:
    _, user = build_messages(PASSAGES, "Why?")
    content = sum(len(f"{one.title} {one.text}".split()) for one in PASSAGES) + 1
    assert len(user.content.split()) - content <= 2 + len(PASSAGES)


def test_no_paper_is_said_to_be_none() -> None:
    assert build_messages((), "Why?")[1].content == "Papers:\n\n(none)\n\nQuestion: Why?"
