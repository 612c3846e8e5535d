"""Trains an adapter with either engine, from rows to a finished adapter folder."""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_ragtune.artifact import digest_json
from mlx_ragtune.clients.machine import disk_writes
from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.errors import InputError, ToolError
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
from mlx_ragtune.tuning.seeds import seed64
from mlx_ragtune.tuning.select import Candidate, choose_by_task, development_slice
from mlx_ragtune.tuning.token_rows import TokenRow, tokenize
from mlx_ragtune.tuning.train_checks import check_attention, check_train

Split = Mapping[str, Sequence[TokenRow]]


@dataclass(frozen=True)
class TrainResult:
    """Facts about a finished training run, all valid JSON.

    Losses are in nats per answer token, memory in bytes, rates in row tokens per second. ``candidates`` holds,
    with ``select: task``, both scores of each checkpoint that was tried. On ranks other than the first,
    ``best_update`` is 0 and ``best_valid_loss`` is None, because only the first keeps adapters.
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


def prepare_rows(rows: Sequence[Example], tokenizer: Any, dataset: DatasetSettings) -> list[TokenRow]:
    """Token rows within the recipe's limits. Raises InputError for rows that do not fit, unless they are dropped."""
    token_rows, _ = tokenize(
        rows,
        tokenizer,
        thinking=dataset.thinking == "on",
        max_tokens=dataset.max_tokens,
        on_too_long=dataset.on_too_long,
    )
    return token_rows


def keeps_checkpoints(engine: str) -> bool:
    """Whether a stopped run of this ``train.engine`` resumes; otherwise it starts from the beginning."""
    return engine == "shared-prefix"


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

    The same call resumes from the checkpoints in ``folder`` (``engine: mlx-lm`` starts from the beginning); an
    interrupted run gives the same adapter bytes as an uninterrupted one. Raises RecipeError for settings that do
    not fit the base, InputError without rows, ToolError for a diverged loss or full memory or disk, and
    ArtifactError for checkpoints of a different run.
    """
    check_train(settings, base)
    loaded = load_base(base, model.precision)
    apply_adapter(loaded.model, settings, seed=seed)
    check_head(loaded.model)
    split = {name: prepare_rows(rows[name], loaded.tokenizer, dataset) for name in ("train", "valid")}
    if not split["train"] or not split["valid"]:
        empty = "training" if not split["train"] else "validation"
        raise InputError(
            f"there are no {empty} rows",
            where="dataset",
            fix="add pairs about more papers, or raise dataset.max_tokens or dataset.valid_share",
        )
    plan = make_plan(split["train"], settings, seed=seed)
    print(plan.describe(), file=sys.stderr)
    apply_caps(caps_here())
    mx.random.seed(seed64(seed))
    mx.reset_peak_memory()
    run = _Run(loaded, settings, plan, folder, seed, progress)
    run.work = describe_work(settings, model, base=base, split=split, seed=seed)
    with awake():
        done = run.by_loop(split, save_seconds) if settings.engine == "shared-prefix" else run.by_mlx_lm(split)
    return run.finish(done, split, rows["valid"], thinking=dataset.thinking == "on")


@dataclass
class _Run:
    """The parts of one training run."""

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
        """The progress after training with the reference engine."""
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
        """The progress after training with the shared-prefix loop, frozen store and gradient checkpointing included."""
        model, settings = self.base.model, self.settings
        heads = int(self.base.config["num_attention_heads"])
        for name in ("train", "valid"):
            for groups in micro_batches(split[name], settings.tokens_per_step):  # refuses rows that do not fit
                check_attention(groups, heads)
        loop = Loop(model, settings, self.plan, folder=self.checkpoints, seed=self.seed, work=self.work or {})
        loop.save_seconds = save_seconds
        loop.tracker = _tracker(settings, self.folder)
        with ExitStack() as stack:
            if settings.frozen_store:
                store = FrozenStore(self.checkpoints / "frozen", len(model.layers) - int(settings.layers))
                rows = [*split["train"], *split["valid"]]
                key = digest_json({"base": (self.work or {}).get("base"), "first": store.first})
                store.build(model, rows, tokens_per_step=settings.tokens_per_step, work=key)
                stack.enter_context(only_layers(model, store.first, len(model.layers), normed=True))
                loop.objective = store.objective
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
        )

    def _write(
        self, done: Progress, valid: Sequence[Example], *, thinking: bool
    ) -> tuple[tuple[int, float], tuple[Candidate, ...]]:
        """((update, loss) of the best adapter, candidates), after writing that adapter and all losses."""
        kept = {(update, loss): load_kept(self.checkpoints, update) for update, loss in done.best}
        candidates: tuple[Candidate, ...] = ()
        if self.settings.select == "task":
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


def describe_work(
    settings: TrainSettings, model: BaseModelSettings, *, base: Path, split: Split, seed: int
) -> dict[str, str]:
    """Everything that the result depends on, key by key; checkpoints with another description are refused."""
    keys = settings.model_dump(mode="json", exclude={"report_to"})
    described = {f"train.{name}": json.dumps(value) for name, value in keys.items()}
    described |= {"seed": str(seed), "base.precision": model.precision, "base": base_digest(base)}
    for name, rows in split.items():
        digest = hashlib.sha256()
        for row in rows:
            digest.update(f"{row.id}\0{row.group}\0{row.prompt_length}\0".encode() + row.tokens.tobytes())
        described[f"{name} rows"] = digest.hexdigest()
    return described


def base_digest(folder: Path) -> str:
    """A digest of a model folder: JSON files, and size and first MiB of each weight file."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.json")) + sorted(folder.glob("*.safetensors")):
        with path.open("rb") as stream:
            digest.update(f"{path.name} {path.stat().st_size}".encode() + stream.read(2**20))
    return digest.hexdigest()


def _tracker(settings: TrainSettings, folder: Path) -> Any:
    """mlx-lm's callback for the trackers in the recipe, or None. Raises ToolError for one that is not installed."""
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
            f"cannot start the tracker: {error}", where="train.report_to", fix=f"pip install {names}"
        ) from None
