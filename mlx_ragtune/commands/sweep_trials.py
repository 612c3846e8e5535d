"""The trials of a sweep, one after the other in one process: each is an ordinary run of a variant of the recipe.

The base is loaded once, and rows are tokenized once, for all trials with the same data set (``tuning.workbench``).
A trial among the best so far at a rung is paused there, with its checkpoint, while better ones may still come.
"""

import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
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
from mlx_ragtune.run_folders import EndedEarlyError, record_pruned, record_trial
from mlx_ragtune.sweeping.halving import rung_of, rung_shares
from mlx_ragtune.sweeping.space import Settings
from mlx_ragtune.sweeping.study import Judgment, SweepStudy
from mlx_ragtune.sweeping.trials import SCORE_DIGITS, Look, TrialRow, finite
from mlx_ragtune.tuning.example_files import read_examples
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
    _held: "list[_RunningTrial]" = field(default_factory=list)
    """The trials that this worker has paused."""
    _stack: ExitStack = field(default_factory=ExitStack)

    def run_all(self, say: Callable[[str], None], *, wait: bool) -> str:
        """Run trials until the budget is spent, and say why none starts any more.

        With ``wait`` it also waits for the trials of other workers, and takes up those of dead ones.
        """
        waiting = False
        with self._stack, self._letting_go():
            while True:
                for line in self.sweep.take_over():
                    say(line)
                self._drop()
                spent = self.sweep.spent()
                if not spent:
                    self._next()
                    continue
                if self._held:
                    self._go_on()
                    continue
                others = self.sweep.others()
                if not others or not wait:
                    return spent
                if not waiting:
                    say(f"waiting for {len(others)} trial{'s' * (len(others) > 1)} of other workers")
                    waiting = True
                time.sleep(POLL_SECONDS)

    def _next(self) -> None:
        """Run the next trial, or the next part of one that was interrupted."""
        trial = self.sweep.ask()
        if trial is not None:
            looks = list(trial.user_attrs.get("looks", []))  # of the trial that this one continues
            settings, number = self.sweep.settings_of(trial), self.sweep.number_of(trial)
            self._run(_RunningTrial(self, trial, settings, number, looks))

    def _drop(self) -> None:
        """End the paused trials that have lost their place to better ones: the sampler learns from them."""
        for running in [held for held in self._held if self.sweep.ends(held.trial)]:
            self._resume(running)

    def _go_on(self) -> None:
        """Go on with the best of the trials that are paused at the lowest rung: no further ones can come there."""
        self._resume(min(self._held, key=lambda running: (running.rung, -running.value)))

    def _resume(self, chosen: "_RunningTrial") -> None:
        self._held.remove(chosen)
        self.sweep.resume(chosen.trial)
        self._run(chosen)

    def _run(self, running: "_RunningTrial") -> None:
        with self.sweep.beating(running.trial):
            try:
                paused = running.run()
            except BaseException as error:
                why = "stopped" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
                self._interrupt(running, why[:200])
                raise
            if paused:
                self.sweep.pause(running.trial)
                self._held.append(running)

    def _interrupt(self, running: "_RunningTrial", why: str) -> None:
        self.sweep.interrupt(running.trial, why)
        self.table.update(replace(running.row, state="interrupted", seconds_left=None))

    @contextmanager
    def _letting_go(self) -> Iterator[None]:
        """However the block ends, the trials that are still paused wait for the next worker or the next start."""
        try:
            yield
        finally:
            for running in self._held:
                self._interrupt(running, "stopped while it was paused")
            self._held.clear()

    def may_pause(self, rung: int) -> bool:
        """Whether further trials can come to a rung, so that one there may still turn out to be needless."""
        known = self.sweep.halving.planned is not None
        return known and (not self.sweep.spent() or any(running.rung < rung for running in self._held))

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
    looks: list[dict[str, Any]]
    """How it stood at each rung that it has come to."""
    started: float = field(default_factory=time.monotonic)
    row: SweepRow = field(default_factory=lambda: SweepRow(0))
    seconds: float = 0.0
    updates: int = 0
    planned: int = 0
    ended: str = ""
    home: Path | None = None
    _ends_early: EndedEarlyError | None = None

    def run(self) -> bool:
        """Train, judge and record the trial, up to its end or to a pause; whether it is paused.

        What only these settings cannot do is recorded, and the sweep goes on.
        """
        self.started = time.monotonic()
        try:
            return self._run()
        finally:
            self.seconds = self.all_seconds
            if self.home is not None:
                record_trial(self.home, self._record())

    def _record(self) -> dict[str, Any]:
        """The trial as ``ragtune runs`` lists it. A loss that is not finite is left out."""
        looks = [{**look, "valid_loss": finite(look["valid_loss"])} for look in self.looks]
        return {
            "study": self.trials.sweep.study.study_name,
            "trial": self.number + 1,
            "state": self.row.state,
            "why": self.ended,
            "score": self.row.score,
            "updates": self.updates,
            "seconds": self.seconds,
            "looks": looks,
        }

    def _run(self) -> bool:
        sweep = self.trials.sweep
        self.show(replace(self.row, trial=self.number + 1, settings=self.settings, state="running"))
        try:
            judgment = self._judgment()
        except Exception as error:
            if _is_pause(error):
                self.show(replace(self.row, state="paused", seconds_left=None))
                return True
            why = self._why_pruned(error)
            if why is None:
                raise
            self._prune(why)
        else:
            recorded = sweep.complete(self.trial, judgment)
            note = "" if recorded else "another worker had taken it over"
            self.show(replace(self.row, state="finished", score=judgment.score, loss=judgment.valid_loss, note=note))
        return False

    def _why_pruned(self, error: Exception) -> str | None:
        """Why a trial ends early for what only its settings cannot do; None for any other failure."""
        match error:
            case EndedEarlyError() | DivergedError() | OutOfMemoryError() | RecipeError():
                return error.what
            case InputError() if self.trials.sweep.space.varies_dataset:
                return error.what
            case MemoryError():
                return "out of memory"
            case RuntimeError() if is_out_of_memory(error):
                return f"out of memory while it was scored: {str(error).splitlines()[0]}"
        return None

    def _prune(self, why: str) -> None:
        """Record the trial as pruned: in the study, in its run folder, and in the table."""
        self.ended = why
        self.trials.sweep.prune(self.trial, why, updates=self.updates, seconds=self.all_seconds)
        if self.home is not None:
            record_pruned(self.home, why)
        self.show(replace(self.row, state="pruned", note=why, seconds_left=None))

    @property
    def all_seconds(self) -> float:
        """Seconds that the trial ran, without its pauses."""
        return round(self.seconds + time.monotonic() - self.started, 1)

    @property
    def rung(self) -> int:
        """The highest rung that it has come to; -1 before the first."""
        return int(self.looks[-1]["rung"]) if self.looks else -1

    @property
    def value(self) -> float:
        """What orders it among the others at its rung."""
        return self.trials.sweep.value(self.looks[-1])

    def _require_place(self) -> None:
        """End or pause a trial that comes back to its rung. Raises EndedEarlyError."""
        if not self.looks or self.trials.sweep.settings.halving == "off":
            return
        if self.trials.sweep.ends(self.trial):
            raise EndedEarlyError("pruned", self._why(self.looks[-1]))
        if self.trials.may_pause(self.rung):
            raise EndedEarlyError("paused", self._paused(self.looks[-1]))

    def _why(self, look: Mapping[str, Any]) -> str:
        """Why it ends at a rung."""
        return f"not among the best {self._places(look)} {self._where(look)}"

    def _paused(self, look: Mapping[str, Any]) -> str:
        return f"among the best {self._places(look)} {self._where(look)} so far"

    def _places(self, look: Mapping[str, Any]) -> str:
        halving = self.trials.sweep.halving
        if halving.planned is None:
            return f"1/{halving.reduction}"
        return f"{halving.places(look['rung'], 0)} of {halving.planned}"

    def _where(self, look: Mapping[str, Any]) -> str:
        if self.trials.sweep.settings.halving == "rows":
            return f"on {look['share']:.0%} of the rows"
        return f"at update {look['updates']} of {round(look['updates'] / look['share'])}"

    def show(self, row: SweepRow) -> None:
        """Show the state of the trial."""
        self.row = row
        self.trials.table.update(row)

    def _judgment(self) -> Judgment:
        run = self.trials.open_variant(self.settings)
        self.home = run.home
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
            seconds=self.all_seconds,
            tokens_per_second=facts["tokens_per_second"],
            run=run.home.name,
            key=artifact.key,
        )

    def _train(self, run: VariantRun, recipe: Recipe, draft: Draft) -> None:
        """The train stage on the workbench: the same bytes as alone."""
        bench, settings = self.trials.bench(run), self.trials.sweep.settings
        self._ends_early = None
        try:
            self._require_place()
            if settings.halving == "rows":
                self._climb(bench, recipe, draft)
            result = bench.train(
                recipe.train,
                folder=draft.folder,
                seed=recipe.seed,
                progress=self._progress,
                on_validation=lambda update, loss: self._stops(bench, recipe, update, loss),
                rehearsal_share=share_in(recipe.dataset),
                rungs=rung_shares(settings.reduction, settings.rungs) if settings.halving == "updates" else (),
            )
            if result.pruned and self._ends_early is not None:
                raise self._ends_early
        except Exception as error:
            if not _is_pause(error) and self._why_pruned(error) is not None:
                shutil.rmtree(draft.folder, ignore_errors=True)  # nothing will continue it
            raise
        keep_result(draft, result)

    def _climb(self, bench: Workbench, recipe: Recipe, draft: Draft) -> None:
        """Train on a growing share of the rows, and end the trial at the first rung where it is not among the best."""
        settings, done = self.trials.sweep.settings, [look["rung"] for look in self.looks]
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
            if early := self._after_look(Look(rung, share, score, loss, result.updates)):
                raise early

    def _progress(self, done: int, total: int, note: str) -> None:
        self.updates, self.planned = self.updates + 1, total
        spent = time.monotonic() - self.started
        left = spent / self.updates * (total - done)
        speed = next((part for part in note.split(", ") if part.endswith("tokens/s")), "").split(" ")[0]
        self.show(replace(self.row, tokens_per_second=float(speed) if speed else None, seconds_left=left))

    def _stops(self, bench: Workbench, recipe: Recipe, update: int, loss: float | None) -> bool:
        """Whether the trial ends or is paused after an update: it is at a rung."""
        settings = self.trials.sweep.settings
        shares = rung_shares(settings.reduction, settings.rungs)
        rung = rung_of(update, self.planned, shares) if settings.halving == "updates" else None
        if loss is not None:
            self.show(replace(self.row, loss=loss))
        if rung is None or rung <= self.rung:
            return False
        development = self.trials.development
        score = development.score(bench.loaded)
        loss = None
        if self.trials.sweep.by_loss and not round(score, SCORE_DIGITS):
            # Answers of which none is right are told apart by the loss; those that score the same are the same answers.
            found = bench.valid_loss({row.id for row in development.rows}, recipe.train)
            loss = found if math.isfinite(found) else math.inf
        self.show(replace(self.row, loss=self.row.loss if loss is None else loss, score=score))
        # A run that starts from the beginning, as mlx-lm's trainer does, would repeat what was done before a pause.
        self._ends_early = self._after_look(
            Look(rung, update / self.planned, score, loss, update), pauses=recipe.train.engine == "shared-prefix"
        )
        return self._ends_early is not None

    def _after_look(self, look: Look, *, pauses: bool = True) -> EndedEarlyError | None:
        """Record a look; how the trial ends early there, or None when it goes on."""
        self.looks.append(asdict(look))
        if self.trials.sweep.look(self.trial, look):
            return EndedEarlyError("pruned", self._why(asdict(look)))
        if pauses and self.trials.may_pause(look.rung):
            return EndedEarlyError("paused", self._paused(asdict(look)))
        return None


def _is_pause(error: Exception) -> bool:
    return isinstance(error, EndedEarlyError) and error.state == "paused"


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
