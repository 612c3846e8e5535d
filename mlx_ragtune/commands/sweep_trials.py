"""The trials of a sweep, one after the other in one process: each is an ordinary run of a variant of the recipe.

The base is loaded once, and rows are tokenized once, for all trials with the same data set (``tuning.workbench``).
"""

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from optuna.trial import Trial

from mlx_ragtune.artifact import Draft, Inputs, OpenRun, Tracker, silent
from mlx_ragtune.commands.sweep_scoring import Development, probe_loss
from mlx_ragtune.errors import DivergedError, InputError, OutOfMemoryError, RecipeError
from mlx_ragtune.jsonl import read_rows
from mlx_ragtune.pages.sweep_table import SweepRow, SweepTable
from mlx_ragtune.recipe import Recipe
from mlx_ragtune.records import Example
from mlx_ragtune.sweeping.halving import rung_of, rung_shares
from mlx_ragtune.sweeping.space import Settings
from mlx_ragtune.sweeping.study import Judgment, SweepStudy
from mlx_ragtune.sweeping.trials import Look, TrialRow
from mlx_ragtune.tuning.example_files import read_examples
from mlx_ragtune.tuning.load import Base
from mlx_ragtune.tuning.memory import is_out_of_memory
from mlx_ragtune.tuning.rehearsal import share_in
from mlx_ragtune.tuning.training import keep_result
from mlx_ragtune.tuning.workbench import Workbench

POLL_SECONDS = 5.0
"""How often the trials of other workers are looked at, once this worker has nothing else to do."""


class VariantRun(OpenRun, Protocol):
    """The run of a variant of the recipe."""

    track: Tracker
    say: Callable[[str], None]
    replacing: Mapping[str, Callable[[Recipe, Inputs, Draft], None]]

    def run(self, *, until: str) -> Sequence[Any]:
        """Bring every stage up to ``until`` up to date."""

    def plan(self, *, until: str) -> Sequence[Any]:
        """What a run would do with every stage up to ``until``."""


OpenVariant = Callable[[Mapping[str, Any]], VariantRun]
"""Opens the run of the recipe with other settings, by dotted key. Raises RecipeError."""


class _EndedError(Exception):
    """The trial ended at a rung."""


@dataclass
class Trials:
    """Runs the trials of one worker."""

    sweep: SweepStudy
    open_variant: OpenVariant
    development: Development
    table: SweepTable
    store: Path
    """Where the outputs of frozen layers are kept between trials."""
    _bench: Workbench | None = None
    _data: tuple[Any, ...] | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    def run_all(self, say: Callable[[str], None], *, wait: bool) -> str:
        """Run trials until the budget is spent, and say why none starts any more.

        With ``wait`` it also waits for the trials of other workers, and takes up those of dead ones.
        """
        waiting = False
        with self._stack:
            while True:
                for line in self.sweep.take_over():
                    say(line)
                spent = self.sweep.spent()
                if not spent:
                    self._next()
                    continue
                others = self.sweep.others()
                if not others or not wait:
                    return spent
                if not waiting:
                    say(f"waiting for {len(others)} trial{'s' * (len(others) > 1)} of other workers")
                    waiting = True
                time.sleep(POLL_SECONDS)

    def _next(self) -> None:
        trial = self.sweep.ask()
        if trial is None:
            return
        number = self.sweep.number_of(trial)
        with self.sweep.beating(trial):
            try:
                _RunningTrial(self, trial, self.sweep.settings_of(trial), number).run()
            except BaseException as error:
                why = "stopped" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
                self.sweep.interrupt(trial, why[:200])
                self.table.update(SweepRow(number + 1, self.sweep.settings_of(trial), "interrupted"))
                raise

    def bench(self, run: VariantRun) -> Workbench:
        """The workbench for the data set of a variant; one base is loaded at a time."""
        recipe, dataset = run.recipe, run.artifact("dataset")
        own = run.artifact("rehearse") if recipe.dataset.rehearsal else None
        limits = (recipe.dataset.thinking, recipe.dataset.max_tokens, recipe.dataset.on_too_long)
        data = (dataset.key, own.key if own else "", *limits)
        if self._bench is None or self._data != data:
            self._stack.close()
            rows = read_examples(dataset.folder, rejected=True)  # trials without a preference term do not use them
            if own is not None:
                rows["rehearsal"] = list(read_rows(own.folder / "rehearsal.jsonl", Example))
            if self.sweep.space.varies_dataset:
                self._require_apart(rows["train"])
            bench = Workbench(
                run.base, recipe.base, dataset=recipe.dataset, rows=rows, store=self.store, say=lambda _line: None
            )
            self._bench, self._data = self._stack.enter_context(bench), data
        return self._bench

    def _require_apart(self, train: Sequence[Example]) -> None:
        """Refuse a data set that trains on a question that all trials are compared on."""
        asked = {row.messages[-2].content for row in self.development.rows}
        if shared := [row.id for row in train if row.messages[-2].content in asked]:
            raise InputError(
                f"{len(shared)} questions that trials are compared on are training rows of this trial: {shared[0]}",
                where="sweep.space",
                fix="vary keys of 'train', or dataset keys that leave the validation rows apart",
            )

    def base_passes(self, bench: Workbench) -> dict[str, bool]:
        """Whether the base passes each probe; asked once for all workers."""
        known: dict[str, bool] = self.sweep.remember("probes", lambda: self.development.passed(bench.loaded))
        return known


@dataclass
class _RunningTrial:
    """One trial from its settings to its judgment."""

    trials: Trials
    trial: Trial
    settings: Settings
    number: int
    started: float = field(default_factory=time.monotonic)
    row: SweepRow = field(default_factory=lambda: SweepRow(0))
    updates: int = 0
    planned: int = 0
    ended: str = ""

    def run(self) -> None:
        """Train, judge and record the trial; what only these settings cannot do is recorded, and the sweep goes on."""
        sweep = self.trials.sweep
        self.show(SweepRow(self.number + 1, self.settings, "running"))
        try:
            judgment = self._judgment()
        except _EndedError:
            sweep.prune(self.trial, self.ended, updates=self.updates, seconds=self.seconds)
        except (DivergedError, OutOfMemoryError, RecipeError) as error:
            self.ended = error.what
            sweep.prune(self.trial, error.what, updates=self.updates, seconds=self.seconds)
        except InputError as error:
            if not sweep.space.varies_dataset:
                raise
            self.ended = error.what
            sweep.prune(self.trial, self.ended, seconds=self.seconds)
        except MemoryError:
            self.ended = "out of memory"
            sweep.prune(self.trial, self.ended, updates=self.updates, seconds=self.seconds)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            self.ended = f"out of memory while it was scored: {str(error).splitlines()[0]}"
            sweep.prune(self.trial, self.ended, updates=self.updates, seconds=self.seconds)
        else:
            recorded = sweep.complete(self.trial, judgment)
            note = "" if recorded else "another worker had taken it over"
            self.show(replace(self.row, state="finished", score=judgment.score, loss=judgment.valid_loss, note=note))
            return
        self.show(replace(self.row, state="pruned", note=self.ended, seconds_left=None))

    @property
    def seconds(self) -> float:
        """Seconds since the trial started."""
        return round(time.monotonic() - self.started, 1)

    def show(self, row: SweepRow) -> None:
        """Show the state of the trial."""
        self.row = row
        self.trials.table.update(row)

    def _judgment(self) -> Judgment:
        run = self.trials.open_variant(self.settings)
        run.track, run.say = silent, lambda _line: None
        run.replacing = {"train": lambda recipe, _inputs, draft: self._train(run, recipe, draft)}
        run.run(until="train")
        artifact = run.artifact("train")
        bench, development = self.trials.bench(run), self.trials.development
        base = self.trials.base_passes(bench) if development.probes else {}
        with bench.adapted(artifact.folder, strength=run.recipe.fuse.strength) as loaded:
            score = development.score(loaded)
            loss = probe_loss(base, development.passed(loaded)) if development.probes else None
        facts = artifact.facts
        return Judgment(
            score=score,
            valid_loss=facts["best_valid_loss"],
            probe_loss=loss,
            updates=self.updates,
            seconds=self.seconds,
            tokens_per_second=facts["tokens_per_second"],
            run=run.home.name,
            key=artifact.key,
        )

    def _train(self, run: VariantRun, recipe: Recipe, draft: Draft) -> None:
        """The train stage on the workbench: the same bytes as alone."""
        bench = self.trials.bench(run)
        try:
            if self.trials.sweep.settings.halving == "rows":
                self._climb(bench, recipe, draft)
            result = bench.train(
                recipe.train,
                folder=draft.folder,
                seed=recipe.seed,
                progress=self._progress,
                on_validation=lambda update, loss: self._stops(bench.loaded, update, loss),
                rehearsal_share=share_in(recipe.dataset),
            )
            if result.pruned:
                raise _EndedError
        except (_EndedError, DivergedError, OutOfMemoryError, RecipeError):
            shutil.rmtree(draft.folder, ignore_errors=True)  # nothing will continue it
            raise
        keep_result(draft, result)

    def _climb(self, bench: Workbench, recipe: Recipe, draft: Draft) -> None:
        """Train on a growing share of the rows, and end the trial at the first rung where it is not among the best."""
        settings, done = self.trials.sweep.settings, [look["rung"] for look in self.trial.user_attrs.get("looks", [])]
        train = recipe.train.model_copy(update={"strength": None})  # it is chosen once, from the whole run
        for rung, share in enumerate(rung_shares(settings.reduction, settings.rungs)):
            if rung in done:
                continue
            folder = draft / f"rung-{rung}"
            try:
                result = bench.train(
                    train,
                    folder=folder,
                    seed=recipe.seed,
                    progress=self._progress,
                    share=share,
                    rehearsal_share=share_in(recipe.dataset),
                )
                with bench.adapted(folder) as loaded:
                    score = self.trials.development.score(loaded)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            loss = result.best_valid_loss if result.best_valid_loss is not None else math.inf
            self.show(replace(self.row, loss=loss, score=score))
            if self.trials.sweep.look(self.trial, Look(rung, share, score, loss, result.updates)):
                self.ended = f"not among the best 1/{settings.reduction} on {share:.0%} of the rows"
                raise _EndedError

    def _progress(self, done: int, total: int, note: str) -> None:
        self.updates, self.planned = self.updates + 1, total
        spent = time.monotonic() - self.started
        left = spent / self.updates * (total - done)
        speed = next((part for part in note.split(", ") if part.endswith("tokens/s")), "").split(" ")[0]
        self.show(replace(self.row, tokens_per_second=float(speed) if speed else None, seconds_left=left))

    def _stops(self, loaded: Base, update: int, loss: float) -> bool:
        """Whether the trial ends after a validation: it is at a rung, and not among the best there."""
        settings = self.trials.sweep.settings
        shares = rung_shares(settings.reduction, settings.rungs)
        rung = rung_of(update, self.planned, shares) if settings.halving == "updates" else None
        self.show(replace(self.row, loss=loss))
        if rung is None or rung in [look["rung"] for look in self.trial.user_attrs.get("looks", [])]:
            return False
        score = self.trials.development.score(loaded)
        self.show(replace(self.row, score=score))
        look = Look(rung, update / self.planned, score, loss, update)
        if self.trials.sweep.look(self.trial, look):
            self.ended = f"not among the best 1/{settings.reduction} at update {update} of {self.planned}"
            return True
        return False


def shown_row(row: TrialRow) -> SweepRow:
    """A trial of another start or worker as it is shown in the table."""
    return SweepRow(
        row.number + 1,
        row.settings,
        row.state,
        row.valid_loss if row.valid_loss is not None else (row.looks[-1].valid_loss if row.looks else None),
        row.score if row.score is not None else (row.looks[-1].score if row.looks else None),
        row.tokens_per_second,
        None,
        row.why,
    )
