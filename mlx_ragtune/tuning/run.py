"""One entry to training, whichever engine: rows in, an adapter folder out."""

import hashlib
import json
import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_ragtune.artifact import digest_json
from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.errors import InputError, RecipeError, ToolError
from mlx_ragtune.jsonl import write_rows
from mlx_ragtune.recipe import BaseModelSettings, DatasetSettings, TrainSettings
from mlx_ragtune.records import Example
from mlx_ragtune.tuning.adapters import apply_adapter, count_parameters, save_adapter
from mlx_ragtune.tuning.checkpoints import Progress, load_kept
from mlx_ragtune.tuning.engine_mlx_lm import train_with_mlx_lm
from mlx_ragtune.tuning.frozen import FrozenStore, only_layers
from mlx_ragtune.tuning.head import check_head
from mlx_ragtune.tuning.load import Base, load_base
from mlx_ragtune.tuning.loop import SAVE_SECONDS, Loop, Report
from mlx_ragtune.tuning.memory import apply_caps, awake, caps_here
from mlx_ragtune.tuning.ranks import find_ranks
from mlx_ragtune.tuning.recompute import recomputing
from mlx_ragtune.tuning.schedule import Plan, make_plan, micro_batches
from mlx_ragtune.tuning.select import Candidate, choose_by_task, development_slice
from mlx_ragtune.tuning.token_rows import TokenRow, tokenize

Split = Mapping[str, Sequence[TokenRow]]


@dataclass(frozen=True)
class TrainResult:
    """What training came to. Losses in nats per answer token, memory in bytes, rates in row tokens a second.

    ``candidates`` holds, under ``select: task``, both scores of each checkpoint that was tried.
    """

    engine: str
    updates: int
    planned_updates: int
    best_update: int
    best_valid_loss: float
    stopped_early: bool
    train_rows: int
    valid_rows: int
    trainable_parameters: int
    total_parameters: int
    tokens_per_second: float
    peak_memory_bytes: int
    seconds: float
    candidates: tuple[Candidate, ...] = ()


def prepare_rows(rows: Sequence[Example], tokenizer: Any, dataset: DatasetSettings) -> list[TokenRow]:
    """Token rows by the recipe's limits; rows that do not fit are left out or refused, as it says."""
    found, _ = tokenize(
        rows,
        tokenizer,
        thinking=dataset.thinking == "on",
        max_tokens=dataset.max_tokens,
        on_too_long=dataset.on_too_long,
    )
    return found


def check_settings(settings: TrainSettings) -> None:
    """Raise RecipeError for what the chosen engine cannot do, before anything is loaded."""
    if settings.engine == "mlx-lm" and settings.grad_checkpoint:
        raise RecipeError(
            "mlx-lm's gradient checkpointing patches the model for good",
            where="train.grad_checkpoint",
            fix="use train.engine: shared-prefix, whose checkpointing ends with the run",
        )
    if settings.engine == "mlx-lm" and find_ranks().size > 1:
        raise RecipeError(
            "mlx-lm's trainer shares out batches, not rows of an update", where="train.engine", fix="shared-prefix"
        )


def train(
    settings: TrainSettings,
    model: BaseModelSettings,
    dataset: DatasetSettings,
    *,
    base: Path,
    rows: Mapping[str, Sequence[Example]],
    folder: Path,
    seed: int,
    progress: Report,
    save_seconds: float = SAVE_SECONDS,
) -> TrainResult:
    """Train on ``rows["train"]``, choose by ``rows["valid"]``, and write the adapter and ``losses.jsonl``.

    The same call goes on from the checkpoints in ``folder`` (``engine: mlx-lm`` starts again); the result is
    the same bytes as unbroken. Raises InputError without rows, ToolError for a loss that is not a number or
    full memory or disk, ArtifactError for checkpoints of other work.
    """
    check_settings(settings)
    loaded = load_base(base, model.precision)
    apply_adapter(loaded.model, settings, seed=seed)
    check_head(loaded.model)
    split = {name: prepare_rows(rows[name], loaded.tokenizer, dataset) for name in ("train", "valid")}
    if not split["train"] or not split["valid"]:
        raise InputError("training needs rows to train on and rows to validate on", where="dataset")
    plan = make_plan(split["train"], settings, seed=seed)
    print(plan.describe(), file=sys.stderr)
    apply_caps(caps_here())
    mx.random.seed(seed)
    mx.reset_peak_memory()
    run = _Run(loaded, settings, plan, folder, seed, progress)
    run.work = describe_work(settings, model, base=base, split=split, seed=seed)
    with awake():
        done = run.by_loop(split, save_seconds) if settings.engine == "shared-prefix" else run.by_mlx_lm(split)
    return run.finish(done, split, rows["valid"], thinking=dataset.thinking == "on")


@dataclass
class _Run:
    """One training run's parts."""

    base: Base
    settings: TrainSettings
    plan: Plan
    folder: Path
    seed: int
    report: Report
    work: dict[str, str] | None = None

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def by_mlx_lm(self, split: Split) -> Progress:
        """Train with the reference engine."""
        return train_with_mlx_lm(
            self.base.model,
            self.settings,
            self.plan,
            split=split,
            folder=self.checkpoints,
            seed=self.seed,
            progress=Progress(self.work or {}),
            report=self.report,
        )

    def by_loop(self, split: Split, save_seconds: float) -> Progress:
        """Train with our loop, with the frozen store and gradient checkpointing where the recipe says so."""
        model, settings = self.base.model, self.settings
        for name in ("train", "valid"):
            micro_batches(split[name], settings.tokens_per_step)  # refuses rows that do not fit, before training
        loop = Loop(model, settings, self.plan, folder=self.checkpoints, seed=self.seed, work=self.work or {})
        loop.save_seconds = save_seconds
        loop.tracker = _tracker(settings, self.folder)
        with ExitStack() as stack:
            if settings.frozen_store:
                store = FrozenStore(self.checkpoints / "frozen", len(model.layers) - int(settings.layers))
                both = [*split["train"], *split["valid"]]
                key = digest_json({"base": (self.work or {}).get("base"), "first": store.first})
                store.build(model, both, tokens_per_step=settings.tokens_per_step, work=key)
                stack.enter_context(only_layers(model, store.first, len(model.layers), normed=True))
                loop.objective = store.objective
            stack.enter_context(recomputing(model, settings.grad_checkpoint))
            return loop.run(split["train"], split["valid"], self.report)

    def finish(self, done: Progress, split: Split, valid: Sequence[Example], *, thinking: bool) -> TrainResult:
        """Write the winner's adapter and the losses. On other ranks than the first nothing: it alone kept any."""
        peak = int(mx.get_peak_memory())
        best: tuple[int, float] = (0, math.nan)
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
        )

    def _write(
        self, done: Progress, valid: Sequence[Example], *, thinking: bool
    ) -> tuple[tuple[int, float], tuple[Candidate, ...]]:
        """((update, loss) of the winner, what was tried); its adapter and all losses are files now."""
        kept = {(update, loss): load_kept(self.checkpoints, update) for update, loss in done.best}
        candidates: tuple[Candidate, ...] = ()
        if self.settings.select == "task":
            some = development_slice(valid, seed=self.seed)
            candidates = tuple(choose_by_task(self.base.model, self.base.tokenizer, kept, some, thinking=thinking))
        best = done.best[0]
        if candidates:
            best = (candidates[0].update, candidates[0].valid_loss)
        save_adapter(self.folder, kept[best], self.settings, len(self.base.model.layers))
        write_rows(self.folder / "losses.jsonl", done.losses)
        return best, candidates


def describe_work(
    settings: TrainSettings, model: BaseModelSettings, *, base: Path, split: Split, seed: int
) -> dict[str, str]:
    """All that a run depends on, key by key; a checkpoint of anything else is refused with the difference."""
    keys = settings.model_dump(mode="json", exclude={"report_to"})
    described = {f"train.{name}": json.dumps(value) for name, value in keys.items()}
    described |= {"seed": str(seed), "base.precision": model.precision, "base": base_digest(base)}
    for name, rows in split.items():
        whole = hashlib.sha256()
        for row in rows:
            whole.update(f"{row.id}\0{row.group}\0{row.prompt_length}\0".encode() + row.tokens.tobytes())
        described[f"{name} rows"] = whole.hexdigest()
    return described


def base_digest(folder: Path) -> str:
    """A digest of a model folder: config, tokenizer, and size and first MiB of each weight file."""
    whole = hashlib.sha256()
    for path in sorted(folder.glob("*.json")) + sorted(folder.glob("*.safetensors")):
        with path.open("rb") as stream:
            whole.update(f"{path.name} {path.stat().st_size}".encode() + stream.read(2**20))
    return whole.hexdigest()


def _tracker(settings: TrainSettings, folder: Path) -> Any:
    """mlx-lm's own callbacks for the trackers that the recipe names. Raises ToolError for one not installed."""
    if not settings.report_to:
        return None
    from mlx_lm.tuner.callbacks import get_reporting_callbacks

    try:
        return get_reporting_callbacks(
            ",".join(settings.report_to), project_name="ragtune", log_dir=str(folder), config=settings.model_dump()
        )
    except (ImportError, AttributeError, TypeError) as error:
        names = " ".join(settings.report_to)
        raise ToolError(
            f"a tracker did not start: {error}", where="train.report_to", fix=f"pip install {names}"
        ) from None
