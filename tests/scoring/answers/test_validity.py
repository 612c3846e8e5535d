from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_ragtune.scoring.answers.validity import classify, loops
from tests.scoring.made import SAMPLING, answer

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
    ],
)
def test_a_loop_needs_enough_repeats_of_enough_words(text: str, expected: bool) -> None:
    assert loops(text) is expected


@given(st.permutations([f"word{number}" for number in range(40)]))
def test_distinct_words_never_loop(shuffled: list[str]) -> None:
    assert not loops(" ".join(shuffled))
