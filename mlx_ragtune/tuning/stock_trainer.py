"""mlx-lm's LoRA trainer as it comes, on token rows: the other side of ``ragtune bench`` and of the training benchmark.

Batches, padding, loss, compiled step and update are mlx-lm's own. On a CPU its step is not compiled, because that takes
minutes there and gains nothing.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.recipe import TrainSettings
from mlx_ragtune.tuning.engine_mlx_lm import PADDED_TO, uncompiled_on_cpu
from mlx_ragtune.tuning.optimizer import make_optimizer
from mlx_ragtune.tuning.token_rows import TokenRow
from mlx_ragtune.tuning.work import Work, total, work_of_whole_rows

PASSES = 2
"""Passes over the rows. The first allocates buffers and compiles every shape; the second is measured."""
OnStep = Callable[[int, int], None]
"""Called with (steps done, all steps)."""


@dataclass(frozen=True)
class MeasuredPass:
    """One pass over the rows. ``row_tokens`` are those of its rows without padding, ``loss`` is per trained token."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    row_tokens: int
    loss: float


def stock_batches(rows: Sequence[TokenRow], size: int, *, seed: int = 0) -> list[list[TokenRow]]:
    """The batches of an epoch in mlx-lm 0.32: in file order, then shuffled; rows after the last whole one are left out.

    Its sort by length has no effect: ``CacheDataset.itemlen`` returns the number of a row's keys (mlx-lm#1029).
    """
    order = np.random.default_rng(seed).permutation(len(rows) // size)
    return [list(rows[int(index) * size : (int(index) + 1) * size]) for index in order]


def stock_work(rows: Sequence[TokenRow], size: int) -> Work:
    """The work of such an epoch: whole padded rows, logits at every position."""
    return total(work_of_whole_rows(batch, PADDED_TO) for batch in stock_batches(rows, size))


@dataclass
class _Clock:
    """mlx-lm's callback: notes when each pass ends, after its last update has been computed."""

    steps: int
    report: OnStep
    losses: list[float] = field(default_factory=list)
    ends: list[tuple[float, float]] = field(default_factory=list)

    def on_train_loss_report(self, info: Mapping[str, Any]) -> None:
        """Called after every batch."""
        done = int(info["iteration"])
        self.losses.append(float(info["train_loss"]))
        self.report(done, PASSES * self.steps)
        if done % self.steps == 0:
            self.ends.append((time.perf_counter(), time.process_time()))
            if done == self.steps:
                mx.clear_cache()
                mx.reset_peak_memory()

    def on_val_loss_report(self, info: Mapping[str, Any]) -> None:
        """Part of mlx-lm's interface; there are no validation rows."""


def stock_pass(
    model: Any,
    rows: Sequence[TokenRow],
    settings: TrainSettings,
    *,
    max_tokens: int,
    folder: Path,
    report: OnStep = lambda _done, _all: None,
) -> MeasuredPass:
    """The second pass of ``mlx_lm.tuner.trainer.train`` over the rows; ``model`` has its adapters.

    Of the settings it knows batch size, accumulation, optimizer, a constant learning rate, and gradient checkpointing
    (for the rest of the process). ``max_tokens`` is its limit, beyond which it would cut rows. Raises ValueError for
    fewer rows than a batch, and RuntimeError when memory runs out.
    """
    from mlx_lm.tuner.trainer import TrainingArgs, iterate_batches, train

    batches = stock_batches(rows, settings.batch_size)
    if not batches:
        raise ValueError(f"{len(rows)} rows, fewer than a batch of {settings.batch_size}")
    clock = _Clock(len(batches), report)

    def in_passes(**_options: Any) -> Iterator[Any]:
        for _ in range(PASSES):
            for batch in batches:
                pairs = [(row.tokens.tolist(), row.prompt_length) for row in batch]
                yield from iterate_batches(pairs, settings.batch_size, max_tokens)

    arguments = TrainingArgs(
        batch_size=settings.batch_size,
        iters=PASSES * len(batches),
        steps_per_report=1,
        steps_per_save=PASSES * len(batches) + 1,
        max_seq_length=max_tokens,
        adapter_file=str(folder / "stock.safetensors"),
        grad_checkpoint=settings.grad_checkpoint,
        grad_accumulation_steps=settings.accumulation,
    )
    with uncompiled_on_cpu(), redirect_stdout(StringIO()):  # hides the trainer's own progress output
        train(
            model, make_optimizer(settings), rows, None, arguments, iterate_batches=in_passes, training_callback=clock
        )
    peak = int(mx.get_peak_memory())
    (started, worked), (ended, busy) = clock.ends
    # mlx-lm's mask also trains one padding token of each row (mlx-lm#1697).
    trained = [sum(len(row.tokens) - row.prompt_length + 1 for row in batch) for batch in batches]
    return MeasuredPass(
        seconds=ended - started,
        cpu_seconds=busy - worked,
        peak_bytes=peak,
        row_tokens=sum(len(row.tokens) for batch in batches for row in batch),
        loss=float(np.average(clock.losses[len(batches) :], weights=trained)),
    )
