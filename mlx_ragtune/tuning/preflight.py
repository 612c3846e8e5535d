"""``ragtune plan``: rows, updates, memory and time of a run before it starts, and whether it fits.

Time and memory are predicted from two measured steps on this machine, with a small and a typical micro-batch.
Both grow with the work, which is known for every micro-batch.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_ragtune.clients.runtime_mlx import mx, nn, tree_flatten
from mlx_ragtune.errors import InputError, ToolError
from mlx_ragtune.recipe import BaseModelSettings, DatasetSettings, TrainSettings
from mlx_ragtune.records import Example
from mlx_ragtune.tuning.adapters import apply_adapter, count_parameters
from mlx_ragtune.tuning.groups import Group
from mlx_ragtune.tuning.load import load_base
from mlx_ragtune.tuning.loop import group_objective
from mlx_ragtune.tuning.memory import Caps, caps_here, next_setting
from mlx_ragtune.tuning.recompute import recomputing
from mlx_ragtune.tuning.rehearsal import choose_rehearsal, share_in
from mlx_ragtune.tuning.schedule import Plan, make_plan, micro_batches, rows_per_update, updates_of_epoch
from mlx_ragtune.tuning.token_rows import Refused, TokenRow, tokenize
from mlx_ragtune.tuning.train_checks import check_train
from mlx_ragtune.tuning.work import total, work_of_batch

MARGIN = 1.15
"""Safety factor on the predicted memory before it is compared with the limit."""


@dataclass(frozen=True)
class Lengths:
    """Row lengths of one kind, in tokens."""

    rows: int
    shortest: int
    mean: float
    longest: int
    answer_mean: float


@dataclass(frozen=True)
class Preflight:
    """The planned run. Memory in bytes, time in seconds; ``saving`` is the share of tokens not computed."""

    lengths: dict[str, Lengths]
    refused: tuple[Refused, ...]
    plan: Plan
    row_tokens: int
    computed_tokens: int
    trainable_parameters: int
    total_parameters: int
    predicted_memory_bytes: int
    predicted_seconds: float
    caps: Caps

    @property
    def saving(self) -> float:
        """Share of an epoch's row tokens that shared prefixes save, after padding."""
        return 1 - self.computed_tokens / self.row_tokens

    @property
    def fits(self) -> bool:
        """Whether the predicted memory, with its margin, is available."""
        return self.predicted_memory_bytes * MARGIN <= self.caps.usable


@dataclass(frozen=True)
class Calibration:
    """Two measured steps: FLOPs, peaks in bytes, seconds. Predictions are linear in the work."""

    works: tuple[float, float]
    peaks: tuple[int, int]
    times: tuple[float, float]

    @staticmethod
    def _line(xs: tuple[float, float], ys: tuple[float, float], x: float) -> float:
        slope = max(0.0, (ys[1] - ys[0]) / (xs[1] - xs[0])) if xs[1] > xs[0] else 0.0
        return ys[1] + slope * (x - xs[1])

    def memory(self, flops: float) -> int:
        """Predicted peak in bytes of a micro-batch with this work."""
        return int(self._line(self.works, self.peaks, flops))

    def seconds(self, flops: float) -> float:
        """Predicted seconds of a micro-batch with this work, in proportion to the typical one."""
        return self.times[1] * flops / self.works[1]


def describe_lengths(rows: Sequence[TokenRow]) -> dict[str, Lengths]:
    """Row lengths by kind, kinds sorted."""
    lengths: dict[str, Lengths] = {}
    for kind in sorted({row.kind for row in rows}):
        sizes = [len(row.tokens) for row in rows if row.kind == kind]
        answers = [len(row.tokens) - row.prompt_length for row in rows if row.kind == kind]
        lengths[kind] = Lengths(
            len(sizes), min(sizes), sum(sizes) / len(sizes), max(sizes), sum(answers) / len(answers)
        )
    return lengths


def calibrate(
    model: Any, batches: Sequence[Sequence[Group]], config: Mapping[str, Any], *, recompute: bool
) -> Calibration:
    """Memory and time of loss and gradient for the smallest and the median micro-batch; the second run is timed."""
    ordered = sorted(batches, key=lambda groups: work_of_batch(groups).flops(config))
    chosen = (ordered[0], ordered[len(ordered) // 2])
    value_and_grad = nn.value_and_grad(model, group_objective)
    peaks, times = [], []
    model.train()
    with recomputing(model, recompute):
        for groups in chosen:
            for _ in range(2):
                mx.clear_cache()
                mx.reset_peak_memory()
                started = time.perf_counter()
                mx.eval(value_and_grad(model, groups))
                seconds = time.perf_counter() - started
            peaks.append(mx.get_peak_memory())
            times.append(seconds)
    works = [work_of_batch(groups).flops(config) for groups in chosen]
    return Calibration((works[0], works[1]), (peaks[0], peaks[1]), (times[0], times[1]))


def _epoch(rows: Sequence[TokenRow], settings: TrainSettings, seed: int) -> list[list[Group]]:
    """The first epoch's micro-batches."""
    updates = updates_of_epoch(rows, rows_per_update(settings), seed=seed, epoch=0)
    return [batch for update in updates for batch in micro_batches(update, settings.tokens_per_step)]


def plan_run(
    settings: TrainSettings,
    model: BaseModelSettings,
    dataset: DatasetSettings,
    *,
    base: Path,
    rows: Mapping[str, Sequence[Example]],
    seed: int,
) -> Preflight:
    """The plan, from all rows and two measured steps; nothing is written.

    Time and memory are those of ``engine: shared-prefix``. Raises RecipeError when a row does not fit in a step,
    and InputError when no row is left.
    """
    check_train(settings, base)
    loaded = load_base(base, model.precision)
    apply_adapter(loaded.model, settings, seed=seed)
    options: dict[str, Any] = {"thinking": dataset.thinking == "on", "max_tokens": dataset.max_tokens}
    train, refused = tokenize(rows["train"], loaded.tokenizer, on_too_long="drop", **options)
    valid, refused_too = tokenize(rows["valid"], loaded.tokenizer, on_too_long="drop", **options)
    if not train or not (valid or dataset.split == "none"):
        raise InputError(
            f"no {'validation' if train else 'training'} rows are left",
            where="dataset",
            fix="raise dataset.max_tokens, or add pairs about more papers",
        )
    held: tuple[TokenRow, ...] = ()
    if (share := share_in(dataset)) is not None:
        usable, refused_own = tokenize(rows["rehearsal"], loaded.tokenizer, on_too_long="drop", **options)
        chosen = choose_rehearsal(usable, task_rows=len(train), share=share, seed=seed)
        train, held, refused = [*train, *chosen.train], chosen.held, [*refused, *refused_own]
    plan = make_plan(train, settings, seed=seed, validates=bool(valid))
    batches = _epoch(train, settings, seed)
    measured = calibrate(loaded.model, batches, loaded.config, recompute=settings.grad_checkpoint)
    flops = [work_of_batch(groups).flops(loaded.config) for groups in batches]
    checked = [batch for part in (valid, held) for batch in micro_batches(part, settings.tokens_per_step)]
    checks = [work_of_batch(groups) for groups in checked]
    epochs = plan.updates / plan.updates_per_epoch
    validation = len(plan.evals) * measured.seconds(total(checks).flops(loaded.config)) / 2
    trainable, parameters = count_parameters(loaded.model)
    adapter = sum(value.nbytes for _, value in tree_flatten(loaded.model.trainable_parameters()))
    return Preflight(
        lengths=describe_lengths(train),
        refused=(*refused, *refused_too),
        plan=plan,
        row_tokens=sum(len(row.tokens) for row in train),
        computed_tokens=total(map(work_of_batch, batches)).layer_tokens,
        trainable_parameters=trainable,
        total_parameters=parameters,
        predicted_memory_bytes=measured.memory(max(flops)) + 4 * adapter,
        predicted_seconds=epochs * sum(map(measured.seconds, flops)) + validation,
        caps=caps_here(),
    )


def require_fit(preflight: Preflight, settings: TrainSettings) -> None:
    """Raise ToolError, with the setting to change, when the run does not fit in memory."""
    if not preflight.fits:
        needed, usable = preflight.predicted_memory_bytes * MARGIN / 2**30, preflight.caps.usable / 2**30
        raise ToolError(
            f"training needs about {needed:.1f} GiB of memory, {usable:.1f} GiB can be used",
            where="train",
            fix=next_setting(settings),
        )


def describe(preflight: Preflight) -> str:
    """The plan as text."""
    kinds = [
        f"  {kind:<10} {lengths.rows:>5} rows, {lengths.shortest}–{lengths.longest} tokens, "
        f"mean {lengths.mean:.0f}, mean answer {lengths.answer_mean:.0f}"
        for kind, lengths in preflight.lengths.items()
    ]
    share = preflight.trainable_parameters / preflight.total_parameters
    return "\n".join(
        [
            "training rows",
            *kinds,
            f"  left out   {len(preflight.refused):>5} rows that are too long or empty",
            preflight.plan.describe(),
            f"{preflight.computed_tokens} tokens per epoch through the layers, "
            f"{preflight.saving:.0%} fewer than the rows have",
            f"{preflight.trainable_parameters:,} of {preflight.total_parameters:,} parameters trained ({share:.2%})",
            f"about {preflight.predicted_memory_bytes / 2**30:.1f} GiB of memory "
            f"({preflight.caps.usable / 2**30:.1f} GiB can be used), "
            f"about {preflight.predicted_seconds / 60:.1f} minutes",
        ]
    )
