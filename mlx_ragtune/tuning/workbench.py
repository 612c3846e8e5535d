"""One loaded base and one tokenized data set for any number of training runs, each as if it ran alone.

What does not depend on the training settings is done once: loading the base, tokenizing the rows, and computing the
outputs of frozen layers, once for each depth. What a run leaves behind (adapters, random state, freed buffers) is
removed after it, however it ended.
"""

import gc
import hashlib
import json
import math
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from mlx_ragtune.artifact import digest_json
from mlx_ragtune.clients.runtime_mlx import mx
from mlx_ragtune.errors import DivergedError, InputError
from mlx_ragtune.recipe import BaseModelSettings, DatasetSettings, TrainSettings
from mlx_ragtune.recipe_train import NEWER_KEYS
from mlx_ragtune.records import Example
from mlx_ragtune.tuning.adapters import BareModules, apply_adapter, load_adapter
from mlx_ragtune.tuning.frozen import FrozenStore
from mlx_ragtune.tuning.head import check_head
from mlx_ragtune.tuning.load import Base, load_base, slow_precision
from mlx_ragtune.tuning.loop import SAVE_SECONDS, OnValidation, Report, mean_loss
from mlx_ragtune.tuning.memory import apply_caps, awake, caps_here
from mlx_ragtune.tuning.preference import Preference
from mlx_ragtune.tuning.ranks import Ranks, find_ranks, leave
from mlx_ragtune.tuning.rehearsal import choose_rehearsal
from mlx_ragtune.tuning.schedule import make_plan, micro_batches
from mlx_ragtune.tuning.seeds import seed64
from mlx_ragtune.tuning.start_adapter import check_start, start_from
from mlx_ragtune.tuning.step_size import with_step
from mlx_ragtune.tuning.token_rows import TokenRow, tokenize
from mlx_ragtune.tuning.train_checks import check_attention, check_train
from mlx_ragtune.tuning.training import Split, Training, TrainResult


def _print(text: str) -> None:
    print(text, file=sys.stderr)


class Workbench:
    """A context manager; ``train`` and ``adapted`` may be called any number of times inside.

    ``rows`` holds the examples of ``train`` and ``valid``, and of ``rehearsal`` where the base's own answers are
    rehearsed; outputs of frozen layers are kept below ``store``. ``say`` is told the plan of each run. With several
    ranks each of them does the same, or follows rank 0 (``follow``, which sets ``following``). Entering raises
    InputError for a base that cannot be loaded and for a split without rows.
    """

    def __init__(
        self,
        base: Path,
        model: BaseModelSettings,
        *,
        dataset: DatasetSettings,
        rows: Mapping[str, Sequence[Example]],
        store: Path,
        say: Callable[[str], None] = _print,
        following: bool = False,
    ) -> None:
        self._folder, self._model, self._dataset = base, model, dataset
        self._examples, self._store, self._say = rows, store, say
        self._following = following
        self._loaded: Base | None = None
        self._split: dict[str, list[TokenRow]] = {}
        self._rehearsal: list[TokenRow] = []
        self._described: dict[str, str] = {}
        self._head_checked = False
        self._base_losses: dict[tuple[str, int], float | None] = {}
        self._stores: dict[tuple[int, int], FrozenStore] = {}

    def __enter__(self) -> Self:
        loaded = load_base(self._folder, self._model.precision)
        self._split = {name: prepare_rows(self._examples[name], loaded.tokenizer, self._dataset) for name in _SPLITS}
        for name, rows in self._split.items():
            if not rows and (name == "train" or self._dataset.split != "none"):
                raise InputError(
                    f"there are no {'training' if name == 'train' else 'validation'} rows",
                    where="dataset",
                    fix="add pairs about more papers, or raise dataset.max_tokens or dataset.valid_share",
                )
        self._described = describe_data(self._folder, self._model, self._split)
        if own := self._examples.get("rehearsal"):
            self._rehearsal = prepare_rows(own, loaded.tokenizer, self._dataset, drop=True)
            every = self._split | {"rehearsal": self._rehearsal}
            self._described = describe_data(self._folder, self._model, every)
        self._bare = BareModules(loaded.model)
        self._loaded = loaded
        self._tell(
            do="open",
            base=base_digest(self._folder),
            precision=self._model.precision,
            dataset={name: getattr(self._dataset, name) for name in _ROW_LIMITS},
            rows={name: [asdict(row) for row in rows] for name, rows in self._examples.items()},
        )
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Release the base and everything computed for it, except for the files below ``store``."""
        self._loaded = None
        self._stores.clear()
        del self._bare
        _release(error)

    def _tell(self, **message: Any) -> None:
        """Rank 0 tells the other ranks what to do next; one that follows has been told already."""
        ranks = find_ranks()
        if ranks.size > 1 and not self._following:
            ranks.told(message)

    @property
    def is_open(self) -> bool:
        """Whether it has been entered and not been left."""
        return self._loaded is not None

    @property
    def loaded(self) -> Base:
        """The base. During ``on_validation`` its model has the adapters of the run; after a run it has none."""
        if self._loaded is None:
            raise RuntimeError("the workbench is used outside of its 'with' block")
        return self._loaded

    def train(
        self,
        settings: TrainSettings,
        *,
        folder: Path,
        seed: int,
        progress: Report,
        on_validation: OnValidation | None = None,
        save_seconds: float = SAVE_SECONDS,
        share: float = 1.0,
        rehearsal_share: float | None = None,
        rungs: Sequence[float] = (),
    ) -> TrainResult:
        """Train on the training rows, choose by the validation rows, and write the adapter and ``losses.jsonl``.

        The same call resumes from the checkpoints in ``folder`` (``engine: mlx-lm`` starts from the beginning); an
        interrupted run gives the same adapter bytes as an uninterrupted one. ``on_validation(update, valid_loss)`` is
        called after each validation, on the first rank, and with None after each of the shares of its updates in
        ``rungs`` (``engine: mlx-lm`` does not do that); True stops the run, which is then ``pruned``. With a ``share``
        below 1 it trains on that share of the contexts only, the same ones for a seed, with all their rows. With a
        ``rehearsal_share`` such a share of its rows are rehearsal rows, and the loss on others is measured. Raises
        RecipeError for settings that do not fit the base or more rehearsal rows than there are, ToolError for a
        diverged loss or full memory or disk, and ArtifactError for checkpoints of a different run. The workbench stays
        usable after any of them.
        """
        check_train(settings, self._folder)
        if find_ranks().first:  # the adapter to start from need not be on the other machines
            check_start(settings, self._folder, model=self._model.model)
        folder.mkdir(parents=True, exist_ok=True)
        with self._clean():  # the work is done in a frame of its own, which is cleared with its arrays
            split, described = self._rows_of(settings, seed, share, rehearsal_share)
            shares = {"share": share, "rehearsal_share": rehearsal_share, "rungs": list(rungs)}
            report = (progress, on_validation)
            return self._train(settings, folder, seed, report, save_seconds, data=(split, described), shares=shares)

    def _rows_of(
        self, settings: TrainSettings, seed: int, share: float, rehearsal_share: float | None
    ) -> tuple[Split, dict[str, str]]:
        """The rows of a run, those held out for rehearsal included, and what checkpoints need to know of them.

        Without ``train.preference`` they have no rejected answers.
        """
        split: dict[str, Sequence[TokenRow]] = dict(self._split)
        if settings.preference is None:
            split = {name: [replace(row, rejected=None) for row in rows] for name, rows in split.items()}
        if rehearsal_share is not None:
            chosen = choose_rehearsal(self._rehearsal, task_rows=len(split["train"]), share=rehearsal_share, seed=seed)
            split |= {"train": [*split["train"], *chosen.train], "rehearsal": chosen.held}
        if share < 1:
            split["train"] = share_of_contexts(split["train"], share, seed=seed)
        if rehearsal_share is None and share == 1 and settings.preference is not None:
            return split, self._described
        return split, describe_data(self._folder, self._model, split)

    def _train(
        self,
        settings: TrainSettings,
        folder: Path,
        seed: int,
        report: tuple[Report, OnValidation | None],
        save_seconds: float,
        *,
        data: tuple[Split, dict[str, str]],
        shares: Mapping[str, Any],
    ) -> TrainResult:
        loaded, (split, described) = self.loaded, data
        settings = with_step(settings, loaded.config, chain(*split.values(), self._rehearsal))
        thinking = self._dataset.thinking == "on"
        apply_adapter(loaded.model, settings, seed=seed)
        if settings.from_adapter is not None and find_ranks().first:  # the other ranks get its arrays from the first
            described = described | {"from_adapter": start_from(loaded.model, settings)}
        plan = make_plan(split["train"], settings, seed=seed, validates=bool(split["valid"]))
        self._say(plan.describe())
        if slow := slow_precision(self._model.precision):
            self._say(slow)
        if settings.preference is not None:
            self._say(Preference(settings.preference).describe(split["train"]))
        work = describe_settings(settings, seed) | described
        run = Training(loaded, settings, plan, folder, seed, report[0], work, on_validation=report[1])
        run.say = self._say
        run.looks = frozenset(math.ceil(rung * plan.updates) for rung in shares["rungs"]) - {plan.updates}
        store = self._prepare(settings, split) if settings.engine == "shared-prefix" else None
        self._tell(do="train", settings=settings.model_dump_json(), seed=seed, shares=shares)
        mx.random.seed(seed64(seed))
        mx.reset_peak_memory()
        with awake(), in_step():
            held = described.get("rehearsal rows", ""), settings.step_tokens
            run.base_rehearsal_loss = self._base_losses.get(held)
            if held not in self._base_losses:
                run.measure_base(split.get("rehearsal", ()))
                self._base_losses[held] = run.base_rehearsal_loss
            done = (
                run.by_loop(split, store, save_seconds) if settings.engine == "shared-prefix" else run.by_mlx_lm(split)
            )
        return run.finish(done, split, self._examples["valid"], thinking=thinking)

    def valid_loss(self, ids: Collection[str], settings: TrainSettings) -> float:
        """Cross-entropy per answer token on the validation rows of these ids, or on all if none is there, in nats.

        Of the model as it is, on this rank alone. With the frozen layers left out, it must be in one piece again.
        """
        rows = [replace(row, rejected=None) for row in self._split["valid"] if row.id in ids]
        rows = rows or [replace(row, rejected=None) for row in self._split["valid"]]
        step = with_step(settings, self.loaded.config, rows).step_tokens
        return mean_loss(self.loaded.model, rows, tokens_per_step=step, ranks=Ranks(0, 1))

    @contextmanager
    def adapted(self, folder: Path, *, strength: float | None = None) -> Iterator[Base]:
        """The base with the adapter of a folder, in evaluation mode. Raises ArtifactError if it does not fit.

        ``strength`` is as in ``adapters.load_adapter``.
        """
        with self._clean():
            load_adapter(self.loaded.model, folder, strength=strength)
            yield self.loaded

    @contextmanager
    def _clean(self) -> Iterator[None]:
        """The bare base before and after the block."""
        self._bare.restore()
        apply_caps(caps_here())
        failed: BaseException | None = None
        try:
            yield
        except BaseException as error:
            failed = error
            raise
        finally:
            self._bare.restore()
            _release(failed)

    def _prepare(self, settings: TrainSettings, split: Split) -> FrozenStore | None:
        """Check what the shared-prefix engine cannot do; the outputs of frozen layers, if the settings ask for them."""
        model, heads = self.loaded.model, int(self.loaded.config["num_attention_heads"])
        if not self._head_checked:
            check_head(model)
            self._head_checked = True
        for rows in (*split.values(), self._rehearsal):
            for groups in micro_batches(rows, settings.step_tokens):  # refuses rows that do not fit
                check_attention(groups, heads)
        if not settings.frozen_store:
            return None
        first, step = len(model.layers) - int(settings.layers), settings.step_tokens
        if (first, step) not in self._stores:
            # Rounding depends on what is computed together, so rows and step size are part of the name.
            key = digest_json({**self._described, "first": first, "tokens_per_step": step})
            ranks = find_ranks()
            own = f"layers-{first}-{key[:12]}{'' if ranks.first else f'-rank-{ranks.rank}'}"
            store = FrozenStore(self._store / own, first)
            rows = [row for part in (*self._split.values(), self._rehearsal) for row in part]
            store.build(model, rows, tokens_per_step=step, work=key)
            self._stores[first, step] = store
        return self._stores[first, step]


_SPLITS = ("train", "valid")
_ROW_LIMITS = ("thinking", "max_tokens", "on_too_long", "split")
"""The settings of the data set that make token rows of examples, and whether there is validation."""


@contextmanager
def in_step() -> Iterator[None]:
    """A block that all ranks go through together. An error that only this rank has separates it from the others."""
    try:
        yield
    except DivergedError:
        raise
    except BaseException:
        if find_ranks().size > 1:
            leave()
        raise


def _release(error: BaseException | None) -> None:
    """Free the memory of a run that ended; the frames of its error would keep the arrays in them."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
    gc.collect()
    mx.clear_cache()


def prepare_rows(
    rows: Sequence[Example], tokenizer: Any, dataset: DatasetSettings, *, drop: bool = False
) -> list[TokenRow]:
    """Token rows within the recipe's limits. Raises InputError for rows that do not fit, unless they are dropped."""
    token_rows, _ = tokenize(
        rows,
        tokenizer,
        thinking=dataset.thinking == "on",
        max_tokens=dataset.max_tokens,
        on_too_long="drop" if drop else dataset.on_too_long,
    )
    return token_rows


def share_of_contexts(rows: Sequence[TokenRow], share: float, *, seed: int) -> list[TokenRow]:
    """The rows of a share of the contexts, at least of one; a smaller share is part of a larger one."""
    names = list(dict.fromkeys(row.group for row in rows))
    order = np.random.default_rng([seed64(seed), 0x5AA5]).permutation(len(names))
    chosen = {names[int(index)] for index in order[: max(1, round(share * len(names)))]}
    return [row for row in rows if row.group in chosen]


def describe_settings(settings: TrainSettings, seed: int) -> dict[str, str]:
    """The settings of one run on which its result depends, key by key."""
    keys = settings.model_dump(mode="json", exclude={"report_to", "from_adapter"})
    keys = {name: value for name, value in keys.items() if value is not None or name not in NEWER_KEYS}
    return {f"train.{name}": json.dumps(value) for name, value in keys.items()} | {"seed": str(seed)}


def describe_data(base: Path, model: BaseModelSettings, split: Split) -> dict[str, str]:
    """Base and rows on which the result depends; checkpoints with another description are refused."""
    described = {"base.precision": model.precision, "base": base_digest(base)}
    for name, rows in split.items():
        digest = hashlib.sha256()
        for row in rows:
            digest.update(f"{row.id}\0{row.group}\0{row.prompt_length}\0".encode() + row.tokens.tobytes())
            if row.rejected is not None:
                digest.update(b"\0" + row.rejected.tobytes())
        described[f"{name} rows"] = digest.hexdigest()
    return described


def base_digest(folder: Path) -> str:
    """A digest of a model folder: JSON files, and size and first MiB of each weight file."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.json")) + sorted(folder.glob("*.safetensors")):
        with path.open("rb") as stream:
            digest.update(f"{path.name} {path.stat().st_size}".encode() + stream.read(2**20))
    return digest.hexdigest()
