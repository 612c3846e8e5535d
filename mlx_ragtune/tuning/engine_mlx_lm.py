"""``engine: mlx-lm``: mlx-lm's own trainer with our batches and loss, as the reference for the other engine.

Defects of the stock trainer are corrected from outside: rows are sorted by their true length, no padding token
is trained, no row is cut or left out, tokens have equal weight within an update, gradients are clipped, and
the best validation is kept. It cannot resume: a killed run starts from the beginning.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from mlx_ragtune.clients.runtime_mlx import mx, optimizers
from mlx_ragtune.errors import DivergedError
from mlx_ragtune.recipe import TrainSettings
from mlx_ragtune.tuning import checkpoints
from mlx_ragtune.tuning.checkpoints import Progress
from mlx_ragtune.tuning.groups import answer_tokens
from mlx_ragtune.tuning.loop import OnValidation, Report
from mlx_ragtune.tuning.loss import plain_loss
from mlx_ragtune.tuning.memory import apply_caps, caps_here, shortage
from mlx_ragtune.tuning.optimizer import make_optimizer
from mlx_ragtune.tuning.schedule import Plan, Rows, rows_per_update, updates_of_epoch
from mlx_ragtune.tuning.token_rows import TokenRow

Batch = tuple[mx.array, mx.array, mx.array]
PADDED_TO = 32


class _StopError(Exception):
    """Raised to stop the trainer when patience runs out or ``on_validation`` stops the run."""


class _Clipping:
    """An optimizer that first clips the global gradient norm, an option that mlx-lm's trainer lacks."""

    def __init__(self, optimizer: Any, norm: float) -> None:
        self._optimizer, self._norm = optimizer, norm

    def __getattr__(self, name: str) -> Any:
        return getattr(self._optimizer, name)

    def update(self, model: Any, gradients: Any) -> None:
        """Clip the gradients, then update."""
        self._optimizer.update(model, optimizers.clip_grad_norm(gradients, self._norm)[0])


def make_batch(rows: Rows, weight: float) -> Batch:
    """(tokens [B, 1 + L] with L a multiple of 32, spans [B, 2], weight of the batch in its update); int32, float32."""
    length = 1 + -(-max(len(row.tokens) for row in rows) // PADDED_TO) * PADDED_TO
    tokens = np.zeros((len(rows), length), np.int32)
    for index, row in enumerate(rows):
        tokens[index, : len(row.tokens)] = row.tokens
    spans = np.array([[row.prompt_length, len(row.tokens)] for row in rows], np.int32)
    return mx.array(tokens), mx.array(spans), mx.array(weight)


def update_batches(rows: Rows, accumulation: int) -> list[Batch]:
    """The ``accumulation`` micro-batches of one update, rows of similar length together.

    The trainer divides the summed gradients by ``accumulation``; the weights make that a mean over the tokens
    of the update.
    """
    ordered = sorted(rows, key=lambda row: (len(row.tokens), row.id))
    total = answer_tokens(rows)
    batches = []
    for part in np.array_split(np.arange(len(ordered)), accumulation):
        members = [ordered[int(index)] for index in part]
        weight = accumulation * answer_tokens(members) / total
        batches.append(make_batch(members or ordered[:1], weight))
    return batches


def weighted_loss(model: Any, tokens: mx.array, spans: mx.array, weight: mx.array) -> tuple[mx.array, mx.array]:
    """(mean loss × weight, answer tokens), which the trainer differentiates and reports."""
    total, count = plain_loss(model, tokens, spans)
    return total / count * weight, count


class _Callback:
    """Records losses after each update, validates when due, keeps the best adapter, and applies patience."""

    def __init__(self, model: Any, settings: TrainSettings, plan: Plan, *, folder: Path, progress: Progress) -> None:
        self.model, self.settings, self.plan = model, settings, plan
        self.folder, self.progress = folder, progress
        self.valid: Rows = []
        self.rehearsal: Rows = []
        self.report: Report = lambda _done, _total, _note: None
        self.on_validation: OnValidation = lambda _update, _loss: False
        self.sizes: list[int] = []  # tokens of whole rows in each started update, as the other engine counts them
        self._started = time.perf_counter()

    def on_train_loss_report(self, info: Mapping[str, Any]) -> None:
        """Called by the trainer after each update."""
        progress, loss = self.progress, float(info["train_loss"])
        if progress.update == self.plan.updates:
            return
        progress.update = int(info["iteration"]) // self.settings.accumulation
        progress.seconds = time.perf_counter() - self._started
        progress.tokens = sum(self.sizes[: progress.update])
        rate = self.plan.learning_rate(progress.update)
        epoch = progress.update / self.plan.updates_per_epoch
        row = {"update": progress.update, "epoch": round(epoch, 4), "train_loss": loss, "learning_rate": rate}
        progress.losses.append({**row, "seconds": round(progress.seconds, 3)})
        self._finite(loss)
        self.report(progress.update, self.plan.updates, f"loss {loss:.3f}")
        if progress.update in self.plan.evals:
            self._validate()

    def _finite(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise DivergedError(
                f"training diverged: the loss is {loss} at update {self.progress.update} ({self.progress.kept})",
                where=str(self.folder),
                fix=f"lower train.learning_rate (now {self.settings.learning_rate:g}), or set train.clip_norm",
            )

    def _validate(self) -> None:
        if not self.valid:
            checkpoints.keep_if_best(self.folder, self.model, self.progress, self.progress.losses[-1]["train_loss"])
            return
        loss = self._mean_loss(self.valid)
        self.progress.losses[-1]["valid_loss"] = loss
        if self.rehearsal:
            self.progress.losses[-1]["rehearsal_loss"] = self._mean_loss(self.rehearsal)
        self._finite(loss)
        most = self.settings.select_best if self.settings.select == "task" else 1
        checkpoints.keep_if_best(self.folder, self.model, self.progress, loss, most=most)
        stop = self.on_validation(self.progress.update, loss)
        if stop or (self.settings.patience is not None and self.progress.worse_evals >= self.settings.patience):
            raise _StopError

    def _mean_loss(self, rows: Rows) -> float:
        from mlx_lm.tuner.trainer import evaluate

        def batches(dataset: Rows, **_options: Any) -> Iterator[Batch]:
            yield from (make_batch([row], 1.0) for row in sorted(dataset, key=lambda row: (len(row.tokens), row.id)))

        loss = float(evaluate(self.model, rows, 1, -1, loss=weighted_loss, iterate_batches=batches))
        self.model.train()
        return loss


def train_with_mlx_lm(
    model: Any,
    settings: TrainSettings,
    plan: Plan,
    *,
    split: Mapping[str, Sequence[TokenRow]],
    folder: Path,
    seed: int,
    progress: Progress,
    report: Report,
    on_validation: OnValidation,
) -> Progress:
    """The progress after ``mlx_lm.tuner.trainer.train`` ran the plan; the best adapter is kept in ``folder``.

    Raises ToolError when the loss is not finite, or memory or disk are full.
    """
    from mlx_lm.tuner.trainer import TrainingArgs
    from mlx_lm.tuner.trainer import train as run_trainer

    folder.mkdir(parents=True, exist_ok=True)
    optimizer = make_optimizer(settings, lambda step: _scheduled(plan, step))
    callback = _Callback(model, settings, plan, folder=folder, progress=progress)
    callback.valid, callback.report, callback.on_validation = list(split["valid"]), report, on_validation
    callback.rehearsal = list(split.get("rehearsal", ()))

    def batches(dataset: Sequence[TokenRow], **_options: Any) -> Iterator[Batch]:
        apply_caps(caps_here())  # the trainer has just wired the whole recommended working set (mlx-lm#828)
        epoch = 0
        while True:
            for rows in updates_of_epoch(dataset, rows_per_update(settings), seed=seed, epoch=epoch):
                callback.sizes.append(sum(len(row.tokens) for row in rows))
                yield from update_batches(rows, settings.accumulation)
            epoch += 1

    iterations = plan.updates * settings.accumulation
    arguments = TrainingArgs(
        batch_size=1,
        iters=iterations,
        steps_per_report=settings.accumulation,
        steps_per_save=iterations + 1,
        adapter_file=str(folder / "last.safetensors"),
        grad_accumulation_steps=settings.accumulation,
    )
    clipping = optimizer if settings.clip_norm is None else _Clipping(optimizer, settings.clip_norm)
    try:
        with uncompiled_on_cpu(), redirect_stdout(StringIO()):  # hides the trainer's own progress output
            run_trainer(model, clipping, split["train"], None, arguments, weighted_loss, batches, callback)
    except _StopError:
        pass
    except RuntimeError as error:
        raise shortage(error, settings) from error
    return callback.progress


@contextmanager
def uncompiled_on_cpu() -> Iterator[None]:
    """Turn ``mx.compile`` off on a CPU, where it calls the C++ compiler for minutes and gains nothing."""
    if mx.default_device() != mx.Device(mx.cpu):
        yield
        return
    mx.disable_compile()
    try:
        yield
    finally:
        mx.enable_compile()


def _scheduled(plan: Plan, step: mx.array) -> mx.array:
    """The plan's learning rate as an MLX expression of the number of updates done."""
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
