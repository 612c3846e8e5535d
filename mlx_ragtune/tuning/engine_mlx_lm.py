"""``engine: mlx-lm``: mlx-lm's own trainer, with our batches and loss. The reference, and the stock side.

What its defaults get wrong is mended from outside: rows sorted by their true length, no padding token
trained, no row cut or left out, tokens weighted alike across an update, the best validation kept. It does
not resume: a killed run starts again.
"""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from mlx_ragtune.backends.runtime_mlx import mx
from mlx_ragtune.errors import ToolError
from mlx_ragtune.recipe import TrainSettings
from mlx_ragtune.tuning import checkpoints
from mlx_ragtune.tuning.checkpoints import Progress
from mlx_ragtune.tuning.groups import Group, padded
from mlx_ragtune.tuning.loop import Report, mean_loss
from mlx_ragtune.tuning.loss import plain_loss
from mlx_ragtune.tuning.optimiser import make_optimizer
from mlx_ragtune.tuning.rows import TokenRow
from mlx_ragtune.tuning.schedule import Plan, updates_of_epoch

Batch = tuple[mx.array, mx.array, mx.array]


class _StopError(Exception):
    """Patience has run out."""


def make_batch(rows: list[TokenRow], weight: float) -> Batch:
    """Tokens [B, 1 + L] padded to a multiple of 32, spans [B, 2], and the batch's weight in its update."""
    length = 1 + padded(max(len(row.tokens) for row in rows))
    tokens = np.zeros((len(rows), length), np.int32)
    for index, row in enumerate(rows):
        tokens[index, : len(row.tokens)] = row.tokens
    spans = np.array([[row.prompt_length, len(row.tokens)] for row in rows], np.int32)
    return mx.array(tokens), mx.array(spans), mx.array(weight)


def _answer_tokens(rows: list[TokenRow]) -> int:
    return sum(len(row.tokens) - row.prompt_length for row in rows)


def update_batches(groups: list[Group], settings: TrainSettings) -> list[Batch]:
    """The micro-batches of one update: always ``accumulation`` of them, rows of like length together.

    The trainer divides the summed gradients by ``accumulation``; the weights turn that into a mean over
    the tokens of the update.
    """
    rows = sorted((row for group in groups for row in group.rows), key=lambda row: (len(row.tokens), row.id))
    parts = [part.tolist() for part in np.array_split(np.arange(len(rows)), settings.accumulation)]
    total = _answer_tokens(rows)
    batches = []
    for part in parts:
        members = [rows[index] for index in part] or rows[:1]
        weight = settings.accumulation * _answer_tokens(members) / total if part else 0.0
        batches.append(make_batch(members, weight))
    return batches


def weighted_loss(model: Any, tokens: mx.array, spans: mx.array, weight: mx.array) -> tuple[mx.array, mx.array]:
    """(mean loss × weight, answer tokens): what the trainer differentiates and reports."""
    total, count = plain_loss(model, tokens, spans)
    return total / count * weight, count


class _Callback:
    """Keeps the losses and the best adapter, and stops the trainer when patience runs out."""

    def __init__(
        self, model: Any, settings: TrainSettings, plan: Plan, folder: Path, work: str, report: Report
    ) -> None:
        self.model, self.settings, self.plan, self.folder, self.report = model, settings, plan, folder, report
        self.progress = Progress(work)
        self._started = time.perf_counter()

    def on_train_loss_report(self, info: dict[str, Any]) -> None:
        progress, loss = self.progress, float(info["train_loss"])
        progress.update = int(info["iteration"]) // self.settings.accumulation
        progress.seconds = time.perf_counter() - self._started
        progress.tokens = int(info["trained_tokens"])
        rate = self.plan.learning_rate(progress.update)
        epoch = progress.update / self.plan.updates_per_epoch
        row = {"update": progress.update, "epoch": round(epoch, 4), "train_loss": loss, "learning_rate": rate}
        progress.losses.append(row)
        if not math.isfinite(loss):
            raise ToolError(
                f"the loss is {loss} at update {progress.update} (best so far: {progress.best_loss}, kept)",
                fix=f"lower train.learning_rate (now {self.settings.learning_rate:g})",
            )
        self.report(progress.update, self.plan.updates, f"loss {loss:.3f}")

    def on_val_loss_report(self, info: dict[str, Any]) -> None:
        progress, loss = self.progress, float(info["val_loss"])
        if not progress.losses:
            return  # the trainer also validates before its first step
        progress.losses[-1]["valid_loss"] = loss
        if math.isfinite(loss) and (progress.best_loss is None or loss < progress.best_loss):
            progress.best_loss, progress.best_update, progress.worse_evals = loss, progress.update, 0
            checkpoints.save_best(self.folder, self.model, progress)
        else:
            progress.worse_evals += 1
            if self.settings.patience is not None and progress.worse_evals >= self.settings.patience:
                raise _StopError


def train_with_mlx_lm(
    model: Any,
    settings: TrainSettings,
    plan: Plan,
    split: Mapping[str, list[Group]],
    *,
    folder: Path,
    seed: int,
    work: str,
    report: Report,
) -> Progress:
    """Run ``mlx_lm.tuner.trainer.train`` for the planned updates; the best adapter is left in ``folder``."""
    from mlx_lm.tuner.trainer import TrainingArgs
    from mlx_lm.tuner.trainer import train as run_trainer

    folder.mkdir(parents=True, exist_ok=True)
    optimizer = make_optimizer(settings, lambda step: _scheduled(plan, step))
    callback = _Callback(model, settings, plan, folder, work, report)
    valid = sorted((row for group in split["valid"] for row in group.rows), key=lambda row: len(row.tokens))

    def batches(dataset: str, batch_size: int, loop: bool = False, **_options: Any) -> Iterator[Batch]:
        if dataset == "valid":
            yield from (make_batch([row], 1.0) for row in valid)
            return
        epoch = 0
        while True:
            per_update = settings.batch_size * settings.accumulation
            for update in updates_of_epoch(split["train"], per_update, seed=seed, epoch=epoch):
                yield from update_batches(update, settings)
            epoch += 1
            if not loop:
                return

    arguments = TrainingArgs(
        batch_size=1,
        iters=plan.updates * settings.accumulation,
        val_batches=-1,
        steps_per_report=settings.accumulation,
        steps_per_eval=plan.evals[0] * settings.accumulation,
        steps_per_save=plan.updates * settings.accumulation + 1,
        adapter_file=str(folder / "last.safetensors"),
        grad_checkpoint=settings.grad_checkpoint,
        grad_accumulation_steps=settings.accumulation,
    )
    try:
        with redirect_stdout(StringIO()):  # its own panels and bars; ours are shown instead
            run_trainer(model, optimizer, "train", "valid", arguments, weighted_loss, batches, callback)
        # It validates before a step, so never after the last one.
        callback.on_val_loss_report({"val_loss": mean_loss(model, split["valid"])})
    except _StopError:
        pass
    return callback.progress


def _scheduled(plan: Plan, step: mx.array) -> mx.array:
    """The plan's learning rate as an MLX expression of the optimiser's step, counted from 0 updates done."""
    update = step + 1
    warmup, peak = max(plan.warmup_updates, 1), plan.peak_learning_rate
    rising = peak * update / warmup
    done = (update - plan.warmup_updates - 1) / max(1, plan.updates - plan.warmup_updates)
    falling = {
        "constant": mx.array(peak),
        "linear": peak * (1 - done),
        "cosine": peak * 0.5 * (1 + mx.cos(math.pi * done)),
    }[plan.schedule]
    return mx.where(update <= plan.warmup_updates, rising, falling) if plan.warmup_updates else falling
