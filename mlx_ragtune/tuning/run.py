"""One entry to training, whichever engine: rows in, an adapter folder out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlx_ragtune.backends.runtime_mlx import mx
from mlx_ragtune.errors import ArtifactError
from mlx_ragtune.recipe import BaseModelSettings, DatasetSettings, TrainSettings
from mlx_ragtune.records import Example, write_rows
from mlx_ragtune.tuning.adapters import apply_adapter, count_parameters, save_adapter
from mlx_ragtune.tuning.base import Base, load_base
from mlx_ragtune.tuning.checkpoints import Progress, describe_work, load_best
from mlx_ragtune.tuning.engine_mlx_lm import train_with_mlx_lm
from mlx_ragtune.tuning.groups import Group, make_groups
from mlx_ragtune.tuning.loop import Loop, Report
from mlx_ragtune.tuning.rows import TokenRow, tokenize
from mlx_ragtune.tuning.schedule import Plan, make_plan


@dataclass(frozen=True)
class TrainResult:
    """What training came to. Losses in nats per answer token, memory in bytes, rates in row tokens a second."""

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


def _rows(rows: Sequence[Example], base: Base, dataset: DatasetSettings) -> list[TokenRow]:
    found, _ = tokenize(
        rows,
        base.tokenizer,
        thinking=dataset.thinking == "on",
        max_tokens=dataset.max_tokens,
        on_too_long=dataset.on_too_long,
    )
    return found


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
) -> TrainResult:
    """Train on ``rows["train"]``, choose by ``rows["valid"]``, and write the adapter and ``losses.jsonl``.

    The same call goes on from the checkpoints in ``folder``; the result is the same bytes as unbroken.
    """
    loaded = load_base(base, model.precision)
    apply_adapter(loaded.model, settings, seed=seed)
    split = {name: make_groups(_rows(rows[name], loaded, dataset)) for name in ("train", "valid")}
    plan = make_plan(split["train"], settings, seed=seed)
    mx.random.seed(seed)
    mx.reset_peak_memory()
    done = _run(loaded, settings, plan, split, folder, seed, progress)
    best = load_best(folder / "checkpoints")
    save_adapter(folder, best, settings, len(loaded.model.layers))
    write_rows(folder / "losses.jsonl", done.losses)
    if done.best_loss is None:
        raise ArtifactError("no validation gave a finite loss", where=str(folder), fix="lower train.learning_rate")
    trainable, total = count_parameters(loaded.model)
    return TrainResult(
        engine=settings.engine,
        updates=done.update,
        planned_updates=plan.updates,
        best_update=done.best_update,
        best_valid_loss=done.best_loss,
        stopped_early=done.update < plan.updates,
        train_rows=plan.rows,
        valid_rows=sum(len(group.rows) for group in split["valid"]),
        trainable_parameters=trainable,
        total_parameters=total,
        tokens_per_second=round(done.tokens / max(done.seconds, 1e-9), 1),
        peak_memory_bytes=int(mx.get_peak_memory()),
        seconds=round(done.seconds, 1),
    )


def _run(
    base: Base,
    settings: TrainSettings,
    plan: Plan,
    split: Mapping[str, list[Group]],
    folder: Path,
    seed: int,
    report: Report,
) -> Progress:
    work = describe_work(
        settings=settings.model_dump(mode="json"),
        seed=seed,
        rows={
            name: [[row.id, row.tokens.tolist()] for group in groups for row in group.rows]
            for name, groups in split.items()
        },
        config=json.dumps(base.config, sort_keys=True),
    )
    checkpoints = folder / "checkpoints"
    if settings.engine == "mlx-lm":
        return train_with_mlx_lm(
            base.model, settings, plan, split, folder=checkpoints, seed=seed, work=work, report=report
        )
    loop = Loop(base.model, settings, plan, folder=checkpoints, seed=seed, work=work)
    return loop.run(split["train"], split["valid"], report)
