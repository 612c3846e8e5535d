"""Batched greedy answers, and the choice among checkpoints by what they answer."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_ragtune.clients.runtime_mlx import mx, tree_flatten
from mlx_ragtune.models.prompts import prompt_tokens
from mlx_ragtune.records import Example, Message
from mlx_ragtune.tuning import select
from mlx_ragtune.tuning.adapters import apply_adapter
from mlx_ragtune.tuning.decode import decode
from mlx_ragtune.tuning.load import load_base
from mlx_ragtune.tuning.select import choose_by_task, development_slice, score_answer, word_overlap
from tests.tuning.made import example, examples, toy_base, train_settings


def row(kind: Any, answer: str) -> Example:
    return Example("r", kind, "g", (Message("user", "?"), Message("assistant", answer)))


REFERENCE = 'According to "A Study of Widgets in Practice", widgets weigh 12 grams.'


@pytest.mark.parametrize(
    ("kind", "answer", "low", "high"),
    [
        ("grounded", REFERENCE, 1.0, 1.0),
        ("grounded", "Widgets weigh 12 grams.", 0.2, 0.5),
        ("grounded", "The provided context does not contain information to answer this.", 0.0, 0.0),
        ("grounded", "", 0.0, 0.0),
        ("refusal", "The provided context does not contain information to answer this.", 1.0, 1.0),
        ("refusal", "Widgets weigh 12 grams.", 0.0, 0.0),
    ],
)
def test_an_answer_earns_what_it_should(kind: str, answer: str, low: float, high: float) -> None:
    assert low <= score_answer(row(kind, REFERENCE), answer) <= high


def test_word_overlap_is_the_f1_of_the_words() -> None:
    assert word_overlap("a b c", "a b c") == 1.0
    assert word_overlap("A b!", "a b c d") == pytest.approx(2 * 2 / 6)
    assert word_overlap("", "a") == word_overlap("x", "a") == 0.0


def test_the_slice_has_every_kind_and_is_the_same_for_a_seed() -> None:
    rows = [*examples(20, 1), example(50, 1, kind="refusal"), example(51, 1, kind="synthesis")]
    some = development_slice(rows, seed=1, most=5)
    assert {one.kind for one in some} == {"grounded", "refusal", "synthesis"}
    assert len(some) == 5
    assert [one.id for one in some] == [one.id for one in development_slice(rows, seed=1, most=5)]
    assert development_slice([], seed=1) == []
    assert len(development_slice(rows, seed=-1, most=5)) == len(development_slice(rows, seed=10**30, most=5)) == 5


def test_the_checkpoint_with_the_better_answers_wins_over_a_lower_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two adapters; the rows' references are what the second says, so that it must win."""
    monkeypatch.setattr(select, "MAX_TOKENS", 24)
    base = load_base(toy_base(tmp_path / "base"), "fp32")
    apply_adapter(base.model, train_settings(), seed=1)
    kept = {}
    for update, loss in ((1, 0.5), (2, 0.7)):
        mx.random.seed(update)
        arrays = {
            name: mx.random.normal(value.shape) * 0.3 for name, value in tree_flatten(base.model.trainable_parameters())
        }
        kept[(update, loss)] = arrays
    questions = [example(group, 0, words=3) for group in range(2)]
    prompts = [prompt_tokens(one.messages[:-1], base.tokenizer, thinking=False) for one in questions]
    base.model.load_weights(list(kept[(2, 0.7)].items()), strict=False)
    decoded = dict(decode(base.model, base.tokenizer, prompts, max_tokens=24))
    said = [decoded[place].text.strip() for place in range(len(prompts))]
    rows = [
        Example(one.id, "grounded", one.group, (*one.messages[:-1], Message("assistant", text)))
        for one, text in zip(questions, said, strict=True)
    ]
    ranked = choose_by_task(base.model, base.tokenizer, kept, rows, thinking=False)
    assert [one.update for one in ranked] == [2, 1]
    assert ranked[0].task_score > ranked[1].task_score
    assert np.isfinite([one.valid_loss for one in ranked]).all()
