"""One training run on a loaded base with adapters: either engine, the frozen store, and the adapter that is kept."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mlx_ragtune.artifact import Draft
from mlx_ragtune.clients.machine import disk_writes
from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.errors import ToolError
from mlx_ragtune.jsonl import write_rows
from mlx_ragtune.recipe import TrainSettings
from mlx_ragtune.records import Example
from mlx_ragtune.tuning.adapters import count_parameters, save_adapter, without_adapter
from mlx_ragtune.tuning.base_kl import BaseKL, group_states
from mlx_ragtune.tuning.checkpoints import Progress, load_kept
from mlx_ragtune.tuning.compiled_step import Choice, from_tokens, policy_here
from mlx_ragtune.tuning.engine_mlx_lm import train_with_mlx_lm
from mlx_ragtune.tuning.frozen import FrozenStore, every_layer, only_layers
from mlx_ragtune.tuning.lean_kernels import lean_kernels
from mlx_ragtune.tuning.load import Base
from mlx_ragtune.tuning.loop import Loop, OnValidation, Report, mean_loss
from mlx_ragtune.tuning.preference import Preference
from mlx_ragtune.tuning.ranks import find_ranks
from mlx_ragtune.tuning.recompute import recomputing
from mlx_ragtune.tuning.schedule import Plan
from mlx_ragtune.tuning.select import Candidate, choose_by_task, development_slice
from mlx_ragtune.tuning.strength import StrengthPoint, StrengthTrial, choose_strength
from mlx_ragtune.tuning.token_rows import TokenRow

Split = Mapping[str, Sequence[TokenRow]]


@dataclass(frozen=True)
class TrainResult:
    """Facts about a finished training run, all valid JSON.

    Losses are in nats per answer token, memory in bytes, rates in row tokens per second. ``candidates`` holds,
    with ``select: task``, both scores of each checkpoint that was tried. ``train_rows`` and ``valid_rows`` are about
    papers; ``rehearsal_rows`` are trained beside them, and ``rehearsal_held_rows`` measure what is forgotten:
    ``base_rehearsal_loss`` is the base's loss on them, ``rehearsal_loss`` that of the adapter as it was kept.
    ``strengths`` are those that ``train.strength`` tried, and ``strength`` the one of the adapter. ``pruned``:
    ``on_validation`` stopped the run; its adapter is then the one with the lowest loss, if there was a validation. On
    ranks other than the first, and then without one, ``best_update`` is 0 and ``best_valid_loss`` is None. It is also
    None without validation rows: ``best_update`` is then the last one. Of all ``micro_batches``, which had ``shapes``
    shapes, ``compiled_micro_batches`` had one of the ``compiled_shapes``.
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
    rehearsal_rows: int = 0
    rehearsal_held_rows: int = 0
    base_rehearsal_loss: float | None = None
    rehearsal_loss: float | None = None
    strength: float = 1.0
    strengths: tuple[StrengthPoint, ...] = ()
    compiled_shapes: int = 0
    shapes: int = 0
    compiled_micro_batches: int = 0
    micro_batches: int = 0


@dataclass(frozen=True)
class _Kept:
    """The adapter that was written: its update, its losses, and what it was chosen from."""

    update: int = 0
    valid_loss: float | None = None
    rehearsal_loss: float | None = None
    candidates: tuple[Candidate, ...] = ()
    strength: float = 1.0
    strengths: tuple[StrengthPoint, ...] = ()


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
    looks: frozenset[int] = frozenset()
    pruned: bool = False
    base_rehearsal_loss: float | None = None
    say: Callable[[str], None] = lambda _text: None
    compiled: Choice = field(default_factory=Choice)

    @property
    def checkpoints(self) -> Path:
        """Where a stopped run resumes from."""
        return self.folder / "checkpoints"

    def _stops(self, update: int, loss: float | None) -> bool:
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

    def measure_base(self, held: Sequence[TokenRow]) -> None:
        """Note the loss of the base, without the adapter, on its own answers that are held out, if there are any."""
        if held:
            with without_adapter(self.base.model):
                step = self.settings.step_tokens
                self.base_rehearsal_loss = mean_loss(self.base.model, held, tokens_per_step=step)

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
        loop.save_seconds, loop.on_validation, loop.looks = save_seconds, self._stops, self.looks
        loop.rehearsal = split.get("rehearsal", ())
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
            stack.enter_context(lean_kernels(model))
            stack.enter_context(recomputing(model, settings.grad_checkpoint))
            sources = store.embedded if store is not None else from_tokens
            self.compiled = loop.compile_steps(split["train"], policy_here(), sources)
            if self.compiled.micro_batches:
                self.say(self.compiled.describe())
            return loop.run(split["train"], split["valid"], self.report)

    def finish(self, done: Progress, split: Split, valid: Sequence[Example], *, thinking: bool) -> TrainResult:
        """The result, after writing adapter and losses. Only the first rank writes: it alone keeps adapters."""
        peak = int(mx.get_peak_memory())
        kept = self._write(done, split, valid, thinking=thinking) if find_ranks().first and done.best else _Kept()
        rehearsed = sum(row.is_rehearsal for row in split["train"])
        trainable, total = count_parameters(self.base.model)
        return TrainResult(
            engine=self.settings.engine,
            updates=done.update,
            planned_updates=self.plan.updates,
            best_update=kept.update,
            best_valid_loss=kept.valid_loss if split["valid"] else None,
            stopped_early=done.update < self.plan.updates,
            train_rows=self.plan.rows - rehearsed,
            valid_rows=len(split["valid"]),
            trainable_parameters=trainable,
            total_parameters=total,
            tokens_per_second=round(done.tokens / max(done.seconds, 1e-9), 1),
            peak_memory_bytes=peak,
            seconds=round(done.seconds, 1),
            candidates=kept.candidates,
            pruned=self.pruned,
            rehearsal_rows=rehearsed,
            rehearsal_held_rows=len(split.get("rehearsal", ())),
            base_rehearsal_loss=self.base_rehearsal_loss,
            rehearsal_loss=kept.rehearsal_loss,
            strength=kept.strength,
            strengths=kept.strengths,
            compiled_shapes=len(self.compiled.keys),
            shapes=self.compiled.shapes,
            compiled_micro_batches=self.compiled.compiled,
            micro_batches=self.compiled.micro_batches,
        )

    def _write(self, done: Progress, split: Split, valid: Sequence[Example], *, thinking: bool) -> _Kept:
        """The best adapter, after writing it and all losses."""
        kept = {(update, loss): load_kept(self.checkpoints, update) for update, loss in done.best}
        candidates: tuple[Candidate, ...] = ()
        if self.settings.select == "task" and not self.pruned:
            rows = development_slice(valid, seed=self.seed)
            candidates = tuple(choose_by_task(self.base.model, self.base.tokenizer, kept, rows, thinking=thinking))
        best = done.best[0]
        if candidates:
            best = (candidates[0].update, candidates[0].valid_loss)
        measured = {row["update"]: row.get("rehearsal_loss") for row in done.losses}
        strength, rehearsal_loss = 1.0, measured.get(best[0])
        points: tuple[StrengthPoint, ...] = ()
        if self.settings.strength is not None and not self.pruned:
            points = self._strengths(kept[best], split, valid, thinking=thinking)
            chosen = choose_strength(points, self.settings.strength.max_loss)
            strength, rehearsal_loss = chosen.scale, chosen.rehearsal_loss
        save_adapter(self.folder, kept[best], self.settings, len(self.base.model.layers), strength=strength)
        losses = self.folder / "losses.jsonl"
        with disk_writes(losses, 256 * len(done.losses)):
            write_rows(losses, done.losses)
        return _Kept(*best, rehearsal_loss, candidates, strength, points)

    def _strengths(
        self, arrays: Mapping[str, mx.array], split: Split, valid: Sequence[Example], *, thinking: bool
    ) -> tuple[StrengthPoint, ...]:
        """The adapter at every strength of the settings."""
        settings = self.settings
        assert settings.strength is not None  # noqa: S101 (the caller has looked)
        self.base.model.load_weights(list(arrays.items()), strict=False)
        trial = StrengthTrial(
            self.base,
            rows=development_slice(valid, seed=self.seed),
            held=split["rehearsal"],
            thinking=thinking,
            tokens_per_step=settings.step_tokens,
        )
        return trial.points(settings.strength, self.say)


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
