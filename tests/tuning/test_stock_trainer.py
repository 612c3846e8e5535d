"""mlx-lm's trainer as the other side of a measurement: its own batches and loss, each row twice."""

from pathlib import Path

import numpy as np
import pytest

from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.recipe import TrainSettings
from mlx_ragtune.tuning.adapters import apply_adapter
from mlx_ragtune.tuning.load import load_base
from mlx_ragtune.tuning.stock_trainer import PASSES, stock_batches, stock_pass, stock_work
from mlx_ragtune.tuning.token_rows import TokenRow


def rows(count: int) -> list[TokenRow]:
    draw = np.random.default_rng(3)
    made = []
    for number in range(count):
        tokens = draw.integers(5, 100, 20 + 9 * number).astype(np.int32)
        made.append(TokenRow(str(number), str(number), "grounded", tokens, len(tokens) - 6))
    return made


def settings(**changes: object) -> TrainSettings:
    return TrainSettings(rank=2, alpha=4, batch_size=2, accumulation=2, learning_rate=1e-12, epochs=1).model_copy(
        update=changes
    )


def test_batches_are_those_of_the_file_and_the_rest_is_left_out() -> None:
    batches = stock_batches(rows(7), 2)
    assert sorted(tuple(row.id for row in batch) for batch in batches) == [("0", "1"), ("2", "3"), ("4", "5")]
    assert [batch[0].id for batch in batches] != ["0", "2", "4"], "they are shuffled as wholes"


def test_the_work_is_that_of_padded_rows() -> None:
    work = stock_work(rows(4), 2)
    assert (work.layer_tokens, work.logit_rows) == (2 * 32 + 2 * 64, 2 * 32 + 2 * 64)


def test_the_loss_is_mlx_lms_own_and_every_batch_is_trained_twice(toys: Path, tmp_path: Path) -> None:
    from mlx_lm.tuner.trainer import default_loss, iterate_batches

    base, told = load_base(toys / "qwen3", "fp32"), []
    apply_adapter(base.model, settings(), seed=0)
    given = rows(5)
    done = stock_pass(
        base.model, given, settings(), max_tokens=512, folder=tmp_path, report=lambda *steps: told.append(steps)
    )
    total, tokens = 0.0, 0
    for batch in stock_batches(given, 2):
        pairs = [(row.tokens.tolist(), row.prompt_length) for row in batch]
        (arrays,) = iterate_batches(pairs, 2, 512)
        loss, count = default_loss(base.model, *arrays)
        mx.eval(loss, count)
        total, tokens = total + loss.item() * count.item(), tokens + count.item()
    assert done.loss == pytest.approx(total / tokens, rel=1e-5)
    assert told == [(step, 2 * PASSES) for step in range(1, 2 * PASSES + 1)]
    assert done.row_tokens == sum(len(row.tokens) for row in given[:4])
    assert done.seconds > 0
    assert done.cpu_seconds > 0
    assert done.peak_bytes > 0


def test_fewer_rows_than_a_batch_are_refused(toys: Path, tmp_path: Path) -> None:
    base = load_base(toys / "qwen3", "fp32")
    with pytest.raises(ValueError, match="fewer than a batch of 8"):
        stock_pass(base.model, rows(5), settings(batch_size=8), max_tokens=512, folder=tmp_path)
