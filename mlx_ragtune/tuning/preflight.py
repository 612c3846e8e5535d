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
from mlx_ragtune.tuning.base_kl import BaseKL, value_and_grad
from mlx_ragtune.tuning.groups import Group, shape_of
from mlx_ragtune.tuning.lean_kernels import lean_kernels
from mlx_ragtune.tuning.load import load_base
from mlx_ragtune.tuning.loop import group_objective
from mlx_ragtune.tuning.memory import Caps, caps_here, next_setting
from mlx_ragtune.tuning.preference import Preference
from mlx_ragtune.tuning.ranks import Ranks
from mlx_ragtune.tuning.recompute import recomputing
from mlx_ragtune.tuning.rehearsal import choose_rehearsal, share_in
from mlx_ragtune.tuning.schedule import Plan, make_plan, micro_batches, rows_per_update, updates_of_epoch
from mlx_ragtune.tuning.step_size import with_step
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
    """The planned run. Memory in bytes, time in seconds; ``saving`` is the share of tokens not computed.

    ``kl_tokens`` are the answer tokens of an epoch that count in the KL term, ``kl_work`` is the work of the base's
    forward passes relative to all other work; both are 0 without ``train.kl``. ``pairs`` are the training rows with a
    rejected answer, whose tokens count in ``row_tokens``; 0 without ``train.preference``. ``tokens_per_step`` is that
    of the recipe, or what is chosen without it.
    """

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
    kl_tokens: int = 0
    kl_work: float = 0.0
    pairs: int = 0
    tokens_per_step: int = 0

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


def _flops(groups: Sequence[Group], config: Mapping[str, Any], kl: BaseKL | None) -> float:
    """FLOPs of a micro-batch: the tuned model's forward and backward passes, and the base's forward pass."""
    return work_of_batch(groups).flops(config) + (kl.flops(groups, config) if kl else 0.0)


def calibrate(
    model: Any,
    batches: Sequence[Sequence[Group]],
    config: Mapping[str, Any],
    *,
    recompute: bool,
    kl: BaseKL | None = None,
    preference: Preference | None = None,
) -> Calibration:
    """Memory and time of loss and gradient for the smallest and the median micro-batch; the second run is timed."""
    ordered = sorted(batches, key=lambda groups: _flops(groups, config, kl))
    chosen = (ordered[0], ordered[len(ordered) // 2])
    rows = [row for groups in batches for group in groups for row in group.rows]
    if preference:
        timed = [row for groups in chosen for group in groups for row in group.rows]
        most = max(shape_of(groups).tokens for groups in chosen)
        preference.prepare(model, timed, tokens_per_step=most, ranks=Ranks(0, 1))
    term = preference or kl
    step = value_and_grad(term, model, rows) if term else nn.value_and_grad(model, group_objective)
    peaks, times = [], []
    model.train()
    with lean_kernels(model), recomputing(model, recompute):
        for groups in chosen:
            for _ in range(2):
                mx.clear_cache()
                mx.reset_peak_memory()
                started = time.perf_counter()
                mx.eval(step(model, groups))
                seconds = time.perf_counter() - started
            peaks.append(mx.get_peak_memory())
            times.append(seconds)
    works = [_flops(groups, config, kl) for groups in chosen]
    return Calibration((works[0], works[1]), (peaks[0], peaks[1]), (times[0], times[1]))


def _epoch(rows: Sequence[TokenRow], settings: TrainSettings, seed: int) -> list[list[Group]]:
    """The first epoch's micro-batches."""
    updates = updates_of_epoch(rows, rows_per_update(settings), seed=seed, epoch=0)
    return [batch for update in updates for batch in micro_batches(update, settings.step_tokens)]


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
    settings = with_step(settings, loaded.config, [*train, *valid, *held])
    plan = make_plan(train, settings, seed=seed, validates=bool(valid))
    batches = _epoch(train, settings, seed)
    kl = BaseKL(settings.kl) if settings.kl else None
    if kl:
        kl.check(train)
    preference = Preference(settings.preference, kl=kl) if settings.preference else None
    if preference:
        preference.check(train)
    measured = calibrate(
        loaded.model, batches, loaded.config, recompute=settings.grad_checkpoint, kl=kl, preference=preference
    )
    flops = [_flops(groups, loaded.config, kl) for groups in batches]
    base_flops = sum(kl.flops(groups, loaded.config) for groups in batches) if kl else 0.0
    checks = [batch for part in (valid, held) for batch in micro_batches(part, settings.step_tokens)]
    check_flops = total(map(work_of_batch, checks)).flops(loaded.config) / 2
    check_flops += sum(kl.flops(groups, loaded.config) for groups in checks) if kl else 0.0
    reference = preference.flops([*train, *valid], loaded.config, settings.step_tokens) if preference else 0.0
    epochs = plan.updates / plan.updates_per_epoch
    validation = len(plan.evals) * measured.seconds(check_flops)
    trainable, parameters = count_parameters(loaded.model)
    adapter = sum(value.nbytes for _, value in tree_flatten(loaded.model.trainable_parameters()))
    return Preflight(
        lengths=describe_lengths(train),
        refused=(*refused, *refused_too),
        plan=plan,
        row_tokens=sum(len(tokens) for row in train for tokens in row.branches),
        computed_tokens=total(map(work_of_batch, batches)).layer_tokens,
        trainable_parameters=trainable,
        total_parameters=parameters,
        predicted_memory_bytes=measured.memory(max(flops)) + 4 * adapter,
        predicted_seconds=epochs * sum(map(measured.seconds, flops)) + validation + measured.seconds(reference),
        caps=caps_here(),
        pairs=preference.pairs(train) if preference else 0,
        tokens_per_step=settings.step_tokens,
        kl_tokens=kl.tokens(train) if kl else 0,
        kl_work=base_flops / (sum(flops) - base_flops),
    )


def require_fit(preflight: Preflight, settings: TrainSettings) -> None:
    """Raise ToolError, with the setting to change, when the run does not fit in memory."""
    if not preflight.fits:
        needed, usable = preflight.predicted_memory_bytes * MARGIN / 2**30, preflight.caps.usable / 2**30
        raise ToolError(
            f"training needs about {needed:.1f} GiB of memory, {usable:.1f} GiB can be used",
            where="train",
            fix=next_setting(settings.model_copy(update={"tokens_per_step": preflight.tokens_per_step})),
        )


def _describe_terms(preflight: Preflight) -> list[str]:
    pairs = [f"{preflight.pairs} rows have a rejected answer, which shares their prompt"] if preflight.pairs else []
    if not preflight.kl_tokens:
        return pairs
    return [
        *pairs,
        f"KL to the base on {preflight.kl_tokens} answer tokens per epoch, {preflight.kl_work:.0%} more work",
    ]


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
            *_describe_terms(preflight),
            f"{preflight.trainable_parameters:,} of {preflight.total_parameters:,} parameters trained ({share:.2%})",
            f"about {preflight.predicted_memory_bytes / 2**30:.1f} GiB of memory "
            f"({preflight.caps.usable / 2**30:.1f} GiB can be used), "
            f"about {preflight.predicted_seconds / 60:.1f} minutes",
        ]
    )
