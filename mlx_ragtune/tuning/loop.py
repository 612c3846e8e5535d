"""``engine: shared-prefix``: our loop. Each shared context is computed once, answers alone get logits.

Gradients are summed over the groups of an update and divided by its answer tokens, so that every token
weighs the same whatever the batch it came in.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlx_ragtune.backends.runtime_mlx import mx, nn, optimizers, tree_map
from mlx_ragtune.errors import ToolError
from mlx_ragtune.recipe import TrainSettings
from mlx_ragtune.tuning import checkpoints
from mlx_ragtune.tuning.checkpoints import Progress
from mlx_ragtune.tuning.groups import Group
from mlx_ragtune.tuning.loss import group_loss
from mlx_ragtune.tuning.optimiser import make_optimizer, set_learning_rate
from mlx_ragtune.tuning.schedule import Plan, updates_of_epoch

SAVE_SECONDS = 60.0
Report = Callable[[int, int, str], None]


def mean_loss(model: Any, groups: list[Group]) -> float:
    """Cross-entropy per answer token over the groups, in nats."""
    model.eval()
    total = 0.0
    for group in groups:
        total += float(group_loss(model, group).item())
        mx.clear_cache()
    model.train()
    return total / sum(group.answer_tokens for group in groups)


class Loop:
    """One training run. ``run`` goes on from the last checkpoint in ``folder`` and leaves the best there."""

    def __init__(self, model: Any, settings: TrainSettings, plan: Plan, *, folder: Path, seed: int, work: str) -> None:
        self.model, self.settings, self.plan = model, settings, plan
        self.folder, self.seed = folder, seed
        self.optimizer = make_optimizer(settings)
        self.optimizer.init(model.trainable_parameters())
        self.progress = Progress(work)
        self._gradient = nn.value_and_grad(model, group_loss)

    def run(self, train: list[Group], valid: list[Group], report: Report) -> Progress:
        """Train to the end or until patience runs out. Raises ToolError when the loss is not a number."""
        restored = checkpoints.load_last(self.folder, self.model, self.optimizer, self.progress.work)
        self.progress = restored or self.progress
        self.model.train()
        saved = time.monotonic()
        per_update = self.settings.batch_size * self.settings.accumulation
        update = 0
        epoch = 0
        while update < self.plan.updates:
            batches = updates_of_epoch(train, per_update, seed=self.seed, epoch=epoch)
            for batch in batches[: self.plan.updates - update]:
                update += 1
                if update <= self.progress.update:
                    continue
                self._one_update(batch, epoch + batches.index(batch) / len(batches))
                report(update, self.plan.updates, self._note())
                if update in self.plan.evals:
                    self._validate(valid)
                    if self._out_of_patience():
                        return self.progress
                if update in self.plan.evals or time.monotonic() - saved > SAVE_SECONDS:
                    checkpoints.save(self.folder, self.model, self.optimizer, self.progress)
                    saved = time.monotonic()
            epoch += 1
        return self.progress

    def _one_update(self, batch: list[Group], epoch: float) -> None:
        started = time.perf_counter()
        total, gradient = mx.array(0.0), None
        for group in batch:
            loss, one = self._gradient(self.model, group)
            gradient = one if gradient is None else tree_map(mx.add, gradient, one)
            total = total + loss
            mx.eval(total, gradient)
        tokens = sum(group.answer_tokens for group in batch)
        gradient = tree_map(lambda value: value / tokens, gradient)
        if self.settings.clip_norm is not None:
            gradient, _ = optimizers.clip_grad_norm(gradient, self.settings.clip_norm)
        rate = self.plan.learning_rate(self.progress.update + 1)
        set_learning_rate(self.optimizer, rate, self.settings)
        loss = float(total.item()) / tokens
        if not math.isfinite(loss):
            self._diverged(loss, rate)
        self.optimizer.update(self.model, gradient)
        mx.eval(self.model.trainable_parameters(), self.optimizer.state)
        mx.clear_cache()
        seconds = time.perf_counter() - started
        self.progress.update += 1
        self.progress.tokens += sum(len(row.tokens) for group in batch for row in group.rows)
        self.progress.seconds += seconds
        self.progress.losses.append(
            {
                "update": self.progress.update,
                "epoch": round(epoch, 4),
                "train_loss": loss,
                "learning_rate": rate,
                "answer_tokens": tokens,
                "seconds": round(seconds, 3),
            }
        )

    def _diverged(self, loss: float, rate: float) -> None:
        checkpoints.save(self.folder, self.model, self.optimizer, self.progress)
        best = self.progress.best_loss
        kept = f"best so far: {best:.4f} at update {self.progress.best_update}" if best else "nothing validated yet"
        raise ToolError(
            f"the loss is {loss} at update {self.progress.update + 1}, learning rate {rate:.2e} ({kept}, kept)",
            where=str(self.folder),
            fix=f"lower train.learning_rate (now {self.settings.learning_rate:g}), or set train.clip_norm",
        )

    def _validate(self, valid: list[Group]) -> None:
        loss = mean_loss(self.model, valid)
        self.progress.losses[-1]["valid_loss"] = loss
        if math.isfinite(loss) and (self.progress.best_loss is None or loss < self.progress.best_loss):
            self.progress.best_loss, self.progress.best_update = loss, self.progress.update
            self.progress.worse_evals = 0
            checkpoints.save_best(self.folder, self.model, self.progress)
        else:
            self.progress.worse_evals += 1

    def _out_of_patience(self) -> bool:
        return self.settings.patience is not None and self.progress.worse_evals >= self.settings.patience

    def _note(self) -> str:
        last, seconds = self.progress.losses[-1], max(self.progress.seconds, 1e-9)
        memory = mx.get_peak_memory() / 2**30
        return f"loss {last['train_loss']:.3f}, {self.progress.tokens / seconds:.0f} tokens/s, {memory:.1f} GiB"
