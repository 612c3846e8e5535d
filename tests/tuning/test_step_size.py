"""The size of a step where the recipe leaves it open: from a budget of memory, and never below a row."""

from typing import Any

import numpy as np
import pytest

from mlx_ragtune.tuning.resources import STEP_TOKENS, step_for_budget
from mlx_ragtune.tuning.schedule import micro_batches
from mlx_ragtune.tuning.step_size import with_step
from mlx_ragtune.tuning.token_rows import TokenRow
from tests.tuning.made import CONFIG, train_settings

SMOLLM2: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 576, "num_hidden_layers": 30, "intermediate_size": 1536,
    "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64, "vocab_size": 49152,
}  # fmt: skip
LEAST, MOST = STEP_TOKENS


def row(length: int, rejected: int | None = None) -> TokenRow:
    tokens = np.arange(length, dtype=np.int32)
    worse = None if rejected is None else np.arange(rejected, dtype=np.int32)
    return TokenRow("a", "g", "grounded", tokens, 10, worse)


def open_settings(**changes: Any) -> Any:
    return train_settings(tokens_per_step=None, **changes)


def test_a_larger_model_gets_a_smaller_step_within_the_limits() -> None:
    assert step_for_budget({**CONFIG, "model_type": "llama"}, open_settings()) == MOST
    assert step_for_budget(SMOLLM2, open_settings()) == LEAST
    assert step_for_budget({**SMOLLM2, "num_hidden_layers": 12}, open_settings()) == 2816
    assert step_for_budget(SMOLLM2, open_settings(layers=10)) == 3328


def test_dropout_keeps_more_for_each_token() -> None:
    fewer = {**SMOLLM2, "num_hidden_layers": 12}
    assert step_for_budget(fewer, open_settings(dropout=0.1)) == 1792


def test_recomputed_activations_leave_room_for_more_tokens() -> None:
    assert step_for_budget(SMOLLM2, open_settings(grad_checkpoint=True)) > 3 * LEAST


def test_a_step_of_the_recipe_is_kept() -> None:
    settings = train_settings(tokens_per_step=512)
    assert with_step(settings, SMOLLM2, [row(3000)]) is settings


@pytest.mark.parametrize("rejected", [None, 2900])
def test_every_row_fits_into_a_step_that_is_chosen(rejected: int | None) -> None:
    rows = [row(100), row(2000, rejected)]
    chosen = with_step(open_settings(), SMOLLM2, rows)
    assert chosen.step_tokens > LEAST
    assert sum(len(group.rows) for groups in micro_batches(rows, chosen.step_tokens) for group in groups) == 2


def test_it_depends_on_base_and_settings_only() -> None:
    chosen = [with_step(open_settings(), SMOLLM2, [row(size)]).step_tokens for size in (50, 400, 900)]
    assert chosen == [LEAST] * 3
