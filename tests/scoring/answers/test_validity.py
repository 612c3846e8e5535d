from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_ragtune.records import Nugget, Passage
from mlx_ragtune.scoring.answers.validity import classify, loops
from tests.scoring.answers import outside_validity_rows as outside
from tests.scoring.answers.more_validity_rows import FIFTH_ROWS, FOURTH_ROWS, MORE_ROWS, THIRD_ROWS
from tests.scoring.answers.validity_rows import LAYERS, PASSAGES, ROWS, SYSTEM, Row
from tests.scoring.made import SAMPLING, answer, question

GOOD = "QLoRA lowers the memory needed to less than 48GB."


@pytest.mark.parametrize(
    ("text", "changes", "expected"),
    [
        (GOOD, {}, "ok"),
        ("", {}, "empty"),
        (" \n…", {}, "empty"),
        ("Ragas evaluates R", {}, "too_short"),
        ("Ragas evaluates R", {"done_reason": "length", "answer_tokens": 160}, "truncated"),
        ("I don't know.", {}, "ok"),
        ("Not in the papers.", {}, "ok"),
        ("About 48 GB suffices", {}, "ok"),
        (GOOD, {"done_reason": "length", "answer_tokens": 160}, "truncated"),
        (GOOD, {"done_reason": "length", "answer_tokens": 90}, "prompt_overflow"),
        (GOOD, {"prompt_tokens": 2048}, "prompt_overflow"),
        ("", {"error": "prompt_overflow: 5000 tokens"}, "prompt_overflow"),
        ("", {"error": "connection reset", "done_reason": "error"}, "transport_error"),
        (f"<think>\nHmm\n</think>\n{GOOD}", {}, "think_leak"),
        (f"<think>\n\n</think>\n{GOOD}", {}, "think_leak"),
        (f"reasoning</think>{GOOD}", {}, "think_leak"),
        ("Okay, the user is asking about QLoRA. Let me see.", {}, "think_leak"),
        (GOOD, {"done_reason": "loop"}, "repetition_loop"),
        ("It is used " + "for the task of the model " * 6, {"done_reason": "length"}, "prompt_overflow"),
        (
            "It is used " + "for the task of the model " * 6,
            {"done_reason": "length", "answer_tokens": 160},
            "repetition_loop",
        ),
    ],
)
def test_a_broken_answer_is_named_by_its_cause(text: str, changes: dict[str, Any], expected: str) -> None:
    assert classify(answer(text, **changes), SAMPLING) == expected


SHOWN = [Passage(title, title, title, text) for title, text in PASSAGES]


def _class(text: str, asked: str = LAYERS, **changes: Any) -> str:
    given = answer(text, **changes)
    about = question(question=asked, nuggets=())
    return classify(given, SAMPLING, question=about, passages=SHOWN, system=SYSTEM)


@pytest.mark.parametrize(
    "row", [*ROWS, *MORE_ROWS, *THIRD_ROWS, *FOURTH_ROWS, *FIFTH_ROWS], ids=lambda row: f"{row[0]}: {row[1][:40]!r}"
)
def test_each_answer_has_its_class(row: Row) -> None:
    expected, *said = row
    assert _class(*said) == expected


@pytest.mark.parametrize("text", ["α", "π", "~40 m", "A and C", "(b)", "**12**", "0.6", "41 birds", "三天", "네."])
def test_a_letter_of_a_choice_a_sign_or_a_unit_is_a_whole_answer(text: str) -> None:
    assert _class(text, "How deep is it, which letter is it, and which symbol?") == "ok"


@pytest.mark.parametrize("text", ["B.", "It is", "The m", "("])
def test_a_single_letter_that_nothing_asks_for_is_none(text: str) -> None:
    assert _class(text, "How deep is it?") in ("too_short", "empty")


def test_a_token_up_to_which_something_reaches_is_mentioned() -> None:
    text = "The paper masks everything up to and including </think> in the loss."
    assert _class(text, "What is masked?") == "ok"


OUTSIDE = [Passage(title, title, title, text) for title, text in outside.PASSAGES]


@pytest.mark.parametrize(
    "row", [*outside.ROWS, *outside.SECOND, *outside.THIRD], ids=lambda row: f"{row[0]}: {row[1][-40:]!r}"
)
def test_each_answer_of_an_outsider_has_its_class(row: outside.Row) -> None:
    expected, text, asked, changes = row
    about = question(question=asked, nuggets=())
    given = classify(answer(text, **changes), SAMPLING, question=about, passages=OUTSIDE, system=outside.SYSTEM)
    assert given in expected.split("|")


@pytest.mark.parametrize("text", ["", "!!!!", " \n" * 200])
def test_a_loop_that_the_server_stopped_is_no_empty_answer(text: str) -> None:
    assert classify(answer(text, done_reason="loop"), SAMPLING) == "repetition_loop"
    assert classify(answer(text), SAMPLING) == "empty"


def test_the_first_class_that_applies_is_the_cause() -> None:
    """Thinking, then tokens, then the prompt, then a dialogue, then a loop, then the token limit."""
    cut: dict[str, Any] = {"done_reason": "length", "answer_tokens": 160}
    loop = "and layers " * 20
    dialogue = f"Question: how many heads?\nAnswer: {loop}"
    prompt = f"{SYSTEM}\n{dialogue}"
    token = f"12 layers.<|im_end|>\n{prompt}"
    texts = [f"<think>{token}", token, prompt, dialogue, loop]
    assert [_class(text, **cut) for text in texts] == [
        "think_leak", "turn_token_leak", "prompt_leak", "self_dialogue", "repetition_loop"
    ]  # fmt: skip
    assert _class("There are 12 layers, and", **cut) == "truncated"
    assert _class("There are 12 layers.", done_reason="loop") == "repetition_loop"


def test_words_without_content_are_an_answer_if_they_state_what_is_asked() -> None:
    asked = question(question="Who checked the labels?", nuggets=(Nugget("The authors did.", (("authors",),)),))
    assert classify(answer("The authors"), SAMPLING, question=asked) == "ok"
    assert classify(answer("The authors"), SAMPLING, question=question(nuggets=())) == "too_short"


@pytest.mark.parametrize("token", ["<|im_end|>", "[INST]", "User:"])
def test_what_the_papers_are_about_may_be_mentioned(token: str) -> None:
    text = f"The turn marker {token} comes before the answer, and turns {token} alternate."
    about = [Passage("t", "t", "Chat templates", f"A turn is written as {token} by the template.")]
    assert classify(answer(text), SAMPLING, passages=about) == "ok"


def test_a_copied_passage_is_a_leak_and_two_copied_sentences_are_a_quote() -> None:
    text = SHOWN[0].text
    first_two = ". ".join(text.split(". ")[:2]) + "."
    assert [_class(text), _class(first_two), _class(text.split(". ", 1)[1])] == ["prompt_leak", "ok", "prompt_leak"]


def _sentence(start: int, count: int) -> str:
    return "It says " + " ".join(f"w{number}" for number in range(start, start + count)) + "."


@pytest.mark.parametrize(
    ("sentences", "expected"),
    [
        ([(0, 12), (20, 12), (40, 12)], "ok"),  # three short sentences
        ([(0, 15), (20, 15), (40, 15)], "prompt_leak"),  # 51 words in three sentences
        ([(0, 40), (40, 40)], "ok"),  # two long sentences
        ([(0, 50), (50, 50)], "prompt_leak"),  # two sentences of 104 words
    ],
)
def test_a_copy_is_a_leak_by_its_sentences_and_words(sentences: list[tuple[int, int]], expected: str) -> None:
    text = " ".join(_sentence(*sentence) for sentence in sentences)
    shown = [Passage("c", "d", "A title", f"Before it. {text} After it.")]
    assert classify(answer(text), SAMPLING, passages=shown) == expected


def test_many_quotes_are_a_leak_together_and_a_repeated_one_is_counted_once() -> None:
    quotes = [_sentence(100 * number, 45) for number in range(4)]
    shown = [Passage(quote, "d", "A title", f"Before it. {quote} After it.") for quote in quotes]
    joined = {count: " And more. ".join(quotes[:count]) for count in (3, 4)}
    assert classify(answer(joined[3]), SAMPLING, passages=shown) == "ok"
    assert classify(answer(joined[4]), SAMPLING, passages=shown) == "prompt_leak"
    twice = " And more. ".join([*quotes[:3], quotes[0]])
    assert classify(answer(twice), SAMPLING, passages=shown) == "ok"


def test_without_passages_and_system_prompt_nothing_can_be_recognized_as_copied() -> None:
    assert classify(answer(SHOWN[0].text), SAMPLING) == "ok"


def test_thinking_that_the_server_kept_apart_is_no_leak() -> None:
    assert classify(answer(GOOD, thinking="Okay, the user wants …"), SAMPLING) == "ok"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no " * 15, False),
        ("no " * 16, True),
        ("alpha beta gamma delta " * 3, False),
        ("alpha beta gamma delta " * 4, True),
        ("one two three four five six seven eight " * 2, False),
        ("one two three four five six seven eight " * 3, True),
        ("The model is very, very, very good at this and at that.", False),
        (
            "The answer is forty two. Or so. The answer is forty two. Maybe. The answer is forty two. Yes.",
            True,
        ),
        ("The answer is forty two. Or so. The answer is forty two. Maybe.", False),
        ("It is " + "0" * 40, True),
        ("It is " + "0" * 39, False),
        ("ha-" * 20, True),
        ("| set | rate |\n|" + "-" * 60 + "|", False),
    ],
)
def test_a_loop_needs_enough_repeats_of_enough_words(text: str, expected: bool) -> None:
    assert loops(text) is expected


@given(st.permutations([f"word{number}" for number in range(40)]))
def test_distinct_words_never_loop(shuffled: list[str]) -> None:
    assert not loops(" ".join(shuffled))
