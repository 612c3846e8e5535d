"""One training run on a loaded base with adapters: either engine, the frozen store, and the adapter that is kept."""

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlx_ragtune.artifact import Draft
from mlx_ragtune.clients.machine import disk_writes
from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.errors import ToolError
from mlx_ragtune.jsonl import write_rows
from mlx_ragtune.recipe import TrainSettings
from mlx_ragtune.records import Example
from mlx_ragtune.tuning.adapters import count_parameters, save_adapter
from mlx_ragtune.tuning.base_kl import BaseKL, group_states
from mlx_ragtune.tuning.checkpoints import Progress, load_kept
from mlx_ragtune.tuning.engine_mlx_lm import train_with_mlx_lm
from mlx_ragtune.tuning.frozen import FrozenStore, every_layer, only_layers
from mlx_ragtune.tuning.load import Base
from mlx_ragtune.tuning.loop import Loop, OnValidation, Report
from mlx_ragtune.tuning.preference import Preference
from mlx_ragtune.tuning.ranks import find_ranks
from mlx_ragtune.tuning.recompute import recomputing
from mlx_ragtune.tuning.schedule import Plan
from mlx_ragtune.tuning.select import Candidate, choose_by_task, development_slice
from mlx_ragtune.tuning.token_rows import TokenRow

Split = Mapping[str, Sequence[TokenRow]]


@dataclass(frozen=True)
class TrainResult:
    """Facts about a finished training run, all valid JSON.

    Losses are in nats per answer token, memory in bytes, rates in row tokens per second. ``candidates`` holds,
    with ``select: task``, both scores of each checkpoint that was tried. ``pruned``: ``on_validation`` stopped the
    run; its adapter is then the one with the lowest loss. On ranks other than the first, ``best_update`` is 0 and
    ``best_valid_loss`` is None, because only the first keeps adapters.
    """

    engine: str
    updates: int
    planned_updates: int
    best_update: int
    best_valid_loss: float | None
    stopped_early: bool
    train_rows: int
    valid_rows: int
    trainable_parameters: int
    total_parameters: int
    tokens_per_second: float
    peak_memory_bytes: int
    seconds: float
    candidates: tuple[Candidate, ...] = ()
    pruned: bool = False


@dataclass
class Training:
    """The parts of one training run. ``work`` describes everything that its result depends on."""

    base: Base
    settings: TrainSettings
    plan: Plan
    folder: Path
    seed: int
    report: Report
    work: dict[str, str]
    on_validation: OnValidation | None = None
    pruned: bool = False

    @property
    def checkpoints(self) -> Path:
        """Where a stopped run resumes from."""
        return self.folder / "checkpoints"

    def _stops(self, update: int, loss: float) -> bool:
        """Whether to stop. The caller sees the whole model, and may answer with it: nothing of that stays."""
        if self.on_validation is None:
            return False
        random: Any = mx.random.state
        training, (high, low) = self.base.model.training, random[0].tolist()
        with every_layer(self.base.model):
            self.pruned = self.on_validation(update, loss)
        self.base.model.train(training)
        mx.random.seed(high << 32 | low)  # the two words of the state are those of the seed
        return self.pruned

    def by_mlx_lm(self, split: Split) -> Progress:
        """The progress after training with the reference engine."""
        return train_with_mlx_lm(
            self.base.model,
            self.settings,
            self.plan,
            split=split,
            folder=self.checkpoints,
            seed=self.seed,
            progress=Progress(self.work),
            report=self.report,
            on_validation=self._stops,
        )

    def by_loop(self, split: Split, store: FrozenStore | None, save_seconds: float) -> Progress:
        """The progress after training with the shared-prefix loop, gradient checkpointing included."""
        model, settings = self.base.model, self.settings
        loop = Loop(model, settings, self.plan, folder=self.checkpoints, seed=self.seed, work=self.work)
        loop.save_seconds, loop.on_validation = save_seconds, self._stops
        loop.tracker = _tracker(settings, self.folder)
        with ExitStack() as stack:
            if store is not None:
                stack.enter_context(only_layers(model, store.first, len(model.layers), normed=True))
                loop.objective = store.objective
            if settings.kl is not None:
                loop.kl = BaseKL(settings.kl, store.answer_states if store is not None else group_states)
                loop.kl.check(split["train"])
            if settings.preference is not None:
                states = store.answer_states if store is not None else group_states
                loop.preference = Preference(settings.preference, states, loop.kl)
                loop.preference.check(split["train"])
            stack.enter_context(recomputing(model, settings.grad_checkpoint))
            return loop.run(split["train"], split["valid"], self.report)

    def finish(self, done: Progress, split: Split, valid: Sequence[Example], *, thinking: bool) -> TrainResult:
        """The result, after writing adapter and losses. Only the first rank writes: it alone keeps adapters."""
        peak = int(mx.get_peak_memory())
        best: tuple[int, float | None] = (0, None)
        candidates: tuple[Candidate, ...] = ()
        if find_ranks().first:
            best, candidates = self._write(done, valid, thinking=thinking)
        trainable, total = count_parameters(self.base.model)
        return TrainResult(
            engine=self.settings.engine,
            updates=done.update,
            planned_updates=self.plan.updates,
            best_update=best[0],
            best_valid_loss=best[1],
            stopped_early=done.update < self.plan.updates,
            train_rows=self.plan.rows,
            valid_rows=len(split["valid"]),
            trainable_parameters=trainable,
            total_parameters=total,
            tokens_per_second=round(done.tokens / max(done.seconds, 1e-9), 1),
            peak_memory_bytes=peak,
            seconds=round(done.seconds, 1),
            candidates=candidates,
            pruned=self.pruned,
        )

    def _write(
        self, done: Progress, valid: Sequence[Example], *, thinking: bool
    ) -> tuple[tuple[int, float], tuple[Candidate, ...]]:
        """((update, loss) of the best adapter, candidates), after writing that adapter and all losses."""
        kept = {(update, loss): load_kept(self.checkpoints, update) for update, loss in done.best}
        candidates: tuple[Candidate, ...] = ()
        if self.settings.select == "task" and not self.pruned:
            rows = development_slice(valid, seed=self.seed)
            candidates = tuple(choose_by_task(self.base.model, self.base.tokenizer, kept, rows, thinking=thinking))
        best = done.best[0]
        if candidates:
            best = (candidates[0].update, candidates[0].valid_loss)
        save_adapter(self.folder, kept[best], self.settings, len(self.base.model.layers))
        losses = self.folder / "losses.jsonl"
        with disk_writes(losses, 256 * len(done.losses)):
            write_rows(losses, done.losses)
        return best, candidates


def keep_result(draft: Draft, result: TrainResult) -> None:
    """Put the facts of a finished run beside its adapter, and remove its checkpoints."""
    shutil.rmtree(draft / "checkpoints", ignore_errors=True)
    (draft / "result.json").write_text(json.dumps(asdict(result), indent=2) + "\n", encoding="utf-8")
    draft.record(**asdict(result))


def _tracker(settings: TrainSettings, folder: Path) -> Any:
    """mlx-lm's callback for the trackers in the recipe, or None. Raises ToolError for one that is not installed."""
    if not settings.report_to:
        return None
    from mlx_lm.tuner.callbacks import get_reporting_callbacks

    try:
        return get_reporting_callbacks(
            ",".join(settings.report_to),
            project_name="ragtune",
            log_dir=str(folder),
            config=settings.model_dump(mode="json"),
        )
    except (ImportError, AttributeError, TypeError) as error:
        names = " ".join(settings.report_to)
        raise ToolError(
            f"cannot start the tracker: {error}", where="train.report_to", fix=f"pip install {names}"
        ) from None
