"""A generator's reply that runs in circles is ended; equal items are not."""

import json

import pytest

from mlx_ragtune.synthesis.runaway import runs_away

ITEM = {"finding": "as the passages say", "verdict": "yes"}
PAIR = {"evidence": "It was 3.2 metres, 3.2 metres and 3.2 metres.", "question": 'What was "it"?', "topic": "x"}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"verdicts": [ITEM] * 8}),
        json.dumps({"pairs": [PAIR] * 4}, indent=4),
        json.dumps({"answers": ["unknown"] * 8}),
        "Sure, here is what you want:\n" + json.dumps({"pairs": [PAIR]}),
        "",
        "{",
    ],
)
def test_a_reply_with_equal_items_runs_on(text: str) -> None:
    assert not any(runs_away(text[:end]) for end in range(len(text) + 1))


@pytest.mark.parametrize(
    "text",
    [
        '{"pairs": [{"evidence": "' + "the mean of the mean of " * 12,
        '{"pairs": [{"evidence": "said \\"so\\"", "reply": "' + "It is so and so. " * 12,
        '{"pairs": [' + "\n" * 300,
        "I would rather not. " * 30,
        '{"a": "' + "x" * 100,
    ],
)
def test_a_reply_that_runs_in_circles_is_ended(text: str) -> None:
    assert runs_away(text)
