"""``engine: shared-prefix``: computes each shared context once, and logits for answers only.

Gradients are summed over the micro-batches of an update (and over machines) and divided by its number of
answer tokens, so every token has the same weight in whatever batch it is.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlx_ragtune.clients.runtime_mlx import mx, nn, optimizers, tree_map
from mlx_ragtune.errors import DivergedError
from mlx_ragtune.recipe import TrainSettings
from mlx_ragtune.tuning import checkpoints
from mlx_ragtune.tuning.base_kl import BaseKL, Losses, value_and_grad
from mlx_ragtune.tuning.checkpoints import Progress
from mlx_ragtune.tuning.compiled_step import Choice, CompiledStep, Policy, Sources, choose_shapes, from_tokens
from mlx_ragtune.tuning.groups import Group, answer_tokens
from mlx_ragtune.tuning.loss import batch_loss, make_batch
from mlx_ragtune.tuning.memory import shortage
from mlx_ragtune.tuning.optimizer import make_optimizer, set_learning_rate
from mlx_ragtune.tuning.preference import Preference
from mlx_ragtune.tuning.ranks import Ranks, find_ranks
from mlx_ragtune.tuning.schedule import Plan, Rows, micro_batches, updates_of_run
from mlx_ragtune.tuning.seeds import seed64
from mlx_ragtune.tuning.token_rows import TokenRow

SAVE_SECONDS = 60.0
"""Seconds between checkpoints."""
Report = Callable[[int, int, str], None]
"""Called after each update with (updates done, all updates, a note)."""
OnValidation = Callable[[int, float | None], bool]
"""Called after each validation with (updates done, validation loss), and with None after updates that are looked at
without one; True stops the run."""
Objective = Callable[[Any, Sequence[Group]], mx.array]
"""Summed cross-entropy of the groups' answer tokens, in nats."""


def group_objective(model: Any, groups: Sequence[Group]) -> mx.array:
    """Summed cross-entropy of the groups' answer tokens with all layers computed."""
    return batch_loss(model, make_batch(groups))


def mean_loss(
    model: Any,
    rows: Sequence[TokenRow],
    *,
    tokens_per_step: int,
    objective: Objective = group_objective,
    ranks: Ranks | None = None,
) -> float:
    """Cross-entropy per answer token over the rows, in nats, without dropout."""
    ranks = ranks or find_ranks()
    model.eval()
    total = mx.array(0.0)
    for groups in ranks.share(micro_batches(rows, tokens_per_step)):
        total = total + objective(model, groups)
        mx.eval(total)
    model.train()
    return float(ranks.total(total).item()) / answer_tokens(rows)


def _named(split: str, means: Mapping[str, float]) -> dict[str, float]:
    """The figures as a row of ``losses.jsonl`` names them."""
    return {f"{split}_{name}": value for name, value in means.items()}


class Loop:
    """One training run. ``run`` resumes from the last checkpoint in ``folder`` and leaves the best one there."""

    def __init__(
        self, model: Any, settings: TrainSettings, plan: Plan, *, folder: Path, seed: int, work: dict[str, str]
    ) -> None:
        self.model, self.settings, self.plan = model, settings, plan
        self.folder, self.seed = folder, seed
        self.objective: Objective = group_objective
        self.kl: BaseKL | None = None
        self.preference: Preference | None = None
        self.compiled: CompiledStep | None = None
        self.save_seconds = SAVE_SECONDS
        self.tracker: Any = None
        self.on_validation: OnValidation = lambda _update, _loss: False
        self.looks: frozenset[int] = frozenset()  # updates after which ``on_validation`` is asked without a validation
        self.rehearsal: Sequence[TokenRow] = ()  # answers of the base that are held out
        self.ranks = find_ranks()
        self.optimizer = make_optimizer(settings)
        self.optimizer.init(model.trainable_parameters())
        self.progress = Progress(work)

    def run(self, train: Sequence[TokenRow], valid: Sequence[TokenRow], report: Report) -> Progress:
        """The progress at the end of the plan, or when patience ran out or ``on_validation`` stopped the run.

        Raises ToolError when the loss is not finite or memory or disk are full, and ArtifactError for
        checkpoints of a different run.
        """
        self._restore()
        if self.preference is not None:
            options: dict[str, Any] = {"tokens_per_step": self.settings.step_tokens, "ranks": self.ranks}
            try:
                self.preference.prepare(self.model, [*train, *valid], **options)
            except RuntimeError as error:
                raise shortage(error, self.settings) from error
        self.model.train()
        saved = time.monotonic()
        for update, epoch, rows in self._updates(train):
            self._one_update(rows, epoch)
            report(update, self.plan.updates, self._note())
            due, stop = update in self.plan.evals, False
            if due:
                stop = self._validate(valid)
            elif update in self.looks:
                stop = self._told(self.ranks.first and self.on_validation(update, None))
            if due or update in self.looks or time.monotonic() - saved >= self.save_seconds:
                self._save()
                saved = time.monotonic()
            if stop or self._out_of_patience():
                break
        return self.progress

    def _restore(self) -> None:
        if self.ranks.first:
            saved = checkpoints.load_last(self.folder, self.model, self.optimizer, self.progress.work)
            self.progress = saved or self.progress
        if self.ranks.size > 1:
            counts = mx.array([self.progress.update, self.progress.worse_evals])
            self.progress.update, self.progress.worse_evals = self.ranks.from_first(counts).tolist()
            self.model.update(self.ranks.from_first(self.model.trainable_parameters()))
            self.optimizer.state = self.ranks.from_first(self.optimizer.state)

    def _updates(self, train: Sequence[TokenRow]) -> Iterator[tuple[int, float, Rows]]:
        """(number from 1, epochs done after it, rows) of the remaining updates."""
        for update, epoch, rows in updates_of_run(train, self.plan, self.settings, seed=self.seed):
            if update > self.progress.update and not self._out_of_patience():
                yield update, epoch, rows

    def compile_steps(self, train: Sequence[TokenRow], policy: Policy, sources: Sources = from_tokens) -> Choice:
        """The shapes that are compiled from now on: the run's most frequent ones, within the policy.

        With a KL or preference term nothing is compiled: its arrays have other shapes in every micro-batch.
        """
        if self.kl is not None or self.preference is not None or not policy.ceiling:
            return Choice()
        step = self.settings.step_tokens
        updates = updates_of_run(train, self.plan, self.settings, seed=self.seed)
        choice = choose_shapes((groups for _, _, rows in updates for groups in micro_batches(rows, step)), policy)
        if choice.keys:
            self.compiled = CompiledStep(self.model, choice.keys, policy.bucket, sources)
        return choice

    def _losses(self, model: Any, groups: Sequence[Group]) -> Losses:
        """The losses of a micro-batch without other terms."""
        loss = self.objective(model, groups)
        return loss, loss[None]

    def _gradient(self, rows: Rows) -> tuple[dict[str, float], Any]:
        """(mean losses, mean gradient): cross-entropy over the update's answer tokens, and what other terms tell."""
        term = self.preference or self.kl
        if term is None:
            step: Any = nn.value_and_grad(self.model, self._losses)
        else:
            step = value_and_grad(term, self.model, rows)
        total, gradient = (
            mx.zeros(1 if term is None else term.parts),
            tree_map(mx.zeros_like, self.model.trainable_parameters()),
        )
        try:
            for groups in self.ranks.share(micro_batches(rows, self.settings.step_tokens)):
                if self.compiled is not None and self.compiled.handles(groups):
                    loss, part = self.compiled(self.model, groups)
                    parts = loss[None]
                else:
                    (_, parts), part = step(self.model, groups)
                total, gradient = total + parts, tree_map(mx.add, gradient, part)
                mx.eval(total, gradient)
        except RuntimeError as error:
            raise shortage(error, self.settings) from error
        tokens = answer_tokens(rows)
        total, gradient = self.ranks.total((total, gradient))
        means = {"loss": total[0].item() / tokens} if term is None else term.means_of(total.tolist(), rows)
        return _named("train", means), tree_map(lambda value: value / tokens, gradient)

    def _one_update(self, rows: Rows, epoch: float) -> None:
        started = time.perf_counter()
        # Dropout is drawn from seed and update, so a resumed run needs no random state.
        mx.random.seed(seed64(self.seed * 1_000_003 + self.progress.update))
        means, gradient = self._gradient(rows)
        gradient, norm = optimizers.clip_grad_norm(gradient, self.settings.clip_norm or math.inf)
        rate = self.plan.learning_rate(self.progress.update + 1)
        if not math.isfinite(sum(means.values())) or not math.isfinite(norm.item()):
            self._diverged(means["train_loss"], rate)
        set_learning_rate(self.optimizer, rate, self.settings)
        self.optimizer.update(self.model, gradient)
        mx.eval(self.model.trainable_parameters(), self.optimizer.state)
        self.progress.update += 1
        self.progress.tokens += sum(len(row.tokens) for row in rows)
        seconds = time.perf_counter() - started
        self.progress.seconds += seconds
        losses = {
            "update": self.progress.update,
            "epoch": round(epoch, 4),
            **means,
            "learning_rate": rate,
            "tokens": sum(len(row.tokens) for row in rows),
            "answer_tokens": answer_tokens(rows),
            "seconds": round(seconds, 3),
        }
        self.progress.losses.append(losses)
        if self.tracker is not None and self.ranks.first:
            self.tracker.on_train_loss_report({"iteration": self.progress.update, **losses})

    def _diverged(self, loss: float, rate: float) -> None:
        raise DivergedError(
            f"training diverged: the loss is {loss} at update {self.progress.update + 1}, learning rate {rate:.2e} "
            f"({self.progress.kept})",
            where=str(self.folder),
            fix=f"lower train.learning_rate (now {self.settings.learning_rate:g}), or set train.clip_norm",
        )

    def _validate(self, valid: Sequence[TokenRow]) -> bool:
        """Whether ``on_validation`` stops the run; the adapter is kept if its loss is the lowest so far.

        Without validation rows the adapter is kept with its training loss.
        """
        if not valid:
            if self.ranks.first:
                checkpoints.keep_if_best(self.folder, self.model, self.progress, self.progress.losses[-1]["train_loss"])
            return False
        loss = self._valid_losses(valid)
        if self.tracker is not None and self.ranks.first:
            self.tracker.on_val_loss_report({"iteration": self.progress.update, "val_loss": loss})
        if not math.isfinite(loss):
            self.progress.update -= 1
            self._diverged(loss, self.plan.learning_rate(self.progress.update + 1))
        if self.ranks.first:
            most = self.settings.select_best if self.settings.select == "task" else 1
            checkpoints.keep_if_best(self.folder, self.model, self.progress, loss, most=most)
        return self._told(self.ranks.first and self.on_validation(self.progress.update, loss))

    def _told(self, stop: bool) -> bool:
        """Whether rank 0 stops the run, on every rank."""
        if self.ranks.size > 1:
            told = self.ranks.from_first(mx.array([self.progress.worse_evals, int(stop)]))
            self.progress.worse_evals, stop = told[0].item(), bool(told[1].item())
        return stop

    def _valid_losses(self, valid: Sequence[TokenRow]) -> float:
        """The validation loss, noted with the figures of other terms. It alone chooses the adapter that is kept."""
        options: dict[str, Any] = {"tokens_per_step": self.settings.step_tokens, "ranks": self.ranks}
        term = self.preference or self.kl
        if term is None:
            means = {"loss": mean_loss(self.model, valid, objective=self.objective, **options)}
        else:
            means = term.measure(self.model, valid, **options)
        self.progress.losses[-1] |= _named("valid", means)
        if self.rehearsal and self.kl is not None:
            self.progress.losses[-1] |= _named("rehearsal", self.kl.measure(self.model, self.rehearsal, **options))
        elif self.rehearsal:
            own = mean_loss(self.model, self.rehearsal, objective=self.objective, **options)
            self.progress.losses[-1]["rehearsal_loss"] = own
        return means["loss"]

    def _save(self) -> None:
        if self.ranks.first:
            checkpoints.save(self.folder, self.model, self.optimizer, self.progress)

    def _out_of_patience(self) -> bool:
        return self.settings.patience is not None and self.progress.worse_evals >= self.settings.patience

    def _note(self) -> str:
        last, seconds = self.progress.losses[-1], max(self.progress.seconds, 1e-9)
        memory = mx.get_peak_memory() / 2**30
        kl = f", KL {last['train_kl']:.3f}" if "train_kl" in last else ""
        return f"loss {last['train_loss']:.3f}{kl}, {self.progress.tokens / seconds:.0f} tokens/s, {memory:.1f} GiB"
